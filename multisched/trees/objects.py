"""The leaves of a model that an average copies as they are, outside of its pools of arrays.

These are Python objects, and arrays that no pool can hold: random keys, sparse and quantised arrays.
"""

from functools import partial
from typing import Any

from multisched.runtime.protocol import Backend, Write
from multisched.trees.leaf import duplicate


class Objects:
    """The latest such leaves, by the number of the leaf.

    No kernel can mask their update. Under a mask that only the device knows, leaves that have changed are put aside
    with a copy of the mask, until somebody needs them: by then the host can read the mask without waiting.
    """

    def __init__(self, backend: Backend, numbers: list[int], leaves: list[Any]):
        self.numbers = numbers
        self.held: dict[int, Any] = {i: duplicate(leaves[i]) for i in numbers}
        self._backend = backend
        self._put_aside: tuple[Any, dict[int, Any]] | None = None

    def arrays(self) -> list[int]:
        """The numbers of those that are arrays of some kind."""
        return [i for i in self.numbers if hasattr(self.held[i], "dtype")]

    def following(self, leaves: list[Any], where: Any) -> list[Write]:
        """The write that takes in the leaves of a model, if `where` is None or true."""
        if not self.numbers:
            return []
        if where is None:
            return [self.replacing({i: duplicate(leaves[i]) for i in self.numbers})]
        self.settle()
        changed = {i: duplicate(leaves[i]) for i in self.numbers if not _is_same(leaves[i], self.held[i])}
        return [partial(setattr, self, "_put_aside", (self._backend.copy(where), changed) if changed else None)]

    def replacing(self, leaves: dict[int, Any]) -> Write:
        """The write that replaces some leaves, and drops what was put aside."""
        return partial(self.__dict__.update, {"held": self.held | leaves, "_put_aside": None})

    def settle(self) -> None:
        """Take in what was put aside, if its mask was true."""
        if self._put_aside is not None:
            where, changed = self._put_aside
            self.replacing(changed if self._backend.to_numpy(where).item() else {})()


def _is_same(leaf: Any, held: Any) -> bool:
    """Whether a leaf is known to be what is held. An array never is, since its elements may have changed."""
    if hasattr(leaf, "dtype"):
        return False
    return leaf is held or (type(leaf) is type(held) and type(leaf) in (bool, int, float, str) and leaf == held)
