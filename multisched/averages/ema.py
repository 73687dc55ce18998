"""The exponential moving average."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import numpy as np

from multisched.arguments import Reader, optional, unchecked
from multisched.arrays import (
    Array,
    FrozenArray,
    Namespace,
    Plain,
    Symbol,
    choose,
    dtype_name,
    freeze,
    is_number,
    namespace_of,
    shape_of,
    stop_gradient,
    thaw,
)
from multisched.averages.decay import decay_of
from multisched.averages.mean import Mean
from multisched.averages.scalars import Scalar, as_array, as_float, as_number, dtype_of, matching, pick
from multisched.averages.statistic import counted, real_dtype, scalar_like, statistic
from multisched.averages.times import checked_time, faded, time_in
from multisched.errors import DecayError, InitShapeError, MaskError, RuleError
from multisched.schedules import Schedule


class EmaState(NamedTuple):
    """The state of `ema`. A part that the rule does not need is `()`."""

    mean: Array
    """The average so far, at least float32; zero before the first update."""
    first_step: Array
    """True before the first update."""
    count: Any
    """Updates so far, int32, if the decay depends on it."""
    weight: Any
    """The weight accumulated so far, if the average is debiased."""


class TimedEmaState(NamedTuple):
    """The state of `ema` that `init(value, times=True)` makes.

    It is a class of its own because flax and Orbax restore a state only into one with the same fields, and `EmaState`
    keeps the fields that it has always had.
    """

    mean: Array
    """As in `EmaState`, like the next three."""
    first_step: Array
    count: Any
    weight: Any
    pending: Array
    """The time that has passed under masks since the latest value that counted."""


_State: TypeAlias = EmaState | TimedEmaState
S = TypeVar("S", bound=_State)


@dataclass(frozen=True, repr=False)
class Ema(Mean):
    """The rule that `ema` builds; see there."""

    alpha: Plain | Schedule
    """The decay: the weight of the old value."""
    start: Plain | None = None
    """The average at update 0, which is called `init` in calls of `ema`."""
    decay_min: bool = False
    debias: bool = False
    _gains: Any = field(default=None, init=False, repr=False, compare=False)

    name: ClassVar[str] = "ema"
    title: ClassVar[str] = "ExponentialMovingAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "EMA"}

    def __post_init__(self) -> None:
        # Here, since compilers cannot follow it; in double precision, since 1 - alpha of a small number has few digits.
        if isinstance(self.alpha, FrozenArray):
            object.__setattr__(self, "_gains", FrozenArray(1 - self.alpha.array))

    def _arguments(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "init": self.start, "decay_min": self.decay_min, "debias": self.debias}

    def step(self, state: S, value: Array, where: Array | None = None, dt: Array | None = None) -> tuple[S, Array]:
        """One update: `(new state, average including value)`.

        Parameters
        ----------
        where:
            A boolean scalar, traced or not. If it is False, the state stays as it is, counters included, and the
            output is the average so far. It may have the shape of the value if the state was made by
            `init(value, elementwise=True)`.
        dt:
            The time since the value before, for unevenly spaced values: a non-negative scalar, traced or not. The old
            average then has the weight `alpha ** dt`: alpha is the decay in one unit of time, and `halflife` and its
            like are times. With `debias`, every value has the same weight when it is new, however long after the value
            before it comes.

        A state made by `init(value, times=True)` takes both. It adds up the time that passes under a mask, and the next
        value that counts is given the sum. pandas does the same with `ignore_na=False` if it is given `times`, or with
        `adjust=True`, which is `debias`. (With `adjust=False` and no `times`, pandas weighs the value after a gap by
        `1 - alpha` all the same, and, unless alpha is 0.5, divides by the sum of both weights.) A step of such a state
        without `dt` takes a time of 1 if it counts, and of 0 if it is masked.

        Raises
        ------
        TimeStepError:
            `dt` is negative, NaN, or no scalar.
        MaskError:
            `dt` and `where` are both given, and the state was made without `times=True`.
        """
        dt = None if dt is None else checked_time(dt)
        if isinstance(state, TimedEmaState):
            return self._step_in_time(state, value, where, dt)
        if where is not None and dt is not None:
            raise MaskError(
                "dt and where are both given, and this state would lose the time that passes under the mask. Make "
                "it with rule.init(value, times=True)."
            )
        return self._step(state, value, where, dt=dt)

    def _step_in_time(self, state: Any, value: Array, where: Array | None, dt: Scalar | None) -> tuple[Any, Array]:
        """The same of a state that keeps the time that passes under masks."""
        xp, pending = namespace_of(value, state.mean), as_number(state.pending)
        passed = None if dt is None else time_in(xp, dt, real_dtype(xp, state.mean))
        new, output = self._step(state, value, where, dt=pending + (1.0 if passed is None else passed))
        if where is None:
            return new, output
        masked = pending + (0.0 if passed is None else passed)
        counts = self._checked_mask(state, where)
        left = (0.0 if counts else masked) if isinstance(counts, bool) else pick(~counts, masked, 0 * masked)
        return new._replace(pending=stop_gradient(xp, as_array(left, state.pending))), output

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """See `Mean`. Raises `RuleError` for a rule with `init`, or with one decay for each element."""
        if self.start is not None:
            raise RuleError(_NO_SHARE.format(rule=self, what="starts from init, not from the first value"))
        if isinstance(self.alpha, FrozenArray | Symbol) or shape_of(self.alpha) != ():
            raise RuleError(_NO_SHARE.format(rule=self, what="has a decay that is an array or a declared tensor"))
        share, weight = self._weighed(matching(self._gain(None, count, dtype_of(weight)), weight), weight)
        return pick(count == 0, matching(1.0, weight), share), weight

    # --- the state ---------------------------------------------------------------------------------------------------
    def _init(self, xp: Namespace, zeros: Array) -> EmaState:
        shape, shaped = tuple(zeros.shape), isinstance(self.alpha, FrozenArray | Symbol)
        if self.start is not None and shape_of(self.start) not in ((), shape):
            raise InitShapeError(
                f"init must be a number or have the shape of the value, {shape}, got the shape {shape_of(self.start)}."
            )
        if shaped:
            _check_alpha_shape(shape_of(self.alpha), shape)
        real, counting = real_dtype(xp, zeros), self.decay_min or isinstance(self.alpha, Schedule)
        weight = xp.zeros_like(zeros, dtype=real) if shaped else scalar_like(xp, zeros, 0, real)
        return EmaState(
            mean=zeros,
            first_step=scalar_like(xp, zeros, True, xp.bool),
            count=scalar_like(xp, zeros, 0, xp.int32) if counting else (),
            weight=weight if self.debias else (),
        )

    def _timed(self, xp: Namespace, state: EmaState) -> TimedEmaState:
        return TimedEmaState(*state, scalar_like(xp, state.mean, 0, real_dtype(xp, state.mean)))

    def _counter(self, state: _State) -> Array:
        return state.first_step

    def _first(self, state: _State) -> bool | Array:
        return as_number(state.first_step)

    def _advance(self, xp: Namespace, state: Any, value: Array, dt: Any = None) -> tuple[Any, Array]:
        if self.start is not None and not self.debias and (first := self._first(state)) is not False:
            started = self._started(xp, value)  # it takes the place of the first value
            value = started if first is True else choose(xp, first, started, value)
        return super()._advance(xp, state, value, dt)

    def _read(self, xp: Namespace, state: _State, value: Array) -> Array:
        first = value if self.start is None else self._started(xp, value)
        return choose(xp, state.first_step, first, state.mean)

    def _started(self, xp: Namespace, value: Array) -> Array:
        """`init` in the shape and dtype of the value."""
        if isinstance(self.start, int | float | complex):
            return xp.full_like(value, self.start)
        start: Any = self.start
        return thaw(xp, start, value.dtype, like=value)

    # --- the share ---------------------------------------------------------------------------------------------------
    def _share_now(self, xp: Namespace, state: _State, dt: Any) -> tuple[Any, Any]:
        dtype = real_dtype(xp, state.mean)
        gain = self._gain(xp, as_number(state.count), dtype, state.mean)
        lost = None if dt is None else faded(xp, gain, dt, dtype)
        return self._weighed(gain, as_number(state.weight), lost)

    def _after(self, xp: Namespace, state: _State, mean: Array, weight: Any) -> _State:
        count = () if isinstance(state.count, tuple) else counted(xp, state.count)
        new = EmaState(mean, xp.zeros_like(state.first_step), count, as_array(weight, state.weight))
        return TimedEmaState(*new, xp.zeros_like(state.pending)) if isinstance(state, TimedEmaState) else new

    def _gain(self, xp: Namespace, count: Scalar, dtype: Any, like: Any = None) -> Any:
        """`1 - alpha` at update `count`: an array of the dtype, or a Python number, or a number where alpha is one."""
        if isinstance(self.alpha, Schedule):
            double = dtype is not None and dtype_name(dtype) == "float64"  # else whole numbers have more digits
            gain = 1 - as_float(self.alpha(as_float(count, dtype) if double else count), dtype)
        elif isinstance(self.alpha, FrozenArray):
            gain = thaw(xp, self._gains, dtype, like=like)
        else:
            gain = 1 - thaw(xp, self.alpha, dtype, like=like)
        if self.decay_min:
            warm = 9.0 / (10.0 + as_float(count, dtype))  # 1 - (1 + n) / (10 + n)
            gain = pick(warm > gain, matching(warm, gain), gain)
        return gain

    def _weighed(self, gain: Any, weight: Any, lost: Any = None) -> tuple[Any, Any]:
        """The share of a value of weight `gain`, and the weight of all values with it.

        `lost` is the part of the old weight that is lost, where that is not `gain`.

        With `debias`, the weights (1 - alpha(s)) * alpha(s+1) * ... * alpha(t) of all values so far sum to the new
        weight, and the share of the latest is its own over this sum. If no value has a weight (alpha of 1), the share
        is 1.
        """
        if not self.debias:
            return (gain if lost is None else lost), weight
        weight = weight + gain * (1 - weight) if lost is None else weight - lost * weight + gain
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


_start = Reader("array", lambda value, name: freeze(value, name, real=False, symbolic=True))


@statistic(
    alpha=optional(unchecked("operand")),
    init=optional(_start),
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
    return Ema(alpha, init, bool(decay_min), bool(debias))
