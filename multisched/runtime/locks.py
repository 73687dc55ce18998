"""Locks of the cells that hold the values of variables, and how to hold several of them together.

The only way to hold a lock that is safe from interrupts is a `with` statement on a lock implemented in C. In
`try ... finally`, or in an `__exit__` written in Python, a signal may arrive before the lock is released.
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
"""The number of locks in one `with` statement. Python allows 20 nested blocks in a function."""

_serial = itertools.count()


class StateLock:
    """The lock to hold while the cells that share it are read or written.

    Several locks are always taken in the order of `serial`, so that two threads cannot wait for each other.
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
    """The underlying locks of `locks`, without repetition, in the order in which they must be taken."""
    return [lock.lock for lock in sorted(set(locks), key=lambda lock: lock.serial)]


def holding(locks: Sequence[Any], work: Callable[[], T]) -> T:
    """Call `work()` while holding all locks of a list from `in_order`, however many there are."""
    if not locks:
        return work()
    a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = [*locks[:MOST], *[locks[-1]] * (MOST - len(locks))]  # noqa: E741
    with a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p:  # if there are fewer, the last one is taken several times
        return holding(locks[MOST:], work)


def are_held(owners: Iterable[Callable[[], bool]]) -> bool:
    """Whether this thread holds one of the locks whose methods `_is_owned` are given."""
    return any(map(call, owners))


def refuse_within(locks: Iterable[Any], what: object) -> None:
    """Raise `ReentrantError` if this thread holds one of the locks, since it has interrupted a call of its own."""
    if are_held(lock._is_owned for lock in locks):
        refuse(what)


def refuse(what: object) -> NoReturn:
    raise ReentrantError(
        f"{what} would write variables during another call that uses them, on the same thread. This happens when a "
        "signal handler runs during a call. Nothing was written. In a handler only read (variable.value, f.state, "
        "ms.save_variables), or set a flag, and write after the call."
    )


WAIT = 1.0
"""The most seconds for which a fork waits for calls of other threads to end."""
_taken: list[Any] = []


def _before_fork() -> None:
    """Wait until no other thread is inside a call, so that no value is half written in the child."""
    end = time.monotonic() + WAIT
    for lock in in_order(list(_all)):
        if lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _taken.append(lock)


def _after_fork_in_parent() -> None:
    while _taken:
        _taken.pop().release()


def _after_fork_in_child() -> None:
    """Also free the locks of calls that did not end in time: the child lacks the threads that hold them."""
    _after_fork_in_parent()
    for lock in in_order(list(_all)):
        if not lock._is_owned():
            lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
