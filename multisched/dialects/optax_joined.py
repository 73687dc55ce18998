"""The schedules of optax that are made of others: with a warm-up, one after the other; part of `dialects.optax`."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from multisched.dialects.optax_curves import exponential_decay, linear_schedule, or_none, wave, whole
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules import combine, decay
from multisched.schedules.parts import length, real
from multisched.schedules.schedule import Schedule


def _rule(given: Any) -> Any:
    return combine.from_function(given) if callable(given) and not isinstance(given, Schedule) else given


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
    steps = [whole(boundary, f"Boundary {i}", zero=True) for i, boundary in enumerate(boundaries)]
    return combine.join([_rule(rule) for rule in schedules], steps)


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    """A line from `init_value` to `peak_value` in `warmup_steps`; with 0 or less, it stays at `init_value`.

    >>> lr = warmup_constant_schedule(0.0, 1.0, 4)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    init, peak = real(init_value, "init_value"), real(peak_value, "peak_value")
    return linear_schedule(init, peak, or_none(warmup_steps, "warmup_steps"))


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
    init, peak, end = real(init_value, "init_value"), real(peak_value, "peak_value"), real(end_value, "end_value")
    warm: Any = length(warmup_steps, "warmup_steps")
    total = length(decay_steps, "decay_steps", zero=False)
    if total <= warm:
        raise StepCountError(f"decay_steps, of which the warm-up is a part, must be more than {warm}, got {total}.")
    after = wave(peak, total - warm, end if peak else 0.0, exponent)
    return combine.warmup(after, warm, init)


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
    init, peak = real(init_value, "init_value"), real(peak_value, "peak_value")
    steps = whole(warmup_steps, "warmup_steps", zero=True)
    after = exponential_decay(peak, transition_steps, decay_rate, transition_begin, staircase, end_value)
    if after(0) == peak:
        return combine.warmup(after, steps, init)
    return combine.join([decay.linear(init, peak, steps), after], [steps])  # `end_value` cuts the peak, not the line


_CYCLE = inspect.signature(warmup_cosine_decay_schedule)


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
        lengths.append(whole(bound.arguments["decay_steps"], f"decay_steps of cycle {i}"))
    if not cycles:
        raise ScheduleValueError("sgdr_schedule takes the arguments of at least one cycle, got none.")
    return combine.join(cycles, list(accumulate(lengths[:-1])))
