"""Schedules made of other schedules: joined, delayed, stretched, repeated, kept within bounds."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from multisched.arguments import reader
from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleOptionError, ScheduleValueError, shown
from multisched.schedules.clock import elapsed, floating, laps, reached, since
from multisched.schedules.curves import towards
from multisched.schedules.edges import MOST, Finding, finding, moved, multiples
from multisched.schedules.numbers import python_numbers
from multisched.schedules.readers import (
    Boundaries,
    Schedules,
    boundaries,
    inner,
    inner_list,
    length,
    period,
    positive,
    real,
)
from multisched.schedules.schedule import Schedule, schedule

__all__ = ["clip", "delay", "from_function", "join", "repeat", "stretch", "warmup"]


def _one_more(schedules: Schedules, boundaries: Boundaries) -> None:
    if len(schedules) != len(boundaries) + 1:
        raise ScheduleValueError(
            f"join takes one schedule more than boundaries, got {len(schedules)} schedules and {len(boundaries)} "
            "boundaries."
        )


def _join_edges(arguments: dict[str, Any], until: float) -> Finding:
    begins = [0, *arguments["boundaries"]]
    ends = [*arguments["boundaries"], until]
    found = list(arguments["boundaries"])
    for rule, begin, end in zip(arguments["schedules"], begins, ends, strict=True):
        inside = yield finding(rule, end - begin)
        found += [begin + edge for edge in inside if begin + edge < end]
    return found


@schedule(
    _one_more,
    schedules=inner_list,
    boundaries=boundaries,
    clock=lambda xp, step, schedules, boundaries: [step, *(since(xp, step, begin) for begin in boundaries)],
    edges=_join_edges,
    examples=[
        "join([linear(0, 0.1, 20), cosine(0.1, 60)], [30])",
        "join([constant(1), constant(2), constant(3)], [4, 4])",
    ],
)
def join(xp: Namespace, step: Array, schedules: Any, boundaries: Any) -> Array:
    """One schedule after another, each from its own step 0.

        f(step) = schedules[0](step)                          before boundaries[0]
        f(step) = schedules[i + 1](step - boundaries[i])      from boundaries[i] on

    Parameters
    ----------
    schedules:
        A list of schedules of numbers.
    boundaries:
        A list of steps that do not decrease, one fewer than there are schedules. At each of them the next schedule
        starts, at its step 0. A schedule between two equal boundaries is skipped.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: `optax.join_schedules`.

    >>> import multisched as ms
    >>> lr = join([ms.linear(0.0, 1.0, 4), ms.linear(1.0, 0.0, 2)], [4])
    >>> [lr(step) for step in (0, 2, 3, 4, 5, 6, 7)]
    [0.0, 0.5, 0.75, 1.0, 0.5, 0.0, 0.0]
    """
    result = schedules[0]
    for value, begin in zip(schedules[1:], boundaries, strict=True):
        result = xp.where(reached(xp, step, begin), value, result)
    return result


@schedule(
    schedule=inner,
    steps=length,
    init=real,
    clock=lambda xp, step, schedule, steps, init: [since(xp, step, steps)],  # 0 during the warm-up
    edges=moved(lambda arguments: (arguments["steps"], 1)),
    examples=["warmup(cosine(0.1, 80), 10)", "warmup(constant(1), 4, init=0.25)"],
)
def warmup(xp: Namespace, step: Array, schedule: Any, steps: float, init: float = 0) -> Array:
    """A line up to the first value of a schedule, then the schedule.

        f(step) = init + (schedule(0) - init) * step / steps     before `steps`
        f(step) = schedule(step - steps)                         from there on

    Parameters
    ----------
    schedule:
        The schedule that follows. Its step 0 is the end of the warm-up.
    steps:
        The length of the warm-up, in updates. If it is 0, there is none.
    init:
        The value at step 0. With the default of 0, an optimizer takes its first step at a rate of 0; to avoid this,
        give `init=peak / steps`.

    Raises `ScheduleValueError` and `StepCountError`.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017.

    >>> import multisched as ms
    >>> lr = warmup(ms.linear(1.0, 0.0, 4), 2)
    >>> [lr(step) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if steps == 0:
        return schedule
    return xp.where(reached(xp, step, steps), schedule, towards(xp, step, init, schedule, steps))


@schedule(
    schedule=inner,
    steps=length,
    clock=lambda xp, step, schedule, steps: [since(xp, step, steps)],
    edges=moved(lambda arguments: (arguments["steps"], 1)),
    examples=["delay(cosine(0.1, 50), 30)"],
)
def delay(xp: Namespace, step: Array, schedule: Any, steps: float) -> Array:
    """A schedule that begins later; until then, it has its first value.

        f(step) = schedule(max(step - steps, 0))

    `steps` is the delay, in updates. Raises `ScheduleValueError` and `StepCountError`.

    >>> import multisched as ms
    >>> lr = delay(ms.linear(1.0, 0.0, 2), 10)
    >>> [lr(step) for step in (0, 10, 11, 12)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return schedule


def _repeat_edges(arguments: dict[str, Any], until: float) -> Finding:
    length = arguments["period"]
    inside = yield finding(arguments["schedule"], length)
    inside = [0, *(edge for edge in inside if edge < length)]
    every = (start + edge for start in (0, *multiples(length, until)) for edge in inside)
    return list(islice(every, MOST))  # in order


@schedule(
    schedule=inner,
    period=period,
    clock=lambda xp, step, schedule, period: [laps(xp, step, period)[1]],
    edges=_repeat_edges,
    examples=["repeat(linear(0.1, 0.02, 30), 30)", "repeat(piecewise_constant(1, {2: 2}), 3)"],
)
def repeat(xp: Namespace, step: Array, schedule: Any, period: int) -> Array:
    """The first steps of a schedule, repeated without end.

        f(step) = schedule(step mod period)

    `period` is the number of steps that are repeated, a positive integer. Raises `ScheduleValueError` and
    `StepCountError`.

    >>> import multisched as ms
    >>> lr = repeat(ms.linear(1.0, 0.0, 4), 3)
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 1.0, 0.75]
    """
    return schedule


@schedule(
    schedule=inner,
    factor=positive,
    clock=lambda xp, step, schedule, factor: [elapsed(xp, step, 0) / float(factor)],
    edges=moved(lambda arguments: (0, arguments["factor"])),
    examples=["stretch(piecewise_constant(0.1, {20: 0.05, 40: 0.01}), 2)", "stretch(linear(1, 0, 8), 0.5)"],
)
def stretch(xp: Namespace, step: Array, schedule: Any, factor: float) -> Array:
    """A schedule that runs slower by a factor.

        f(step) = schedule(step / factor)

    `factor` is more than 0; if it is less than 1, the schedule runs faster. The quotient is computed in the dtype of
    the values: in single precision, a boundary of the schedule is met to one part in 10 million. Raises
    `ScheduleValueError`.

    >>> import multisched as ms
    >>> lr = stretch(ms.linear(1.0, 0.0, 4), 2)
    >>> [lr(step) for step in (0, 2, 4, 8)]
    [1.0, 0.75, 0.5, 0.0]
    """
    return schedule


def _ordered(low: float, high: float, **_: Any) -> None:
    if low > high:
        raise ScheduleValueError(f"low must not be above high, got {low} and {high}.")


@schedule(
    _ordered,
    schedule=inner,
    low=real,
    high=real,
    clock=lambda xp, step, **_: [step],
    examples=["clip(exponential(0.1, 0.5, 20), 0.02, 0.08)"],
)
def clip(xp: Namespace, step: Array, schedule: Any, low: float, high: float) -> Array:
    """A schedule whose values are kept within two bounds.

        f(step) = min(max(schedule(step), low), high)

    Raises `ScheduleValueError`.

    >>> import multisched as ms
    >>> lr = clip(ms.linear(1.0, 0.0, 4), 0.25, 0.75)
    >>> [lr(step) for step in (0, 2, 4)]
    [0.75, 0.5, 0.25]
    """
    value = xp.where(schedule < low, float(low), schedule)
    return xp.where(value > high, float(high), value)


@reader("any")
def _callable(value: Any, name: str) -> Callable[[Any], Any]:
    if not callable(value) or isinstance(value, Schedule):
        raise ScheduleOptionError(f"from_function takes a function of the step, got {shown(value)}.")
    return value  # type: ignore[no-any-return]  # of any signature


@schedule(f=_callable)
def from_function(xp: Namespace, step: Array, f: Callable[[Any], Any]) -> Array:
    """A function of your own as a schedule.

        f(step)

    Parameters
    ----------
    f:
        A pure function of the step, which is a Python number or an array of any framework. It computes the value by
        arithmetic, or with functions of `array_api_compat.array_namespace(step)`. Arrays of steps have the dtype of the
        values. The schedule can be pickled if the function is defined at the top level of a module.

    Raises `ScheduleOptionError` if `f` cannot be called.

    >>> lr = from_function(lambda step: 1 / (1 + step))
    >>> lr(0), lr(3)
    (1.0, 0.25)
    """
    if xp is python_numbers:
        return xp.call(lambda number: float(f(number)), since(xp, step, 0))
    step = floating(xp, since(xp, step, 0))
    value = f(step)
    return value if hasattr(value, "dtype") else xp.full_like(step, value)
