"""Schedules that go one way: a line, a power, an exponential, a half wave, a tangent."""

import math
from typing import Any

from multisched.arguments import optional
from multisched.arrays import Array, Namespace
from multisched.schedules.clock import constant_like, elapsed, is_whole, laps, passed, reached, remaining, since, turns
from multisched.schedules.curves import (
    Way,
    along,
    between,
    growth,
    power,
    power_of_gone,
    power_of_half_wave,
    power_of_left,
)
from multisched.schedules.edges import after
from multisched.schedules.readers import flag, length, positive, real, some_steps
from multisched.schedules.schedule import schedule

__all__ = ["constant", "cosine", "exponential", "linear", "polynomial", "tanh"]


@schedule(value=real, examples=["constant(0.1)"])
def constant(xp: Namespace, step: Array, value: float) -> Array:
    """The same value at every step.

        f(step) = value

    Raises `ScheduleValueError` if the value is not a finite real number.

    >>> lr = constant(0.1)
    >>> lr(0), lr(1000)
    (0.1, 0.1)
    """
    return constant_like(xp, step, value)


@schedule(
    init=real,
    end=real,
    steps=length,
    begin=length,
    edges=after("begin", "steps"),
    examples=["linear(0.1, 0, 80, begin=10)", "linear(0, 1, 4)", "linear(1, 0.5, 0, begin=3)"],
)
def linear(xp: Namespace, step: Array, init: float, end: float, steps: float, begin: int = 0) -> Array:
    """A straight line from `init` to `end`.

        f(step) = init + (end - init) * min(max(step - begin, 0) / steps, 1)

    Parameters
    ----------
    init, end:
        The values up to step `begin`, and from step `begin + steps` on.
    steps:
        The length of the line, in updates. If it is 0, the value jumps at `begin`.
    begin:
        The step at which the line begins.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: `optax.linear_schedule`.

    >>> lr = linear(1.0, 0.0, 4, begin=2)
    >>> [lr(step) for step in (0, 2, 3, 5, 6, 7)]
    [1.0, 1.0, 0.75, 0.25, 0.0, 0.0]
    """
    return along(xp, step, init, end, begin, steps)


def _needs_a_length(steps: float, cycle: bool, **_: Any) -> None:
    if cycle:
        some_steps(steps, "steps")


@schedule(
    _needs_a_length,
    init=real,
    end=real,
    steps=length,
    power=positive,
    begin=length,
    cycle=flag,
    edges=after("begin", "steps"),
    examples=[
        "polynomial(0.1, 0, 80, power=2)",
        "polynomial(0, 1, 7, power=0.5, begin=2)",
        "polynomial(1, 0.1, 10, cycle=True)",
    ],
)
def polynomial(
    xp: Namespace,
    step: Array,
    init: float,
    end: float,
    steps: float,
    power: float = 1,
    begin: int = 0,
    cycle: bool = False,
) -> Array:
    """From `init` to `end` along a power of the remaining time.

        f(step) = end + (init - end) * (1 - min(max(step - begin, 0) / steps, 1)) ** power

    Parameters
    ----------
    init, end:
        The values up to step `begin`, and from step `begin + steps` on.
    steps, begin:
        The length and the step at which it begins, in updates. If `steps` is 0, the value jumps at `begin`.
    power:
        The power, more than 0: 1 gives a line, 2 a parabola that flattens out.
    cycle:
        Whether the schedule goes on after `begin + steps`. At this step the value is `end`; right after it the value
        jumps up, and falls again over twice the time, and so on. `steps` must then be positive.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: `optax.polynomial_schedule`; `keras.optimizers.schedules.PolynomialDecay` for `cycle`.

    >>> lr = polynomial(1.0, 0.0, 4, power=2)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.25, 0.0, 0.0]
    """
    curve = power_of_left(power)
    if not cycle:
        return along(xp, step, init, end, begin, steps, curve)
    count, over = turns(xp, since(xp, step, begin), steps)
    multiple = (over == 0) & (count > 0)  # at each end
    scale = float(steps) * (count + 1)
    way = Way(
        lambda: elapsed(xp, step, begin, 2.0**100) / scale,  # finite
        lambda: xp.where(multiple, 0.0, (float(steps) - over) / scale),
        lambda: passed(xp, step, begin),
        lambda: multiple,
    )
    return between(xp, init, end, curve(xp, way))


@schedule(
    init=real,
    rate=positive,
    steps=some_steps,
    begin=length,
    staircase=flag,
    end=optional(real),
    edges=after("begin"),
    examples=[
        "exponential(0.1, 0.5, 20)",
        "exponential(1, 0.5, 4, begin=3, staircase=True)",
        "exponential(0.1, 1.5, 4, end=1)",
    ],
)
def exponential(
    xp: Namespace,
    step: Array,
    init: float,
    rate: float,
    steps: float,
    begin: int = 0,
    staircase: bool = False,
    end: float | None = None,
) -> Array:
    """Exponential decay or growth: the value is multiplied by `rate` in every `steps` updates.

        f(step) = init * rate ** (max(step - begin, 0) / steps)

    Parameters
    ----------
    init:
        The value up to step `begin`.
    rate:
        The factor, more than 0.
    steps, begin:
        The number of updates in which the factor is applied once, and the step at which this begins.
    staircase:
        Whether the factor is applied at once at the end of each `steps` updates: the exponent is rounded down.
    end:
        A lower bound if `rate` is less than 1, else an upper bound. Default: none.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: `optax.exponential_decay`, `keras.optimizers.schedules.ExponentialDecay`.

    >>> lr = exponential(1.0, 0.5, 10)
    >>> lr(0), lr(10), lr(20), round(lr(5), 4)
    (1.0, 0.5, 0.25, 0.7071)
    >>> exponential(1.0, 0.5, 10, staircase=True)(19)
    0.5
    """
    if staircase and is_whole(xp, step) and steps == int(steps):
        begin = math.ceil(begin)  # the first whole step after the beginning: part of a step completes nothing
    late = since(xp, step, begin)
    if init == 0:  # 0 times an infinite growth would be NaN
        value = constant_like(xp, step, 0.0)
    else:
        value = init * (power(xp, rate, laps(xp, late, steps)[0]) if staircase else power(xp, rate, late, steps))
    if end is None:
        return value
    return xp.where(value < end if rate < 1 else value > end, float(end), value)


@schedule(
    init=real,
    steps=length,
    end=real,
    exponent=positive,
    begin=length,
    k=positive,
    edges=after("begin", "steps"),
    examples=["cosine(0.1, 80)", "cosine(0, 5, end=1, exponent=2, begin=3)", "cosine(1, 10, k=0.5)"],
)
def cosine(
    xp: Namespace,
    step: Array,
    init: float,
    steps: float,
    end: float = 0,
    exponent: float = 1,
    begin: int = 0,
    k: float = 1,
) -> Array:
    """A cosine half wave from `init` to `end`.

        u = min(max(step - begin, 0) / steps, 1)
        f(step) = end + (init - end) * ((1 + cos(pi * u ** k)) / 2) ** exponent

    Parameters
    ----------
    init, end:
        The values up to step `begin`, and from step `begin + steps` on.
    steps, begin:
        The length of the wave and the step at which it begins, in updates. If `steps` is 0, the value jumps at `begin`.
    exponent:
        The power of the wave; if it is more than 1, the value falls earlier.
    k:
        The power of the time; if it is more than 1, the value falls later.

    Raises `ScheduleValueError` and `StepCountError`.

    Sources: Loshchilov and Hutter, "SGDR", 2017; `optax.cosine_decay_schedule` for `exponent`; Zhang and Li, "k-decay",
    2020, as in timm, for `k`.

    >>> lr = cosine(1.0, 10)
    >>> [round(lr(step), 4) for step in (0, 5, 9, 10, 11)]
    [1.0, 0.5, 0.0245, 0.0, 0.0]
    """

    def curve(xp: Namespace, way: Way) -> Way:
        return power_of_half_wave(exponent)(xp, power_of_gone(k)(xp, way))

    return along(xp, step, init, end, begin, steps, curve)


@schedule(
    init=real,
    steps=length,
    end=real,
    lower=real,
    upper=real,
    edges=after("steps"),
    examples=["tanh(0.1, 80)", "tanh(0, 9, end=1, lower=-2, upper=5)"],
)
def tanh(
    xp: Namespace, step: Array, init: float, steps: float, end: float = 0, lower: float = -7, upper: float = 3
) -> Array:
    """A part of a hyperbolic tangent, which stays near `init` for long and then falls to near `end`.

        u = min(max(step, 0) / steps, 1)
        f(step) = end + (init - end) * (1 - tanh(lower * (1 - u) + upper * u)) / 2     before `steps`, then end

    Parameters
    ----------
    init, end:
        The limits of the tangent. From step `steps` on, the value is `end`.
    steps:
        The length, in updates. If it is 0, the value is `end` from the start.
    lower, upper:
        The arguments of the tangent at step 0 and at step `steps`.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: Hsueh et al., "Stochastic gradient descent with hyperbolic-tangent decay", 2019, as in timm.

    >>> lr = tanh(1.0, 10)
    >>> [round(lr(step), 4) for step in (0, 7, 9, 10)]
    [1.0, 0.5, 0.018, 0.0]
    """
    if steps == 0:
        return along(xp, step, init, end, 0, 0)
    # (1 - tanh(x)) / 2 = 1 / (1 + exp(2 * x)), which keeps its digits near 0. Time is counted in whole steps from about
    # x = 0, where the curve is steepest.
    rate = 2 * (upper - lower) / steps
    middle = round(min(max(-2 * lower / rate, 0), steps)) if rate else 0
    start = 2 * lower + rate * middle
    if steps < 2**24:
        late = elapsed(xp, step, 0, steps) - middle
    else:  # single precision does not hold so many steps
        late = elapsed(xp, step, middle, steps - middle) - remaining(xp, step, 0, middle)
    way = Way(
        lambda: 1 / (1 + growth(xp, -rate, late, -start, steps)),
        lambda: 1 / (1 + growth(xp, rate, late, start, steps)),
        over=lambda: reached(xp, step, steps),
    )
    return between(xp, init, end, way)
