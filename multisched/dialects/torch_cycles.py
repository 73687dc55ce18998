"""The two cycles of torch, of the rate and of the momentum that goes the other way; part of `dialects.torch`."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from multisched.arrays import Array, Namespace, as_real
from multisched.errors import ScheduleOptionError, StepCountError, shown
from multisched.schedules.catalogue import of_dialect
from multisched.schedules.clock import constant_like, later, reached, turns
from multisched.schedules.combine import from_function
from multisched.schedules.curves import along, half_wave, line
from multisched.schedules.cycle import cyclic
from multisched.schedules.decay import constant
from multisched.schedules.parts import a_schedule, above, flag, length, one_of, real
from multisched.schedules.schedule import Schedule, schedule


def count(value: Any, what: str, least: int = 0) -> int:
    """`value` as a whole number of steps."""
    steps = as_real(value)
    if not isinstance(steps, int) or steps < least:
        raise StepCountError(f"{what} must be a number of steps, an integer of at least {least}, got {shown(value)}.")
    return steps


# --- triangles -------------------------------------------------------------------------------------------------------
@schedule(
    lambda schedule, period: {"schedule": a_schedule(schedule, "schedule"), "period": length(period, "period")},
    clock=lambda xp, step, schedule, period: [turns(xp, step, period)[0] + 1],
)
@of_dialect("torch")
def by_cycle(xp: Namespace, step: Array, schedule: Any, period: float) -> Array:
    """A schedule of the number of the cycle, which counts from 1: `schedule(1 + step // period)`."""
    return schedule


def CyclicLR(
    base_lr: float,
    max_lr: float,
    step_size_up: float = 2000,
    step_size_down: float | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
    cycle_momentum: bool = True,
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
) -> Schedule:
    """Up from `base_lr` to `max_lr` in `step_size_up` steps and down again in `step_size_down`, for ever.

        base_lr + (max_lr - base_lr) * w(step) * scale
        scale = 1, 2 ** (1 - cycle), gamma ** step, scale_fn(cycle) or scale_fn(step);  cycle = 1, 2, ...

    `scale_fn` takes the place of `mode`; on arrays it is given an array: see `ms.from_function`. `gamma` is at least 0.
    The last three arguments are there so that calls of torch can be taken over: they are those of `CyclicMomentum`.

    >>> lr = CyclicLR(0.0, 1.0, 4, mode="triangular2")
    >>> [lr(step) for step in (0, 2, 4, 6, 8, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """
    low, high = real(base_lr, "base_lr"), real(max_lr, "max_lr")
    up: Any = length(step_size_up, "step_size_up", zero=False)
    down: Any = None if step_size_down is None else length(step_size_down, "step_size_down")
    one_of(scale_mode, "scale_mode", "cycle", "iterations")
    if scale_fn is None:
        one_of(mode, "mode", "triangular", "triangular2", "exp_range")
        if above(gamma, "gamma", 0) == 0 and mode == "exp_range":
            return constant(low)
        return cyclic(low, high, up, down, mode, gamma if mode == "exp_range" else 1)
    scale = scale_fn if isinstance(scale_fn, Schedule) else from_function(scale_fn)
    wave = cyclic(0, 1, up, down) * (
        by_cycle(scale, up + (up if down is None else down)) if scale_mode == "cycle" else scale
    )
    scaled: Schedule = low + (high - low) * wave
    return scaled


def CyclicMomentum(
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
    step_size_up: float = 2000,
    step_size_down: float | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
) -> Schedule:
    """The momentum that `CyclicLR` sets with `cycle_momentum=True`: from `max_momentum` down, as the rate goes up.

    Not a name of torch. The first of the `betas` of Adam is a momentum, too.

    >>> momentum = CyclicMomentum(0.5, 1.0, 4)
    >>> [momentum(step) for step in (0, 2, 4, 6, 8)]
    [1.0, 0.75, 0.5, 0.75, 1.0]
    """
    low, high = real(base_momentum, "base_momentum"), real(max_momentum, "max_momentum")
    return CyclicLR(high, low, step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)


# --- one cycle -------------------------------------------------------------------------------------------------------
def _phases(
    xp: Namespace, step: Array, values: Sequence[float], total_steps: int, pct_start: float, anneal_strategy: str
) -> Array:
    """Through the values, along one phase between each two; the phases end an update early, as torch has it."""
    last, turn = total_steps - 1, pct_start * total_steps - 1
    ends = [turn, last] if len(values) == 3 else [turn, 2 * pct_start * total_steps - 2, last]
    *earlier, final = zip(values, values[1:], [0, *ends], ends, strict=False)
    phases = [*(phase for phase in earlier if phase[3] > 0), final]  # without those that are over before step 0
    shift = max(0, math.ceil(-phases[0][2]))  # of a phase that begins before step 0
    clock = later(xp, step, shift) if shift else step
    curve = line if anneal_strategy == "linear" else half_wave
    result = constant_like(xp, step, float(phases[0][0]))
    for init, value, begin, end in phases:
        result = along(xp, clock, init, value, begin + shift, end - begin, curve, result)
    init, value, begin, end = phases[-1]
    beyond = 1 / (end - begin) if end > begin else 0.0
    beyond = -beyond if anneal_strategy == "linear" else math.sin(math.pi / 2 * beyond) ** 2
    once = reached(xp, step, total_steps) & ~reached(xp, step, total_steps + 1)
    return xp.where(once, value + (init - value) * beyond, result)


def _checked_phases(
    total_steps: Any, epochs: Any, steps_per_epoch: Any, pct_start: Any, anneal_strategy: Any, three_phase: Any
) -> dict[str, Any]:
    if total_steps is not None:
        total_steps = count(total_steps, "total_steps", 1)
    elif epochs is None or steps_per_epoch is None:
        raise ScheduleOptionError("Either total_steps is needed, or epochs and steps_per_epoch.")
    else:
        total_steps = count(epochs, "epochs", 1) * count(steps_per_epoch, "steps_per_epoch", 1)
    if above(pct_start, "pct_start", 0) > 1:
        raise ScheduleOptionError(f"pct_start is a part of the whole, at most 1, got {pct_start!r}.")
    return {
        "total_steps": total_steps,
        "epochs": None,
        "steps_per_epoch": None,
        "pct_start": real(pct_start, "pct_start"),
        "anneal_strategy": one_of(anneal_strategy, "anneal_strategy", "cos", "linear"),
        "three_phase": flag(three_phase, "three_phase"),
    }


def _checked_one_cycle(
    max_lr: Any, cycle_momentum: Any, base_momentum: Any, max_momentum: Any, div_factor: Any, final_div_factor: Any,
    **phases: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "max_lr": real(max_lr, "max_lr"),
        "cycle_momentum": flag(cycle_momentum, "cycle_momentum"),
        "base_momentum": real(base_momentum, "base_momentum"),
        "max_momentum": real(max_momentum, "max_momentum"),
        "div_factor": above(div_factor, "div_factor", 0, allowed=False),
        "final_div_factor": above(final_div_factor, "final_div_factor", 0, allowed=False),
        **_checked_phases(**phases),
    }


@schedule(_checked_one_cycle)
@of_dialect("torch")
def OneCycleLR(
    xp: Namespace,
    step: Array,
    max_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Array:
    """Up to `max_lr`, then down far below the start.

        init = max_lr / div_factor,  end = init / final_div_factor,  T = total_steps, or epochs * steps_per_epoch
        two phases:    init -> max_lr by step pct_start * T - 1, then -> end by T - 1
        three phases:  init -> max_lr by step pct_start * T - 1, -> init by 2 * pct_start * T - 2, -> end by T - 1

    At step `T`, one more than there are updates in the cycle, torch goes on along the curve of the last phase, with
    "linear" to below 0; so does this. After that torch raises; here `T - 1` has the last word, which is `end`. A first
    phase of length 0 (`pct_start * T == 1`), at which torch divides by zero, is skipped.

    The momentum is that of `OneCycleMomentum`; its arguments are there so that calls of torch can be taken over.

    >>> lr = OneCycleLR(1.0, total_steps=11, pct_start=0.5, anneal_strategy="linear")
    >>> [round(lr(step), 4) for step in (0, 4, 5, 10, 12)]
    [0.04, 0.8933, 0.9091, 0.0, 0.0]
    """
    init = max_lr / div_factor
    values = [init, max_lr, *([init] if three_phase else []), init / final_div_factor]
    return _phases(xp, step, values, total_steps or 1, pct_start, anneal_strategy)


@schedule(
    lambda base_momentum, max_momentum, **phases: {
        "base_momentum": real(base_momentum, "base_momentum"),
        "max_momentum": real(max_momentum, "max_momentum"),
        **_checked_phases(**phases),
    }
)
@of_dialect("torch")
def OneCycleMomentum(
    xp: Namespace,
    step: Array,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    three_phase: bool = False,
) -> Array:
    """The momentum that `OneCycleLR` sets with `cycle_momentum=True`: down as the rate goes up, then up again.

    Not a name of torch. The first of the `betas` of Adam is a momentum, too.

    >>> momentum = OneCycleMomentum(total_steps=10, pct_start=0.5)
    >>> [round(momentum(step), 4) for step in (0, 2, 4, 9, 11)]
    [0.95, 0.9, 0.85, 0.95, 0.95]
    """
    values = [max_momentum, base_momentum, max_momentum, *([max_momentum] if three_phase else [])]
    return _phases(xp, step, values, total_steps or 1, pct_start, anneal_strategy)
