"""What processes do with averages: each function is run in a process of its own, which prints what it has to say."""

import atexit
import os
import signal
import sys
import threading

import numpy as np

import multisched as ms

LARGE = {"w": np.zeros(1 << 20, np.float32), "v": np.zeros(1 << 20, np.float32)}


def average(**options):
    avg = ms.Average(LARGE, ms.ema(0.5), **options)
    avg.update()
    LARGE["w"][:] = LARGE["v"][:] = 2
    avg.update()
    return avg


def whole(avg):
    """An update, and what is held then: one number."""
    avg.update()
    found = {number for array in avg.value.values() for number in np.unique(array).tolist()}
    assert len(found) == 1, found
    return avg.count, found.pop()


def in_child(work):
    """`work()` in a forked child, which has 60 seconds."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            print(work(), flush=True)
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def forked():
    """The threads of the parent are not in the child; both go on."""
    for options in ({}, {"dtype": "bfloat16", "rounding": "stochastic"}):
        LARGE["w"][:] = LARGE["v"][:] = 0
        avg = average(**options)
        in_child(lambda avg=avg: whole(avg))
        print(whole(avg))


def forked_while_updating():
    """A child that is forked while another thread updates has a whole average, and its lock is free."""
    avg, done = average(), threading.Event()
    LARGE["w"][:] = LARGE["v"][:] = 1

    def update():
        while not done.is_set():
            avg.update()

    thread = threading.Thread(target=update)
    thread.start()
    for _ in range(5):
        in_child(lambda: whole(avg)[1])
    done.set()
    thread.join()


def forked_while_held():
    """A child that is forked while another thread is inside of a call has a lock of its own."""
    avg, inside, done = average(), threading.Event(), threading.Event()

    def hold():
        with avg._contents.lock:
            inside.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    in_child(lambda: whole(avg))
    done.set()
    thread.join()
    print(whole(avg))


def at_exit():
    """Handlers at exit, daemon threads and destructors use averages until the end."""
    avg = average()
    atexit.register(lambda: print(whole(avg), flush=True))
    rounded = ms.Average(LARGE, ms.ema(0.5), dtype="bfloat16", rounding="stochastic")
    atexit.register(lambda: print(whole(rounded), flush=True))

    class Last:
        def __del__(self, avg=avg):
            avg.update()

    sys.modules["kept until the end"] = Last()
    other = ms.Average({"w": np.zeros(1000)}, ms.ema(0.5))
    threading.Thread(target=lambda: [other.update() for _ in range(10**9)], daemon=True).start()


def swapped_at_exit():
    """A block that is never left says nothing."""

    def block():
        with average().swapped():
            yield

    globals()["held"] = block()
    next(globals()["held"])
    print("ok")


def threads():
    """How many cores OMP_NUM_THREADS asks for; any text is taken."""
    from multisched_backends import host

    print(whole(average()), host._cores())


def pickled():
    """An average does not go to another process, in words."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    try:
        context.Process(target=print, args=(average(),)).start()
    except ms.errors.AverageError as error:
        print(error)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
