"""The same names, for type checkers: not all of them follow `__all__ += module.__all__` in `__init__.py`."""

from multisched.schedules.approach import *
from multisched.schedules.combine import *
from multisched.schedules.compose import *
from multisched.schedules.config import from_config as from_config
from multisched.schedules.cycle import *
from multisched.schedules.decay import *
from multisched.schedules.inverse import *
from multisched.schedules.parse import parse as parse
from multisched.schedules.piecewise import *
from multisched.schedules.schedule import Schedule as Schedule
from multisched.schedules.schedule import schedule as schedule
from multisched.schedules.steps import *
