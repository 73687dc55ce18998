"""Schedules made of schedules: one after the other, later, slower, again, within bounds."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from multisched.arrays import Array, Namespace, as_real
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, brief, shown
from multisched.schedules.clock import elapsed, floating, laps, reached, since
from multisched.schedules.curves import towards
from multisched.schedules.numbers import python_numbers
from multisched.schedules.parts import a_schedule, above, length, real
from multisched.schedules.piecewise import LAST_STEP
from multisched.schedules.schedule import Schedule, schedule


def _scalar(rule: Any, what: str) -> Schedule:
    if a_schedule(rule, what).shape != ():
        raise ScheduleValueError(f"{what} must be a schedule of numbers, got one of arrays of shape {rule.shape}.")
    return rule  # type: ignore[no-any-return]


class Schedules(tuple[Schedule, ...]):
    """Schedules as plain data, printed as the list that builds them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self)) + "]"


class Boundaries(tuple[int, ...]):
    """Steps as plain data, printed as the list that builds them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self)) + "]"


def _checked_join(schedules: Any, boundaries: Any) -> dict[str, Any]:
    if not isinstance(schedules, Sequence) or not isinstance(boundaries, Sequence) or isinstance(boundaries, str):
        raise ScheduleValueError(
            f"join takes a list of schedules and a list of steps, got {shown(schedules)} and {shown(boundaries)}."
        )
    if len(schedules) != len(boundaries) + 1:
        raise ScheduleValueError(
            f"join takes one schedule more than boundaries, got {len(schedules)} schedules and {len(boundaries)} "
            "boundaries."
        )
    steps = [_boundary(b, f"Boundary {i}") for i, b in enumerate(boundaries)]
    if any(later < earlier for earlier, later in pairwise(steps)):
        raise StepCountError(f"The boundaries of join must not decrease, got {brief(steps)}.")
    rules = [_scalar(rule, f"Schedule {i} of join") for i, rule in enumerate(schedules)]
    return {"schedules": Schedules(rules), "boundaries": Boundaries(steps)}


def _boundary(value: Any, what: str) -> int:
    step = as_real(value)
    if not isinstance(step, int) or not 0 <= step <= LAST_STEP:
        raise StepCountError(f"{what} must be a step, a non-negative integer of at most 1.8e308, got {shown(value)}.")
    return step


@schedule(
    _checked_join,
    clock=lambda xp, step, schedules, boundaries: [step, *(since(xp, step, begin) for begin in boundaries)],
)
def join(xp: Namespace, step: Array, schedules: Any, boundaries: Any) -> Array:
    """One schedule after the other, each from its own beginning.

        f(step) = schedules[0](step)                          before boundaries[0]
        f(step) = schedules[i + 1](step - boundaries[i])      from boundaries[i] on

    Parameters
    ----------
    schedules:
        A list of schedules of numbers.
    boundaries:
        A list of steps, one fewer, which do not decrease: at each of them the next schedule rules, at its step 0. A
        schedule between two equal boundaries is skipped.

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
    lambda schedule, steps, init=0: {
        "schedule": _scalar(schedule, "schedule"),
        "steps": length(steps, "steps"),
        "init": real(init, "init"),
    },
    clock=lambda xp, step, schedule, steps, init: [since(xp, step, steps)],  # 0 during the warm-up
)
def warmup(xp: Namespace, step: Array, schedule: Any, steps: int, init: float = 0) -> Array:
    """A line up to where a schedule begins, then the schedule.

        f(step) = init + (schedule(0) - init) * step / steps     before `steps`
        f(step) = schedule(step - steps)                         from there on

    Parameters
    ----------
    schedule:
        What comes after; its own clock starts when the warm-up is over.
    steps:
        The length of the warm-up, in updates; 0 for none.
    init:
        The value at step 0. By default 0, so that an optimizer takes its first step at a rate of 0; give
        `init=peak / steps` for a first step that counts.

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
    lambda schedule, steps: {"schedule": _scalar(schedule, "schedule"), "steps": length(steps, "steps")},
    clock=lambda xp, step, schedule, steps: [since(xp, step, steps)],
)
def delay(xp: Namespace, step: Array, schedule: Any, steps: int) -> Array:
    """A schedule, later; until then its first value.

        f(step) = schedule(max(step - steps, 0))

    `steps` is in updates. Raises `ScheduleValueError` and `StepCountError`.

    >>> import multisched as ms
    >>> lr = delay(ms.linear(1.0, 0.0, 2), 10)
    >>> [lr(step) for step in (0, 10, 11, 12)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return schedule


def _checked_repeat(schedule: Any, period: Any) -> dict[str, Any]:
    steps = _boundary(period, "period")
    if steps == 0:
        raise StepCountError("period must be a positive number of steps, got 0.")
    return {"schedule": _scalar(schedule, "schedule"), "period": steps}


@schedule(_checked_repeat, clock=lambda xp, step, schedule, period: [laps(xp, step, period)[1]])
def repeat(xp: Namespace, step: Array, schedule: Any, period: int) -> Array:
    """The beginning of a schedule, again and again.

        f(step) = schedule(step mod period)

    `period` is in updates, a positive integer. Raises `ScheduleValueError` and `StepCountError`.

    >>> import multisched as ms
    >>> lr = repeat(ms.linear(1.0, 0.0, 4), 3)
    >>> [lr(step) for step in (0, 1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 1.0, 0.75]
    """
    return schedule


@schedule(
    lambda schedule, factor: {
        "schedule": _scalar(schedule, "schedule"),
        "factor": above(factor, "factor", 0, allowed=False),
    },
    clock=lambda xp, step, schedule, factor: [elapsed(xp, step, 0) / float(factor)],
)
def stretch(xp: Namespace, step: Array, schedule: Any, factor: float) -> Array:
    """A schedule, slower by a factor.

        f(step) = schedule(step / factor)

    `factor` is more than 0; less than 1 is faster. The quotient is in the dtype of the values: in single precision, a
    boundary inside is met to within a part in 10 million. Raises `ScheduleValueError`.

    >>> import multisched as ms
    >>> lr = stretch(ms.linear(1.0, 0.0, 4), 2)
    >>> [lr(step) for step in (0, 2, 4, 8)]
    [1.0, 0.75, 0.5, 0.0]
    """
    return schedule


def _checked_clip(schedule: Any, low: Any, high: Any) -> dict[str, Any]:
    lower, upper = real(low, "low"), real(high, "high")
    if lower > upper:
        raise ScheduleValueError(f"low must not be above high, got {lower} and {upper}.")
    return {"schedule": _scalar(schedule, "schedule"), "low": lower, "high": upper}


@schedule(_checked_clip, clock=lambda xp, step, **_: [step])
def clip(xp: Namespace, step: Array, schedule: Any, low: float, high: float) -> Array:
    """A schedule, kept within two bounds.

        f(step) = min(max(schedule(step), low), high)

    Raises `ScheduleValueError`.

    >>> import multisched as ms
    >>> lr = clip(ms.linear(1.0, 0.0, 4), 0.25, 0.75)
    >>> [lr(step) for step in (0, 2, 4)]
    [0.75, 0.5, 0.25]
    """
    value = xp.where(schedule < low, float(low), schedule)
    return xp.where(value > high, float(high), value)


def _checked_function(f: Any) -> dict[str, Any]:
    if not callable(f) or isinstance(f, Schedule):
        raise ScheduleOptionError(f"from_function takes a function of the step, got {shown(f)}.")
    return {"f": f}


@schedule(_checked_function)
def from_function(xp: Namespace, step: Array, f: Callable[[Any], Any]) -> Array:
    """A function of your own as a schedule.

        f(step)

    Parameters
    ----------
    f:
        Takes a step, a Python number or an array of any framework, and returns the value in array API terms:
        arithmetic, or functions of `array_api_compat.array_namespace(step)`. Arrays come in the dtype of the values. It
        must be pure; only a function of a module can be pickled.

    Raises `ScheduleOptionError` for what cannot be called.

    >>> lr = from_function(lambda step: 1 / (1 + step))
    >>> lr(0), lr(3)
    (1.0, 0.25)
    """
    if xp is python_numbers:
        return xp.call(lambda number: float(f(number)), since(xp, step, 0))
    step = floating(xp, since(xp, step, 0))
    value = f(step)
    return value if hasattr(value, "dtype") else xp.full_like(step, value)
