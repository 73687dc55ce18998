"""What formulas are made of: checked arguments, the clock of a phase, and the curves that phases follow."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from multisched.arrays import Array, Namespace, as_real, dtype_name, int_max, kind_of
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules.numbers import python_numbers
from multisched.schedules.schedule import Schedule, float_dtype


# --- arguments -------------------------------------------------------------------------------------------------------
def real(value: Any, what: str) -> int | float:
    """`value` as a finite Python number."""
    number = as_real(value)
    if number is None:
        raise ScheduleValueError(f"{what} must be a real number, got {shown(value)}.")
    if not _finite(number):
        raise ScheduleValueError(f"{what} must be finite in double precision, got {shown(number)}.")
    return number


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond double precision
        return False


def above(value: Any, what: str, least: float, *, allowed: bool = True) -> int | float:
    """`value` as a finite Python number of at least `least`, or more than that."""
    number = real(value, what)
    if number < least or (number == least and not allowed):
        raise ScheduleValueError(f"{what} must be {'at least' if allowed else 'more than'} {least}, got {number!r}.")
    return number


def length(value: Any, what: str, *, zero: bool = True) -> int | float:
    """`value` as the length of a phase, in steps: a whole number, or a fraction where a formula gives one."""
    number = as_real(value)
    if number is None:
        raise StepCountError(f"{what} must be a number of steps, got {shown(value)}.")
    if not _finite(number) or number < 0 or (number == 0 and not zero):
        raise StepCountError(
            f"{what} must be a {'non-negative' if zero else 'positive'} number of steps, got {shown(number)}."
        )
    return number


def one_of(value: Any, what: str, *options: str) -> str:
    """`value`, if it is one of the names."""
    if value not in options:
        raise ScheduleOptionError(f"{what} must be one of {', '.join(map(repr, options))}, got {value!r}.")
    return str(value)


def flag(value: Any, what: str) -> bool:
    """`value`, if it is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise ScheduleOptionError(f"{what} must be True or False, got {shown(value)}.")
    return bool(value)


def a_schedule(value: Any, what: str) -> Schedule:
    """`value`, if it is a schedule."""
    if not isinstance(value, Schedule):
        raise ScheduleValueError(f"{what} must be a schedule, got {shown(value)}.")
    return value


_NEVER = 2**63
_PARTS, _MOST = 1000, 2**31


# --- the clock -------------------------------------------------------------------------------------------------------
def wide(xp: Namespace, step: Array) -> Array:
    """`step` in a dtype in which boundaries can be subtracted: unsigned and short integers would wrap around."""
    if xp is python_numbers:
        return step
    dtype = dtype_name(step.dtype)
    if dtype in ("int8", "int16", "uint8", "uint16"):
        return xp.astype(step, xp.int32)
    if dtype in ("uint32", "uint64"):
        largest = xp.full_like(step, int_max("int32"))
        return xp.astype(xp.where(step < largest, step, largest), xp.int32)
    return step


def floating(xp: Namespace, step: Array) -> Array:
    """`step` in the dtype of the schedule's values."""
    dtype = float_dtype(xp, step)
    return step if getattr(step, "dtype", dtype) == dtype else xp.astype(step, dtype)


def constant_like(xp: Namespace, step: Array, value: float) -> Array:
    """`value` at every step."""
    return xp.full_like(step, value, dtype=float_dtype(xp, step))


def reached(xp: Namespace, step: Array, boundary: float) -> Array:
    """Whether `step >= boundary`, exactly, for steps of any dtype and boundaries that it may not hold.

    What begins at 0 rules before it, too.
    """
    if xp is python_numbers:
        return step >= boundary if boundary > 0 else step == step
    if boundary <= 0:
        return xp.full_like(step, True, dtype=xp.bool)
    dtype = dtype_name(step.dtype)
    if kind_of(dtype) == "float":
        return step >= float(boundary)
    first = math.ceil(boundary) if boundary < _NEVER else _NEVER
    if first > int_max(dtype):
        return xp.full_like(step, False, dtype=xp.bool)
    return step >= first


def since(xp: Namespace, step: Array, begin: float) -> Array:
    """`max(step - begin, 0)`: the clock of what starts at `begin`, in whole numbers as long as it can be."""
    step = wide(xp, step)
    if xp is not python_numbers and kind_of(dtype_name(step.dtype)) != "float":
        whole = min(math.floor(begin), int_max("int32"))
        step, begin = step - whole, 0 if begin == int(begin) else begin - whole
        step = floating(xp, step) if begin else step
    late = step - begin
    return xp.where(late > 0, late, xp.full_like(late, 0))


def elapsed(xp: Namespace, step: Array, begin: float, steps: float = math.inf) -> Array:
    """How many steps of a phase are over: 0 up to `begin`, `steps` from `begin + steps` on. Floating."""
    done = floating(xp, since(xp, step, begin))  # whole numbers are subtracted exactly, before they are rounded
    if steps == math.inf:
        return done
    all_of = constant_like(xp, done, float(steps))
    return xp.where(done < all_of, done, all_of)


def fraction(xp: Namespace, step: Array, begin: float, steps: float) -> Array:
    """The part of a phase that is over, 0 to 1. A phase of no length is over as soon as it begins."""
    if steps == 0:
        return xp.where(reached(xp, step, begin), constant_like(xp, step, 1.0), constant_like(xp, step, 0.0))
    return elapsed(xp, step, begin, steps) / float(steps)


def left_of(xp: Namespace, step: Array, begin: float, steps: float) -> Array:
    """The part of a phase that is left, 1 to 0; of full precision near 0 too, where `1 - fraction(...)` has lost it."""
    if steps == 0:
        return 1 - fraction(xp, step, begin, steps)
    return (float(steps) - elapsed(xp, step, begin, steps)) / float(steps)


def comes_up(xp: Namespace, step: Array, period: float) -> bool:
    """Whether steps of this dtype can reach `period` at all: integers that cannot do not divide by it either."""
    if xp is python_numbers or kind_of(dtype_name(step.dtype)) == "float":
        return True
    return period <= int_max(dtype_name(step.dtype))


def laps(xp: Namespace, step: Array, period: float) -> tuple[Array, Array]:
    """How many whole periods are over, and how many steps of the one at hand, less than `period`. Floating."""
    step = since(xp, step, 0)
    whole = xp is python_numbers or kind_of(dtype_name(step.dtype)) != "float"
    if not comes_up(xp, step, period):
        return constant_like(xp, step, 0.0), floating(xp, step)
    if whole and period == int(period):  # integers divide exactly, however many
        count = step // int(period)
        return floating(xp, count), floating(xp, step - count * int(period))
    ratio = Fraction(period).limit_denominator(_PARTS)
    if whole and float(ratio) == period and ratio.numerator * ratio.denominator < _MOST:
        return _laps_of_parts(xp, step, ratio)
    late = floating(xp, step)
    count = floating(xp, xp.floor(late / float(period)))
    over = late - count * float(period)
    again = over >= period  # the quotient was rounded down from a whole number
    count, over = xp.where(again, count + 1, count), xp.where(again, over - float(period), over)
    return count, xp.where(over > 0, over, xp.full_like(over, 0.0))


def _laps_of_parts(xp: Namespace, step: Array, ratio: Fraction) -> tuple[Array, Array]:
    """`laps` of a period that is a fraction such as 2.4, counted in whole numbers: single precision has another one."""
    steps, parts = ratio.numerator, ratio.denominator  # in so many steps, so many periods
    rounds = step // steps
    inside = (step - rounds * steps) * parts  # in parts of a step
    count = inside // steps
    over = floating(xp, inside - count * steps) / float(parts)
    return floating(xp, rounds) * float(parts) + floating(xp, count), over


def turns(xp: Namespace, step: Array, period: float) -> tuple[Array, Array]:
    """How many whole periods are over, and the part that is over of the one at hand, in [0, 1). Floating."""
    count, over = laps(xp, step, period)
    return count, over / float(period)


def between(init: float, end: float, done: Array) -> Array:
    """From `init` to `end`, exactly at both ends."""
    init, end = (float(v) if isinstance(v, int) else v for v in (init, end))  # bare integers may have 32 bits
    return init * (1 - done) + end * done


def power(xp: Namespace, base: float, count: Array, per: float = 1) -> Array:
    """`base ** (count / per)` for a positive base and whole, floating counts.

    In float32 a rounded base would be off by as many units as the exponent is large. So the exponent of 2 is taken
    apart: its first digits times those of the count are exact, and their whole part is, too.
    """
    if xp is python_numbers or dtype_name(count.dtype) != "float32":
        return base ** (count / per)
    rate = math.log2(base) / per
    mantissa, exponent = math.frexp(rate)
    first = math.ldexp(round(mantissa * 4096), exponent - 12)
    high = xp.floor(count / 4096.0)
    low = count - high * 4096.0
    whole = xp.floor(count * rate)
    whole = xp.where(whole < -151, constant_like(xp, whole, -151.0), whole)
    whole = xp.where(whole > 128, constant_like(xp, whole, 128.0), whole)
    rest = (high * (4096 * first) - whole) + low * first + count * (rate - first)
    return xp.exp(rest * math.log(2)) * 2.0**whole


# --- curves: from 0 to 1, as a fraction goes from 0 to 1 -------------------------------------------------------------
def half_wave(xp: Namespace, done: Array) -> Array:
    """A half wave: slow, fast, slow."""
    return 0.5 - 0.5 * xp.cos(math.pi * done)


def along(xp: Namespace, step: Array, phases: list[tuple[float, float, float]], curve: str) -> Array:
    """Phases `(from, to, steps)` one after the other, each along a curve; the last value stays."""
    begins = [sum(steps for _, _, steps in phases[:i]) for i in range(len(phases))]
    result = constant_like(xp, step, phases[-1][1])
    for (first, last, steps), begin in reversed(list(zip(phases, begins, strict=True))):
        if steps > 0:
            done = CURVES[curve](xp, fraction(xp, step, begin, steps))
            result = xp.where(reached(xp, step, begin + steps), result, between(first, last, done))
    return result


CURVES: dict[str, Callable[[Namespace, Array], Array]] = {
    "linear": lambda xp, done: done,
    "cosine": half_wave,
    "1-sqrt": lambda xp, done: xp.sqrt(done),
}
"""The shapes of a phase by name: how much of the way is gone after a part of the time."""
