"""The schedules of optax that are curves of their own; part of `dialects.optax`."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from multisched.errors import StepCountError
from multisched.schedules import decay
from multisched.schedules.parts import above, flag, length, one_of, real
from multisched.schedules.piecewise import checked_steps
from multisched.schedules.schedule import Schedule
from multisched.schedules.steps import piecewise_interpolate, piecewise_scale


# --- lengths ---------------------------------------------------------------------------------------------------------
def or_none(value: Any, what: str) -> Any:
    """`value` as a length in steps, 0 if it is less."""
    negative = isinstance(value, Real) and value < 0
    return length(0 if negative else value, what)


def whole(value: Any, what: str, *, zero: bool = False) -> int:
    """`value` as a whole number of steps, which may be written as a float."""
    steps = length(value, what, zero=zero)
    if steps != int(steps):
        raise StepCountError(f"{what} must be a whole number of steps, got {value!r}.")
    return int(steps)


# --- one way ---------------------------------------------------------------------------------------------------------
def constant_schedule(value: float) -> Schedule:
    """`value` at every step.

    >>> constant_schedule(0.5)(100)
    0.5
    """
    return decay.constant(value)


def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """`end_value + (init_value - end_value) * left ** power`; `left` goes from 1 at `transition_begin` to 0.

    It takes `transition_steps`; with 0 or less, it stays at `init_value`. A negative `transition_begin` is 0.

    >>> lr = polynomial_schedule(1.0, 0.0, power=2, transition_steps=4, transition_begin=1)
    >>> [lr(step) for step in (0, 1, 3, 5, 6)]
    [1.0, 1.0, 0.25, 0.0, 0.0]
    """
    init, end = real(init_value, "init_value"), real(end_value, "end_value")
    steps, begin = or_none(transition_steps, "transition_steps"), or_none(transition_begin, "transition_begin")
    exponent = above(power, "power", 0)
    if steps == 0 or exponent == 0:
        return decay.constant(init)
    if exponent == 1:
        return decay.linear(init, end, steps, begin)
    return decay.polynomial(init, end, steps, exponent, begin)


def linear_schedule(init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0) -> Schedule:
    """A line from `init_value` at `transition_begin` to `end_value` after `transition_steps` more.

    With a `transition_steps` of 0 or less, it stays at `init_value`. A negative `transition_begin` is 0.

    >>> lr = linear_schedule(1.0, 0.0, transition_steps=4, transition_begin=1)
    >>> [lr(step) for step in (0, 1, 2, 5, 6)]
    [1.0, 1.0, 0.75, 0.0, 0.0]
    >>> lr
    linear(1.0, 0.0, 4, begin=1)
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """`init_value * decay_rate ** ((step - transition_begin) / transition_steps)`, and `init_value` before.

    `staircase` rounds the exponent down. `end_value` is the least value if `decay_rate` is less than 1, else the
    largest. With a `decay_rate` of 0, or a `transition_steps` of 0 or less, it stays at `init_value`, whatever the
    `end_value`. A negative `transition_begin` is 0.

    >>> lr = exponential_decay(1.0, 2, 0.5, transition_begin=1, staircase=True, end_value=0.3)
    >>> [lr(step) for step in (0, 1, 2, 3, 5, 7)]
    [1.0, 1.0, 1.0, 0.5, 0.3, 0.3]
    """
    init, rate = real(init_value, "init_value"), above(decay_rate, "decay_rate", 0)
    steps, begin = or_none(transition_steps, "transition_steps"), or_none(transition_begin, "transition_begin")
    end = None if end_value is None else real(end_value, "end_value")
    if not steps or not rate:
        flag(staircase, "staircase")
        return decay.constant(init)
    return decay.exponential(init, rate, steps, begin, staircase, end)


def wave(init: float, steps: Any, end: float, exponent: Any) -> Schedule:
    """A half wave to a power, which may be 0."""
    if above(exponent, "exponent", 0) == 0:
        return decay.constant(init)
    return decay.cosine(init, steps, end, exponent)


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """A half wave from `init_value` to `alpha * init_value` in `decay_steps`; `exponent` is a power of the wave.

    >>> lr = cosine_decay_schedule(1.0, 4, alpha=0.5)
    >>> [round(lr(step), 4) for step in (0, 2, 4, 5)]
    [1.0, 0.75, 0.5, 0.5]
    """
    init = real(init_value, "init_value")
    return wave(init, length(decay_steps, "decay_steps", zero=False), init * real(alpha, "alpha"), exponent)


# --- through points --------------------------------------------------------------------------------------------------
def _scales(boundaries_and_scales: Any) -> list[tuple[int, float]]:
    given = {} if boundaries_and_scales is None else boundaries_and_scales
    pairs = checked_steps(given, "boundaries_and_scales")
    return [(step, above(scale, f"The scale at step {step}", 0)) for step, scale in pairs]


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """`init_value`, multiplied at each boundary by its scale, at least 0, and so by the product of all so far.

    >>> lr = piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return piecewise_scale(real(init_value, "init_value"), dict(_scales(boundaries_and_scales)))


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """Through `init_value` at step 0, and at each boundary that value multiplied by all scales so far.

    In between "linear" or "cosine"; after the last boundary level.

    >>> lr = piecewise_interpolate_schedule("linear", 1.0, {4: 0.5, 6: 0.5})
    >>> [lr(step) for step in (0, 2, 4, 5, 6, 7)]
    [1.0, 0.75, 0.5, 0.375, 0.25, 0.25]
    """
    kind = one_of(interpolate_type, "interpolate_type", "linear", "cosine")
    value = real(init_value, "init_value")
    values = {0: value}
    for step, scale in _scales(boundaries_and_scales):
        value = value * scale
        values[step] = value
    return piecewise_interpolate(values, kind)


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Lines up to `peak_value`, down again, and far below: at steps that are parts of the whole, rounded down.

        peak / div at 0, peak at pct_start, peak / div at pct_final, peak / div / final_div at transition_steps

    Where two of the steps are the same, the factor of the later one is all that counts.

    >>> lr = linear_onecycle_schedule(10, 1.0, pct_start=0.4, pct_final=0.8, div_factor=2, final_div_factor=4)
    >>> [lr(step) for step in (0, 2, 4, 6, 8, 10, 11)]
    [0.5, 0.75, 1.0, 0.75, 0.5, 0.125, 0.125]
    """
    steps, peak = whole(transition_steps, "transition_steps"), real(peak_value, "peak_value")
    start, final = above(pct_start, "pct_start", 0), above(pct_final, "pct_final", 0)
    divided = above(div_factor, "div_factor", 0, allowed=False)
    last = above(final_div_factor, "final_div_factor", 0, allowed=False)
    scales = {int(start * steps): divided, int(final * steps): 1 / divided, steps: 1 / last}
    return piecewise_interpolate_schedule("linear", peak / divided, scales)


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Half waves up to `peak_value` and down far below, at a part of the whole, rounded down, and at the whole.

        peak / div at 0, peak at pct_start, peak / div / final_div at transition_steps

    Where the two steps are the same, the factor of the later one is all that counts.

    >>> lr = cosine_onecycle_schedule(10, 1.0, pct_start=0.4, div_factor=2, final_div_factor=4)
    >>> [round(lr(step), 4) for step in (0, 2, 4, 7, 10, 11)]
    [0.5, 0.75, 1.0, 0.5625, 0.125, 0.125]
    """
    steps, peak = whole(transition_steps, "transition_steps"), real(peak_value, "peak_value")
    start = above(pct_start, "pct_start", 0)
    divided = above(div_factor, "div_factor", 0, allowed=False)
    last = above(final_div_factor, "final_div_factor", 0, allowed=False)
    scales = {int(start * steps): divided, steps: 1 / (divided * last)}
    return piecewise_interpolate_schedule("cosine", peak / divided, scales)
