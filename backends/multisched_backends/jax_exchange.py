"""Programs of JAX whose results replace their arguments, in two buffers for each that take turns.

On a CPU, memory for large arrays comes from the system anew at each call, and its pages cost several times what
computing does. To donate the state to the call would save that, but then an error or an interrupt in the middle of the
call loses the state. So what is donated is the array before the last: a failed call loses nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import ref

import jax

from multisched.runtime.protocol import Cell

LARGE = 256 * 1024
"""Bytes from which an array takes turns with another one: memory for smaller ones is at hand."""


class Turn(NamedTuple):
    """What is noted in a cell by the program that was the last to make a new value for it."""

    made: Callable[[], Any]
    """A weak reference to the new value, which says whether it is in the cell."""
    before: Any
    """The value that it was made to replace, if that was made in the same way; None if it came from elsewhere."""


def large(cells: Sequence[Cell]) -> list[int]:
    """The places of the cells whose arrays should take turns."""
    return [i for i, cell in enumerate(cells) if cell.array.nbytes >= LARGE and _on_one_cpu(cell.array)]


def _on_one_cpu(array: Any) -> bool:
    devices = array.sharding.device_set
    return len(devices) == 1 and all(device.platform == "cpu" for device in devices)


class Exchanging:
    """`run(*state, *others) -> (*outputs, *new state)`, jitted, for a caller who puts the new state into `cells`.

    An array is overwritten only if a program like this has made it, so that it was in the cell's hands alone, and if
    what is in the cell now was made to replace it. Where an array comes from elsewhere, as after an assignment, or a
    call has failed, there is new memory. The caller holds the locks of the cells.
    """

    def __init__(self, run: Callable[..., Any], cells: Sequence[Cell], places: Sequence[int]):
        self._run = jax.jit(lambda spares, *arrays: run(*arrays), donate_argnums=0, keep_unused=True)
        self._turns = [(cells[place], place, place - len(cells)) for place in places]

    def __call__(self, *arrays: Any) -> Any:
        made, spares = [], []
        for cell, place, _ in self._turns:
            turn, cell.memo = cell.memo, None  # what is donated must not be found again, whatever happens
            array = arrays[place]
            ours = turn is not None and turn.made() is array
            made.append(array if ours else None)
            spares.append(turn.before if ours and turn.before is not None else jax.numpy.copy(array))
        results = self._run(spares, *arrays)
        for (cell, _, place), before in zip(self._turns, made, strict=True):
            cell.memo = Turn(ref(results[place]), before)
        return results
