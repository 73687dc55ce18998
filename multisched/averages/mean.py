"""Averages that are one operation, `mean += share * (value - mean)`, with one share for all elements.

The share at an update depends on nothing but how many there were and the weight accumulated so far, so that it is
worked out once for a whole model: on the host, in double precision, where these are Python numbers, and by the array
API where they are arrays, known only to a device or a compiler.
"""

import math
from typing import Any

from multisched.arrays import Array, Namespace, choose, int_max, is_number, namespace_of
from multisched.averages.statistic import Statistic

Scalar = Any
"""A Python number, or a 0-d array."""


class Mean(Statistic):
    """A statistic by which `multisched.Average` can average whole models."""

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """The share of the value at update `count`, from 0, in the average, and the weight that this makes.

        `count` is an int or an int32 array, `weight` a float or a float array: what the last update returned, 0 before
        the first. The share is exactly 1 where the average becomes the value, and 0 where it stays as it is.
        """
        raise NotImplementedError


# --- laws that are written once for numbers and arrays ---------------------------------------------------------------
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


# --- the operation ---------------------------------------------------------------------------------------------------
def blended(xp: Namespace, mean: Array, value: Array, share: Array) -> Array:
    """`mean + share * (value - mean)`: at a share of 1 the value itself, at 0 the mean itself, infinite or not."""
    copies, stays = share == 1, share == 0
    none, idle = xp.zeros_like(mean), copies | stays
    old, new = choose(xp, idle, none, mean), choose(xp, idle, none, value)  # no difference of two infinite ones
    return choose(xp, copies, value, choose(xp, stays, mean, old + share * (new - old)))
