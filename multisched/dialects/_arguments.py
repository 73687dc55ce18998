"""Readers of arguments that several dialects share: lengths as other libraries give them."""

from numbers import Real
from typing import Any

from multisched.arrays import as_real
from multisched.errors import ScheduleValueError, StepCountError, shown
from multisched.schedules.parts import above, length


def count(value: Any, what: str, least: int = 0) -> int:
    """`value` as a number of steps: an integer of at least `least`."""
    steps = as_real(value)
    if not isinstance(steps, int) or steps < least:
        raise StepCountError(f"{what} must be a number of steps, an integer of at least {least}, got {shown(value)}.")
    return steps


def whole(value: Any, what: str, *, zero: bool = False) -> int:
    """`value` as a whole number of steps, which may be written as a float; 0 only where `zero` allows it."""
    steps = length(value, what, zero=zero)
    if steps != int(steps):
        raise StepCountError(f"{what} must be a whole number of steps, got {value!r}.")
    return int(steps)


def length_or_zero(value: Any, what: str) -> int | float:
    """`value` as a length in steps; a negative length counts as 0."""
    negative = isinstance(value, Real) and value < 0
    return length(0 if negative else value, what)


def fraction(value: Any, what: str, *, zero: bool = True) -> int | float:
    """`value` as a number from 0 to 1; 0 itself only where `zero` allows it."""
    number = above(value, what, 0, allowed=zero)
    if number > 1:
        raise ScheduleValueError(f"{what} must be at most 1, got {number!r}.")
    return number
