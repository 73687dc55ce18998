"""Statistics: values that depend on the values seen so far. One algorithm a file, each with its state record."""

from multisched.averages.ema import Ema, EmaState, ema
from multisched.averages.plateau import Plateau, PlateauState, plateau
from multisched.averages.statistic import Statistic
from multisched.averages.uniform import Swa, SwaState, swa
from multisched.averages.window import Sma, SmaState, sma

__all__ = [
    "Ema",
    "EmaState",
    "Plateau",
    "PlateauState",
    "Sma",
    "SmaState",
    "Statistic",
    "Swa",
    "SwaState",
    "ema",
    "plateau",
    "sma",
    "swa",
]
