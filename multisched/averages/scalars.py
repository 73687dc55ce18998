"""Formulas of shares that are written once, for Python numbers and for 0-d arrays.

A whole model has one share for all of its leaves. While the count of updates is known on the host, the share is worked
out there, in double precision; where only a device or a compiler knows the count, by the array API.
"""

import math
from typing import Any, TypeAlias

import numpy as np

from multisched.arrays import Array, int_max, is_number, namespace_of

Scalar: TypeAlias = Any
"""A Python number, or a 0-d array."""

_OF_NUMPY = (np.ndarray, np.generic)  # a tuple, since torch.compile cannot follow a union of types


def as_number(scalar: Scalar) -> Scalar:
    """The Python number that a 0-d array of NumPy holds; anything else unchanged.

    Python's own arithmetic is in double precision, as for a whole model, and many times faster than NumPy's.
    """
    return scalar.item() if isinstance(scalar, _OF_NUMPY) and scalar.ndim == 0 else scalar


def as_array(scalar: Scalar, like: Array) -> Array:
    """A number as an array of the kind, shape and dtype of `like`; an array unchanged."""
    if not is_number(scalar):
        return scalar
    return np.asarray(scalar, like.dtype) if isinstance(like, _OF_NUMPY) else matching(scalar, like)


def matching(number: Scalar, scalar: Scalar) -> Scalar:
    """`number` as an array of the dtype of `scalar`, if that is an array; else `number` itself."""
    if is_number(scalar) or not is_number(number):
        return number
    return namespace_of(scalar).full_like(scalar, number)


def as_float(number: Scalar, dtype: Any) -> Scalar:
    """A Python number as a float, an array in the dtype. A Python count stops at the largest int32, as arrays do."""
    if is_number(number):
        return float(min(number, int_max("int32")) if type(number) is int else number)
    return namespace_of(number).astype(number, dtype)


def dtype_of(scalar: Scalar) -> Any:
    """The dtype of an array; None for a Python number."""
    return None if is_number(scalar) else scalar.dtype


def functions_of(scalar: Scalar) -> Any:
    """The namespace that has `log1p` and the like for a scalar: `math` for a Python number."""
    return math if is_number(scalar) else namespace_of(scalar)


def pick(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    """`yes` if the condition holds, else `no`. If the condition is an array, at least one of the two must be one."""
    if isinstance(condition, bool):
        return yes if condition else no
    return namespace_of(condition).where(condition, yes, no)
