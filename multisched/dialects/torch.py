"""The schedulers of `torch.optim.lr_scheduler`, as schedules: `StepLR(0.1, step_size=30)(k)`.

The value at step k is the rate that torch has set when `optimizer.step()` is called for the k-th time, from 0, with one
`scheduler.step()` after each. Names, order and defaults of the arguments are torch's, without `optimizer` and
`last_epoch`; where torch multiplies the optimizer's rate, that rate is the first argument, `base_lr`. A rate is one
number: for a list of them, one for each parameter group, build one schedule for each. Lengths are in updates.

Where torch's own forms differ (`scheduler.step()` against `scheduler.step(epoch)`), it is the first that counts.
Bad arguments raise `ScheduleValueError`, `ScheduleOptionError` or `StepCountError`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from multisched.averages.plateau import Plateau, plateau
from multisched.dialects.torch_cycles import CyclicLR, CyclicMomentum, OneCycleLR, OneCycleMomentum, count
from multisched.errors import ScheduleOptionError, ScheduleValueError, shown
from multisched.schedules.combine import from_function, join, repeat
from multisched.schedules.cycle import cosine_restarts
from multisched.schedules.decay import constant, cosine, exponential, linear, polynomial
from multisched.schedules.parts import a_schedule, above, one_of, real
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule
from multisched.schedules.steps import piecewise_scale

__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "CyclicMomentum",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "OneCycleMomentum",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


def _part(value: Any, what: str, *, zero: bool = True) -> float:
    number = above(value, what, 0, allowed=zero)
    if number > 1:
        raise ScheduleValueError(f"{what} must be at most 1, got {number!r}.")
    return number


# --- factors of the optimizer's rate ---------------------------------------------------------------------------------
def LambdaLR(base_lr: float, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """`base_lr * lr_lambda(step)`. On arrays `lr_lambda` is given an array of steps: see `ms.from_function`.

    >>> LambdaLR(0.5, lambda epoch: 1 / (1 + epoch))(3)
    0.125
    """
    if isinstance(lr_lambda, Sequence):
        raise ScheduleOptionError(f"LambdaLR takes one function, got {shown(lr_lambda)}: build one schedule for each.")
    factor = lr_lambda if isinstance(lr_lambda, Schedule) else from_function(lr_lambda)
    product: Schedule = real(base_lr, "base_lr") * factor
    return product


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
    steps = range(1, count(total_iters, "total_iters") + 1)
    factors = {step: real(lr_lambda(step), f"The factor at step {step}") for step in steps}
    return piecewise_scale(real(base_lr, "base_lr"), {step: f for step, f in factors.items() if f != 1})


def StepLR(base_lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """`base_lr * gamma ** (step // step_size)`; `gamma` is at least 0.

    >>> lr = StepLR(1.0, 3, gamma=0.5)
    >>> [lr(step) for step in (0, 2, 3, 5, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    base_lr, steps = real(base_lr, "base_lr"), count(step_size, "step_size", 1)
    if above(gamma, "gamma", 0) == 0:
        return piecewise_constant(base_lr, {steps: 0.0})
    return exponential(base_lr, gamma, steps, staircase=True)


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
    factor = real(gamma, "gamma")
    return piecewise_scale(real(base_lr, "base_lr"), {step: factor**count for step, count in counts.items()})


def ConstantLR(base_lr: float, factor: float = 1.0 / 3, total_iters: int = 5) -> Schedule:
    """`base_lr * factor` before step `total_iters`, `base_lr` from there on.

    With `total_iters=0`, torch never takes the factor back. With `factor=0`, torch divides by zero at `total_iters`;
    here `base_lr` follows.

    >>> lr = ConstantLR(1.0, factor=0.5, total_iters=2)
    >>> [lr(step) for step in (0, 1, 2, 3)]
    [0.5, 0.5, 1.0, 1.0]
    """
    base_lr, steps = real(base_lr, "base_lr"), count(total_iters, "total_iters")
    low = base_lr * _part(factor, "factor")
    return piecewise_constant(low, {steps: base_lr}) if steps else constant(low)


def LinearLR(base_lr: float, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """A line from `base_lr * start_factor` at step 0 to `base_lr * end_factor` at `total_iters`, where it stays.

    With `total_iters=0`, torch stays at the start.

    >>> lr = LinearLR(1.0, start_factor=0.5, total_iters=4)
    >>> [lr(step) for step in (0, 1, 2, 4, 5)]
    [0.5, 0.625, 0.75, 1.0, 1.0]
    """
    base_lr, steps = real(base_lr, "base_lr"), count(total_iters, "total_iters")
    start = base_lr * _part(start_factor, "start_factor", zero=False)
    end = base_lr * _part(end_factor, "end_factor")
    return linear(start, end, steps) if steps else constant(start)


def ExponentialLR(base_lr: float, gamma: float) -> Schedule:
    """`base_lr * gamma ** step`; `gamma` is at least 0.

    >>> ExponentialLR(1.0, 0.5)(3)
    0.125
    """
    return (
        StepLR(base_lr, 1, gamma) if gamma == 0 else exponential(real(base_lr, "base_lr"), above(gamma, "gamma", 0), 1)
    )


def PolynomialLR(base_lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """`base_lr * (1 - step / total_iters) ** power`, and 0 from `total_iters` on.

    With `total_iters=0` or `power=0`, torch stays at `base_lr`.

    >>> lr = PolynomialLR(1.0, total_iters=4, power=2.0)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.25, 0.0, 0.0]
    """
    base_lr, steps = real(base_lr, "base_lr"), count(total_iters, "total_iters")
    if above(power, "power", 0) == 0 or steps == 0:
        return constant(base_lr)
    return polynomial(base_lr, 0, steps, power)


# --- waves -----------------------------------------------------------------------------------------------------------
def CosineAnnealingLR(base_lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:  # noqa: N803 (torch's name)
    """Half a wave down to `eta_min` at `T_max`, half a wave up to `base_lr` at `2 * T_max`, and so on.

    >>> lr = CosineAnnealingLR(1.0, 10)
    >>> [round(lr(step), 4) for step in (0, 5, 10, 11, 15, 20, 30)]
    [1.0, 0.5, 0.0, 0.0245, 0.5, 1.0, 0.0]
    """
    high, low, steps = real(base_lr, "base_lr"), real(eta_min, "eta_min"), count(T_max, "T_max", 1)
    return repeat(join([cosine(high, steps, low), cosine(low, steps, high)], [steps]), 2 * steps)


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
    high, low = real(base_lr, "base_lr"), real(eta_min, "eta_min")
    return cosine_restarts(high, count(T_0, "T_0", 1), count(T_mult, "T_mult", 1), end=low)


def SWALR(base_lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> Schedule:
    """From the rate that the optimizer has, `base_lr`, to `swa_lr` in `anneal_epochs` steps, where it stays.

    Of `torch.optim.swa_utils`. With `anneal_epochs=0` it is at `swa_lr` from step 0 on.

    >>> lr = SWALR(1.0, 0.5, anneal_epochs=4, anneal_strategy="linear")
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.75, 0.5, 0.5]
    """
    high, low, steps = real(base_lr, "base_lr"), real(swa_lr, "swa_lr"), count(anneal_epochs, "anneal_epochs")
    if one_of(anneal_strategy, "anneal_strategy", "cos", "linear") == "cos":
        return cosine(high, steps, low)
    return linear(high, low, steps)


# --- of several, and of a metric -------------------------------------------------------------------------------------
def SequentialLR(schedulers: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """One after the other: the next from each milestone on, at its own step 0. Each has a base rate of its own.

    >>> lr = SequentialLR([ConstantLR(1.0, factor=0.5, total_iters=20), ExponentialLR(1.0, 0.5)], [2])
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [0.5, 0.5, 1.0, 0.5, 0.25]
    """
    return join(schedulers, milestones)


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
    rate = real(base_lr, "base_lr")
    if rate == 0 or not isinstance(schedulers, Sequence) or not schedulers:
        raise ScheduleValueError(
            "ChainedScheduler takes a base rate that is not 0 and a list of at least one schedule, "
            f"got {base_lr!r} and {shown(schedulers)}."
        )
    chained = a_schedule(schedulers[0], "Schedule 0")
    for i, factor in enumerate(schedulers[1:], 1):
        chained = chained * (a_schedule(factor, f"Schedule {i}") / rate)
    return chained


def ReduceLROnPlateau(
    base_lr: float | Sequence[float],
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
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
    one_of(threshold_mode, "threshold_mode", "rel", "abs")
    return plateau(base_lr, factor, patience, threshold, mode, cooldown, min_lr, threshold_mode, eps)
