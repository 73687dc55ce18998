"""What the parameters of dialects take besides what those of schedules take: lengths as other libraries give them."""

from numbers import Real
from typing import Any

from multisched.arguments import Reader, number, reader
from multisched.errors import ScheduleValueError, StepCountError
from multisched.schedules.readers import length, some_steps


def _counted(least: int) -> Reader:
    expected = f"a number of steps, an integer of at least {least}"
    return Reader(
        "integer", lambda value, name: number(value, name, StepCountError, least=least, whole=True, expected=expected)
    )


count = _counted(0)
"""A number of steps: an integer of at least 0."""

some = _counted(1)
"""A number of steps: an integer of at least 1."""


def _whole(steps: float, name: str) -> int:
    if steps != int(steps):
        raise StepCountError(f"{name} must be a whole number of steps, got {steps!r}.")
    return int(steps)


@reader("number")
def whole(value: Any, name: str) -> int:
    """A whole number of steps of at least 0, which may be written as a float."""
    return _whole(length(value, name), name)


@reader("number")
def some_whole(value: Any, name: str) -> int:
    """A whole number of steps of at least 1, which may be written as a float."""
    return _whole(some_steps(value, name), name)


@reader("number")
def length_or_zero(value: Any, name: str) -> int | float:
    """A length in steps; a negative length counts as 0."""
    negative = isinstance(value, Real) and value < 0
    steps: int | float = length(0 if negative else value, name)
    return steps


fraction = Reader("number", lambda value, name: number(value, name, ScheduleValueError, least=0, most=1))
"""A number from 0 to 1."""

fraction_above_0 = Reader("number", lambda value, name: number(value, name, ScheduleValueError, above=0, most=1))
"""A number above 0 and at most 1."""
