"""Values at uneven times: what is left of an old average after a time `dt`."""

import math
from typing import Any

from multisched.arrays import BITS, Array, Namespace, dtype_name, is_number, is_real, kind_of
from multisched.averages.scalars import Scalar, as_number
from multisched.errors import TimeStepError, shown

_FASTEST = 1e30
"""A rate of decay that leaves nothing after any time above 0, and is finite: 0 times infinity has no value."""


def checked_time(dt: Any) -> Scalar:
    """`dt` as a float or an array, if it is a real scalar and, where its value is known now, at least 0."""
    dt = as_number(dt)
    if is_real(dt):
        if not dt >= 0:
            raise TimeStepError(f"dt is the time since the value before, at least 0, got {dt!r}.")
        return float(dt)
    dtype = dtype_name(getattr(dt, "dtype", type(dt)))
    if dtype not in BITS or kind_of(dtype) not in ("int", "uint", "float") or tuple(dt.shape) != ():
        raise TimeStepError(f"dt is the time since the value before, a real scalar, got {shown(dt)}.")
    return dt


def time_in(xp: Namespace, dt: Scalar, dtype: Any) -> Scalar:
    """A time in the dtype in which times are added up; a Python number unchanged."""
    return dt if is_number(dt) else xp.astype(dt, dtype)


def faded(xp: Namespace, gain: Scalar | Array, dt: Scalar, dtype: Any) -> Scalar | Array:
    """The part of the old average that is lost in a time `dt`, if `gain` is lost in a time of 1.

    It is `1 - (1 - gain) ** dt`, computed as `-expm1(log1p(-gain) * dt)`, which keeps the digits of a small gain.
    """
    if is_number(gain):
        rate = math.log1p(-gain) if gain < 1 else -_FASTEST
        if rate == 0:
            return 0.0  # nothing fades, not in an endless time either
        return -math.expm1(rate * dt) if is_number(dt) else -xp.expm1(rate * xp.astype(dt, dtype))
    all_lost, zero = gain >= 1, xp.zeros_like(gain)
    rate = xp.where(all_lost, xp.full_like(gain, -_FASTEST), xp.log1p(xp.where(all_lost, zero, -gain)))
    constant = rate == 0
    lost = -xp.expm1(xp.where(constant, zero - 1, rate) * time_in(xp, dt, dtype))
    return xp.where(constant, zero, lost)
