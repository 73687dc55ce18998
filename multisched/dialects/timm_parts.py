"""What the schedulers of timm have in common: warm-up, cycles, and options without effect; part of `dialects.timm`."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from multisched.dialects.torch_cycles import count
from multisched.errors import ScheduleOptionError, shown
from multisched.schedules.combine import delay, join, repeat, warmup
from multisched.schedules.cycle import MOST_CYCLES, starts
from multisched.schedules.decay import constant, exponential, linear
from multisched.schedules.parts import flag, real
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule

Curve = Callable[[float, float, float], Schedule]
"""One cycle: from a value, to another, in so many steps."""


def without_effect(t_in_epochs: Any, initialize: Any, noise_range_t: Any) -> None:
    """Check what makes no difference to the value at a step, or must not."""
    flag(t_in_epochs, "t_in_epochs")
    flag(initialize, "initialize")
    if noise_range_t is not None:
        raise ScheduleOptionError(
            "noise_range_t must be None: the noise of timm is drawn from the generator of torch at each step, and is "
            f"no formula of the step, got {shown(noise_range_t)}."
        )


# --- one after the other ---------------------------------------------------------------------------------------------
def switched(before: Schedule, after: Schedule, step: int) -> Schedule:
    """`before`, and `after` from a step on, on one clock: unlike in `join`, the second does not start anew."""
    both: Schedule = before * piecewise_constant(1, {step: 0}) + after * piecewise_constant(0, {step: 1})
    return both


def warmed(after: Schedule, peak: float, warmup_t: Any, warmup_lr_init: Any, warmup_prefix: Any) -> Schedule:
    """A line up to `peak`, then the schedule: from its beginning if the line is a prefix, else on the same clock."""
    steps, init = count(warmup_t, "warmup_t"), real(warmup_lr_init, "warmup_lr_init")
    prefix = flag(warmup_prefix, "warmup_prefix")
    if steps == 0:
        return after
    if prefix and after(0) == peak:
        return warmup(after, steps, init)
    line = linear(init, peak, steps)
    return join([line, after], [steps]) if prefix else switched(line, after, steps)


def in_turn(rules: Sequence[Schedule], begins: Sequence[float]) -> Schedule:
    """Each schedule from its own beginning, which may be a fraction, up to the next."""
    if all(begin == int(begin) for begin in begins):
        return join(rules, [int(begin) for begin in begins[1:]])
    firsts = [math.ceil(begin) for begin in begins]
    windows = [piecewise_constant(1, {firsts[1]: 0})]
    windows += [piecewise_constant(0, {first: 1, end: 0}) for first, end in pairwise(firsts[1:])]
    windows += [piecewise_constant(0, {firsts[-1]: 1})]
    late = [delay(rule, begin) for rule, begin in zip(rules, begins, strict=True)]  # type: ignore[arg-type]  # fractions
    return _sum([rule * window for rule, window in zip(late, windows, strict=True)])


def _sum(terms: list[Schedule]) -> Schedule:
    """Added up in pairs, so that many are not nested deeply."""
    half = len(terms) // 2
    return _sum(terms[:half]) + _sum(terms[half:]) if half else terms[0]


# --- cycles ----------------------------------------------------------------------------------------------------------
def cycles(curve: Curve, lr: float, low: float, steps: int, longer: float, lower: float, limit: int) -> Schedule:
    """Cycle i from `lr * lower ** i` to `low` in `steps * longer ** i`; after the last, `low`."""
    if limit == 0:
        return constant(low)
    if limit == 1:
        return curve(lr, low, steps)
    if longer == 1:
        return join([_alike(curve, lr, low, steps, lower), constant(low)], [limit * steps])
    ends = [_whole(end) for end in starts(steps, longer, min(limit, MOST_CYCLES))]
    rules = [curve(lr * lower**i, low, steps * longer**i) for i in range(len(ends))]
    return in_turn(rules, [0, *ends[:-1]])


def _whole(step: float) -> float:
    """`step`, or the integer that it is but for rounding."""
    return round(step) if math.isclose(step, round(step), rel_tol=1e-12) else step


def _alike(curve: Curve, lr: float, low: float, steps: int, lower: float) -> Schedule:
    """Cycles of one length, for ever."""
    if lower == 1:
        return repeat(curve(lr, low, steps), steps)
    peaks = exponential(lr, lower, steps, staircase=True) if lower else piecewise_constant(lr, {steps: 0})
    wave = repeat(curve(1, 0, steps), steps)
    return peaks * wave + low * (1 - wave) if low else peaks * wave
