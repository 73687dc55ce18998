"""What the parameters of schedules take: values, lengths in steps, boundaries, options, schedules."""

from collections.abc import Sequence
from typing import Any

from multisched.arguments import Reader, boolean, number, option, reader
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules.schedule import Schedule


def _number(expected: str | None = None, **bounds: Any) -> Reader:
    return Reader("number", lambda value, name: number(value, name, ScheduleValueError, expected=expected, **bounds))


real: Reader = _number()
"""A finite real number."""

positive: Reader = _number(above=0)
"""A finite real number above 0."""

non_negative: Reader = _number(least=0)
"""A finite real number of at least 0."""


def at_least(least: float) -> Reader:
    """A finite real number of at least `least`."""
    return _number(least=least)


@reader("number")
def length(value: Any, name: str) -> int | float:
    """How many steps something takes: at least 0; a fraction where a formula gives one."""
    return number(value, name, StepCountError, least=0, expected="a non-negative number of steps")


@reader("number")
def some_steps(value: Any, name: str) -> int | float:
    """How many steps something takes: more than 0."""
    return number(value, name, StepCountError, above=0, expected="a positive number of steps")


@reader("flag")
def flag(value: Any, name: str) -> bool:
    """True or False."""
    return boolean(value, name, ScheduleOptionError)


def one_of(*options: str) -> Reader:
    """One of these strings."""
    return Reader("text", lambda value, name: option(value, name, options, ScheduleOptionError))


# --- steps and schedules ---------------------------------------------------------------------------------------------
LAST_STEP = int(1.7976931348623157e308)
"""The last step at which anything can begin: the largest number in double precision."""


@reader("integer")
def boundary(value: Any, name: str) -> int:
    """A step: an integer of at least 0."""
    expected = "a step, a non-negative integer of at most 1.8e308"
    return int(number(value, name, StepCountError, least=0, most=LAST_STEP, whole=True, expected=expected))


@reader("integer")
def period(value: Any, name: str) -> int:
    """A number of steps: an integer of at least 1."""
    expected = "a positive number of steps, an integer of at most 1.8e308"
    return int(number(value, name, StepCountError, least=1, most=LAST_STEP, whole=True, expected=expected))


def a_schedule(value: Any, name: str) -> Schedule:
    """`value`, if it is a schedule; else raise `ScheduleValueError`."""
    if not isinstance(value, Schedule):
        raise ScheduleValueError(f"{name} must be a schedule, got {shown(value)}.")
    return value


any_schedule: Reader = Reader("schedule", a_schedule)
"""A schedule, of numbers or of arrays."""


@reader("schedule")
def inner(value: Any, name: str) -> Schedule:
    """A schedule of numbers."""
    if a_schedule(value, name).shape != ():
        raise ScheduleValueError(f"{name} must be a schedule of numbers, got one of arrays of shape {value.shape}.")
    return value  # type: ignore[no-any-return]  # a_schedule has looked


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


@reader("schedules")
def inner_list(value: Any, name: str) -> Schedules:
    """A list of schedules of numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ScheduleValueError(f"{name} must be a list of schedules, got {shown(value)}.")
    return Schedules(inner(each, f"{name}[{i}]") for i, each in enumerate(value))


@reader("integers")
def boundaries(value: Any, name: str) -> Boundaries:
    """A list of steps that do not decrease."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ScheduleValueError(f"{name} must be a list of steps, got {shown(value)}.")
    steps = Boundaries(boundary(each, f"{name}[{i}]") for i, each in enumerate(value))
    if list(steps) != sorted(steps):
        raise StepCountError(f"{name} must not decrease, got {list(steps)}.")
    return steps
