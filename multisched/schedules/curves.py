"""The curves that schedules follow, and the one way from a value to another: exact at both ends, never outside.

A compiler may replace a division by a product with the reciprocal, and may round a product and a sum once instead of
twice. At its end, the part of a phase that has gone may then be 0.99999994. So no formula here relies on a part being
exactly 1. A value is measured from the end that is nearer to 0, where a part is exactly 0; the other end is selected by
comparing the step.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from multisched.arrays import Array, Namespace, clipped, dtype_name
from multisched.schedules.clock import (
    at_most,
    constant_like,
    elapsed,
    is_whole,
    passed,
    reached,
    remaining,
    turns,
)
from multisched.schedules.numbers import python_numbers
from multisched.schedules.schedule import float_dtype

Part = Callable[..., Array]
"""A part of a way, times a factor: `part()` is the part itself, `part(math.pi / 2)` its product with pi / 2."""


class Way(NamedTuple):
    """How far a phase has come.

    Both parts have all of their digits near 0, which `1 - left` and `1 - gone` would lose. Each is a function, so that
    only those parts are computed that a formula uses.
    """

    gone: Part
    """The part that has gone, from 0 to 1."""
    left: Part
    """The part that is left, from 1 to 0."""
    begun: Part | None = None
    """Whether the phase has begun; None if it always has."""
    over: Part | None = None
    """Whether the phase is over; None if it never is."""


Curve = Callable[[Namespace, Way], Way]
"""A curve maps a way to another one over the same time. Each part is 0 where it was 0 before."""


# --- curves ----------------------------------------------------------------------------------------------------------
def line(xp: Namespace, way: Way) -> Way:
    """The straight line: each part is as it was."""
    return way


def half_wave(xp: Namespace, way: Way) -> Way:
    """Slow, fast, slow: `(1 - cos(pi * u)) / 2` of the way is gone, which is `sin(pi * u / 2) ** 2`."""

    def wave(part: Part) -> Part:
        def square(factor: float = 1) -> Array:
            root = xp.sin(part(math.pi / 2))
            return _times(factor, root * root)

        return square

    return way._replace(gone=wave(way.gone), left=wave(way.left))


def power_of_half_wave(exponent: float) -> Curve:
    """A half wave whose remaining part is raised to a power."""

    def curve(xp: Namespace, way: Way) -> Way:
        wave = half_wave(xp, way)
        if exponent == 1:
            return wave
        left = lambda factor=1: _times(  # noqa: E731  # a part
            factor, _powered(xp, xp.sin(way.left(math.pi / 2)), 2 * exponent)
        )
        return wave._replace(left=left, gone=_rest_of_power(xp, wave.gone, left, exponent))

    return curve


def power_of_left(exponent: float) -> Curve:
    """The remaining part is raised to a power."""

    def curve(xp: Namespace, way: Way) -> Way:
        if exponent == 1:
            return way
        left = lambda factor=1: _times(factor, _powered(xp, way.left(), exponent))  # noqa: E731  # a part
        return way._replace(left=left, gone=_rest_of_power(xp, way.gone, left, exponent))

    return curve


def power_of_gone(exponent: float) -> Curve:
    """The part that has gone is raised to a power."""

    def curve(xp: Namespace, way: Way) -> Way:
        turned = power_of_left(exponent)(xp, way._replace(gone=way.left, left=way.gone))
        return way._replace(gone=turned.left, left=turned.gone)

    return curve


def _powered(xp: Namespace, part: Array, exponent: float) -> Array:
    """`part ** exponent` with a finite gradient. Where `where` selects an end, 0 times an infinite one would be NaN."""
    if exponent >= 1 or xp is python_numbers:
        return part**exponent
    return xp.where(part > 0, xp.where(part > 0, part, 1.0) ** exponent, 0.0)


def _rest_of_power(xp: Namespace, part: Part, power: Part, exponent: float) -> Part:
    """`1 - (1 - part) ** exponent`, which keeps its digits where the part is small."""

    def rest(factor: float = 1) -> Array:
        small = part()
        if exponent == 2:
            return _times(factor, small * (2 - small))  # 1 - (1 - small) ** 2, rounded twice
        inside = xp.where(small < 0.5, small, 0.5)  # else the gradient of the branch not taken could be infinite
        return _times(factor, xp.where(small < 0.5, -xp.expm1(exponent * xp.log1p(-inside)), 1 - power()))

    return rest


def _times(factor: float, value: Array) -> Array:
    return value if factor == 1 else factor * value


def part_of(xp: Namespace, count: Array, steps: float, factor: float = 1) -> Array:
    """`factor * count / steps` of a floating count. It is rounded only once unless the count is large."""
    if factor == 1:
        return count / float(steps)
    each = factor / steps
    if _in_double(xp, count):
        return count * each
    first = _first_digits(each)
    return count * first + count * (each - first)


def _first_digits(number: float) -> float:
    """The first 12 binary digits of a number. Their product with an integer of 12 binary digits is exact in float32."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 4096), exponent - 12)


CURVES: dict[str, Curve] = {"linear": line, "cosine": half_wave, "1-sqrt": power_of_gone(0.5)}
"""The curves by the names that arguments have."""


# --- from a value to another -----------------------------------------------------------------------------------------
def between(
    xp: Namespace, init: float, end: float, way: Way, *, before: Array | None = None, within: bool = True
) -> Array:
    """From `init` to `end`: exactly `init` before the way begins, exactly `end` when it is over, and else between them.

    Let `far` be the value farther from 0, and `near` the other one. The value is `near + (far - near) * part`, which is
    as accurate near `near` as the part of the way from there. `before` replaces `init` before the way begins.
    `within=False` is for curves that leave the interval on purpose.
    """
    init, end = float(init), float(end)
    falls = abs(end) <= abs(init)
    near, far = (end, init) if falls else (init, end)
    away, python = _away(near, far), xp is python_numbers
    across = (near * far < 0 and not python) or not math.isfinite(away)
    if across:  # their distance is larger than both, and so would be its rounding
        value = init * way.left() + end * way.gone()
    else:
        part = way.left() if falls else way.gone()
        value = near + away * part if near else far * part
    if within and not python:
        value = clipped(xp, value, min(init, end), max(init, end))
    always = python or across or abs(away) > 2.0**126  # infinite in single precision, times 0
    if way.begun is not None and (before is not None or falls or always):
        value = xp.where(way.begun(), value, init if before is None else before)
    return value if way.over is None else xp.where(way.over(), end, value)


def _away(near: float, far: float) -> float:
    """`far - near`, rounded so that `near + away` does not lie beyond `far`."""
    away = far - near
    back = away - far
    lost = (far - (away - back)) - (near + back)  # `away + lost` is the difference exactly (Knuth, TAOCP 4.2.2)
    return math.nextafter(away, 0.0) if away > 0 > lost or away < 0 < lost else away


def phase(xp: Namespace, step: Array, begin: float, steps: float) -> Way:
    """The way of a phase of `steps` steps, more than 0, that begins at `begin`."""
    end = begin + steps
    ends: tuple[Part, Part] = (lambda: passed(xp, step, begin), lambda: reached(xp, step, end))
    if xp is python_numbers:  # `where` asks only between the ends, so no bounds are needed
        return Way(
            lambda factor=1: part_of(xp, step - begin if begin else step, steps, factor),
            lambda factor=1: part_of(xp, end - step, steps, factor),
            *ends,
        )
    if steps > 2.0**120 and dtype_name(float_dtype(xp, step)) != "float64":  # infinite in single precision
        return Way(
            lambda factor=1: constant_like(xp, step, 0.0),
            lambda factor=1: constant_like(xp, step, float(factor)),
            *ends,
        )
    return Way(
        lambda factor=1: part_of(xp, elapsed(xp, step, begin, steps), steps, factor),
        lambda factor=1: part_of(xp, remaining(xp, step, begin, steps), steps, factor),
        *ends,
    )


def along(
    xp: Namespace,
    step: Array,
    init: float,
    end: float,
    begin: float,
    steps: float,
    curve: Curve = line,
    before: Array | None = None,
) -> Array:
    """`init` up to step `begin`, `end` from step `begin + steps` on, and a curve between. With 0 steps, a jump.

    `before` replaces `init` up to step `begin`.
    """
    if steps == 0:
        earlier = constant_like(xp, step, float(init)) if before is None else before
        return xp.where(reached(xp, step, begin), float(end), earlier)
    way = phase(xp, step, begin, steps)
    if xp is python_numbers and curve is line:
        value = _straight(xp, float(init), float(end), way.gone())
        value = xp.where(passed(xp, step, begin), value, float(init) if before is None else before)
        return xp.where(reached(xp, step, begin + steps), float(end), value)
    return between(xp, init, end, curve(xp, way), before=before)


def _straight(xp: Namespace, init: float, end: float, done: Array) -> Array:
    """A line in double precision: `init * (1 - u) + end * u` to the last bit, clipped to the interval of its ends."""
    value, low, high = init * (1 - done) + end * done, min(init, end), max(init, end)
    return init if low == high else xp.where(value < low, low, xp.where(value > high, high, value))


def towards(xp: Namespace, step: Array, init: float, end: Array, steps: float) -> Array:
    """A line over the first `steps` steps to a value that is an array. It begins at exactly `init`."""
    init, way, begun = float(init), phase(xp, step, 0, steps), passed(xp, step, 0)
    if xp is python_numbers:
        done = way.gone()
        return xp.where(begun, init * (1 - done) + end * done, init)
    if init == 0:
        return end * way.gone()
    value = init * way.left() + end * way.gone()
    rises = end > init
    value = xp.where(xp.where(rises, value > end, value < end), end, value)
    return xp.where(xp.where(rises, value < init, value > init) | ~begun, init, value)


def through(xp: Namespace, step: Array, points: Sequence[tuple[float, float]], curve: Curve) -> Array:
    """Through points `(step, value)`, in the order of their steps; level before the first and after the last."""
    result = constant_like(xp, step, float(points[0][1]))
    for (begin, init), (stop, end) in pairwise(points):
        result = along(xp, step, init, end, begin, stop - begin, curve, result)
    return result


def there_and_back(xp: Namespace, step: Array, up: float, down: float) -> Way:
    """A way that goes there in `up` steps, and back in `down` more; it is over at the peak alone."""
    there = phase(xp, step, 0, up)
    if down == 0:
        return there
    back = phase(xp, step, up, down)

    def gone(factor: float = 1) -> Array:
        return xp.where(reached(xp, step, up), back.left(factor), there.gone(factor))

    def left(factor: float = 1) -> Array:
        return xp.where(reached(xp, step, up), back.gone(factor), there.left(factor))

    return Way(gone, left, there.begun, lambda: reached(xp, step, up) & ~passed(xp, step, up))


# --- powers ----------------------------------------------------------------------------------------------------------
def power(xp: Namespace, base: float, count: Array, per: float = 1) -> Array:
    """`base ** (count / per)`, for a positive base and counts of at least 0."""
    if _in_double(xp, count):
        return base ** (count / per)
    return power_of_2(xp, math.log2(base) / per, count)


_LAST = 160  # 2 ** -160 is 0 in single precision, and 2 ** 160 is infinite


def power_of_2(xp: Namespace, rate: float, count: Array) -> Array:
    """`2 ** (rate * count)` in single precision, for counts of at least 0.

    The relative error of a power is the absolute error of its exponent, so a large exponent must not be rounded. The
    count is split into at most 2 ** 12 pieces, whose length is a power of 2, and a rest. The exponent of a piece is
    split into its first 12 binary digits, whose product with the number of pieces is exact, and a small remainder. From
    the exact product, the nearest even number is subtracted: what is left is small, and so is its rounding. The even
    number `2 * half` comes back as the factor `2 ** half`, twice, which single precision holds.
    """
    if rate == 0:
        return constant_like(xp, count, 1.0)
    last = min(_LAST / abs(rate), 2.0**100)  # for a larger count, the power is 0 or infinite
    piece = 2 ** max(0, math.ceil(math.log2(last)) - 12)
    pieces, rest = turns(xp, at_most(xp, count, math.ceil(last)), piece)
    each = rate * piece
    first = _first_digits(each)
    half = xp.floor(pieces * (each / 2) + 0.5)
    small = (pieces * first - 2 * half) + pieces * (each - first)
    small = small if piece == 1 and is_whole(xp, count) else small + rest * rate
    root = 2.0**half
    return xp.exp(small * math.log(2)) * root * root


def growth(xp: Namespace, rate: float, count: Array, start: float, most: float) -> Array:
    """`exp(start + rate * count)` for counts of at most `most` in size, clipped to between `exp(-80)` and `exp(80)`."""
    factor = math.exp(min(max(start, -40.0), 40.0))
    if _in_double(xp, count):
        return factor * xp.exp(rate * count)
    first = _first_digits(rate)
    exponent, rest = count * first, count * (rate - first)
    exponent = clipped(xp, exponent, -40.0, 40.0) if abs(rate) * most > 40 else exponent
    return factor * xp.exp(exponent) * (1 + rest * (1 + 0.5 * rest))  # the rest is small


def _in_double(xp: Namespace, count: Array) -> bool:
    return xp is python_numbers or (not is_whole(xp, count) and dtype_name(count.dtype) == "float64")
