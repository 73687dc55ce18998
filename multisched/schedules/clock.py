"""The clock of schedules: boundaries and lengths, measured exactly in steps of any dtype.

A formula never subtracts from a step by itself. It asks how many steps of a phase have gone (`elapsed`) or are left
(`remaining`), whether the step has come to a boundary (`reached`, `passed`), and how many periods are complete
(`laps`). Integer steps stay integers until the last difference, which is exact however far from 0 the phase lies; only
that difference is rounded to a float.
"""

import math
from fractions import Fraction

from multisched.arrays import BITS, Array, Namespace, clipped, dtype_name, int_max, kind_of
from multisched.schedules.numbers import python_numbers
from multisched.schedules.schedule import float_dtype

_PARTS, _MOST = 1000, 2**31


def floating(xp: Namespace, step: Array) -> Array:
    """`step` in the dtype of the schedule's values."""
    dtype = float_dtype(xp, step)
    return step if getattr(step, "dtype", dtype) == dtype else xp.astype(step, dtype)


def constant_like(xp: Namespace, step: Array, value: float) -> Array:
    """`value` at every step."""
    return xp.full_like(step, value, dtype=float_dtype(xp, step))


def is_whole(xp: Namespace, step: Array) -> bool:
    """Whether `step` is an array of integers."""
    return xp is not python_numbers and kind_of(dtype_name(step.dtype)) != "float"


# --- integers of every dtype -----------------------------------------------------------------------------------------
def _ordered(xp: Namespace, step: Array) -> tuple[Array, int]:
    """Integer steps as signed integers in the same order, `key`, and the `shift` with `step == key + shift`.

    Every framework converts unsigned integers, but some do not compare, subtract or divide them. Converting to the
    signed dtype of the same size makes the upper half negative; flipping the sign bit then restores the order.
    """
    dtype = dtype_name(step.dtype)
    if BITS[dtype] < 32:
        return xp.astype(step, xp.int32), 0
    if kind_of(dtype) == "int":
        return step, 0
    half = 2 ** (BITS[dtype] - 1)
    return xp.astype(step, getattr(xp, dtype[1:])) ^ -half, half


def _unsigned(xp: Namespace, key: Array, like: Array, shift: int) -> Array:
    """The inverse of `_ordered`: steps in the dtype of `like`, or in int32 if that has fewer than 32 bits."""
    return xp.astype(key ^ -shift, like.dtype) if shift else key


def _largest(step: Array) -> int:
    return max(int_max(dtype_name(step.dtype)), int_max("int32"))


def _up(xp: Namespace, step: Array, low: int, high: int) -> Array:
    """`min(max(step, low), high) - low` of integer steps, as floats."""
    if low >= _largest(step):
        return constant_like(xp, step, 0.0)
    key, shift = _ordered(xp, step)
    first, last = low - shift, min(high, _largest(step)) - shift
    if first >= 0 or last < 0:
        return floating(xp, clipped(xp, key, first, last) - first)
    below, above = (
        clipped(xp, key, first, -1) - first,
        clipped(xp, key, -1, last),
    )  # each part fits the signed dtype
    return floating(xp, below) + (floating(xp, above) + 1)


def _down(xp: Namespace, step: Array, low: int, high: int) -> Array:
    """`high - min(max(step, low), high)` of integer steps, as floats."""
    top = min(high, _largest(step))
    if low >= top:
        return constant_like(xp, step, float(high - low))
    key, shift = _ordered(xp, step)
    first, last = low - shift, top - shift
    if first >= 0 or last < 0:
        left = floating(xp, last - clipped(xp, key, first, last))
    else:
        left = floating(xp, last - clipped(xp, key, 0, last)) - floating(xp, clipped(xp, key, first, 0))
    return left + float(high - top) if high > top else left


# --- boundaries ------------------------------------------------------------------------------------------------------
def reached(xp: Namespace, step: Array, boundary: float) -> Array:
    """Whether `step >= boundary`, exactly, for steps of any dtype, even if the dtype cannot hold the boundary.

    A boundary at 0 or below counts as reached by every step, since steps below 0 have the value at 0.
    """
    if xp is python_numbers:
        return step >= boundary if boundary > 0 else step == step
    if boundary <= 0:
        return xp.full_like(step, True, dtype=xp.bool)
    if not is_whole(xp, step):
        return step >= float(boundary)
    first = math.ceil(boundary)
    if first > int_max(dtype_name(step.dtype)):
        return xp.full_like(step, False, dtype=xp.bool)
    key, shift = _ordered(xp, step)
    return key >= first - shift


def passed(xp: Namespace, step: Array, boundary: float) -> Array:
    """Whether `step > boundary`, with the same exactness."""
    if is_whole(xp, step):
        return reached(xp, step, math.floor(boundary) + 1)
    return step > (boundary if xp is python_numbers else float(boundary))


# --- lengths ---------------------------------------------------------------------------------------------------------
def since(xp: Namespace, step: Array, begin: float) -> Array:
    """`max(step - begin, 0)`: the clock of what starts at `begin`; integers if step and `begin` are."""
    if xp is python_numbers:
        late = step - begin if begin else step
        return xp.where(late > 0, late, 0)
    if not is_whole(xp, step):
        return clipped(xp, step, float(begin), None) - float(begin)
    if begin != int(begin):
        return elapsed(xp, step, begin)
    begin = min(int(begin), _largest(step))
    key, shift = _ordered(xp, step)
    return _unsigned(xp, _moved(clipped(xp, key, begin - shift, None), -begin), step, shift)


def _moved(key: Array, by: int) -> Array:
    """`key + by`, added in two parts if `by` alone does not fit the signed dtype."""
    return key + by if abs(by) <= int_max(dtype_name(key.dtype)) else key + by // 2 + (by - by // 2)


def at_most(xp: Namespace, count: Array, most: int) -> Array:
    """`min(count, most)` of counts of at least 0; integers if the counts are."""
    if not is_whole(xp, count):
        return clipped(xp, count, None, float(most))
    if most >= _largest(count):
        return count
    key, shift = _ordered(xp, count)
    return _unsigned(xp, clipped(xp, key, None, most - shift), count, shift)


def elapsed(xp: Namespace, step: Array, begin: float, steps: float = math.inf) -> Array:
    """How many steps of a phase have gone, as a float: 0 up to `begin`, `steps` from `begin + steps` on."""
    if xp is python_numbers:
        late = since(xp, step, begin)
        return late if steps == math.inf else xp.where(late < steps, late, float(steps))
    most = None if steps == math.inf else float(steps)
    if not is_whole(xp, step):
        return clipped(xp, step, float(begin), None if most is None else float(begin + steps)) - float(begin)
    low = math.floor(begin)
    done = _up(xp, step, low, _largest(step) if most is None else math.ceil(begin + steps))
    if low != begin:
        return clipped(xp, done - (begin - low), 0.0, most)
    return done if most is None or most == int(most) else clipped(xp, done, None, most)


def remaining(xp: Namespace, step: Array, begin: float, steps: float) -> Array:
    """How many steps of a phase are left, as a float: `steps` up to `begin`, 0 from `begin + steps` on.

    It counts down from the end. `steps - elapsed(...)` would be rounded near the end, where digits matter most.
    """
    end = begin + steps
    if xp is python_numbers:
        left = end - step
        return xp.where(left > 0, xp.where(left < steps, left, float(steps)), 0.0)
    if not is_whole(xp, step):
        return float(end) - clipped(xp, step, float(begin), float(end))
    top = math.ceil(end)
    left = _down(xp, step, math.ceil(begin), top)
    return left if top == end else clipped(xp, left - (top - end), 0.0, None)


def later(xp: Namespace, step: Array, steps: int) -> Array:
    """`max(step, 0) + steps`, at most the largest number of the dtype. Signed steps become unsigned, to hold more."""
    step = since(xp, step, 0)
    if not is_whole(xp, step):
        return step + steps
    step = xp.astype(step, getattr(xp, "u" + dtype_name(step.dtype))) if _is_signed(step) else step
    key, shift = _ordered(xp, step)
    steps = min(int(steps), _largest(step) - 1)
    return _unsigned(xp, _moved(clipped(xp, key, None, _largest(step) - steps - shift), steps), step, shift)


def _is_signed(step: Array) -> bool:
    return kind_of(dtype_name(step.dtype)) == "int"


# --- laps ------------------------------------------------------------------------------------------------------------
def laps(xp: Namespace, step: Array, period: float) -> tuple[Array, Array]:
    """How many periods are complete, and how many steps of the current one have gone, fewer than `period`.

    Both are integers where step and period are. At an infinite step, infinitely many periods are complete, and another
    one begins.
    """
    step = since(xp, step, 0)
    whole = is_whole(xp, step)
    if whole and period > _largest(step):
        return constant_like(xp, step, 0.0), step
    if period == int(period):
        if xp is python_numbers:
            return step // int(period), step % int(period)
        if whole:
            return _whole_laps(xp, step, int(period))
    ratio = Fraction(period).limit_denominator(_PARTS)
    if (whole or xp is python_numbers) and float(ratio) == period and ratio.numerator * ratio.denominator < _MOST:
        return _laps_of_parts(xp, step, ratio)
    late = floating(xp, step)
    endless = late == math.inf
    late = xp.where(endless, 0.0, late)
    count = floating(xp, xp.floor(late / float(period)))
    over = late - count * float(period)
    again = over >= float(period)  # the quotient was a whole number, and rounded to less
    count, over = xp.where(again, count + 1, count), xp.where(again, over - float(period), over)
    return xp.where(endless, math.inf, count), xp.where(over > 0, over, 0.0)


def _whole_laps(xp: Namespace, step: Array, period: int) -> tuple[Array, Array]:
    """`laps` of integer steps and an integer period, by integer division, which is exact.

    An unsigned step is `key + shift`. Both parts are divided; their two remainders may add up to one more period.
    """
    key, shift = _ordered(xp, step)
    if shift == 0:
        count = key // period
        return count, key - count * period
    if period == 1:
        return step, constant_like(xp, step, 0.0)
    if period >= shift:  # at most one period is complete
        again = reached(xp, step, period)
        return xp.where(again, constant_like(xp, step, 1.0), 0.0), xp.where(again, since(xp, step, period), step)
    more, rest = divmod(shift, period)
    left = key % period
    again = left >= period - rest
    count = key // period + more + xp.astype(again, key.dtype)
    return count, left + xp.where(again, xp.full_like(key, rest - period), xp.full_like(key, rest))


def _laps_of_parts(xp: Namespace, step: Array, ratio: Fraction) -> tuple[Array, Array]:
    """`laps` of a fractional period such as 12 / 5, counted in integers, since float32 cannot hold such a period."""
    steps, parts = ratio.numerator, ratio.denominator  # 12 steps are 5 periods
    rounds, inside = laps(xp, step, steps)
    inside = inside * parts  # in parts of a step
    count = inside // steps
    over = floating(xp, inside - count * steps) / float(parts)
    return floating(xp, rounds) * float(parts) + floating(xp, count), over


def turns(xp: Namespace, step: Array, period: float) -> tuple[Array, Array]:
    """The same as `laps`, as floats."""
    count, over = laps(xp, step, period)
    return floating(xp, count), floating(xp, over)
