"""An average in its model: written there in place, for good or for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from multisched.arrays import Array
from multisched.errors import SwapError

if TYPE_CHECKING:
    from multisched.trees.average import Average

_holding: set[int] = set()
"""The arrays of models, by `id`, that hold an average now, and are kept alive by it."""


@contextmanager
def swapped(average: "Average", tree: Any) -> Iterator[Any]:
    """Inside of the block the arrays of `tree` hold the average; see `Average.swapped`."""
    backend = average._backend
    with average._lock:
        leaves = average._seen.checked(average._structure.leaves(tree))
        those = {id(leaves[i]) for i in average._averaged + average._copied}
        if not _holding.isdisjoint(those):
            raise SwapError("The model holds another average now; leave the block of its swapped() before.")
        pairs = targets(average, leaves)
        own = [(target, backend.copy(backend.stop_gradient(target))) for target, _ in pairs]
        average._swapped = True
        _holding.update(those)
    try:
        write(average, pairs)
        yield tree
    finally:
        with average._lock:
            average._swapped = False  # first: what cannot be written back was not written before
            _holding.difference_update(those)
            write(average, own)
            average._structure.leaves(tree)  # FSDP drops what it has gathered of the average


def targets(average: "Average", leaves: list[Any]) -> list[tuple[Array, Array]]:
    """The arrays of a model, and the average for each, as parts that lie here."""
    average._settle()
    pairs = [
        *zip([leaves[i] for i in average._averaged], average._mean.views(), strict=True),
        *zip([leaves[i] for i in average._copied], average._latest.views(), strict=True),
    ]
    return [(average._backend.local(target), value) for target, value in pairs]


def write(average: "Average", pairs: list[tuple[Array, Array]]) -> None:
    """Overwrite all arrays that can be, then say which could not."""
    failed = None
    for target, value in pairs:
        try:
            average._backend.write(target, value)
        except (TypeError, ValueError) as cause:
            failed = failed or cause
    if failed is not None:
        raise SwapError(f"The average cannot be written into the model: {failed} Use avg.value.") from failed
