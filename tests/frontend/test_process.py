"""Processes: fork, exit, pickling, copying and torch's inference mode work with declared things, or are refused."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from time import sleep

import pytest
from helpers_frontend import number

import multisched as ms
from multisched import errors
from multisched.runtime import locks

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
quietly = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")


def in_child(work):
    """Whether `work()` is true in a forked process, which must end within a minute."""
    child = os.fork()
    if not child:
        result = 2
        try:
            result = 0 if work() else 1
        finally:
            os._exit(result)
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def counting():
    v, w = ms.Variable(0, name="v"), ms.Variable(0, name="w")
    return v, w, ms.function(outputs=v, updates={v: v + 1, w: w + 1}, jit=False)


@forks
@quietly
def test_a_fork_while_other_threads_call():
    """A child forked while threads call sees whole states and calls itself; the parent goes on."""
    v, w, f = counting()
    done = threading.Event()

    def work():
        while not done.is_set():
            f()
            sleep(0)  # or the threads, which are always about to call, would let nobody else have the lock

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child():
        state = [number(x, "numpy") for x in f.state.values()]
        after = number(f(), "numpy")
        return state == [after, after]

    try:
        assert all(in_child(child) for _ in range(5))
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert number(v.value, "numpy") == number(w.value, "numpy")


@forks
@quietly
def test_a_fork_does_not_wait_forever(monkeypatch):
    """A lock that a thread holds for long is free in the child, and still held in the parent."""
    monkeypatch.setattr(locks, "WAIT", 0.05)
    v, _, f = counting()
    held, done = threading.Event(), threading.Event()

    def hold():
        with v.cell.lock.lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    held.wait(60)
    assert in_child(lambda: number(f(), "numpy") == 0 and number(v.value, "numpy") == 1)
    assert not v.cell.lock.lock.acquire(blocking=False)
    done.set()
    thread.join(60)
    assert number(f(), "numpy") == 0


@forks
@quietly
def test_a_fork_in_the_middle_of_a_call():
    """A thread that forks in the middle of its own call ends that call in both processes."""
    v, _, f = counting()
    names = f._call.__globals__
    run, seen = names["run"], []

    def forking(*arrays):
        names["run"] = run
        child = os.fork()
        seen.append(child)
        return run(*arrays)

    names["run"] = forking
    f()
    if not seen[0]:
        os._exit(0 if number(v.value, "numpy") == 1 and number(f(), "numpy") == 1 else 1)
    assert os.waitpid(seen[0], 0)[1] == 0
    assert number(v.value, "numpy") == 1


def test_what_cannot_be_copied_says_so(graph):
    """Tensors, functions, graphs and scopes refuse to be pickled and copied, with the way to do it."""
    v, _, f = counting()
    for thing in (v, v + 1, ms.Placeholder(()), f, graph, ms.Scope("s"), ms.PiecewiseConstant(0.5, {})):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(errors.TensorConversionError, match="cannot be pickled or copied"):
                way(thing)
    assert number(f(), "numpy") == 0


EXIT = """
import atexit, sys, threading
import multisched as ms
def last():
    print(int(f()), int(v.value), flush=True)
if {early}:
    atexit.register(last)
ms.use_backend({backend!r})
v = ms.Variable(0, name="v"); w = ms.Variable(0, name="w")
f = ms.function(outputs=v, updates={{v: v + 1, w: w - 1}}, jit=False)
f()
if not {early}:
    atexit.register(last)
def forever():
    g = ms.function(updates={{w: w + 1}}, jit=False)
    while True:
        g()
if {threaded}:
    threading.Thread(target=forever, daemon=True).start()
"""


@pytest.mark.parametrize("early", [False, True])
def test_a_call_at_exit(backend, early):
    """A function may be called while the interpreter ends, beside threads that go on calling."""
    if backend == "jax" and early:
        pytest.skip("JAX ends before functions that were registered before it was imported")
    threaded = backend in ("numpy", "array_api_strict")  # Python ends threads within C++ of the others by an abort
    source = EXIT.format(backend=backend, early=early, threaded=threaded)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "2"]


@pytest.mark.parametrize("outside", ["declared", "called", "nothing"])
def test_inference_mode_of_torch(torch, outside):
    """What is declared, called, set or reset inside inference mode goes on outside, and the reverse."""
    with ms.use_backend("torch"):
        parts = counting() if outside != "nothing" else None
        if outside == "called":
            parts[2]()
        with torch.inference_mode():
            v, w, f = parts or counting()
            x = ms.Placeholder((2,))
            average, _ = ms.ExponentialMovingAverage(x, 0.5)
            g = ms.function(x, outputs=average, updates=ms.get_updates(variables=average.variables))
            inside = torch.ones(2)
            f(), g(inside)
            w.update(torch.tensor(5, dtype=torch.int32))
            state = f.state
            v.reset()
        assert [int(f()), int(f()), int(v.value), int(w.value)] == [0, 1, 2, 7]
        assert g(inside * 3).tolist() == [2.0, 2.0]
        f.state = state
        assert int(w.value) == 5
        parameter = torch.ones(2, requires_grad=True)
        g(parameter * 2).sum().backward()
        assert parameter.grad.tolist() == [1.0, 1.0]


def test_no_list_of_locks_grows(backend):
    """Locks and recording namespaces of what is gone are not kept."""
    before = len(list(locks._all))
    for _ in range(50):
        counting()[2]()
    assert len(list(locks._all)) <= before + 4
