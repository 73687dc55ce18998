"""Schedules that fall as the inverse of the time, or of its square root."""

from multisched.arguments import optional
from multisched.arrays import Array, Namespace
from multisched.schedules.clock import constant_like, elapsed, reached, turns
from multisched.schedules.curves import along
from multisched.schedules.edges import after
from multisched.schedules.readers import flag, length, non_negative, positive, real, some_steps
from multisched.schedules.schedule import schedule

__all__ = ["inverse_sqrt", "inverse_time", "noam"]


@schedule(
    init=real,
    rate=non_negative,
    steps=some_steps,
    staircase=flag,
    examples=["inverse_time(0.1, 1, 20)", "inverse_time(1, 0.5, 4, staircase=True)"],
)
def inverse_time(xp: Namespace, step: Array, init: float, rate: float, steps: float, staircase: bool = False) -> Array:
    """A hyperbola: `init` divided by a number that grows linearly.

        f(step) = init / (1 + rate * step / steps)

    Parameters
    ----------
    init:
        The value at step 0 and before.
    rate, steps:
        The divisor grows by `rate`, which is at least 0, in every `steps` updates.
    staircase:
        Whether it grows at once at the end of each `steps` updates.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Source: `keras.optimizers.schedules.InverseTimeDecay`.

    >>> lr = inverse_time(1.0, 1.0, 10)
    >>> lr(0), lr(10), lr(30)
    (1.0, 0.5, 0.25)
    """
    if rate == 0:  # 0 times an infinite step would be NaN
        return constant_like(xp, step, float(init))
    periods = turns(xp, step, steps)[0] if staircase else elapsed(xp, step, 0) / float(steps)
    return init / (1 + rate * periods)


@schedule(
    peak=real,
    warmup_steps=length,
    timescale=optional(some_steps),
    edges=after("warmup_steps"),
    examples=["inverse_sqrt(0.1, 20)", "inverse_sqrt(1, 0, timescale=3)"],
)
def inverse_sqrt(xp: Namespace, step: Array, peak: float, warmup_steps: float, timescale: float | None = None) -> Array:
    """A line up to `peak`, then a decay as the inverse square root of the time.

        f(step) = peak * step / warmup_steps                                    before `warmup_steps`
        f(step) = peak / sqrt((step - warmup_steps) / timescale + 1)            from there on

    Parameters
    ----------
    peak:
        The value at step `warmup_steps`.
    warmup_steps:
        The length of the line, in updates. If it is 0, the schedule starts at the peak.
    timescale:
        One third of the number of updates, after the peak, in which the value falls to half. Default: `warmup_steps`,
        or 10,000 without a warm-up.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: `transformers.get_inverse_sqrt_schedule`.

    >>> lr = inverse_sqrt(1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 16)]
    [0.0, 0.5, 1.0, 0.5]
    """
    scale = timescale if timescale is not None else warmup_steps or 10_000
    falling = peak / xp.sqrt(elapsed(xp, step, warmup_steps) / float(scale) + 1)
    if warmup_steps == 0:
        return falling
    return xp.where(reached(xp, step, warmup_steps), falling, along(xp, step, 0, peak, 0, warmup_steps))


@schedule(
    d_model=positive,
    warmup_steps=some_steps,
    factor=real,
    edges=lambda arguments, until: [arguments["warmup_steps"] - 1],
    examples=["noam(512, 40)", "noam(4, 3, factor=2)"],
)
def noam(xp: Namespace, step: Array, d_model: float, warmup_steps: float, factor: float = 1) -> Array:
    """The schedule of the first Transformer: a line up, then a decay as the inverse square root of the step.

        s = step + 1
        f(step) = factor * d_model ** -0.5 * min(s ** -0.5, s * warmup_steps ** -1.5)

    Parameters
    ----------
    d_model:
        The width of the model.
    warmup_steps:
        The update at which the value peaks, counted from 1; more than 0.
    factor:
        A factor for all values.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    >>> lr = noam(4, 100)
    >>> round(lr(0), 6), round(lr(99), 6), round(lr(399), 6)
    (0.0005, 0.05, 0.025)
    """
    count = elapsed(xp, step, 0) + 1
    rising, falling = count * warmup_steps**-1.5, 1 / xp.sqrt(count)
    return factor * d_model**-0.5 * xp.where(rising < falling, rising, falling)
