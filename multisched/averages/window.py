"""The average over a window of the latest values."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from multisched.arguments import number, reader
from multisched.arrays import Array, Namespace, choose
from multisched.averages.statistic import Statistic, counted, real_dtype, scalar_like, statistic, zeros_beside
from multisched.errors import WindowError


class SmaState(NamedTuple):
    """The state of `sma`."""

    last: Array
    """The last n values, oldest first, of the shape `(n, *value_shape)`, at least float32; zero for those to come."""
    count: Array
    """Updates so far, int32."""


@dataclass(frozen=True, repr=False)
class Sma(Statistic):
    """The rule that `sma` builds; see there."""

    n: int
    """The length of the window, in updates."""

    name: ClassVar[str] = "sma"
    title: ClassVar[str] = "SimpleMovingAverage"
    labels: ClassVar[dict[str, str]] = {"last": "SMA"}

    def _init(self, xp: Namespace, zeros: Array) -> SmaState:
        return SmaState(zeros_beside(xp, zeros, (self.n, *zeros.shape)), scalar_like(xp, zeros, 0, xp.int32))

    def _advance(self, xp: Namespace, state: SmaState, value: Array, dt: Any = None) -> tuple[SmaState, Array]:
        # Shifting costs one pass, as the sum does anyway. A running sum would be cheaper, but it would drift.
        last = xp.concat([state.last[1:, ...], xp.expand_dims(value, axis=0)], axis=0)
        new = SmaState(last, counted(xp, state.count))
        return new, self._mean(xp, new)

    def _read(self, xp: Namespace, state: SmaState, value: Array) -> Array:
        return choose(xp, state.count == 0, value, self._mean(xp, state))

    def _mean(self, xp: Namespace, state: SmaState) -> Array:
        seen = xp.clip(state.count, 1, self.n)
        return _sum_in_pairs(state.last) / xp.astype(seen, real_dtype(xp, state.last))

    def _template(self, state: SmaState) -> Array:
        return state.last[0, ...]


def _sum_in_pairs(values: Array) -> Array:
    """The sum over the first axis, which is halved each time.

    This fixes the order of the additions on every backend, and the rounding error grows with the logarithm of the
    length.
    """
    odd = None
    while (n := values.shape[0]) > 1:
        half = n // 2
        if n % 2:
            odd = values[n - 1, ...] if odd is None else odd + values[n - 1, ...]
        values = values[:half, ...] + values[half : 2 * half, ...]
    return values[0, ...] if odd is None else values[0, ...] + odd


@reader("number")
def _window(value: Any, name: str) -> int:
    """The length of a window: an integer of at least 1."""
    expected = "the length of a window, an integer of at least 1"
    return int(number(value, name, WindowError, least=1, whole=True, expected=expected))


@statistic(n=_window, examples=["sma(3)", "sma(1)"])
def sma(n: int) -> Sma:
    """The mean of the last `n` values, or of the values so far if there are fewer.

        average(t) = (value(t) + value(t-1) + ... + value(max(0, t-n+1))) / min(n, t+1)

    Each update adds up the values in the window again, so that no rounding error accumulates, and an infinite or NaN
    value has no effect `n` updates later. It computes in the dtype of the values, or in float32 if that has less
    precision. The state holds `n` values.

    Parameters
    ----------
    n:
        The length of the window, in updates: an integer of at least 1.

    Raises
    ------
    WindowError:
        `n` is not an integer, or less than 1.

    Source: `symjax.nn.schedules.SimpleMovingAverage`.

    >>> import numpy as np
    >>> rule = sma(2)
    >>> state = rule.init(np.float32(0))
    >>> for value in (1.0, 2.0, 4.0):
    ...     state, average = rule.step(state, np.float32(value))
    ...     print(average)
    1.0
    1.5
    3.0
    """
    return Sma(n)
