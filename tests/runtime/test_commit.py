"""Several writes as one: the helper that commits, and the helpers that try to come in between."""

import os
import threading
from functools import partial
from time import sleep

import pytest
from helpers_interrupts import Interrupt, injected, signals

from multisched.runtime.commit import commit

WRITES = 2000


def setters(target, count=WRITES):
    return [partial(target.__setitem__, i, 1) for i in range(count)]


def all_or_none(target):
    assert sum(target) in (0, WRITES)


def test_no_signal_comes_in_between():
    """After a signal all of the writes are done or none is."""
    hits = signals(lambda: [0] * WRITES, lambda target: commit(setters(target)), all_or_none)
    assert hits


def test_the_signals_come_in_between_in_a_loop():
    """The helper finds what the commit prevents: a loop over the same writes is torn."""

    def loop(target):
        for write in setters(target):
            write()

    with pytest.raises(AssertionError):
        signals(lambda: [0] * WRITES, loop, all_or_none, trials=200)


def test_no_line_comes_in_between():
    """An exception at any line of the helper leaves nothing half done."""
    assert injected(lambda: [0] * WRITES, lambda target: commit(setters(target)), all_or_none, every=1) >= 2


def test_locks_are_released_where_an_interrupt_is_injected(tmp_path):
    """Every line of a `with` is interrupted but the event at which it is left; the lock is free afterwards."""
    source = "def use(lock, seen):\n    with lock:\n        seen.append(1)\n        seen.append(2)\n    return seen\n"
    names = {}
    exec(compile(source, str(tmp_path / "used.py"), "exec"), names)
    places = []

    def check(scenario):
        assert scenario[0].acquire(blocking=False)
        places.append(len(scenario[1]))

    count = injected(lambda: (threading.Lock(), []), lambda s: names["use"](*s), check, every=1, files=(str(tmp_path),))
    assert count == 4
    assert places == [0, 0, 1, 2]


def test_an_error_in_a_write_passes_on():
    """What a write raises is raised, and the next commit works."""
    target = [0] * 3
    with pytest.raises(IndexError):
        commit([partial(target.__setitem__, 0, 1), partial(target.__setitem__, 3, 1)])
    commit(setters(target, 3))
    assert target == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_child_begins_between_two_commits():
    """A process forked while other threads commit sees whole commits, and commits itself."""
    target, done = [0, 0], threading.Event()

    def work():
        value = 0
        while not done.is_set():
            value += 1
            # A write that lets other threads run, as a large copy does.
            commit(
                [partial(target.__setitem__, 0, value), partial(sleep, 0.005), partial(target.__setitem__, 1, value)]
            )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if not child:
                whole = target[0] == target[1]
                commit([partial(target.__setitem__, 0, -1)])
                os._exit(0 if whole and target[0] == -1 else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join(60)


def test_an_interrupt_is_a_keyboard_interrupt():
    """What `except Exception` lets pass."""
    assert issubclass(Interrupt, KeyboardInterrupt)
    assert not issubclass(Interrupt, Exception)
