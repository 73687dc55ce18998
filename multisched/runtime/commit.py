"""Several writes as one: no signal, exception or fork comes between the first and the last.

Python runs signal handlers, which may raise, between the bytecodes of Python code, but never inside a C function. So
everything that can fail comes first: checks, computation, allocation. What remains is a list of calls of C functions,
and another C function makes them all. A Python loop over the same calls would be interrupted between two of them by
nearly every signal that arrives while it runs.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import call
from typing import Any

from multisched.arrays import Array
from multisched.runtime.protocol import Backend, Cell, Write, exhaust


def commit(writes: Iterable[Write]) -> None:
    """Call each of `writes`: C functions with their arguments, such as `partial(array.__setitem__, ..., new)`.

    The iterable must be implemented in C as well: a list, a tuple, or a `map` of a C function, but not a generator. A
    fork by another thread waits until the last write is done.
    """
    with _gates.own:
        exhaust(map(call, writes))


Writes = Iterable[object]
"""An iterator implemented in C that makes one write at each step. `exhaust(writes)` makes them all as one."""


def writes_to(backend: Backend, cells: Sequence[Cell], new: Sequence[Array]) -> Writes:
    """The writes that set the cells of a backend to new arrays, which must fit. The caller holds the cells' locks."""
    if not backend.in_place:
        return map(setattr, cells, repeat("array"), new)
    if overwriting := overwriting_of(backend):
        return overwriting([cell.array for cell in cells], new)
    return map(backend.overwrite, cells, new)


def overwriting_of(backend: Backend) -> Callable[[Sequence[Array], Sequence[Array]], Writes] | None:
    """The method `overwriting` of an adapter, if it matches the adapter's `overwrite`.

    Without it, arrays are written by `overwrite`, and an interrupt may come between two of them.
    """
    method: Callable[[Sequence[Array], Sequence[Array]], Writes] | None
    method = prepared_by(backend, "overwriting", "overwrite")
    return method


def prepared_by(backend: Backend, prepares: str, plain: str) -> Any:
    """The method of an adapter that prepares what its method `plain` does, or None.

    An inherited method does not count if a derived class overrides `plain`: it would prepare what the base class does.
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
    """Compile `run(*arrays of cells, *others) -> (*outputs, *new arrays of cells)`.

    The compiled function consumes none of its arguments, because the old state must remain after an error.
    """
    if method := getattr(backend, "exchanging", None):
        return method(run, cells, jit)  # type: ignore[no-any-return]  # `Extras.exchanging`
    return backend.compile(run, 0, jit)


class _Gates(threading.local):
    """One lock per thread, held during its commits. Threads do not wait for each other; a fork waits for all."""

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
