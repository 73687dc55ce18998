"""Schedules: values that depend only on how many updates have happened. One family a file."""

from multisched.schedules.compose import maximum, minimum
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule, schedule

__all__ = ["Schedule", "maximum", "minimum", "piecewise_constant", "schedule"]
