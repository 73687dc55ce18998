"""Averages that are one operation, `mean += share * (value - mean)`, with one share for all elements.

The share at an update depends on nothing but how many there were and the weight accumulated so far, so that it is
worked out once for a whole model: on the host, in double precision, where these are Python numbers, and by the array
API where they are arrays, known only to a device or a compiler.
"""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from multisched.arrays import Array, Namespace, blended, choose, int_max, is_number, namespace_of
from multisched.averages.statistic import Statistic, counted, real_dtype, scalar_like

Scalar = Any
"""A Python number, or a 0-d array."""


class MeanState(NamedTuple):
    """The state of a `Mean` that names no other."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    count: Array
    """Updates so far, int32."""
    weight: Array
    """The weight that the rule has accumulated."""


class Mean(Statistic):
    """A statistic by which `multisched.Average` can average whole models. A subclass says its `share`, and no more."""

    state: ClassVar[type[Any]] = MeanState
    """A NamedTuple of `mean`, `count` and, if the share depends on it, `weight`."""

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """The share of the value at update `count`, from 0, in the average, and the weight that this makes.

        `count` is an int or an int32 array, `weight` a float or a float array: what the last update returned, 0 before
        the first. The share is exactly 1 where the average becomes the value, and 0 where it stays as it is.
        """
        raise NotImplementedError

    def _init(self, xp: Namespace, zeros: Array) -> Any:
        count, weight = scalar_like(xp, zeros, 0, xp.int32), scalar_like(xp, zeros, 0, real_dtype(xp, zeros))
        parts = {"mean": zeros, "count": count, "weight": weight}
        return self.state(**{name: parts[name] for name in self.state._fields})

    def _advance(self, xp: Namespace, state: Any, value: Array, dt: Any = None) -> tuple[Any, Array]:
        count = settled(state.count)
        weighs = "weight" in state._fields  # else the weight tells the dtype of the share, and nothing more
        before = settled(state.weight) if weighs else floating(count, real_dtype(xp, state.mean))
        share, weight = self.share(count, before)
        mean = blended(xp, state.mean, value, share)
        new = state._replace(mean=mean, count=counted(xp, state.count))
        return (new._replace(weight=unsettled(weight, state.weight)) if weighs else new), mean

    def _read(self, xp: Namespace, state: Any, value: Array) -> Array:
        return choose(xp, state.count == 0, value, state.mean)


# --- laws that are written once for numbers and arrays ---------------------------------------------------------------
def settled(scalar: Scalar) -> Scalar:
    """A scalar of NumPy as the Python number that it is; anything else as it is.

    What depends on it is then worked out in double precision, as it is for a whole model, and without calls of NumPy.
    """
    return scalar.item() if isinstance(scalar, _OF_NUMPY) and scalar.ndim == 0 else scalar


_OF_NUMPY = (np.ndarray, np.generic)  # torch.compile cannot follow a union of the two


def unsettled(number: Scalar, like: Array) -> Array:
    """A number as an array again, in the place of `like`; anything else as it is."""
    if is_number(number):
        return np.asarray(number, like.dtype) if isinstance(like, _OF_NUMPY) else alike(number, like)
    return number


def functions_of(scalar: Scalar) -> Any:
    """Where `log1p` and the like are for a scalar: `math`, or its namespace."""
    return math if is_number(scalar) else namespace_of(scalar)


def pick(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    """`yes` where the condition holds, else `no`, of which one is an array where the condition is; a bool picks now."""
    if isinstance(condition, bool):
        return yes if condition else no
    return namespace_of(condition).where(condition, yes, no)


def floating(number: Scalar, dtype: Any) -> Scalar:
    """A number in a floating dtype, of an array; a count of Python's stops where an int32 would."""
    if is_number(number):
        return float(min(number, int_max("int32")) if type(number) is int else number)
    return namespace_of(number).astype(number, dtype)


def dtype_of(scalar: Scalar) -> Any:
    """The dtype of an array; None for a number."""
    return None if is_number(scalar) else scalar.dtype


def alike(number: Scalar, scalar: Scalar) -> Scalar:
    """A number as `scalar` is: itself, or in an array of that dtype."""
    if is_number(scalar) or not is_number(number):
        return number
    return namespace_of(scalar).full_like(scalar, number)
