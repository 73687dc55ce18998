"""Schedules: values that depend only on how many updates have happened. One family a file."""

from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule, schedule

__all__ = ["Schedule", "piecewise_constant", "schedule"]
