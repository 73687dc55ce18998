"""The schedules of `optax.schedules`, as schedules of this library: `cosine_decay_schedule(0.1, 1000)(k)`.

The value at step k is the one that optax uses at its update k, counted from 0. Names, order and defaults of the
arguments are optax's. All but callables are built of the catalogue: they print as it, and become data with it. Values
are numbers, not arrays; lengths are in updates. Where optax takes a length of none, or less, for "stay where you are",
so does this.

Bad arguments raise `ScheduleValueError`, `ScheduleOptionError`, `StepCountError` or `StepKeyError`, also some at which
optax gives NaN, infinity or a sum of two phases: `docs/dialects-optax.md` names them.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

from multisched.arguments import optional, unchecked
from multisched.dialects import constructor
from multisched.dialects._readers import length_or_zero, some_whole, whole
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules import combine, decay
from multisched.schedules.piecewise import checked_steps
from multisched.schedules.readers import flag, length, non_negative, one_of, positive, real, some_steps
from multisched.schedules.schedule import Schedule
from multisched.schedules.steps import piecewise_interpolate, piecewise_scale

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]


# --- one way ---------------------------------------------------------------------------------------------------------
@constructor(value=real, examples=["optax.constant_schedule(0.1)"])
def constant_schedule(value: float) -> Schedule:
    """`value` at every step.

    >>> constant_schedule(0.5)(100)
    0.5
    """
    return decay.constant(value)


@constructor(
    init_value=real,
    end_value=real,
    power=non_negative,
    transition_steps=length_or_zero,
    transition_begin=length_or_zero,
    examples=[
        "optax.polynomial_schedule(0.1, end_value=0.0, power=2, transition_steps=80)",
        "optax.polynomial_schedule(1, 0.1, 0.5, 6, transition_begin=3)",
    ],
)
def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """`end_value + (init_value - end_value) * left ** power`; `left` goes from 1 at `transition_begin` to 0.

    It takes `transition_steps`; with 0 or less, it stays at `init_value`. A negative `transition_begin` is 0.

    >>> lr = polynomial_schedule(1.0, 0.0, power=2, transition_steps=4, transition_begin=1)
    >>> [lr(step) for step in (0, 1, 3, 5, 6)]
    [1.0, 1.0, 0.25, 0.0, 0.0]
    """
    if transition_steps == 0 or power == 0:
        return decay.constant(init_value)
    if power == 1:
        return decay.linear(init_value, end_value, transition_steps, transition_begin)
    return decay.polynomial(init_value, end_value, transition_steps, power, transition_begin)


@constructor(
    init_value=real,
    end_value=real,
    transition_steps=length_or_zero,
    transition_begin=length_or_zero,
    examples=["optax.linear_schedule(0.1, end_value=0.0, transition_steps=80)"],
)
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


@constructor(
    init_value=real,
    transition_steps=length_or_zero,
    decay_rate=non_negative,
    transition_begin=length_or_zero,
    staircase=flag,
    end_value=optional(real),
    examples=[
        "optax.exponential_decay(0.1, transition_steps=80, decay_rate=0.5)",
        "optax.exponential_decay(1, 2, 0.5, 3, staircase=True, end_value=0.1)",
    ],
)
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
    if not transition_steps or not decay_rate:
        return decay.constant(init_value)
    return decay.exponential(init_value, decay_rate, transition_steps, transition_begin, staircase, end_value)


def _wave(init: float, steps: int, end: float, exponent: float) -> Schedule:
    """A half wave to a power, which may be 0."""
    return decay.cosine(init, steps, end, exponent) if exponent else decay.constant(init)


@constructor(
    init_value=real,
    decay_steps=some_steps,
    alpha=real,
    exponent=non_negative,
    examples=[
        "optax.cosine_decay_schedule(0.1, decay_steps=80)",
        "optax.cosine_decay_schedule(1, 4, alpha=0.5, exponent=2)",
    ],
)
def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """A half wave from `init_value` to `alpha * init_value` in `decay_steps`; `exponent` is a power of the wave.

    >>> lr = cosine_decay_schedule(1.0, 4, alpha=0.5)
    >>> [round(lr(step), 4) for step in (0, 2, 4, 5)]
    [1.0, 0.75, 0.5, 0.5]
    """
    return _wave(init_value, decay_steps, init_value * alpha, exponent)


# --- through points --------------------------------------------------------------------------------------------------
def _scales(boundaries_and_scales: Any) -> list[tuple[int, float]]:
    given = {} if boundaries_and_scales is None else boundaries_and_scales
    pairs = checked_steps(given, "boundaries_and_scales")
    return [(step, non_negative(scale, f"The scale at step {step}")) for step, scale in pairs]


@constructor(
    init_value=real,
    boundaries_and_scales=optional(unchecked("steps")),
    examples=["optax.piecewise_constant_schedule(0.1, boundaries_and_scales={40: 0.5})"],
)
def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """`init_value`, multiplied at each boundary by its scale, at least 0, and so by the product of all so far.

    >>> lr = piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return piecewise_scale(init_value, dict(_scales(boundaries_and_scales)))


@constructor(
    interpolate_type=one_of("linear", "cosine"),
    init_value=real,
    boundaries_and_scales=optional(unchecked("steps")),
    examples=["optax.piecewise_interpolate_schedule('linear', init_value=0.1, boundaries_and_scales={40: 0.5})"],
)
def piecewise_interpolate_schedule(
    interpolate_type: Literal["linear", "cosine"],
    init_value: float,
    boundaries_and_scales: Mapping[int, float] | None = None,
) -> Schedule:
    """Through `init_value` at step 0, and at each boundary that value multiplied by all scales so far.

    In between "linear" or "cosine"; after the last boundary level.

    >>> lr = piecewise_interpolate_schedule("linear", 1.0, {4: 0.5, 6: 0.5})
    >>> [lr(step) for step in (0, 2, 4, 5, 6, 7)]
    [1.0, 0.75, 0.5, 0.375, 0.25, 0.25]
    """
    value = init_value
    values = {0: value}
    for step, scale in _scales(boundaries_and_scales):
        value = value * scale
        values[step] = value
    return piecewise_interpolate(values, interpolate_type)


@constructor(
    transition_steps=some_whole,
    peak_value=real,
    pct_start=non_negative,
    pct_final=non_negative,
    div_factor=positive,
    final_div_factor=positive,
    examples=["optax.linear_onecycle_schedule(80, peak_value=0.1)"],
)
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
    steps, start, final = transition_steps, int(pct_start * transition_steps), int(pct_final * transition_steps)
    scales = {start: div_factor, final: 1 / div_factor, steps: 1 / final_div_factor}
    return piecewise_interpolate_schedule("linear", peak_value / div_factor, scales)


@constructor(
    transition_steps=some_whole,
    peak_value=real,
    pct_start=non_negative,
    div_factor=positive,
    final_div_factor=positive,
    examples=["optax.cosine_onecycle_schedule(80, peak_value=0.1)"],
)
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
    start = int(pct_start * transition_steps)
    scales = {start: div_factor, transition_steps: 1 / (div_factor * final_div_factor)}
    return piecewise_interpolate_schedule("cosine", peak_value / div_factor, scales)


# --- of others, one after the other ----------------------------------------------------------------------------------
def _rule(given: Any) -> Any:
    return combine.from_function(given) if callable(given) and not isinstance(given, Schedule) else given


@constructor(
    schedules=unchecked("schedules"),
    boundaries=unchecked("integers"),
    examples=["optax.join_schedules([constant(0.05), constant(0.1)], boundaries=[40])"],
)
def join_schedules(schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other; at a boundary the next one rules, at its own step 0.

    A callable that is no schedule of this library is taken as in `ms.from_function`. The boundaries must be one fewer
    than the schedules, and must not decrease, where optax leaves some out without a word.

    >>> lr = join_schedules([linear_schedule(0.0, 1.0, 4), linear_schedule(0.5, 0.0, 2)], [4])
    >>> [lr(step) for step in (0, 2, 3, 4, 5)]
    [0.0, 0.5, 0.75, 0.5, 0.25]
    """
    if not isinstance(schedules, Sequence) or not isinstance(boundaries, Sequence):
        raise ScheduleValueError(
            f"join_schedules takes a list of schedules and one of steps, got {shown(schedules)} and "
            f"{shown(boundaries)}."
        )
    steps = [whole(boundary, f"Boundary {i}") for i, boundary in enumerate(boundaries)]
    return combine.join([_rule(rule) for rule in schedules], steps)


@constructor(
    init_value=real,
    peak_value=real,
    warmup_steps=length_or_zero,
    examples=["optax.warmup_constant_schedule(0.0, peak_value=0.1, warmup_steps=10)"],
)
def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    """A line from `init_value` to `peak_value` in `warmup_steps`; with 0 or less, it stays at `init_value`.

    >>> lr = warmup_constant_schedule(0.0, 1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


@constructor(
    init_value=real,
    peak_value=real,
    warmup_steps=length,
    decay_steps=some_steps,
    end_value=real,
    exponent=non_negative,
    examples=["optax.warmup_cosine_decay_schedule(0.0, peak_value=0.1, warmup_steps=10, decay_steps=80)"],
)
def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """A line from `init_value` to `peak_value` in `warmup_steps`, then a half wave to `end_value` by `decay_steps`.

    `decay_steps` counts the warm-up too, and must be more. With a `warmup_steps` of 0 it starts at the peak. From a
    `peak_value` of 0 it stays at 0, whatever the `end_value`.

    >>> lr = warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=6, end_value=0.5)
    >>> [round(lr(step), 4) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """
    if decay_steps <= warmup_steps:
        raise StepCountError(
            f"decay_steps, of which the warm-up is a part, must be more than {warmup_steps}, got {decay_steps}."
        )
    after = _wave(peak_value, decay_steps - warmup_steps, end_value if peak_value else 0.0, exponent)
    return combine.warmup(after, warmup_steps, init_value)


@constructor(
    init_value=real,
    peak_value=real,
    warmup_steps=whole,
    transition_steps=length_or_zero,
    decay_rate=non_negative,
    transition_begin=length_or_zero,
    staircase=flag,
    end_value=optional(real),
    examples=[
        "optax.warmup_exponential_decay_schedule(0.0, 0.1, warmup_steps=10, transition_steps=80, decay_rate=0.5)"
    ],
)
def warmup_exponential_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """A line from `init_value` to `peak_value` in `warmup_steps`, then `exponential_decay` from there.

    `transition_begin` is counted from the end of the warm-up. With a `warmup_steps` of 0 it starts at the peak.

    >>> lr = warmup_exponential_decay_schedule(0.0, 1.0, 2, transition_steps=2, decay_rate=0.25)
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """
    after = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    if after(0) == peak_value:
        return combine.warmup(after, warmup_steps, init_value)
    rise = decay.linear(init_value, peak_value, warmup_steps)  # to the peak, although `end_value` cuts off what follows
    return combine.join([rise, after], [warmup_steps])


_CYCLE = inspect.signature(warmup_cosine_decay_schedule)


@constructor(examples=[])  # no expression has a dict with names
def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Cycles one after the other, each a `warmup_cosine_decay_schedule` of these arguments, `decay_steps` long.

    >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 6}
    >>> lr = sgdr_schedule([cycle, {**cycle, "peak_value": 0.5}])
    >>> [round(lr(step), 4) for step in (0, 2, 4, 6, 8, 10, 12)]
    [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]
    """
    if not isinstance(cosine_kwargs, Iterable) or isinstance(cosine_kwargs, str | Mapping):
        raise ScheduleValueError(f"cosine_kwargs is a list of dicts of arguments, got {shown(cosine_kwargs)}.")
    cycles, lengths = [], []
    for i, given in enumerate(cosine_kwargs):
        try:
            bound = _CYCLE.bind(**given)
        except TypeError as cause:
            raise ScheduleOptionError(
                f"Cycle {i} of sgdr_schedule takes the arguments of warmup_cosine_decay_schedule, got {shown(given)}: "
                f"{cause}."
            ) from cause
        cycles.append(warmup_cosine_decay_schedule(*bound.args, **bound.kwargs))
        lengths.append(some_whole(bound.arguments["decay_steps"], f"decay_steps of cycle {i}"))
    if not cycles:
        raise ScheduleValueError("sgdr_schedule takes the arguments of at least one cycle, got none.")
    return combine.join(cycles, list(accumulate(lengths[:-1])))
