"""An average in its model: written there in place, for good or for the length of a block."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from multisched.arrays import Array
from multisched.errors import AverageError, SwapError, listed
from multisched.runtime.protocol import Backend
from multisched.trees.leaf import duplicate
from multisched.trees.places import Places
from multisched.trees.writes import Write, overwriting, perform

if TYPE_CHECKING:
    from multisched.trees.average import Average

_holding: set[int] = set()
"""The arrays of models, by `id`, that hold an average now, and are kept alive by it."""


class Swap(ContextDecorator):
    """Inside of the block the arrays of a model hold an average; see `Average.swapped`.

    What the model must get back is noted in the same step in which the average is written, and is paid back at the end
    of the block; or, where an interrupt comes before the block begins or while it ends, when this object goes.
    """

    def __init__(self, average: "Average", tree: Any):
        self._average, self._tree = average, tree
        self._debt: _Debt | None = None

    def _recreate_cm(self) -> "Swap":
        return self._average.swapped(self._tree)  # as a decorator, for each call of the function

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
        average, tree = self._average, self._tree
        with average._lock:
            if self._debt is not None:
                raise SwapError("This block of avg.swapped() is in use; call avg.swapped() again for another.")
            average._ready("swap it again")
            leaves = average._seen.checked(average._structure.leaves(tree))
            held = [leaves[i] for i in average._averaged + average._copied + odd_leaves(average, leaves)]
            refuse_holding(held, "swap")
            those = set(map(id, held))
            pairs = targets(average, leaves)
            debt = _Debt(average, tree, leaves, [target for target, _ in pairs], those)
            notes = [
                partial(setattr, self, "_debt", debt),
                partial(_holding.update, those),
                partial(setattr, average, "_swapped", True),
            ]
            writes = overwritten(average._backend, pairs)
            try:
                perform(average._backend, [*notes, *writes], debt.targets)
            except (TypeError, ValueError) as cause:
                raise unwritable(cause) from cause

    def _pay(self) -> str:
        """Give the model its own weights back, once; returns what could not be given back, in words."""
        debt, average = self._debt, self._average
        if debt is None:
            return ""
        done: list[Write] = [
            partial(_holding.difference_update, debt.those),
            partial(setattr, average, "_swapped", False),
            partial(setattr, self, "_debt", None),
        ]
        return debt.pay(done)


class _Debt:
    """What a model must get back: its own weights, in the arrays that held them, in their places."""

    def __init__(self, average: "Average", tree: Any, leaves: list[Any], targets: Sequence[Array], those: set[int]):
        backend = average._backend
        numbers = average._averaged + average._copied + odd_leaves(average, leaves)
        self.those = those
        self.targets = targets
        self._backend = backend
        self._names = [average._leaves[i].name for i in numbers]
        self._leaves = [leaves[i] for i in numbers]
        dense = len(average._averaged) + len(average._copied)
        self._memory = [*map(getattr(backend, "memory", _same), targets[:dense]), *targets[dense:]]
        self._own = [backend.copy(backend.stop_gradient(target)) for target in targets[:dense]]
        self._own += map(duplicate, targets[dense:])
        self._places = Places(average._structure, tree, set(self._names))

    def pay(self, done: list[Write]) -> str:
        """Write it back in one step, with `done` at its end; returns which of it could not be, in words."""
        try:
            kept = self._places.are_kept
            writes = [*self._overwriting(), *self._reattaching(), *([] if kept else self._places.restoring())]
            perform(self._backend, [*writes, *done], self._memory)
        except Exception:  # of one of the arrays: the others are given back
            failed = self._pay_each()
            perform(self._backend, done)
            return _told(failed)
        return "" if kept else _told(self._places.lost())

    def _pay_each(self) -> list[str]:
        """Write back one by one what can be; returns the names of the others."""
        failed = []
        for name, memory, own in zip(self._names, self._memory, self._own, strict=True):
            try:
                perform(self._backend, overwritten(self._backend, [(memory, own)]), [memory])
            except Exception:
                failed.append(name)
        with suppress(Exception):
            perform(self._backend, [*self._reattaching(), *self._places.restoring()])
        return failed + [name for name in self._places.lost() if name not in failed]

    def _overwriting(self) -> list[Write]:
        return overwritten(self._backend, list(zip(self._memory, self._own, strict=True)))

    def _reattaching(self) -> list[Write]:
        reattaching = getattr(self._backend, "reattaching", None)
        if reattaching is None:
            return []
        each = zip(self._leaves, self.targets, self._memory, strict=True)
        found = [reattaching(leaf, memory) for leaf, target, memory in each if leaf is target]
        return [write for write in found if write is not None]


def _told(names: list[str]) -> str:
    if not names:
        return ""
    return (
        f"The block of avg.swapped() has put something else in the place of {listed(names)}, or has taken it away, and "
        "the model has not got its own weights back there. All others have their own weights again."
    )


def _same(array: Array) -> Array:
    return array


def targets(average: "Average", leaves: list[Any]) -> list[tuple[Array, Array]]:
    """The arrays of a model, and the average for each, as parts that lie here."""
    pairs = [
        *zip([leaves[i] for i in average._averaged], average._mean.views(), strict=True),
        *zip([leaves[i] for i in average._copied], average._latest.views(), strict=True),
    ]
    odd = [(leaves[i], average._objects[i]) for i in odd_leaves(average, leaves)]
    local = [(average._backend.local(target), value) for target, value in pairs]
    _refuse_shared(average, [target for target, _ in local])
    return local + odd


def odd_leaves(average: "Average", leaves: list[Any]) -> list[int]:
    """The leaves without a mean that are arrays of the backend, and are copied into a model as they are."""
    return [i for i in average._kept if average._backend.owns(leaves[i]) and average._backend.owns(average._objects[i])]


def _refuse_shared(average: "Average", targets: list[Any]) -> None:
    """Refuse a model in which memory of a leaf that is averaged is also that of one that is copied."""
    extent: Any = getattr(average._backend, "extent", None)  # an adapter may not know where arrays lie
    if extent is None or not (average._averaged and average._copied):
        return
    ends: list[Any] = [(*place, n) for n, target in enumerate(targets) if (place := extent(target)) is not None]
    last: dict[bool, tuple[int, int]] = {}
    for start, end, n in sorted(ends):
        averaged = n < len(average._averaged)
        until, other = last.get(not averaged, (0, 0))
        if start < until:
            names = [average._leaves[(average._averaged + average._copied)[i]].name for i in (other, n)]
            raise SwapError(
                f"The leaves {names[0]!r} and {names[1]!r} share memory, and one is averaged, the other copied. Let "
                "`select` give both the same policy, or use avg.value."
            )
        last[averaged] = max(last.get(averaged, (0, 0)), (end, n))


def refuse_holding(leaves: list[Any], what: str) -> None:
    """Refuse what needs a model itself, while its arrays hold the average of another `Average`."""
    if _holding and not _holding.isdisjoint(map(id, leaves)):
        raise SwapError(f"The model holds another average now; leave the block of its swapped() before you {what}.")


def unwritable(cause: Exception) -> SwapError:
    """What is said of arrays that cannot be written."""
    return SwapError(f"The average cannot be written into the model: {cause} Use avg.value.")


def overwritten(backend: Backend, pairs: list[tuple[Array, Array]]) -> list[Write]:
    """What overwrites arrays of a model; raises `SwapError` if one of them cannot be."""
    try:
        return [overwriting(backend, target, value) for target, value in pairs]
    except (TypeError, ValueError) as cause:
        raise unwritable(cause) from cause
