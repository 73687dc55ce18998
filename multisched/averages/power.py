"""The power-function average of Karras et al.: the weight of a value grows as a power of its time."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from multisched.arguments import Reader, number, optional
from multisched.arrays import Array
from multisched.averages.mean import Mean
from multisched.averages.scalars import Scalar, as_float, dtype_of, functions_of, matching, pick
from multisched.averages.statistic import statistic
from multisched.errors import DecayError

_WIDEST = 12**-0.5
_LARGEST = 1e9


class PowerEmaState(NamedTuple):
    """The state of `power_ema`."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    count: Array
    """Updates so far, int32."""


@dataclass(frozen=True, repr=False)
class PowerEma(Mean):
    """The rule that `power_ema` builds; see there."""

    gamma: float
    """The exponent: the profile of the weights is `t ** gamma`."""
    sigma_rel: float = field(compare=False)
    """The width: the standard deviation of the profile, relative to the time that it covers."""
    by_width: bool = field(default=True, compare=False, repr=False)
    """Whether the rule was built from `sigma_rel`, and prints it."""

    name: ClassVar[str] = "power_ema"
    title: ClassVar[str] = "PowerFunctionAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "EMA"}
    state: ClassVar[type[Any]] = PowerEmaState

    def _arguments(self) -> dict[str, Any]:
        return {"sigma_rel": self.sigma_rel} if self.by_width else {"gamma": self.gamma}

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """See `Mean`: `1 - (1 - 1 / n) ** (gamma + 1)` with `n = count + 1`.

        `expm1` and `log1p` keep the digits of a share close to 0. At n = 1 the share is 1, and `log1p(-1)` is avoided.
        """
        first, before = count == 0, as_float(count, dtype_of(weight))
        n = pick(first, matching(2.0, before), before + 1)
        f = functions_of(n)
        return pick(first, matching(1.0, n), -f.expm1((self.gamma + 1) * f.log1p(-1 / n))), weight


def _between(least: float, most: float, expected: str) -> Reader:
    return Reader(
        "number",
        lambda value, name: float(number(value, name, DecayError, least=least, most=most, expected=expected)),
    )


@statistic(
    sigma_rel=optional(_between(1 / _LARGEST, _WIDEST, "a number from 1e-09 to 12 ** -0.5")),
    gamma=optional(_between(0, _LARGEST, "a number from 0 to 1e9")),
    examples=["power_ema(0.1)", "power_ema(gamma=1)"],
)
def power_ema(sigma_rel: float | None = None, *, gamma: float | None = None) -> PowerEma:
    """The power-function average: an exponential average whose memory is a fixed fraction of the time so far.

        v(0) = value(0)
        v(t) = v(t-1) * decay + value(t) * (1 - decay),  decay = (1 - 1 / (t + 1)) ** (gamma + 1)

    In the average of T values, the value of update j, counted from 1, has the weight

        (j / T) ** (gamma + 1) - ((j - 1) / T) ** (gamma + 1)

    which is the integral of the profile `(gamma + 1) / T * (t / T) ** gamma` from j - 1 to j. The average needs no
    warm-up. `posthoc` computes averages of other widths from averages of two widths.

    Parameters
    ----------
    sigma_rel:
        The width of the profile: its standard deviation relative to T, from 1e-9 to 12 ** -0.5, which is 0.2887 and the
        mean of all values. Common widths are 0.05 and 0.1. The width determines gamma, the one non-negative root of the
        cubic `sigma_rel ** 2 = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))`, which is solved in double precision.
    gamma:
        The exponent, from 0 to 1e9, which you can give instead of `sigma_rel`.

    Raises
    ------
    DecayError:
        Both or neither are given, or one that is out of range or not a number.

    Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, section 3
    and appendix C.

    >>> import numpy as np
    >>> rule = power_ema(0.1)
    >>> round(rule.gamma, 4)
    6.9372
    >>> rule = power_ema(gamma=1)
    >>> state = rule.init(np.float64(0))
    >>> for value in (0.0, 0.0, 9.0):
    ...     state, average = rule.step(state, np.float64(value))
    >>> round(float(average), 12)  # 9 * (1 - (2 / 3) ** 2)
    5.0
    """
    if (sigma_rel is None) == (gamma is None):
        given = "none of them" if sigma_rel is None else "both"
        raise DecayError(f"Exactly one of sigma_rel and gamma says how wide the average is, got {given}.")
    if sigma_rel is not None:
        return PowerEma(_exponent(sigma_rel), sigma_rel)
    return PowerEma(gamma, _width(gamma), by_width=False)  # type: ignore[arg-type]  # one of the two is given


def _width(gamma: float) -> float:
    """The standard deviation of the profile `t ** gamma` over [0, 1]."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def _exponent(sigma_rel: float) -> float:
    """The largest root of `sigma_rel ** 2 * (gamma + 2) ** 2 * (gamma + 3) - (gamma + 1)`, by Newton's method.

    The cubic is convex, and positive at `1 / sigma_rel - 2`. From there the method goes down to the root, and it stops
    where rounding keeps it from going further.
    """
    gamma = math.inf
    lower = 1 / sigma_rel - 2
    while lower < gamma:
        gamma = lower
        part = sigma_rel * (gamma + 2)
        slope = 2 * part * sigma_rel * (gamma + 3) + part**2 - 1
        lower = gamma - (part**2 * (gamma + 3) - (gamma + 1)) / slope
    return max(gamma, 0.0)
