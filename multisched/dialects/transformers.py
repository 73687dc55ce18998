"""The schedules of `transformers.optimization`, as schedules: `get_linear_schedule_with_warmup(1e-3, 100, 1000)(k)`.

The value at step k is the rate that is set when `optimizer.step()` is called for the k-th time, from 0, with one
`scheduler.step()` after each. Names, order and defaults of the arguments are those of transformers, without
`last_epoch`, behind which they go by name alone; in place of the optimizer stands its rate, `lr`, one number of at
least 0. Lengths are in updates: whole numbers, which may be written as floats. Each is built of the catalogue: it
prints as it, and becomes data with it.

Bad arguments raise `ScheduleValueError`, `ScheduleOptionError` or `StepCountError`, also some at which transformers
divides by zero: `docs/dialects-transformers.md` names them.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from multisched.averages.plateau import Plateau
from multisched.dialects.optax_curves import whole
from multisched.dialects.torch import ReduceLROnPlateau
from multisched.dialects.transformers_stable import get_wsd_schedule
from multisched.dialects.transformers_waves import after_line, ahead, lowest, restarts, wave
from multisched.errors import ScheduleOptionError, ScheduleValueError, shown
from multisched.schedules import decay
from multisched.schedules.decay import constant, linear
from multisched.schedules.inverse import inverse_sqrt
from multisched.schedules.parts import above, real
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule

__all__ = [
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_cosine_with_hard_restarts_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
    "get_inverse_sqrt_schedule",
    "get_linear_schedule_with_warmup",
    "get_polynomial_decay_schedule_with_warmup",
    "get_reduce_on_plateau_schedule",
    "get_scheduler",
    "get_wsd_schedule",
]


def _lengths(num_warmup_steps: Any, num_training_steps: Any) -> tuple[int, int]:
    """The length of the warm-up, and that of the rest, 0 if the warm-up is longer than the whole."""
    warm = whole(num_warmup_steps, "num_warmup_steps", zero=True)
    return warm, max(0, whole(num_training_steps, "num_training_steps", zero=True) - warm)


# --- level, or along a line or a power -------------------------------------------------------------------------------
def get_constant_schedule(lr: float) -> Schedule:
    """`lr` at every step.

    >>> get_constant_schedule(0.5)(100)
    0.5
    """
    return constant(above(lr, "lr", 0))


def get_constant_schedule_with_warmup(lr: float, num_warmup_steps: int) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then `lr`.

    >>> lr = get_constant_schedule_with_warmup(1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return linear(0.0, above(lr, "lr", 0), whole(num_warmup_steps, "num_warmup_steps", zero=True))


def get_linear_schedule_with_warmup(lr: float, num_warmup_steps: int, num_training_steps: int) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then a line to 0 by `num_training_steps`, where it stays.

    `num_training_steps` counts the warm-up, too. If it is not more than that, 0 follows the warm-up at once.

    >>> lr = get_linear_schedule_with_warmup(1.0, 2, 6)
    >>> [lr(step) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    >>> lr
    warmup(linear(1.0, 0.0, 4), 2)
    """
    rate, (warm, rest) = above(lr, "lr", 0), _lengths(num_warmup_steps, num_training_steps)
    return after_line(linear(rate, 0.0, rest) if rest else constant(0.0), warm, rate)


def get_polynomial_decay_schedule_with_warmup(
    lr: float, num_warmup_steps: int, num_training_steps: int, lr_end: float = 1e-7, power: float = 1.0
) -> Schedule:
    """A line from 0 to `lr`, then `lr_end + (lr - lr_end) * left ** power`; `left` goes from 1 to 0.

    It is at `lr_end`, which is less than `lr`, from `num_training_steps` on; with a `power` of 0 one step later. Where
    the warm-up is as long as the whole, transformers divides by zero; here, `lr_end` follows it.

    >>> lr = get_polynomial_decay_schedule_with_warmup(1.0, 2, 6, lr_end=0.0, power=2)
    >>> [lr(step) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.25, 0.0, 0.0]
    """
    rate, (warm, rest) = above(lr, "lr", 0), _lengths(num_warmup_steps, num_training_steps)
    end, exponent = real(lr_end, "lr_end"), above(power, "power", 0)
    if end >= rate:
        raise ScheduleValueError(f"lr_end must be less than lr, got {end!r} and {rate!r}.")
    if rest == 0:
        rule = constant(end)
    elif exponent == 0:
        rule = piecewise_constant(rate, {rest + 1: end})
    else:
        rule = linear(rate, end, rest) if exponent == 1 else decay.polynomial(rate, end, rest, exponent)
    return after_line(rule, warm, rate)


def get_inverse_sqrt_schedule(lr: float, num_warmup_steps: int, timescale: float | None = None) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then `lr / sqrt((step - num_warmup_steps) / timescale + 1)`.

    `timescale` is as long as the warm-up unless given, and 10,000 without one.

    >>> lr = get_inverse_sqrt_schedule(1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 16)]
    [0.0, 0.5, 1.0, 0.5]
    """
    return inverse_sqrt(above(lr, "lr", 0), whole(num_warmup_steps, "num_warmup_steps", zero=True), timescale)


# --- waves -----------------------------------------------------------------------------------------------------------
def get_cosine_schedule_with_warmup(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5
) -> Schedule:
    """A line from 0 to `lr`, then `lr * (1 + cos(2 * pi * num_cycles * done)) / 2`.

    `done` goes from 0 after the warm-up to 1 at `num_training_steps`, and on: so with half a cycle it rises again from
    there. The rest after the warm-up counts as at least one step.

    >>> lr = get_cosine_schedule_with_warmup(1.0, 2, 6)
    >>> [round(lr(step), 4) for step in (0, 1, 2, 4, 6, 8, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0]
    """
    return get_cosine_with_min_lr_schedule_with_warmup(
        lr, num_warmup_steps, num_training_steps, num_cycles, min_lr_rate=0
    )


def get_cosine_with_hard_restarts_schedule_with_warmup(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 1
) -> Schedule:
    """A line from 0 to `lr`, then `num_cycles` half waves from `lr` to 0 by `num_training_steps`, where it stays at 0.

    The rest after the warm-up counts as at least one step.

    >>> lr = get_cosine_with_hard_restarts_schedule_with_warmup(1.0, 2, 10, num_cycles=2)
    >>> [round(lr(step), 4) for step in (0, 1, 2, 4, 6, 8, 10, 11)]
    [0.0, 0.5, 1.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    rate, (warm, rest) = above(lr, "lr", 0), _lengths(num_warmup_steps, num_training_steps)
    return after_line(restarts(rate, max(1, rest), above(num_cycles, "num_cycles", 0)), warm, rate)


def get_cosine_with_min_lr_schedule_with_warmup(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    *,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Schedule:
    """The same as `get_cosine_schedule_with_warmup`, between `lr` and `min_lr`, or `min_lr_rate * lr`.

    >>> lr = get_cosine_with_min_lr_schedule_with_warmup(1.0, 2, 6, min_lr=0.5)
    >>> [round(lr(step), 4) for step in (0, 1, 2, 4, 6, 8)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.75]
    """
    rate, (warm, rest) = above(lr, "lr", 0), _lengths(num_warmup_steps, num_training_steps)
    low = lowest(rate, min_lr, min_lr_rate)
    return after_line(wave(rate, low, max(1, rest), above(num_cycles, "num_cycles", 0)), warm, rate)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    lr: float,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    *,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Schedule:
    """The same, one step ahead: from `lr / num_warmup_steps`, or `warmup_lr_rate * lr`, to `lr` a step early.

    The peak is at step `num_warmup_steps - 1`. A warm-up of a single step is at `warmup_lr_rate * lr` if that is given,
    and without a warm-up the peak is left out.

    >>> lr = get_cosine_with_min_lr_schedule_with_warmup_lr_rate(1.0, 2, 6, min_lr_rate=0.5)
    >>> [round(lr(step), 4) for step in (0, 1, 3, 5, 7)]
    [0.5, 1.0, 0.75, 0.5, 0.75]
    """
    rate, (warm, rest) = above(lr, "lr", 0), _lengths(num_warmup_steps, num_training_steps)
    low = lowest(rate, min_lr, min_lr_rate)
    first = None if warmup_lr_rate is None else above(warmup_lr_rate, "warmup_lr_rate", 0)
    waves = wave(rate, low, max(1, rest), above(num_cycles, "num_cycles", 0))
    if warm == 0:
        return ahead(waves, 1)
    if warm == 1 and first is not None:
        return piecewise_constant(first, {1: 1.0}) * waves
    return after_line(waves, warm - 1, rate, rate / warm if first is None else rate * first)


# --- of a metric, and by name ----------------------------------------------------------------------------------------
def get_reduce_on_plateau_schedule(lr: float, **kwargs: Any) -> Plateau:
    """A rate that falls when a metric has stopped improving, of the arguments of `dialects.torch.ReduceLROnPlateau`.

    No schedule, but a rule of the metric, `ms.plateau`. Raises `RuleError`.

    >>> get_reduce_on_plateau_schedule(0.1, factor=0.5, patience=2, min_lr=0.01)
    plateau(0.1, factor=0.5, patience=2, minimum=0.01, threshold_mode='rel', eps=1e-08)
    """
    return ReduceLROnPlateau(lr, **kwargs)


_NAMED: Mapping[str, Callable[..., Schedule | Plateau]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "reduce_lr_on_plateau": ReduceLROnPlateau,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
}


def get_scheduler(
    name: str,
    lr: float,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> Schedule | Plateau:
    """The schedule of a name, as `TrainingArguments` has it: "linear", "cosine", "warmup_stable_decay", ...

    Lengths that the schedule does not take are left out, as are the further arguments of "constant" and
    "constant_with_warmup", which transformers leaves out as well.

    >>> get_scheduler("cosine_with_restarts", 0.1, 10, 50, {"num_cycles": 2})
    warmup(cosine_restarts(0.1, 20, cycles=2), 10)
    """
    if not isinstance(name, str) or name not in _NAMED:
        raise ScheduleOptionError(f"name must be one of {', '.join(map(repr, _NAMED))}, got {shown(name)}.")
    build, lengths = _NAMED[name], {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    signature = inspect.signature(build)
    given = {what: steps for what, steps in lengths.items() if what in signature.parameters and steps is not None}
    more = {} if name in ("constant", "constant_with_warmup") else scheduler_specific_kwargs or {}
    try:
        bound = signature.bind(lr, **given, **more)
    except TypeError as cause:
        raise ScheduleOptionError(f"{name!r} takes {signature}, got {shown({**given, **more})}: {cause}.") from cause
    return build(*bound.args, **bound.kwargs)
