"""The checked arguments of the dialects, as functions."""

from typing import Any

from multisched.arguments import number, option
from multisched.errors import ScheduleOptionError, ScheduleValueError
from multisched.schedules import readers
from multisched.schedules.readers import a_schedule as a_schedule
from multisched.schedules.readers import flag as flag
from multisched.schedules.readers import real as real


def above(value: Any, what: str, least: float, *, allowed: bool = True) -> int | float:
    """`value` as a finite Python number of at least `least`, or more than that."""
    if allowed:
        return number(value, what, ScheduleValueError, least=least)
    return number(value, what, ScheduleValueError, above=least)


def length(value: Any, what: str, *, zero: bool = True) -> int | float:
    """`value` as the length of a phase, in steps: a whole number, or a fraction where a formula gives one."""
    read: int | float = (readers.length if zero else readers.some_steps)(value, what)
    return read


def one_of(value: Any, what: str, *options: str) -> str:
    """`value`, if it is one of the names."""
    return option(value, what, options, ScheduleOptionError)
