"""The checked arguments of schedules."""

from typing import Any

import numpy as np

from multisched.arrays import as_real, is_finite
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, brief, shown
from multisched.schedules.schedule import Schedule


def real(value: Any, what: str) -> int | float:
    """`value` as a finite Python number."""
    number = as_real(value)
    if number is None:
        raise ScheduleValueError(f"{what} must be a real number, got {shown(value)}.")
    if not is_finite(number):
        raise ScheduleValueError(f"{what} must be finite in double precision, got {shown(number)}.")
    return number


def above(value: Any, what: str, least: float, *, allowed: bool = True) -> int | float:
    """`value` as a finite Python number of at least `least`, or more than that."""
    number = real(value, what)
    if number < least or (number == least and not allowed):
        raise ScheduleValueError(f"{what} must be {'at least' if allowed else 'more than'} {least}, got {number!r}.")
    return number


def length(value: Any, what: str, *, zero: bool = True) -> int | float:
    """`value` as the length of a phase, in steps: a whole number, or a fraction where a formula gives one."""
    number = as_real(value)
    if number is None:
        raise StepCountError(f"{what} must be a number of steps, got {shown(value)}.")
    if not is_finite(number) or number < 0 or (number == 0 and not zero):
        raise StepCountError(
            f"{what} must be a {'non-negative' if zero else 'positive'} number of steps, got {shown(number)}."
        )
    return number


def one_of(value: Any, what: str, *options: str) -> str:
    """`value`, if it is one of the names."""
    if not isinstance(value, str) or value not in options:
        raise ScheduleOptionError(f"{what} must be one of {', '.join(map(repr, options))}, got {brief(value)}.")
    return str(value)


def flag(value: Any, what: str) -> bool:
    """`value`, if it is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise ScheduleOptionError(f"{what} must be True or False, got {shown(value)}.")
    return bool(value)


def a_schedule(value: Any, what: str) -> Schedule:
    """`value`, if it is a schedule."""
    if not isinstance(value, Schedule):
        raise ScheduleValueError(f"{what} must be a schedule, got {shown(value)}.")
    return value
