"""Schedules: values that depend only on how many updates have happened. One family a file, which lists its names."""

from multisched.schedules import approach, combine, compose, cycle, decay, inverse, piecewise, steps
from multisched.schedules.approach import *  # noqa: F403  (its __all__ is the one list of its public names)
from multisched.schedules.combine import *  # noqa: F403
from multisched.schedules.compose import *  # noqa: F403
from multisched.schedules.config import from_config
from multisched.schedules.cycle import *  # noqa: F403
from multisched.schedules.decay import *  # noqa: F403
from multisched.schedules.inverse import *  # noqa: F403
from multisched.schedules.parse import parse
from multisched.schedules.piecewise import *  # noqa: F403
from multisched.schedules.schedule import Schedule, schedule
from multisched.schedules.steps import *  # noqa: F403

__all__ = ["Schedule", "from_config", "parse", "schedule"]
__all__ += approach.__all__
__all__ += combine.__all__
__all__ += compose.__all__
__all__ += cycle.__all__
__all__ += decay.__all__
__all__ += inverse.__all__
__all__ += piecewise.__all__
__all__ += steps.__all__
