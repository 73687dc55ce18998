"""The exponential moving average."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from multisched.arrays import Array, FrozenArray, Namespace, Plain, Symbol, freeze, shape_of, thaw
from multisched.averages.statistic import Statistic, counted, real_dtype, scalar_like
from multisched.errors import DecayError, InitShapeError
from multisched.schedules import Schedule


class EmaState(NamedTuple):
    """The state of `ema`: what it does not need is `()`."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    first_step: Array
    """True before the first update."""
    count: Any
    """Updates so far, int32; kept where the decay depends on it."""
    weight: Any
    """The weight accumulated so far; kept where the average is debiased."""


@dataclass(frozen=True)
class Ema(Statistic):
    """The rule that `ema` builds; see there."""

    alpha: Plain | Schedule
    start: Plain | None = None
    decay_min: bool = False
    debias: bool = False

    title: ClassVar[str] = "ExponentialMovingAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "EMA"}

    def __repr__(self) -> str:
        given = [repr(self.alpha)]
        given += [] if self.start is None else [f"init={self.start!r}"]
        given += [f"{name}=True" for name in ("decay_min", "debias") if getattr(self, name)]
        return f"ema({', '.join(given)})"

    def _init(self, xp: Namespace, zeros: Array) -> EmaState:
        shape = tuple(zeros.shape)
        if self.start is not None and shape_of(self.start) not in ((), shape):
            raise InitShapeError(
                f"init must be a number or have the shape of the value, {shape}, got the shape {shape_of(self.start)}."
            )
        real, shaped = real_dtype(xp, zeros), isinstance(self.alpha, FrozenArray | Symbol)
        if shaped:
            _check_alpha_shape(shape_of(self.alpha), shape)  # type: ignore[arg-type]
        counting = self.decay_min or isinstance(self.alpha, Schedule)
        weight = xp.zeros_like(zeros, dtype=real) if shaped else scalar_like(xp, zeros, 0, real)
        return EmaState(
            mean=zeros,
            first_step=scalar_like(xp, zeros, True, xp.bool),
            count=scalar_like(xp, zeros, 0, xp.int32) if counting else (),
            weight=weight if self.debias else (),
        )

    def _advance(self, xp: Namespace, state: EmaState, value: Array) -> tuple[EmaState, Array]:
        share, weight = self._gain(xp, state), state.weight
        if self.debias:
            # The weights (1 - alpha(s)) * alpha(s+1) * ... * alpha(t) of all values so far sum to `weight`; the share
            # of the latest is its own over this sum. With no weight at all (alpha of 1), the latest value stands.
            weight = weight + share * (1 - weight)
            none, one = weight == 0, xp.ones_like(weight)
            share = xp.where(none, one, share / xp.where(none, one, weight))
        mean = xp.where(state.first_step, self._first(xp, value), state.mean + share * (value - state.mean))
        count = () if isinstance(state.count, tuple) else counted(xp, state.count)
        return EmaState(mean, xp.zeros_like(state.first_step), count, weight), mean

    def _gain(self, xp: Namespace, state: EmaState) -> Any:
        """The weight of the new value, `1 - alpha`."""
        dtype = real_dtype(xp, state.mean)
        if isinstance(self.alpha, Schedule):
            gain = 1 - xp.astype(self.alpha(state.count), dtype)
        else:
            gain = 1 - thaw(xp, self.alpha, dtype, like=state.mean)
        if self.decay_min:
            warm = 9.0 / (10.0 + xp.astype(state.count, dtype))  # 1 - (1 + n) / (10 + n)
            gain = xp.where(warm > gain, warm, gain)
        return gain

    def _first(self, xp: Namespace, value: Array) -> Array:
        if self.start is None or self.debias:
            return value
        return self._started(xp, value)

    def _started(self, xp: Namespace, value: Array) -> Array:
        if isinstance(self.start, int | float | complex):
            return xp.full_like(value, self.start)
        return thaw(xp, self.start, value.dtype, like=value)  # type: ignore[arg-type]

    def _read(self, xp: Namespace, state: EmaState, value: Array) -> Array:
        first = value if self.start is None else self._started(xp, value)
        return xp.where(state.first_step, first, state.mean)


def ema(alpha: Any, init: Any = None, decay_min: bool = False, debias: bool = False) -> Ema:
    """The exponential moving average, with `alpha` the weight of the old value.

        v(0) = value(0), or init if given
        v(t) = v(t-1) * alpha + value(t) * (1 - alpha)

    Computed as `v + (1 - alpha) * (value - v)`, so that the average of a constant is that constant, in the dtype of the
    value, at least float32.

    Parameters
    ----------
    alpha:
        The decay, in [0, 1]: a number, an array of one decay per element, or a `Schedule` over the number of updates.
    init:
        The average at update 0, a number or an array of the shape of the value; by default the first value itself.
    decay_min:
        Use `min(alpha, (1 + n) / (10 + n))` at update n, counted from 0, so that early values do not linger.
    debias:
        Start from no weight instead of from the first value: the average is divided by the weight accumulated so far,
        exactly, under any changing alpha. `init` then only stands for the average before the first update.

    Raises
    ------
    DecayError:
        `alpha` is outside [0, 1], NaN, or no number.
    InitShapeError:
        At `rule.init(value)`: `init` is of another shape than the value.

    Source: `symjax.nn.schedules.ExponentialMovingAverage`.

    >>> import numpy as np
    >>> rule = ema(0.9)
    >>> state = rule.init(np.zeros(2, np.float32))
    >>> for value in (1.0, 2.0, 3.0):
    ...     state, average = rule.step(state, np.full(2, value, np.float32))
    ...     print(average)
    [1. 1.]
    [1.1 1.1]
    [1.29 1.29]
    """
    if not isinstance(alpha, Schedule):
        alpha = freeze(alpha, "alpha", DecayError, symbolic=True)
        values = alpha.array if isinstance(alpha, FrozenArray) else alpha
        if not isinstance(alpha, Symbol) and not (np.all(values >= 0) and np.all(values <= 1)):
            raise DecayError(f"alpha is the weight of the old value, in [0, 1], got {alpha!r}.")
    start = None if init is None else freeze(init, "init", real=False, symbolic=True)
    return Ema(alpha, start, bool(decay_min), bool(debias))


def _check_alpha_shape(alpha: tuple[int, ...], value: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(alpha, value) == value
    except ValueError:
        fits = False
    if not fits:
        raise DecayError(f"alpha must be a number or broadcast to the shape of the value, {value}, got shape {alpha}.")
