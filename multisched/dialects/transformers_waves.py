"""What the schedules of transformers are made of: waves, restarts, a line before; part of `dialects.transformers`."""

import math
from fractions import Fraction
from typing import Any

from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleOptionError, ScheduleValueError
from multisched.schedules.catalogue import of_dialect
from multisched.schedules.clock import floating, later, since
from multisched.schedules.combine import join, repeat, stretch, warmup
from multisched.schedules.cycle import cosine_restarts
from multisched.schedules.decay import constant, cosine, linear
from multisched.schedules.parts import a_schedule, above, length
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule, schedule

_FAR = 2**31  # a period that no step reaches


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf  # which no length can be


def wave(high: float, low: float, steps: int, cycles: float) -> Schedule:
    """From `high` down to `low` and up again, `cycles` times in `steps`, and on for ever."""
    if cycles == 0:
        return constant(high)
    per_step = Fraction(str(cycles)) / steps
    count, period = per_step.numerator, per_step.denominator  # so many waves in so many steps
    if count == 1 and period % 2 == 0:
        half = period // 2
        return repeat(join([cosine(high, half, low), cosine(low, half, high)], [half]), period)
    one = join([cosine(high, 1, low), cosine(low, 1, high)], [1])
    some = stretch(one if count == 1 else repeat(one, 2), _float(1 / per_step / 2))
    return some if period >= _FAR else repeat(some, period)  # so that the fractions start anew where they can


def restarts(high: float, steps: int, cycles: float) -> Schedule:
    """Half waves from `high` to 0, `cycles` of them in `steps`; then 0."""
    if cycles == 0:
        return piecewise_constant(high, {steps: 0.0})
    per_step = Fraction(str(cycles)) / steps
    count, period = per_step.numerator, per_step.denominator
    if cycles == 1:
        return cosine(high, steps)
    if count == 1 and cycles == int(cycles):
        return cosine_restarts(high, period, cycles=int(cycles))
    each: Any = period if count == 1 else _float(1 / per_step)
    waves = cosine_restarts(high, each)
    return join([repeat(waves, period) if count > 1 and period < steps else waves, constant(0.0)], [steps])


def after_line(rule: Schedule, steps: int, peak: float, init: float = 0.0) -> Schedule:
    """A line from `init` towards `peak`, then a schedule, which need not begin there."""
    if steps == 0:
        return rule
    if rule(0) == peak:
        return warmup(rule, steps, init)
    return join([linear(init, peak, steps), rule], [steps])


def _ahead(xp: Namespace, step: Array, schedule: Schedule, steps: float) -> list[Array]:
    return [later(xp, step, int(steps)) if steps == int(steps) else floating(xp, since(xp, step, 0)) + steps]


@schedule(
    lambda schedule, steps: {"schedule": a_schedule(schedule, "schedule"), "steps": length(steps, "steps")},
    clock=_ahead,
)
@of_dialect("transformers")
def ahead(xp: Namespace, step: Array, schedule: Any, steps: int) -> Array:
    """A schedule without its first steps: `schedule(step + steps)`."""
    return schedule


def lowest(rate: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """What a wave goes down to, given as it is or as a part of the rate."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ScheduleOptionError(
            f"One of min_lr and min_lr_rate is needed, and not both, got {min_lr!r} and {min_lr_rate!r}."
        )
    if min_lr is None:
        return rate * above(min_lr_rate, "min_lr_rate", 0)
    if rate == 0:
        raise ScheduleValueError(f"min_lr is taken as a part of lr, which must not be 0 then, got min_lr={min_lr!r}.")
    return above(min_lr, "min_lr", 0)
