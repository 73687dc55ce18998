"""An average in its model: written there in place, for good or for the length of a block."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator, suppress
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from multisched.arrays import Array
from multisched.errors import AverageError, SwapError, listed
from multisched.runtime.protocol import Backend, Write
from multisched.trees.contents import Contents
from multisched.trees.leaf import duplicate
from multisched.trees.model import Model
from multisched.trees.places import Places
from multisched.trees.structure import Structure
from multisched.trees.writes import overwriting, perform

_holding: set[int] = set()
"""The arrays of models, by `id`, that hold an average now, and are kept alive by it."""


class Pair(NamedTuple):
    """A leaf of a model, and what the average holds for it."""

    name: str
    leaf: Any
    """As the model has it."""
    target: Array
    """The part of it that lies here, which is written."""
    value: Array
    dense: bool
    """Whether it is in one of the pools; else it is an array that is copied as it is."""


class Swap(ContextDecorator):
    """Inside of the block the arrays of a model hold an average; see `Average.swapped`.

    What the model must get back is noted in the same step in which the average is written. It is given back at the end
    of the block, or, where an interrupt comes before the block begins or while it ends, when this object is deleted.
    """

    def __init__(self, contents: Contents, model: Model, tree: Any):
        contents.refuse_in_model("swap it again")
        self._contents, self._model, self._tree = contents, model, tree
        self._debt: _Debt | None = None

    def _recreate_cm(self) -> "Swap":
        return Swap(self._contents, self._model, self._tree)  # as a decorator, for each call of the function

    def __enter__(self) -> Any:
        try:
            self._write()
        except BaseException:
            self._pay()
            raise
        return self._tree

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            told = self._pay()
        except BaseException:
            self._pay()  # what interrupts comes before all of it, or after
            raise
        if told and error is None:
            raise SwapError(told)
        if told and error is not None:
            error.add_note(told)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_debt", None) is not None and not finalizing():
            self._pay()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise AverageError("What avg.swapped() gives is neither copied nor pickled; call it again.")

    def _write(self) -> None:
        contents = self._contents
        with contents.lock:
            if self._debt is not None:
                raise SwapError("This block of avg.swapped() is in use; call avg.swapped() again for another.")
            contents.ready("swap it again")
            pairs = pairs_of(contents, self._model.checked(self._tree))
            refuse_holding([pair.leaf for pair in pairs], "swap")
            debt = _Debt(contents.backend, pairs, self._model.structure, self._tree)
            notes = [
                partial(setattr, self, "_debt", debt),
                partial(_holding.update, debt.holders),
                partial(setattr, contents, "in_model", True),
            ]
            write_into(contents.backend, pairs, notes)

    def _pay(self) -> str:
        """Give the model its own weights back, once; returns what could not be given back, in words."""
        debt = self._debt
        if debt is None:
            return ""
        done: list[Write] = [
            partial(_holding.difference_update, debt.holders),
            partial(setattr, self._contents, "in_model", False),
            partial(setattr, self, "_debt", None),
        ]
        return debt.pay(done)


class _Debt:
    """What a model must get back: its own weights, in the arrays that held them, in their places."""

    def __init__(self, backend: Backend, pairs: list[Pair], structure: Structure, tree: Any):
        self.holders = {id(pair.leaf) for pair in pairs}
        """The arrays of the model that hold the average, by `id`."""
        self._backend = backend
        self._names = [pair.name for pair in pairs]  # without the values: those of a rounded average are copies
        self._leaves = [(pair.leaf, pair.target) for pair in pairs]
        memory: Any = getattr(backend, "memory", _same)
        self._memory = [memory(pair.target) if pair.dense else pair.target for pair in pairs]
        self._own = [
            backend.copy(backend.stop_gradient(pair.target)) if pair.dense else duplicate(pair.target) for pair in pairs
        ]
        self._places = Places(structure, tree, {pair.name for pair in pairs})

    def pay(self, done: list[Write]) -> str:
        """Write it back in one step, with `done` at its end; returns which of it could not be, in words."""
        try:
            kept = self._places.are_kept
            writes = [*self._overwriting(), *self._reattaching(), *([] if kept else self._places.restoring())]
            perform(self._backend, [*writes, *done], self._memory)
        except Exception:  # of one of the arrays: the others are given back
            failed = self._pay_each()
            perform(self._backend, done)
            return _unpaid(failed)
        return "" if kept else _unpaid(self._places.lost())

    def _pay_each(self) -> list[str]:
        """Write back one by one what can be; returns the names of the others."""
        failed = []
        for name, memory, own in zip(self._names, self._memory, self._own, strict=True):
            try:
                perform(self._backend, _overwriting(self._backend, [(memory, own)]), [memory])
            except Exception:
                failed.append(name)
        with suppress(Exception):
            perform(self._backend, [*self._reattaching(), *self._places.restoring()])
        return failed + [name for name in self._places.lost() if name not in failed]

    def _overwriting(self) -> list[Write]:
        return _overwriting(self._backend, list(zip(self._memory, self._own, strict=True)))

    def _reattaching(self) -> list[Write]:
        reattaching = getattr(self._backend, "reattaching", None)
        if reattaching is None:
            return []
        each = zip(self._leaves, self._memory, strict=True)
        found = [reattaching(leaf, memory) for (leaf, target), memory in each if leaf is target]
        return [write for write in found if write is not None]


def _unpaid(names: list[str]) -> str:
    if not names:
        return ""
    return (
        f"The block of avg.swapped() has put something else in the place of {listed(names)}, or has taken it away, and "
        "the model has not got its own weights back there. All others have their own weights again."
    )


def _same(array: Array) -> Array:
    return array


def pairs_of(contents: Contents, leaves: list[Any]) -> list[Pair]:
    """What is written where, if an average is written into a model of these leaves: averaged leaves come first."""
    backend = contents.backend
    numbers = contents.averaged + contents.copied
    values = [*contents.mean.views(), *contents.latest.views()]
    pairs = [
        Pair(contents.leaves[i].name, leaves[i], backend.local(leaves[i]), value, True)
        for i, value in zip(numbers, values, strict=True)
    ]
    _refuse_shared(backend, pairs, len(contents.averaged))
    odd = {i: value for i, value in contents.objects.held.items() if backend.owns(leaves[i]) and backend.owns(value)}
    return pairs + [Pair(contents.leaves[i].name, leaves[i], leaves[i], value, False) for i, value in odd.items()]


def _refuse_shared(backend: Backend, pairs: list[Pair], averaged: int) -> None:
    """Refuse a model in which a leaf that is averaged shares memory with one that is copied.

    The first `averaged` of the pairs are averaged.
    """
    extent: Any = getattr(backend, "extent", None)  # an adapter may not know where arrays lie
    if extent is None or not 0 < averaged < len(pairs):
        return
    extents = [(*place, n) for n, pair in enumerate(pairs) if (place := extent(pair.target)) is not None]
    furthest: dict[bool, tuple[int, int]] = {}  # for averaged and copied leaves: where the last of them ends, and which
    for start, end, n in sorted(extents):
        end_of_other, other = furthest.get(not n < averaged, (0, 0))
        if start < end_of_other:
            raise SwapError(
                f"The leaves {pairs[other].name!r} and {pairs[n].name!r} share memory, and one is averaged, the other "
                "copied. Let `select` give both the same policy, or use avg.value."
            )
        furthest[n < averaged] = max(furthest.get(n < averaged, (0, 0)), (end, n))


def refuse_holding(leaves: list[Any], what: str) -> None:
    """Raise `SwapError` if a model, whose own values are needed, holds the average of another `Average`."""
    if _holding and not _holding.isdisjoint(map(id, leaves)):
        raise SwapError(f"The model holds another average now; leave the block of its swapped() before you {what}.")


def write_into(backend: Backend, pairs: list[Pair], notes: Sequence[Write] = ()) -> None:
    """Write an average into a model, and make `notes` in the same step; raises `SwapError` where it cannot be."""
    try:
        writes = _overwriting(backend, [(pair.target, pair.value) for pair in pairs])
        perform(backend, [*notes, *writes], [pair.target for pair in pairs])
    except (TypeError, ValueError) as cause:
        raise SwapError(f"The average cannot be written into the model: {cause} Use avg.value.") from cause


def _overwriting(backend: Backend, pairs: list[tuple[Array, Array]]) -> list[Write]:
    """The writes that overwrite arrays of a model; a `TypeError` or a `ValueError` if one of them cannot be."""
    return [overwriting(backend, target, value) for target, value in pairs]
