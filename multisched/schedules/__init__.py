"""Schedules: values that depend only on how many updates have happened. One family a file."""

import multisched.schedules.plot
import multisched.schedules.text  # noqa: F401 (for Schedule.plot and repr, as config is for Schedule.to_config)
from multisched.schedules.approach import decay_warmup
from multisched.schedules.combine import clip, delay, from_function, join, repeat, stretch, warmup
from multisched.schedules.compose import maximum, minimum
from multisched.schedules.config import from_config
from multisched.schedules.cycle import cosine_restarts, cyclic, one_cycle, warmup_stable_decay
from multisched.schedules.decay import constant, cosine, exponential, linear, polynomial, tanh
from multisched.schedules.inverse import inverse_sqrt, inverse_time, noam
from multisched.schedules.parse import parse
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule, schedule
from multisched.schedules.steps import piecewise_interpolate, piecewise_scale

__all__ = [
    "Schedule",
    "clip",
    "constant",
    "cosine",
    "cosine_restarts",
    "cyclic",
    "decay_warmup",
    "delay",
    "exponential",
    "from_config",
    "from_function",
    "inverse_sqrt",
    "inverse_time",
    "join",
    "linear",
    "maximum",
    "minimum",
    "noam",
    "one_cycle",
    "parse",
    "piecewise_constant",
    "piecewise_interpolate",
    "piecewise_scale",
    "polynomial",
    "repeat",
    "schedule",
    "stretch",
    "tanh",
    "warmup",
    "warmup_stable_decay",
]
