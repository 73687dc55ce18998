"""Locks of the cells in which the values of variables live, and how several of them are held together.

A `with` of a lock written in C is the one way to hold it that no interrupt gets past: in `try ... finally`, or in an
`__exit__` written in Python, a signal may arrive before the lock is released.
"""

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from operator import call
from typing import Any, NoReturn, TypeVar

from multisched.errors import ReentrantError

T = TypeVar("T")

MOST = 16
"""How many locks one `with` names here. The language allows 20 nested blocks in a function."""

_serial = itertools.count()


class StateLock:
    """What to hold while reading or writing the cells that share it.

    Whoever needs several takes them in the order of `serial`, so that two threads never wait for each other.
    """

    __slots__ = ("__weakref__", "lock", "serial")

    lock: Any
    """The `threading.RLock`, with methods of CPython's that are not in its type."""
    serial: int

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.serial = next(_serial)
        _all.add(self)


_all: "weakref.WeakSet[StateLock]" = weakref.WeakSet()


def in_order(locks: Iterable[StateLock]) -> list[Any]:
    """The locks to take for all of `locks`, each once, in the order in which everybody takes them."""
    return [lock.lock for lock in sorted(set(locks), key=lambda lock: lock.serial)]


def holding(locks: Sequence[Any], work: Callable[[], T]) -> T:
    """`work()` while all locks of a list from `in_order` are held, however many there are."""
    if not locks:
        return work()
    a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = [*locks[:MOST], *[locks[-1]] * (MOST - len(locks))]  # noqa: E741
    with a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p:  # the last one several times, if there are fewer
        return holding(locks[MOST:], work)


def are_held(owners: Iterable[Callable[[], bool]]) -> bool:
    """Whether this thread holds a lock already, by the locks' `_is_owned`."""
    return any(map(call, owners))


def refuse_within(locks: Iterable[Any], what: object) -> None:
    """Raise `ReentrantError` if this thread holds one of the locks: it is in the middle of a call, which it left."""
    if are_held(lock._is_owned for lock in locks):
        refuse(what)


def refuse(what: object) -> NoReturn:
    raise ReentrantError(
        f"{what} would write variables in the middle of another call that uses them, on the same thread, as when a "
        "signal handler runs during a call. Nothing was written. In a handler only read (variable.value, f.state, "
        "ms.save_variables), or set a flag, and write after the call."
    )


WAIT = 1.0
"""Seconds for which a fork waits at most for calls of other threads to end."""
_taken: list[Any] = []


def _before_fork() -> None:
    """Wait until no other thread is in the middle of a call, so that no value is half written in the child."""
    end = time.monotonic() + WAIT
    for lock in in_order(list(_all)):
        if lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _taken.append(lock)


def _after_fork_in_parent() -> None:
    while _taken:
        _taken.pop().release()


def _after_fork_in_child() -> None:
    """Free also the locks of calls that did not end in time: the threads that held them are not there."""
    _after_fork_in_parent()
    for lock in in_order(list(_all)):
        if not lock._is_owned():
            lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
