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
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import call
from typing import Any

from multisched.arrays import Array
from multisched.runtime.protocol import Backend, Cell

exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Runs through an iterator in C, and keeps nothing of it."""


def commit(writes: Iterable[Callable[[], object]]) -> None:
    """Call each of `writes`: C functions with their arguments, such as `partial(array.__setitem__, ..., new)`.

    The iterable must be made in C, too: a list, a tuple, or a `map` of a C function; no generator. A process that is
    forked meanwhile, by another thread, begins after the last of the writes.
    """
    with _gates.own:
        exhaust(map(call, writes))


Writes = Iterable[object]
"""An iterator written in C, which makes one write at each step; `exhaust(writes)` makes them all as one."""


def writes_to(backend: Backend, cells: Sequence[Cell], new: Sequence[Array]) -> Writes:
    """What makes `new`, which fit, the values of cells of a backend; the caller holds the locks of the cells."""
    if not backend.in_place:
        return map(setattr, cells, repeat("array"), new)
    if overwriting := overwriting_of(backend):
        return overwriting([cell.array for cell in cells], new)
    return map(backend.overwrite, cells, new)


def overwriting_of(backend: Backend) -> Callable[[Sequence[Array], Sequence[Array]], Writes] | None:
    """The method `overwriting` of an adapter, if it says what its `overwrite` does.

    Without one, arrays are overwritten by `overwrite`, and an interrupt may come between two of them.
    """
    method: Callable[[Sequence[Array], Sequence[Array]], Writes] | None
    method = prepared_by(backend, "overwriting", "overwrite")
    return method


def prepared_by(backend: Backend, prepares: str, plain: str) -> Any:
    """The method of an adapter that prepares what its method `plain` does; None if it has none.

    One that is inherited does not count where `plain` is overruled by a class derived from that which defines it: it
    would do what the adapter's base does, and not what the adapter does.
    """
    for base in type(backend).__mro__:
        if prepares in vars(base):
            return getattr(backend, prepares)
        if plain in vars(base):
            break
    return None


def exchanging(
    backend: Backend, run: Callable[..., Sequence[Array]], cells: Sequence[Cell], jit: bool
) -> Callable[..., Sequence[Array]]:
    """`run(*arrays of cells, *others) -> (*outputs, *new arrays of cells)`, compiled.

    It consumes none of its arguments: after an error the state of before the call must still be there.
    """
    if method := getattr(backend, "exchanging", None):
        return method(run, cells, jit)  # type: ignore[no-any-return]  # `Extras.exchanging`
    return backend.compile(run, 0, jit)


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
