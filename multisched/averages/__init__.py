"""Statistics: values that depend on the values seen so far. One algorithm a file, each with its state record."""

from multisched.averages.ema import Ema, EmaState, TimedEmaState, ema
from multisched.averages.mean import Mean
from multisched.averages.pace import Paced, PacedState, paced
from multisched.averages.plateau import Plateau, PlateauState, plateau
from multisched.averages.power import PowerEma, PowerEmaState, power_ema
from multisched.averages.statistic import Statistic
from multisched.averages.uniform import Swa, SwaState, swa
from multisched.averages.window import Sma, SmaState, sma

__all__ = [
    "Ema",
    "EmaState",
    "Mean",
    "Paced",
    "PacedState",
    "Plateau",
    "PlateauState",
    "PowerEma",
    "PowerEmaState",
    "Sma",
    "SmaState",
    "Statistic",
    "Swa",
    "SwaState",
    "TimedEmaState",
    "ema",
    "paced",
    "plateau",
    "power_ema",
    "sma",
    "swa",
]
