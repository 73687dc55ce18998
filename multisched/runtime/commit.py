"""Several writes that happen as one: no signal, no exception and no fork comes between the first and the last.

Python runs the handlers of signals, which may raise, between the bytecodes of its own code, but never inside a function
written in C. So everything that can fail comes first (checks, computing, allocation), and what is left is a list of
calls of C functions that another C function makes. A Python loop over the same calls is torn by nearly every signal
that arrives while it runs.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from operator import call

_exhaust = deque[object](maxlen=0).extend
"""Goes through an iterator in C and keeps nothing of it."""


def commit(writes: Iterable[Callable[[], object]]) -> None:
    """Call each of `writes`: C functions with their arguments, such as `partial(array.__setitem__, ..., new)`.

    The iterable must be made in C, too: a list, a tuple, or a `map` of a C function; no generator. A process that is
    forked meanwhile, by another thread, begins after the last of the writes.
    """
    with _gates.own:
        _exhaust(map(call, writes))


class _Gates(threading.local):
    """One lock for each thread, held during its commits, so that threads do not wait for each other."""

    def __init__(self) -> None:
        self.own = threading.RLock()
        with _listing:
            _all.add(self.own)


_listing = threading.RLock()
_all: "weakref.WeakSet[threading.RLock]" = weakref.WeakSet()
_passed: "list[threading.RLock]" = []
_gates = _Gates()


def _before_fork() -> None:
    _listing.acquire()
    for gate in list(_all):
        gate.acquire()
        _passed.append(gate)


def _after_fork() -> None:
    while _passed:
        _passed.pop().release()
    _listing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
