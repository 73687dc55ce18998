"""The model that an average follows: how its leaves are read, and what is remembered of the last time."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from multisched.errors import AverageError
from multisched.runtime.protocol import Backend, Write
from multisched.trees.contents import Memos
from multisched.trees.leaf import LeafChecks, references
from multisched.trees.structure import Structure


class _LastRead(NamedTuple):
    """The arrays of the bound model when they were last read."""

    arrays: list[Callable[[], Any]]
    """Weak references to them."""
    addresses: list[Any]
    """Where they lay, and how: see `Backend.addresses`."""
    memos: Memos
    """What adapters have noted of them: it holds while they are the same arrays in the same places."""


class Model:
    """A model that was taken apart once. It is read again at each update, and checked.

    `bound` is the tree that the average was made of, while it can bring news: a module stays bound; of a functional
    model, whose arrays never change, the average is given a new tree at each update, and the first is let go.
    """

    def __init__(self, tree: Any, structure: Structure, backend: Backend, checks: LeafChecks, leaves: list[Any]):
        self.structure = structure
        self.bound: Any = tree
        self._backend = backend
        self._checks = checks
        self._immutable = bool(getattr(backend, "immutable", False))
        self._first = references(leaves) if self._immutable else []
        self._averaged_before: list[Callable[[], Any]] = []
        self._last: _LastRead | None = None

    def or_bound(self, tree: Any, to: str) -> Any:
        """`tree`, or the bound one if it is None; `to` says what is done with it."""
        if tree is not None:
            return tree
        if self.bound is None:
            raise AverageError(f"There is no model to {to}: the latest update was given another tree, so give one now.")
        return self.bound

    def checked(self, tree: Any) -> list[Any]:
        """The leaves of a tree, checked."""
        return self._checks.checked(self.structure.leaves(tree))

    def read(self, tree: Any) -> tuple[list[Any], Memos]:
        """The leaves of a tree, checked, and the memos of the adapter.

        If the bound model has the arrays of the last time where they were, nothing has to be checked again.
        """
        if tree is not self.bound:
            return self.checked(tree), {}
        leaves = self.structure.leaves(tree)
        arrays = self._checks.arrays_of(leaves)
        if self._last is not None and self._are_the_last(arrays, self._last):
            return leaves, self._last.memos
        self._last = None
        found = self._checks.checked(leaves)
        if found is leaves and (addresses := self._backend.addresses(arrays)) is not None:
            self._last = _LastRead(references(arrays), addresses, {})
        return found, {} if self._last is None else self._last.memos

    def _are_the_last(self, arrays: list[Any], last: _LastRead) -> bool:
        same = all(map(operator.is_, arrays, map(operator.call, last.arrays)))
        return same and self._backend.addresses(arrays) == last.addresses

    def refuse_nothing_new(self, leaves: list[Any], numbers: list[int]) -> None:
        """Refuse an update by arrays that the average has read before, if nothing can have changed them.

        A module stays bound while `update` is given other trees, so it may still hold the arrays of the beginning.
        """
        before = self._averaged_before
        if before and all(leaves[i] is before[i]() for i in numbers):
            raise AverageError(
                f"The model still holds the arrays that the average has read before, and arrays of "
                f"{self._backend.name} never change, so there is nothing to follow. Give the new tree: "
                "avg.update(params)."
            )

    def noting(self, tree: Any, leaves: list[Any]) -> list[Write]:
        """The writes that note what an update has read."""
        notes: list[Write] = []
        bound = tree is self.bound
        if self._immutable:
            read = references(leaves) if bound else self._averaged_before or self._first
            notes.append(partial(setattr, self, "_averaged_before", read))
        if not bound and not (self.bound is not None and self.structure.is_container):
            notes.append(partial(setattr, self, "bound", None))
        return notes
