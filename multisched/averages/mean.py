"""Averages that are one operation, `mean += share * (value - mean)`.

The share of a value depends on nothing but the count of updates and the weight accumulated so far. So it is the same
for all leaves of a model, and is worked out once for all of them.
"""

from typing import Any, ClassVar, NamedTuple

from multisched.arrays import Array, Namespace, blended, choose
from multisched.averages.scalars import Scalar, as_array, as_float, as_number
from multisched.averages.statistic import Statistic, counted, real_dtype, scalar_like


class MeanState(NamedTuple):
    """The state of a `Mean` that has no state of its own."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    count: Array
    """Updates so far, int32."""
    weight: Array
    """The weight that the rule has accumulated."""


class Mean(Statistic):
    """A statistic by which `multisched.Average` can average whole models. A subclass defines `share`, and no more.

    An infinite value makes the average infinite, and every later one whose share lies between 0 and 1 makes it NaN, as
    infinity minus infinity is. There is no warning. So a buffer that holds infinities, such as a mask of attention,
    should be copied instead: see `select` of `multisched.Average`.
    """

    state: ClassVar[type[Any]] = MeanState
    """A NamedTuple class of `mean`, `count` and, if the share depends on it, `weight`."""

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """The share of a value in the average, and the weight accumulated with it.

        Parameters
        ----------
        count:
            The number of updates before this value: an int, or an int32 array.
        weight:
            The weight that the call for the value before returned, 0 for the first value: a float, or a float array.

        The share is exactly 1 where the average becomes the value, and exactly 0 where it stays as it is.
        """
        raise NotImplementedError

    def _init(self, xp: Namespace, zeros: Array) -> Any:
        count, weight = scalar_like(xp, zeros, 0, xp.int32), scalar_like(xp, zeros, 0, real_dtype(xp, zeros))
        parts = {"mean": zeros, "count": count, "weight": weight}
        return self.state(**{name: parts[name] for name in self.state._fields})

    def _advance(self, xp: Namespace, state: Any, value: Array, dt: Any = None) -> tuple[Any, Array]:
        share, weight = self._share_now(xp, state, dt)
        first = self._first(state)
        mean = blended(xp, state.mean, value, 1.0 if first is True else share)
        if not isinstance(first, bool):
            mean = choose(xp, first, value, mean)
        return self._after(xp, state, mean, weight), mean

    def _share_now(self, xp: Namespace, state: Any, dt: Any) -> tuple[Scalar | Array, Scalar | Array]:
        """The share of the next value, and the weight accumulated with it."""
        count = as_number(state.count)
        if "weight" in state._fields:
            return self.share(count, as_number(state.weight))
        return self.share(count, as_float(count, real_dtype(xp, state.mean)))  # which says the dtype of the share

    def _after(self, xp: Namespace, state: Any, mean: Array, weight: Scalar | Array) -> Any:
        """The state after an update, from the new average and the new weight."""
        if "weight" in state._fields:
            return state._replace(mean=mean, count=counted(xp, state.count), weight=as_array(weight, state.weight))
        return state._replace(mean=mean, count=counted(xp, state.count))

    def _first(self, state: Any) -> bool | Array:
        """Whether the next value is copied, whatever its share: False if the share says so itself."""
        return False

    def _read(self, xp: Namespace, state: Any, value: Array) -> Array:
        return choose(xp, state.count == 0, value, state.mean)
