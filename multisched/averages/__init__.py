"""Statistics: values that depend on the values seen so far. One algorithm a file, each with its state record."""

from multisched.averages.ema import Ema as Ema
from multisched.averages.ema import EmaState, ema
from multisched.averages.ema import TimedEmaState as TimedEmaState
from multisched.averages.mean import Mean as Mean
from multisched.averages.pace import Paced as Paced
from multisched.averages.pace import PacedState, paced
from multisched.averages.plateau import Plateau as Plateau
from multisched.averages.plateau import PlateauState, plateau
from multisched.averages.power import PowerEma as PowerEma
from multisched.averages.power import PowerEmaState, power_ema
from multisched.averages.statistic import Statistic
from multisched.averages.uniform import Swa as Swa
from multisched.averages.uniform import SwaState, swa
from multisched.averages.window import Sma as Sma
from multisched.averages.window import SmaState, sma

__all__ = [
    "EmaState",
    "PacedState",
    "PlateauState",
    "PowerEmaState",
    "SmaState",
    "Statistic",
    "SwaState",
    "ema",
    "paced",
    "plateau",
    "power_ema",
    "sma",
    "swa",
]
