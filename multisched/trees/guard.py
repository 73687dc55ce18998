"""The lock of an average, which no signal handler and no forked process finds in a bad state."""

import os
import threading
import weakref
from typing import Any

from multisched.errors import ReentrantError


class Guard:
    """Holds the lock that is held while an average is used: other threads wait for it.

    `with guard.lock:` names a lock written in C: a `with` of a class written in Python may be interrupted before its
    `__exit__`.
    """

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()  # CPython's, with a method that is not in its type
        _all.add(self)

    @property
    def lock(self) -> threading.RLock:
        """The lock; raises `ReentrantError` if this thread holds it already."""
        if self._lock._is_owned():
            raise ReentrantError(
                "This average is in the middle of another call on this thread, which a signal handler or a callback "
                "interrupts. Let the handler set a flag, and use the average when the call has returned."
            )
        lock: threading.RLock = self._lock
        return lock

    def renew_in_child(self) -> None:
        """Replace a lock that another thread held when the process was forked: nobody would release it.

        Nothing was being written then, since a fork waits for commits (`runtime.commit`).
        """
        if not self._lock._is_owned():
            self._lock = threading.RLock()


_all: "weakref.WeakSet[Guard]" = weakref.WeakSet()


def _after_fork() -> None:
    for guard in list(_all):
        guard.renew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
