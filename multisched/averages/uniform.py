"""The average of all values, each with the same weight: stochastic weight averaging, if the values are weights."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from multisched.arrays import Array
from multisched.averages.mean import Mean
from multisched.averages.scalars import Scalar, as_float, dtype_of
from multisched.averages.statistic import statistic


class SwaState(NamedTuple):
    """The state of `swa`."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    count: Array
    """Updates so far, int32."""


@dataclass(frozen=True, repr=False)
class Swa(Mean):
    """The rule that `swa` builds; see there."""

    name: ClassVar[str] = "swa"
    title: ClassVar[str] = "StochasticWeightAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "SWA"}
    state: ClassVar[type[Any]] = SwaState

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """See `Mean`: `1 / (count + 1)`."""
        return 1.0 / (as_float(count, dtype_of(weight)) + 1), weight


@statistic(examples=["swa()"])
def swa() -> Swa:
    """The mean of all values so far, each with the same weight.

        average(t) = (value(0) + value(1) + ... + value(t)) / (t + 1)

    It is computed as `v + (value - v) / (t + 1)`, so that the state needs no more memory than one value and the average
    of a constant is that constant, and in the dtype of the value, or in float32 if that has less precision. After 2**31
    values, the divisor stays at 2**31.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.

    >>> import numpy as np
    >>> rule = swa()
    >>> state = rule.init(np.float32(0))
    >>> for value in (1.0, 2.0, 6.0):
    ...     state, average = rule.step(state, np.float32(value))
    ...     print(average)
    1.0
    1.5
    3.0
    """
    return Swa()
