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
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Literal

from multisched.arguments import optional, unchecked
from multisched.arrays import Array, Namespace
from multisched.averages.plateau import Plateau
from multisched.dialects import constructor, of_dialect
from multisched.dialects._readers import whole
from multisched.dialects.torch import ReduceLROnPlateau
from multisched.errors import ScheduleOptionError, ScheduleValueError, shown
from multisched.schedules.clock import floating, later, since
from multisched.schedules.combine import join, repeat, stretch, warmup
from multisched.schedules.cycle import cosine_restarts, warmup_stable_decay
from multisched.schedules.decay import constant, cosine, linear, polynomial
from multisched.schedules.edges import moved
from multisched.schedules.inverse import inverse_sqrt
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.readers import any_schedule, length, non_negative, one_of, real
from multisched.schedules.schedule import Schedule, schedule

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


# --- level, or along a line or a power -------------------------------------------------------------------------------
@constructor(lr=non_negative, examples=["transformers.get_constant_schedule(0.1)"])
def get_constant_schedule(lr: float) -> Schedule:
    """`lr` at every step.

    >>> get_constant_schedule(0.5)(100)
    0.5
    """
    return constant(lr)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    examples=["transformers.get_constant_schedule_with_warmup(0.1, num_warmup_steps=10)"],
)
def get_constant_schedule_with_warmup(lr: float, num_warmup_steps: int) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then `lr`.

    >>> lr = get_constant_schedule_with_warmup(1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return linear(0.0, lr, num_warmup_steps)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    examples=["transformers.get_linear_schedule_with_warmup(0.1, 10, 80)"],
)
def get_linear_schedule_with_warmup(lr: float, num_warmup_steps: int, num_training_steps: int) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then a line to 0 by `num_training_steps`, where it stays.

    `num_training_steps` counts the warm-up, too. If it is not more than that, 0 follows the warm-up at once.

    >>> lr = get_linear_schedule_with_warmup(1.0, 2, 6)
    >>> [lr(step) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    >>> lr
    warmup(linear(1.0, 0.0, 4), 2)
    """
    rest = max(0, num_training_steps - num_warmup_steps)
    return _after_line(linear(lr, 0.0, rest) if rest else constant(0.0), num_warmup_steps, lr)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    lr_end=real,
    power=non_negative,
    examples=[
        "transformers.get_polynomial_decay_schedule_with_warmup(0.1, 10, 80)",
        "transformers.get_polynomial_decay_schedule_with_warmup(1, 2, 6, lr_end=0.1, power=2)",
    ],
)
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
    if lr_end >= lr:
        raise ScheduleValueError(f"lr_end must be less than lr, got {lr_end!r} and {lr!r}.")
    rest = max(0, num_training_steps - num_warmup_steps)
    if rest == 0:
        rule = constant(lr_end)
    elif power == 0:
        rule = piecewise_constant(lr, {rest + 1: lr_end})
    else:
        rule = linear(lr, lr_end, rest) if power == 1 else polynomial(lr, lr_end, rest, power)
    return _after_line(rule, num_warmup_steps, lr)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    timescale=optional(unchecked("number")),
    examples=["transformers.get_inverse_sqrt_schedule(0.1, num_warmup_steps=10)"],
)
def get_inverse_sqrt_schedule(lr: float, num_warmup_steps: int, timescale: float | None = None) -> Schedule:
    """A line from 0 to `lr` in `num_warmup_steps`, then `lr / sqrt((step - num_warmup_steps) / timescale + 1)`.

    `timescale` is as long as the warm-up unless given, and 10,000 without one.

    >>> lr = get_inverse_sqrt_schedule(1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 16)]
    [0.0, 0.5, 1.0, 0.5]
    """
    return inverse_sqrt(lr, num_warmup_steps, timescale)


# --- waves -----------------------------------------------------------------------------------------------------------
@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    num_cycles=non_negative,
    examples=[
        "transformers.get_cosine_schedule_with_warmup(0.1, 10, 80)",
        "transformers.get_cosine_schedule_with_warmup(1, 0, 10, num_cycles=1.5)",
    ],
)
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


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    num_cycles=non_negative,
    examples=[
        "transformers.get_cosine_with_hard_restarts_schedule_with_warmup(0.1, 10, 80, num_cycles=2)",
        "transformers.get_cosine_with_hard_restarts_schedule_with_warmup(1, 0, 10, num_cycles=1.5)",
    ],
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
    rest = max(1, num_training_steps - num_warmup_steps)
    return _after_line(_restarts(lr, rest, num_cycles), num_warmup_steps, lr)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    num_cycles=non_negative,
    min_lr=optional(non_negative),
    min_lr_rate=optional(non_negative),
    examples=["transformers.get_cosine_with_min_lr_schedule_with_warmup(0.1, 10, 80, min_lr=0.01)"],
)
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
    rest = max(1, num_training_steps - num_warmup_steps)
    return _after_line(_wave(lr, _lowest(lr, min_lr, min_lr_rate), rest, num_cycles), num_warmup_steps, lr)


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_training_steps=whole,
    num_cycles=non_negative,
    min_lr=optional(non_negative),
    min_lr_rate=optional(non_negative),
    warmup_lr_rate=optional(non_negative),
    examples=[
        "transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(0.1, 10, 80, min_lr=0.01)",
        "transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(1, 4, 9, min_lr_rate=0.5, warmup_lr_rate=0)",
    ],
)
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
    rest = max(1, num_training_steps - num_warmup_steps)
    waves = _wave(lr, _lowest(lr, min_lr, min_lr_rate), rest, num_cycles)
    if num_warmup_steps == 0:
        return ahead(waves, 1)
    if num_warmup_steps == 1 and warmup_lr_rate is not None:
        return piecewise_constant(warmup_lr_rate, {1: 1.0}) * waves
    first = lr / num_warmup_steps if warmup_lr_rate is None else lr * warmup_lr_rate
    return _after_line(waves, num_warmup_steps - 1, lr, first)


# --- up, level, and down ---------------------------------------------------------------------------------------------
_Shape = Literal["linear", "cosine", "1-sqrt"]
_SHAPES = one_of("linear", "cosine", "1-sqrt")


@constructor(
    lr=non_negative,
    num_warmup_steps=whole,
    num_decay_steps=whole,
    num_training_steps=optional(whole),
    num_stable_steps=optional(whole),
    warmup_type=_SHAPES,
    decay_type=_SHAPES,
    min_lr_ratio=non_negative,
    num_cycles=non_negative,
    examples=[
        "transformers.get_wsd_schedule(0.1, num_warmup_steps=10, num_decay_steps=30, num_training_steps=90)",
        "transformers.get_wsd_schedule(1, 4, 6, num_stable_steps=3, warmup_type='1-sqrt', num_cycles=1)",
    ],
)
def get_wsd_schedule(
    lr: float,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: _Shape = "linear",
    decay_type: _Shape = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
) -> Schedule:
    """From `min_lr_ratio * lr` up to `lr`, level, and down again, where it stays.

    The level phase takes `num_stable_steps`, or what the other two leave of `num_training_steps`; if that is less than
    nothing, so much of the decay is left out. Where both are given, the first counts. "1-sqrt" falls as the square root
    of the time, and rises as one minus the root of the time left. `num_cycles` is that of a decay of "cosine".

    >>> lr = get_wsd_schedule(1.0, 2, 4, num_training_steps=10, decay_type="linear")
    >>> [lr(step) for step in (0, 1, 2, 6, 8, 10, 11)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    >>> lr
    warmup_stable_decay(1.0, 2, 4, 4)
    """
    low, warm, fall = lr * min_lr_ratio, num_warmup_steps, num_decay_steps
    level = _level(warm + fall, num_training_steps, num_stable_steps)
    one_way = decay_type != "cosine" or num_cycles == 0.5
    if one_way and warmup_type != "1-sqrt" and level >= 0:
        return warmup_stable_decay(lr, warm, level, fall, low, low, warmup_type, decay_type)
    stay = max(level, 0)
    if one_way:
        rest = warmup_stable_decay(lr, 0, stay, fall, end=low, decay=decay_type)
    else:
        rest = join([constant(lr), _wave(lr, low, max(1, fall), num_cycles), constant(low)], [stay, stay + fall])
    rest = ahead(rest, -level) if level < 0 else rest
    return join([_RISES[warmup_type](low, lr, warm), rest], [warm]) if warm else rest


_RISES: Mapping[str, Callable[[float, float, int], Schedule]] = {
    "linear": linear,
    "cosine": lambda low, high, steps: cosine(low, steps, high),
    "1-sqrt": lambda low, high, steps: polynomial(low, high, steps, 0.5),
}


def _level(others: int, num_training_steps: int | None, num_stable_steps: int | None) -> int:
    """The length of the level phase; below 0 if the others are longer than the whole."""
    if num_stable_steps is not None:
        return num_stable_steps
    if num_training_steps is None:
        raise ScheduleOptionError("One of num_training_steps and num_stable_steps is needed, got neither.")
    return num_training_steps - others


# --- of a metric, and by name ----------------------------------------------------------------------------------------
@constructor(examples=["transformers.get_reduce_on_plateau_schedule(0.1)"])
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


@constructor(examples=["transformers.get_scheduler('cosine', lr=0.1, num_warmup_steps=10, num_training_steps=80)"])
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


# --- what they are made of: a line before, waves, restarts -----------------------------------------------------------
def _after_line(rule: Schedule, steps: int, peak: float, init: float = 0.0) -> Schedule:
    """A line from `init` towards `peak`, then a schedule, which need not begin there."""
    if steps == 0:
        return rule
    if rule(0) == peak:
        return warmup(rule, steps, init)
    return join([linear(init, peak, steps), rule], [steps])


def _lowest(lr: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """What a wave goes down to, given as it is or as a part of the rate."""
    if min_lr_rate is not None and min_lr is None:
        return lr * min_lr_rate
    if min_lr is None or min_lr_rate is not None:
        raise ScheduleOptionError(
            f"One of min_lr and min_lr_rate is needed, and not both, got {min_lr!r} and {min_lr_rate!r}."
        )
    if lr == 0:
        raise ScheduleValueError(f"min_lr is taken as a part of lr, which must not be 0 then, got min_lr={min_lr!r}.")
    return min_lr


def _in_whole_steps(cycles: float, steps: int) -> tuple[int, int]:
    """`cycles` in `steps`, as so many cycles in so many steps, both whole: 1.5 in 100 are 3 in 200."""
    per_step = Fraction(str(cycles)) / steps
    return per_step.numerator, per_step.denominator


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf  # which `length` refuses


def _wave(high: float, low: float, steps: int, cycles: float) -> Schedule:
    """From `high` down to `low` and up again, `cycles` times in `steps`, and on for ever."""
    if cycles == 0:
        return constant(high)
    waves, period = _in_whole_steps(cycles, steps)
    if waves == 1 and period % 2 == 0:
        return repeat(_down_and_up(high, low, period // 2), period)
    one = _down_and_up(high, low, 1)
    stretched = stretch(one if waves == 1 else repeat(one, 2), _float(Fraction(period, 2 * waves)))
    # From the beginning again after each period, so that the steps within a wave do not lose digits far out.
    return repeat(stretched, period) if period < _FAR else stretched


def _down_and_up(high: float, low: float, steps: int) -> Schedule:
    """One wave: half of it in `steps`, the other half in as many."""
    return join([cosine(high, steps, low), cosine(low, steps, high)], [steps])


_FAR = 2**31  # a period that no step reaches


def _restarts(high: float, steps: int, cycles: float) -> Schedule:
    """Half waves from `high` to 0, `cycles` of them in `steps`; then 0."""
    if cycles == 0:
        return piecewise_constant(high, {steps: 0.0})
    if cycles == 1:
        return cosine(high, steps)
    waves, period = _in_whole_steps(cycles, steps)
    if waves == 1 and cycles == int(cycles):
        return cosine_restarts(high, period, cycles=int(cycles))
    each: Any = period if waves == 1 else _float(Fraction(period, waves))
    for_ever = cosine_restarts(high, each)
    if waves > 1 and period < steps:
        for_ever = repeat(for_ever, period)
    return join([for_ever, constant(0.0)], [steps])


def _ahead(xp: Namespace, step: Array, schedule: Schedule, steps: float) -> list[Array]:
    return [later(xp, step, int(steps)) if steps == int(steps) else floating(xp, since(xp, step, 0)) + steps]


@schedule(
    schedule=any_schedule,
    steps=length,
    clock=_ahead,
    edges=moved(lambda arguments: (-arguments["steps"], 1)),
    examples=["transformers.ahead(cosine(0.1, 80), 20)"],
)
@of_dialect("transformers")
def ahead(xp: Namespace, step: Array, schedule: Any, steps: int) -> Array:
    """A schedule without its first steps: `schedule(step + steps)`."""
    return schedule
