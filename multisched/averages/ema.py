"""The exponential moving average."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import numpy as np

from multisched.arguments import optional, unchecked
from multisched.arrays import (
    BITS,
    Array,
    FrozenArray,
    Namespace,
    Plain,
    Symbol,
    blended,
    choose,
    dtype_name,
    freeze,
    is_number,
    is_real,
    kind_of,
    namespace_of,
    shape_of,
    stop_gradient,
    thaw,
)
from multisched.averages.decay import decay_of
from multisched.averages.mean import Mean, Scalar, alike, dtype_of, floating, pick, settled, unsettled
from multisched.averages.statistic import counted, real_dtype, scalar_like, statistic
from multisched.errors import DecayError, InitShapeError, MaskError, RuleError, TimeStepError, shown
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


class TimedEmaState(NamedTuple):
    """The state of `ema` that `init(value, times=True)` makes.

    A class of its own, since flax and Orbax restore a state only into one with just the fields that it was saved with:
    `EmaState` keeps those that it has always had.
    """

    mean: Array
    """As in `EmaState`, and so the next three."""
    first_step: Array
    count: Any
    weight: Any
    pending: Array
    """The time since the latest value that counted, under masks."""


_State: TypeAlias = EmaState | TimedEmaState
S = TypeVar("S", bound=_State)


@dataclass(frozen=True, repr=False)
class Ema(Mean):
    """The rule that `ema` builds; see there."""

    alpha: Plain | Schedule
    start: Plain | None = None
    decay_min: bool = False
    debias: bool = False
    _gains: Any = field(default=None, init=False, repr=False, compare=False)

    title: ClassVar[str] = "ExponentialMovingAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "EMA"}

    def __post_init__(self) -> None:
        if isinstance(self.alpha, FrozenArray):  # in double precision: 1 - alpha of a small number has few digits
            object.__setattr__(self, "_gains", FrozenArray(1 - self.alpha.array))  # now: compilers could not follow

    def _described(self) -> tuple[str, dict[str, Any]]:
        flags = {"decay_min": self.decay_min, "debias": self.debias}
        return "ema", {"alpha": self.alpha, "init": self.start, **flags}

    def _init(self, xp: Namespace, zeros: Array) -> EmaState:
        shape = tuple(zeros.shape)
        if self.start is not None and shape_of(self.start) not in ((), shape):
            raise InitShapeError(
                f"init must be a number or have the shape of the value, {shape}, got the shape {shape_of(self.start)}."
            )
        real, shaped = real_dtype(xp, zeros), isinstance(self.alpha, FrozenArray | Symbol)
        if shaped:
            _check_alpha_shape(shape_of(self.alpha), shape)
        counting = self.decay_min or isinstance(self.alpha, Schedule)
        weight = xp.zeros_like(zeros, dtype=real) if shaped else scalar_like(xp, zeros, 0, real)
        return EmaState(
            mean=zeros,
            first_step=scalar_like(xp, zeros, True, xp.bool),
            count=scalar_like(xp, zeros, 0, xp.int32) if counting else (),
            weight=weight if self.debias else (),
        )

    def step(self, state: S, value: Array, where: Array | None = None, dt: Array | None = None) -> tuple[S, Array]:
        """One update: `(new state, average including value)`.

        `where` is a boolean scalar, traced or not. If it is false, the state stays as it is, with its counters, and the
        output is the average so far. `where` may have the shape of the value if the state was made by
        `init(value, elementwise=True)`.

        `dt` is a non-negative scalar, traced or not: the time since the previous value, for unevenly spaced values. The
        old average then has the weight `alpha ** dt`, so that alpha is the decay in one unit of time, and `halflife`
        and the like are times. With `debias`, a new value has the same weight whenever it comes. `step` raises
        `TimeStepError` if `dt` is a negative number or NaN, or not a scalar.

        A state made by `init(value, times=True)` records the time that passes while values are masked, and adds it to
        the `dt` of the next value. `pandas` does the same with `ignore_na=False` if it is given `times`, or
        `adjust=True`, which is `debias`. (With `adjust=False` and no `times`, pandas weighs the value after a gap by
        `1 - alpha` all the same, and, unless alpha is 0.5, divides by the sum of both weights.) Without `dt`, a step of
        such a state takes the time 1 if it counts, and the time 0 if it is masked. With another state, `dt` and a mask
        together raise `MaskError`.
        """
        dt = None if dt is None else _checked_time(dt)
        if isinstance(state, EmaState):
            if where is not None and dt is not None:
                raise MaskError(
                    "dt and where are both given, and this state would lose the time that passes under the mask. Make "
                    "it with rule.init(value, times=True)."
                )
            return self._step(state, value, where, dt=dt)
        xp, pending = namespace_of(value, state.mean), settled(state.pending)
        real = real_dtype(xp, state.mean)
        new, output = self._step(state, value, where, dt=pending + (1.0 if dt is None else _as(xp, dt, real)))
        if where is not None:
            waits = pending + (0.0 if dt is None else _as(xp, dt, real))
            counts = self._checked_mask(state, where)
            rest = (0.0 if counts else waits) if isinstance(counts, bool) else pick(~counts, waits, 0 * waits)
            new = new._replace(pending=stop_gradient(xp, unsettled(rest, state.pending)))
        return new, output

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """As of any `Mean`. Raises `RuleError` for a rule with `init`, or with one decay for each element."""
        if self.start is not None:
            raise RuleError(_NO_SHARE.format(rule=self, what="starts from init, not from the first value"))
        if isinstance(self.alpha, FrozenArray | Symbol) or shape_of(self.alpha) != ():
            raise RuleError(_NO_SHARE.format(rule=self, what="has a decay that is an array or a declared tensor"))
        share = alike(self._gain(None, count, dtype_of(weight)), weight)
        if self.debias:
            share, weight = _debiased(share, weight)
        return pick(count == 0, alike(1.0, weight), share), weight

    def _advance(self, xp: Namespace, state: _State, value: Array, dt: Any = None) -> tuple[_State, Array]:
        first = settled(state.first_step)
        share, weight = self._share_now(xp, state, dt)
        if first is True:
            mean = xp.astype(self._first(xp, value), state.mean.dtype, copy=True)
        else:
            mean = blended(xp, state.mean, value, share)
            mean = mean if first is False else choose(xp, first, self._first(xp, value), mean)
        count = () if isinstance(state.count, tuple) else counted(xp, state.count)
        new = EmaState(mean, xp.zeros_like(state.first_step), count, weight)
        return (new if isinstance(state, EmaState) else TimedEmaState(*new, xp.zeros_like(state.pending))), mean

    def _timed(self, xp: Namespace, state: EmaState) -> TimedEmaState:
        return TimedEmaState(*state, scalar_like(xp, state.mean, 0, real_dtype(xp, state.mean)))

    def _counter(self, state: _State) -> Array:
        return state.first_step

    def _share_now(self, xp: Namespace, state: _State, dt: Any) -> tuple[Scalar, Any]:
        """The share of a value that is not the first, which may be an array, and the weight that this makes."""
        dtype = real_dtype(xp, state.mean)
        gain = self._gain(xp, settled(state.count), dtype, state.mean)
        faded = None if dt is None else _over_time(xp, gain, dt, dtype)
        if not self.debias:
            return (gain if faded is None else faded), ()
        share, weight = _debiased(gain, settled(state.weight), faded)
        return share, unsettled(weight, state.weight)

    def _gain(self, xp: Namespace, count: Scalar, dtype: Any, like: Any = None) -> Any:
        """The weight of the value at update `count`, `1 - alpha`, in a dtype, or a Python number."""
        if isinstance(self.alpha, Schedule):
            double = dtype is not None and dtype_name(dtype) == "float64"  # else whole numbers have more digits
            gain = 1 - floating(self.alpha(floating(count, dtype) if double else count), dtype)
        elif isinstance(self.alpha, FrozenArray):
            gain = thaw(xp, self._gains, dtype, like=like)
        else:
            gain = 1 - thaw(xp, self.alpha, dtype, like=like)
        if self.decay_min:
            warm = 9.0 / (10.0 + floating(count, dtype))  # 1 - (1 + n) / (10 + n)
            gain = pick(warm > gain, alike(warm, gain), gain)
        return gain

    def _first(self, xp: Namespace, value: Array) -> Array:
        if self.start is None or self.debias:
            return value
        return self._started(xp, value)

    def _started(self, xp: Namespace, value: Array) -> Array:
        if isinstance(self.start, int | float | complex):
            return xp.full_like(value, self.start)
        return thaw(xp, self.start, value.dtype, like=value)  # type: ignore[arg-type]  # it is not None here

    def _read(self, xp: Namespace, state: _State, value: Array) -> Array:
        first = value if self.start is None else self._started(xp, value)
        return choose(xp, state.first_step, first, state.mean)


@statistic(
    alpha=optional(unchecked("operand")),
    init=optional(unchecked("array")),
    decay_min=unchecked("flag"),
    debias=unchecked("flag"),
    halflife=optional(unchecked("number")),
    span=optional(unchecked("number")),
    com=optional(unchecked("number")),
    tau=optional(unchecked("number")),
    examples=[
        "ema(0.9)",
        "ema(0.9, init=2.0)",
        "ema(0.9, debias=True)",
        "ema(0.99, decay_min=True)",
        "ema(decay_warmup(high=0.9))",
        "ema(halflife=10)",
    ],
)
def ema(
    alpha: Any = None,
    init: Any = None,
    decay_min: bool = False,
    debias: bool = False,
    *,
    halflife: Any = None,
    span: Any = None,
    com: Any = None,
    tau: Any = None,
) -> Ema:
    """The exponential moving average, with `alpha` the weight of the old value.

        v(0) = value(0), or init if given
        v(t) = v(t-1) * alpha + value(t) * (1 - alpha)

    It is computed as `v + (1 - alpha) * (value - v)`, so that the average of a constant is that constant, and in the
    dtype of the value, or in float32 if that has less precision.

    Parameters
    ----------
    alpha:
        The decay, in [0, 1]: a number, an array of one decay per element, or a `Schedule` over the number of updates.
    init:
        The average at update 0, a number or an array of the shape of the value. Default: the first value itself.
    decay_min:
        Use `min(alpha, (1 + n) / (10 + n))` at update n, counted from 0, so that early values do not linger.
    debias:
        Start from a weight of 0 instead of from the first value. The average is divided by the weight accumulated so
        far, also if alpha changes. `init` is then only the average before the first update.
    halflife, span, com, tau:
        Give one of these instead of alpha: a number or an array, in updates, or in the unit of `dt` if you give it to
        `step`.

        - `halflife`: after this time a value has half its weight, `alpha = 2 ** (-1 / halflife)`.
        - `span`: a simple average over such a window has the same mean age, `alpha = (span - 1) / (span + 1)`.
        - `com`: the mean age itself, the centre of mass, `alpha = com / (1 + com)`.
        - `tau`: after this time a value has 1 / e of its weight, `alpha = exp(-1 / tau)`.

    Raises
    ------
    DecayError:
        `alpha` is outside [0, 1], NaN, or not a number; or none or several of the parameters are given, or one that is
        out of range.
    InitShapeError:
        `rule.init(value)` raises it if `init` has another shape than the value.

    Sources: `symjax.nn.schedules.ExponentialMovingAverage`; `pandas.Series.ewm` for `halflife`, `span` and `com`, whose
    `adjust=True` is `debias=True`.

    >>> import numpy as np
    >>> rule = ema(0.9)
    >>> state = rule.init(np.zeros(2, np.float32))
    >>> for value in (1.0, 2.0, 3.0):
    ...     state, average = rule.step(state, np.full(2, value, np.float32))
    ...     print(average)
    [1. 1.]
    [1.1 1.1]
    [1.29 1.29]

    With times, after two half-lives, the old average has a quarter of the weight:

    >>> rule = ema(halflife=3)
    >>> state, _ = rule.step(rule.init(np.float64(0)), np.float64(8))
    >>> state, average = rule.step(state, np.float64(0), dt=6)
    >>> round(float(average), 12)
    2.0
    """
    scales = {"halflife": halflife, "span": span, "com": com, "tau": tau}
    alpha = decay_of(alpha, **scales)
    start = None if init is None else freeze(init, "init", real=False, symbolic=True)
    return Ema(alpha, start, bool(decay_min), bool(debias))


def _debiased(gain: Any, weight: Any, faded: Any = None) -> tuple[Any, Any]:
    """The share of a value of weight `gain` in the debiased average, and the weight accumulated with it.

    The weights (1 - alpha(s)) * alpha(s+1) * ... * alpha(t) of all values so far sum to `weight`; the share of the
    latest is its own over this sum. With no weight at all (alpha of 1), the latest value stands. `faded` is the part
    of the old weight that is lost, where that is not `gain`.
    """
    weight = weight + gain * (1 - weight) if faded is None else weight - faded * weight + gain
    if is_number(weight):
        return gain / weight if weight else 1.0, weight
    xp = namespace_of(weight)
    none, one = weight == 0, xp.ones_like(weight)
    return xp.where(none, one, gain / xp.where(none, one, weight)), weight


_NO_SHARE = """\
{rule!r} {what}, so that no one share of the latest value holds for all elements at all updates.
An average of a whole model, or one that is paced, takes a rule with one number or Schedule as alpha, without init."""


def _check_alpha_shape(alpha: tuple[int, ...], value: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(alpha, value) == value
    except ValueError:
        fits = False
    if not fits:
        raise DecayError(f"alpha must be a number or broadcast to the shape of the value, {value}, got shape {alpha}.")


def _checked_time(dt: Any) -> Any:
    dt = settled(dt)
    if is_real(dt):
        if not dt >= 0:
            raise TimeStepError(f"dt is the time since the value before, at least 0, got {dt!r}.")
        return float(dt)
    dtype = dtype_name(getattr(dt, "dtype", type(dt)))
    if dtype not in BITS or kind_of(dtype) not in ("int", "uint", "float") or tuple(dt.shape) != ():
        raise TimeStepError(f"dt is the time since the value before, a real scalar, got {shown(dt)}.")
    return dt


def _as(xp: Namespace, dt: Any, dtype: Any) -> Any:
    """A time in the dtype in which times are added up; a number as it is."""
    return dt if is_number(dt) else xp.astype(dt, dtype)


def _over_time(xp: Namespace, gain: Any, dt: Any, dtype: Any) -> Any:
    """`1 - (1 - gain) ** dt`, to the last digits of a gain close to 0."""
    if is_number(gain) and is_number(dt):
        rate = math.log1p(-gain) if gain < 1 else -_ENDLESS
        return -math.expm1(rate * dt) if rate else 0.0  # 0 * inf is no exponent
    if is_number(gain):
        if gain == 0:
            return 0.0
        return -xp.expm1((math.log1p(-gain) if gain < 1 else -_ENDLESS) * xp.astype(dt, dtype))
    whole, none = gain >= 1, xp.zeros_like(gain)
    rate = xp.where(whole, xp.full_like(gain, -_ENDLESS), xp.log1p(xp.where(whole, none, -gain)))
    dt = dt if is_number(dt) else xp.astype(dt, dtype)
    never = rate == 0  # 0 * inf is no exponent
    return xp.where(never, none, -xp.expm1(xp.where(never, none - 1, rate) * dt))


_ENDLESS = 1e30
"""A rate of decay at which nothing is left after any time but zero."""
