"""The schedulers of `torch.optim.lr_scheduler`, as schedules: `StepLR(0.1, step_size=30)(k)`.

The value at step k is the rate that torch has set when `optimizer.step()` is called for the k-th time, from 0, with one
`scheduler.step()` after each. Names, order and defaults of the arguments are torch's, without `optimizer` and
`last_epoch`; where torch multiplies the optimizer's rate, that rate is the first argument, `base_lr`. A rate is one
number: for a list of them, one for each parameter group, build one schedule for each. Lengths are in updates.

Where torch's own forms differ (`scheduler.step()` against `scheduler.step(epoch)`), it is the first that counts.
Bad arguments raise `ScheduleValueError`, `ScheduleOptionError` or `StepCountError`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from multisched.arguments import optional, unchecked
from multisched.arrays import Array, Namespace
from multisched.averages.plateau import Plateau, plateau
from multisched.dialects import constructor, of_dialect
from multisched.dialects._readers import count, fraction, fraction_above_0, some
from multisched.errors import ScheduleOptionError, ScheduleValueError, shown
from multisched.schedules.clock import constant_like, later, reached, turns
from multisched.schedules.combine import from_function, join, repeat
from multisched.schedules.curves import along, half_wave, line
from multisched.schedules.cycle import cosine_restarts, cyclic
from multisched.schedules.decay import constant, cosine, exponential, linear, polynomial
from multisched.schedules.edges import multiples
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.readers import (
    a_schedule,
    any_schedule,
    flag,
    length,
    non_negative,
    one_of,
    positive,
    real,
    some_steps,
)
from multisched.schedules.schedule import Schedule, schedule
from multisched.schedules.steps import piecewise_scale

__all__ = ["SWALR", "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR"]
__all__ += ["CyclicMomentum", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR"]
__all__ += ["OneCycleLR", "OneCycleMomentum", "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR"]


# --- factors of the optimizer's rate ---------------------------------------------------------------------------------
@constructor(base_lr=real, lr_lambda=unchecked("schedule"), examples=["torch.LambdaLR(0.1, inverse_time(1, 1, 1))"])
def LambdaLR(base_lr: float, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """`base_lr * lr_lambda(step)`. On arrays `lr_lambda` is given an array of steps: see `ms.from_function`.

    >>> LambdaLR(0.5, lambda epoch: 1 / (1 + epoch))(3)
    0.125
    """
    if isinstance(lr_lambda, Sequence):
        raise ScheduleOptionError(f"LambdaLR takes one function, got {shown(lr_lambda)}: build one schedule for each.")
    factor = lr_lambda if isinstance(lr_lambda, Schedule) else from_function(lr_lambda)
    product: Schedule = base_lr * factor
    return product


@constructor(
    base_lr=real,
    lr_lambda=unchecked("schedule"),
    total_iters=count,
    examples=["torch.MultiplicativeLR(0.1, inverse_time(1, 1, 1), total_iters=2)"],
)
def MultiplicativeLR(base_lr: float, lr_lambda: Callable[[int], float], *, total_iters: int) -> Schedule:
    """`base_lr * lr_lambda(1) * lr_lambda(2) * ... * lr_lambda(step)`, up to step `total_iters`, where it stays.

    torch has no `total_iters`. A product of everything so far is no formula of the step: here the factors are asked for
    beforehand, and each that is not 1 becomes a boundary. For a factor that is always the same, see `ExponentialLR`.

    >>> lr = MultiplicativeLR(1.0, lambda epoch: 0.5 if epoch % 2 == 0 else 1, total_iters=4)
    >>> [lr(step) for step in (0, 1, 2, 3, 4, 5, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]
    """
    if not callable(lr_lambda):
        raise ScheduleOptionError(f"MultiplicativeLR takes a function of the step, got {shown(lr_lambda)}.")
    steps = range(1, total_iters + 1)
    factors = {step: real(lr_lambda(step), f"The factor at step {step}") for step in steps}
    return piecewise_scale(base_lr, {step: factor for step, factor in factors.items() if factor != 1})


@constructor(
    base_lr=real,
    step_size=some,
    gamma=non_negative,
    examples=["torch.StepLR(0.1, step_size=40)", "torch.StepLR(1, 3, gamma=0)"],
)
def StepLR(base_lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """`base_lr * gamma ** (step // step_size)`; `gamma` is at least 0.

    >>> lr = StepLR(1.0, 3, gamma=0.5)
    >>> [lr(step) for step in (0, 2, 3, 5, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    if gamma == 0:
        return piecewise_constant(base_lr, {step_size: 0.0})
    return exponential(base_lr, gamma, step_size, staircase=True)


@constructor(
    base_lr=real,
    milestones=unchecked("integers"),
    gamma=real,
    examples=["torch.MultiStepLR(0.1, milestones=[40])", "torch.MultiStepLR(1, [0, 4, 4], gamma=0.5)"],
)
def MultiStepLR(base_lr: float, milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """`base_lr`, multiplied by `gamma` at each of the milestones, once for each time that it is listed.

    Raises `StepKeyError` for milestones that are no steps.

    >>> lr = MultiStepLR(1.0, [2, 4, 4], gamma=0.5)
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.5, 0.125]
    """
    try:
        counts = Counter(milestones)
    except TypeError as cause:
        raise ScheduleValueError(f"milestones must be a list of steps, got {shown(milestones)}.") from cause
    return piecewise_scale(base_lr, {step: gamma**times for step, times in counts.items()})


@constructor(
    base_lr=real,
    factor=fraction,
    total_iters=count,
    examples=["torch.ConstantLR(0.1)", "torch.ConstantLR(1, factor=0.5, total_iters=0)"],
)
def ConstantLR(base_lr: float, factor: float = 1.0 / 3, total_iters: int = 5) -> Schedule:
    """`base_lr * factor` before step `total_iters`, `base_lr` from there on.

    With `total_iters=0`, torch never takes the factor back. With `factor=0`, torch divides by zero at `total_iters`;
    here `base_lr` follows.

    >>> lr = ConstantLR(1.0, factor=0.5, total_iters=2)
    >>> [lr(step) for step in (0, 1, 2, 3)]
    [0.5, 0.5, 1.0, 1.0]
    """
    low = base_lr * factor
    return piecewise_constant(low, {total_iters: base_lr}) if total_iters else constant(low)


@constructor(
    base_lr=real,
    start_factor=fraction_above_0,
    end_factor=fraction,
    total_iters=count,
    examples=["torch.LinearLR(0.1)", "torch.LinearLR(1, 0.5, 0, total_iters=8)"],
)
def LinearLR(base_lr: float, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """A line from `base_lr * start_factor` at step 0 to `base_lr * end_factor` at `total_iters`, where it stays.

    With `total_iters=0`, torch stays at the start.

    >>> lr = LinearLR(1.0, start_factor=0.5, total_iters=4)
    >>> [lr(step) for step in (0, 1, 2, 4, 5)]
    [0.5, 0.625, 0.75, 1.0, 1.0]
    """
    start = base_lr * start_factor
    return linear(start, base_lr * end_factor, total_iters) if total_iters else constant(start)


@constructor(base_lr=real, gamma=non_negative, examples=["torch.ExponentialLR(0.1, gamma=0.95)"])
def ExponentialLR(base_lr: float, gamma: float) -> Schedule:
    """`base_lr * gamma ** step`; `gamma` is at least 0.

    >>> ExponentialLR(1.0, 0.5)(3)
    0.125
    """
    return StepLR(base_lr, 1, gamma) if gamma == 0 else exponential(base_lr, gamma, 1)


@constructor(
    base_lr=real,
    total_iters=count,
    power=non_negative,
    examples=["torch.PolynomialLR(0.1)", "torch.PolynomialLR(1, 6, power=2)"],
)
def PolynomialLR(base_lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """`base_lr * (1 - step / total_iters) ** power`, and 0 from `total_iters` on.

    With `total_iters=0` or `power=0`, torch stays at `base_lr`.

    >>> lr = PolynomialLR(1.0, total_iters=4, power=2.0)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.25, 0.0, 0.0]
    """
    return polynomial(base_lr, 0, total_iters, power) if power and total_iters else constant(base_lr)


# --- waves -----------------------------------------------------------------------------------------------------------
@constructor(base_lr=real, T_max=some, eta_min=real, examples=["torch.CosineAnnealingLR(0.1, T_max=40)"])
def CosineAnnealingLR(base_lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:  # noqa: N803 (torch's name)
    """Half a wave down to `eta_min` at `T_max`, half a wave up to `base_lr` at `2 * T_max`, and so on.

    >>> lr = CosineAnnealingLR(1.0, 10)
    >>> [round(lr(step), 4) for step in (0, 5, 10, 11, 15, 20, 30)]
    [1.0, 0.5, 0.0, 0.0245, 0.5, 1.0, 0.0]
    """
    down, up = cosine(base_lr, T_max, eta_min), cosine(eta_min, T_max, base_lr)
    return repeat(join([down, up], [T_max]), 2 * T_max)


@constructor(
    base_lr=real,
    T_0=some,
    T_mult=some,
    eta_min=real,
    examples=[
        "torch.CosineAnnealingWarmRestarts(0.1, T_0=40)",
        "torch.CosineAnnealingWarmRestarts(1, 4, T_mult=2, eta_min=0.5)",
    ],
)
def CosineAnnealingWarmRestarts(
    base_lr: float,
    T_0: int,  # noqa: N803
    T_mult: int = 1,  # noqa: N803
    eta_min: float = 0.0,
) -> Schedule:
    """Half waves from `base_lr` to `eta_min`: the first over `T_0` steps, each `T_mult` times as long as the last.

    >>> lr = CosineAnnealingWarmRestarts(1.0, 10, T_mult=2)
    >>> [round(lr(step), 4) for step in (0, 5, 9, 10, 20, 30)]
    [1.0, 0.5, 0.0245, 1.0, 0.5, 1.0]
    """
    return cosine_restarts(base_lr, T_0, T_mult, end=eta_min)


@constructor(
    base_lr=real,
    swa_lr=real,
    anneal_epochs=count,
    anneal_strategy=one_of("cos", "linear"),
    examples=["torch.SWALR(0.1, swa_lr=0.05)", "torch.SWALR(0.1, 0.5, 4, 'linear')"],
)
def SWALR(
    base_lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: Literal["cos", "linear"] = "cos"
) -> Schedule:
    """From the rate that the optimizer has, `base_lr`, to `swa_lr` in `anneal_epochs` steps, where it stays.

    Of `torch.optim.swa_utils`. With `anneal_epochs=0` it is at `swa_lr` from step 0 on.

    >>> lr = SWALR(1.0, 0.5, anneal_epochs=4, anneal_strategy="linear")
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.75, 0.5, 0.5]
    """
    if anneal_strategy == "cos":
        return cosine(base_lr, anneal_epochs, swa_lr)
    return linear(base_lr, swa_lr, anneal_epochs)


# --- triangles -------------------------------------------------------------------------------------------------------
@schedule(
    schedule=any_schedule,
    period=length,
    edges=lambda arguments, until: list(multiples(arguments["period"], until)),
    examples=["torch.by_cycle(linear(1, 0, 4), 3)"],
    clock=lambda xp, step, schedule, period: [turns(xp, step, period)[0] + 1],
)
@of_dialect("torch")
def by_cycle(xp: Namespace, step: Array, schedule: Any, period: float) -> Array:
    """A schedule of the number of the cycle, which counts from 1: `schedule(1 + step // period)`."""
    return schedule


_MODES = one_of("triangular", "triangular2", "exp_range")
_SCALE_MODES = one_of("cycle", "iterations")


@constructor(
    base_lr=real,
    max_lr=real,
    step_size_up=some_steps,
    step_size_down=optional(length),
    mode=unchecked("text"),
    gamma=unchecked("number"),
    scale_fn=optional(unchecked("schedule")),
    scale_mode=_SCALE_MODES,
    cycle_momentum=unchecked("flag"),
    base_momentum=unchecked("number"),
    max_momentum=unchecked("number"),
    examples=[
        "torch.CyclicLR(0.01, max_lr=0.1, step_size_up=20)",
        "torch.CyclicLR(0.1, 1, 5, 10, scale_fn=exponential(1, 0.5, 3))",
    ],
)
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
    if scale_fn is None:
        _MODES(mode, "mode")
        if non_negative(gamma, "gamma") == 0 and mode == "exp_range":
            return constant(base_lr)
        return cyclic(base_lr, max_lr, step_size_up, step_size_down, mode, gamma if mode == "exp_range" else 1)
    scale = scale_fn if isinstance(scale_fn, Schedule) else from_function(scale_fn)
    if scale_mode == "cycle":
        scale = by_cycle(scale, step_size_up + (step_size_up if step_size_down is None else step_size_down))
    scaled: Schedule = base_lr + (max_lr - base_lr) * (cyclic(0, 1, step_size_up, step_size_down) * scale)
    return scaled


@constructor(
    base_momentum=real,
    max_momentum=real,
    step_size_up=some_steps,
    step_size_down=optional(length),
    mode=unchecked("text"),
    gamma=unchecked("number"),
    scale_fn=optional(unchecked("schedule")),
    scale_mode=_SCALE_MODES,
    examples=["torch.CyclicMomentum(step_size_up=20)"],
)
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
    return CyclicLR(max_momentum, base_momentum, step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)


# --- one cycle -------------------------------------------------------------------------------------------------------
class _Phase(NamedTuple):
    """The way from one value to another, between two steps, which may be fractions and lie before step 0."""

    start: float
    end: float
    begin: float
    until: float

    def one_step_on(self, anneal_strategy: str) -> float:
        """The value that the curve would have one step after its end."""
        beyond = 1 / (self.until - self.begin) if self.until > self.begin else 0.0
        left = -beyond if anneal_strategy == "linear" else math.sin(math.pi / 2 * beyond) ** 2
        return self.end + (self.start - self.end) * left


def _phases(values: Sequence[float], total_steps: int, pct_start: float) -> list[_Phase]:
    """The phases between each two values, without those that are over before step 0.

    torch counts phases from 1 and steps from 0: so each phase ends one step early.
    """
    turn, last = pct_start * total_steps - 1, total_steps - 1
    ends = [turn, last] if len(values) == 3 else [turn, 2 * pct_start * total_steps - 2, last]
    *earlier, final = map(_Phase, values, values[1:], [0, *ends], ends)
    return [*(phase for phase in earlier if phase.until > 0), final]


def _through(xp: Namespace, step: Array, phases: list[_Phase], total_steps: int, anneal_strategy: str) -> Array:
    """The value on the way through the phases; at step `total_steps`, the last curve goes on, as in torch."""
    curve = line if anneal_strategy == "linear" else half_wave
    shift = max(0, math.ceil(-phases[0].begin))  # the first phase may begin before step 0, where no step counts
    clock = later(xp, step, shift) if shift else step
    value = constant_like(xp, step, float(phases[0].start))
    for phase in phases:
        value = along(
            xp, clock, phase.start, phase.end, phase.begin + shift, phase.until - phase.begin, curve, before=value
        )
    one_past = reached(xp, step, total_steps) & ~reached(xp, step, total_steps + 1)
    return xp.where(one_past, phases[-1].one_step_on(anneal_strategy), value)


_PHASES: dict[str, Any] = {
    "total_steps": optional(some),
    "epochs": optional(some),
    "steps_per_epoch": optional(some),
    "pct_start": non_negative,
    "anneal_strategy": one_of("cos", "linear"),
    "three_phase": flag,
}


def _with_its_length(**given: Any) -> dict[str, Any]:
    """The arguments with the length in `total_steps` alone, so that schedules of one length are equal."""
    total_steps, epochs, steps_per_epoch = given["total_steps"], given["epochs"], given["steps_per_epoch"]
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ScheduleOptionError("Either total_steps is needed, or epochs and steps_per_epoch.")
        total_steps = epochs * steps_per_epoch
    if given["pct_start"] > 1:
        raise ScheduleOptionError(f"pct_start is a part of the whole, at most 1, got {given['pct_start']!r}.")
    return {**given, "total_steps": total_steps, "epochs": None, "steps_per_epoch": None}


def _one_cycle_edges(arguments: dict[str, Any], until: float) -> list[float]:
    turn, total = arguments["pct_start"] * arguments["total_steps"], arguments["total_steps"]
    return [turn - 1, *([2 * turn - 2] if arguments["three_phase"] else []), total - 1]


@schedule(
    _with_its_length,
    **_PHASES,
    max_lr=real,
    cycle_momentum=flag,
    base_momentum=real,
    max_momentum=real,
    div_factor=positive,
    final_div_factor=positive,
    edges=_one_cycle_edges,
    examples=[
        "torch.OneCycleLR(0.1, total_steps=90)",
        "torch.OneCycleLR(1, epochs=2, steps_per_epoch=10, three_phase=True)",
    ],
)
@of_dialect("torch")
def OneCycleLR(
    xp: Namespace,
    step: Array,
    max_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
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
    assert total_steps is not None  # the reader of the arguments has counted them
    return _through(xp, step, _phases(values, total_steps, pct_start), total_steps, anneal_strategy)


@schedule(
    _with_its_length,
    **_PHASES,
    base_momentum=real,
    max_momentum=real,
    edges=_one_cycle_edges,
    examples=["torch.OneCycleMomentum(total_steps=90)"],
)
@of_dialect("torch")
def OneCycleMomentum(
    xp: Namespace,
    step: Array,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
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
    assert total_steps is not None  # the reader of the arguments has counted them
    return _through(xp, step, _phases(values, total_steps, pct_start), total_steps, anneal_strategy)


# --- of several, and of a metric -------------------------------------------------------------------------------------
@constructor(
    schedulers=unchecked("schedules"),
    milestones=unchecked("integers"),
    examples=["torch.SequentialLR([constant(0.05), constant(0.1)], milestones=[40])"],
)
def SequentialLR(schedulers: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """One after the other: the next from each milestone on, at its own step 0. Each has a base rate of its own.

    >>> lr = SequentialLR([ConstantLR(1.0, factor=0.5, total_iters=20), ExponentialLR(1.0, 0.5)], [2])
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [0.5, 0.5, 1.0, 0.5, 0.25]
    """
    return join(schedulers, milestones)


@constructor(
    base_lr=real,
    schedulers=unchecked("schedules"),
    examples=["torch.ChainedScheduler(0.1, schedulers=[constant(0.05), constant(0.1)])"],
)
def ChainedScheduler(base_lr: float, schedulers: Sequence[Schedule]) -> Schedule:
    """`base_lr`, times what each of the schedulers makes of it: `base_lr * product of scheduler(step) / base_lr`.

    Each scheduler is built with this same `base_lr`, which is not 0. This is what torch does with those that multiply
    the rate that they find: `MultiplicativeLR`, `StepLR`, `MultiStepLR`, `ConstantLR`, `LinearLR`, `ExponentialLR`,
    `PolynomialLR`; and `CosineAnnealingLR` with `eta_min=0`, up to `T_max`. In torch, the others (`LambdaLR`,
    `CosineAnnealingWarmRestarts`, `CyclicLR`, `OneCycleLR`) overwrite at each step what was there before: of those
    ahead of them nothing is left, and of those behind them the factor of one step.

    >>> lr = ChainedScheduler(0.5, [ConstantLR(0.5, factor=0.5, total_iters=2), ExponentialLR(0.5, 0.5)])
    >>> [lr(step) for step in (0, 1, 2, 3)]
    [0.25, 0.125, 0.125, 0.0625]
    """
    if base_lr == 0 or not isinstance(schedulers, Sequence) or not schedulers:
        raise ScheduleValueError(
            "ChainedScheduler takes a base rate that is not 0 and a list of at least one schedule, "
            f"got {base_lr!r} and {shown(schedulers)}."
        )
    chained = a_schedule(schedulers[0], "Schedule 0")
    for i, factor in enumerate(schedulers[1:], 1):
        chained = chained * (a_schedule(factor, f"Schedule {i}") / base_lr)
    return chained


@constructor(
    base_lr=unchecked("array"),
    mode=unchecked("text"),
    factor=unchecked("number"),
    patience=unchecked("integer"),
    threshold=unchecked("number"),
    threshold_mode=one_of("rel", "abs"),
    cooldown=unchecked("integer"),
    min_lr=unchecked("array"),
    eps=unchecked("number"),
    examples=["torch.ReduceLROnPlateau(0.1)", "torch.ReduceLROnPlateau(0.1, 'max', 0.5, patience=2, min_lr=0.01)"],
)
def ReduceLROnPlateau(
    base_lr: float | Sequence[float],
    mode: Literal["min", "max"] = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    min_lr: float | Sequence[float] = 0,
    eps: float = 1e-8,
) -> Plateau:
    """A rate that falls when a metric has stopped improving: no schedule, but a rule of the metric, `ms.plateau`.

    The value after a metric is the rate that torch has set after `scheduler.step(metric)`. A list as `min_lr` has one
    number for each parameter group, and so may `base_lr`: the value is then an array, with one rate for each group.
    Unlike `ms.plateau`, a `threshold_mode` of "rel" takes a part of the best metric with its sign, as torch does: below
    zero, metrics that are worse by less than the margin count as improvements.

    Raises `RuleError`.

    >>> ReduceLROnPlateau(0.1, factor=0.5, patience=2, min_lr=0.01)
    plateau(0.1, factor=0.5, patience=2, minimum=0.01, threshold_mode='rel', eps=1e-08)
    """
    return plateau(base_lr, factor, patience, threshold, mode, cooldown, min_lr, threshold_mode, eps)
