"""A value that falls whenever a metric has stopped improving."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from multisched.arguments import Reader, number, option, reader
from multisched.arrays import (
    Array,
    FrozenArray,
    Namespace,
    beside,
    choose,
    dtype_name,
    freeze,
    int_max,
    kind_of,
)
from multisched.averages.statistic import Statistic, counted, statistic, zeros_beside
from multisched.errors import DTypeError, RuleError, shown

_MOST = int_max("int32")

Mode: TypeAlias = Literal["min", "max"]
ThresholdMode: TypeAlias = Literal["size", "rel", "abs"]


class PlateauState(NamedTuple):
    """The state of `plateau`. Each part has the shape of the metric; of a list of values, `value` has one axis more."""

    value: Array
    """The value now, at least float32."""
    best: Array
    """The best metric so far; zero before there was one."""
    seen: Array
    """Whether some metric has counted as an improvement. NaN never does, nor does the worst of all, an infinite one."""
    bad: Array
    """Updates in a row without an improvement, int32."""
    rest: Array
    """Updates that are left of the cooldown, int32."""


@dataclass(frozen=True, repr=False)
class Plateau(Statistic):
    """The rule that `plateau` builds; see there."""

    start: float | FrozenArray
    """The value at first, which is called `init` in calls of `plateau`."""
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    mode: Mode = "min"
    cooldown: int = 0
    minimum: float | FrozenArray = 0.0
    threshold_mode: ThresholdMode = "size"
    eps: float = 0.0

    name: ClassVar[str] = "plateau"
    title: ClassVar[str] = "Plateau"

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        return {"init": arguments.pop("start"), **arguments}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value for a metric of shape `()`: `()`, or `(n,)` for a rule of n values."""
        return next((part.shape for part in (self.start, self.minimum) if isinstance(part, FrozenArray)), ())

    def each(self) -> list["Plateau"]:
        """A rule for each of the values of this one. A rule of one value gives itself.

        >>> plateau([1.0, 0.5], minimum=0.1).each()
        [plateau(1.0, minimum=0.1), plateau(0.5, minimum=0.1)]
        """
        if not self.shape:
            return [self]
        starts, least = (_spread(part, self.shape) for part in (self.start, self.minimum))
        return [replace(self, start=a, minimum=b) for a, b in zip(starts, least, strict=True)]

    def _init(self, xp: Namespace, zeros: Array) -> PlateauState:
        if kind_of(dtype_name(zeros.dtype)) != "float":
            raise DTypeError(f"A metric is a real number, got dtype {dtype_name(zeros.dtype)}.")
        counts = xp.zeros_like(zeros, dtype=xp.int32)
        return PlateauState(
            value=_filled(xp, self._widened(xp, zeros), self.start),
            best=zeros,
            seen=xp.zeros_like(zeros, dtype=xp.bool),
            bad=counts,
            rest=xp.zeros_like(counts),
        )

    def _widened(self, xp: Namespace, zeros: Array) -> Array:
        """Zeros of the shape of the value."""
        shape = (*zeros.shape, *self.shape)
        return zeros_beside(xp, xp.expand_dims(zeros, axis=-1), shape) if self.shape else zeros

    def _advance(self, xp: Namespace, state: PlateauState, value: Array, dt: Any = None) -> tuple[PlateauState, Array]:
        better = self._better(xp, state, value)
        best = choose(xp, better, value, state.best)
        none = xp.zeros_like(state.bad)
        resting = state.rest > 0
        bad = choose(xp, better | resting, none, counted(xp, state.bad))
        rest = choose(xp, resting, state.rest - 1, none)
        fall = bad > min(self.patience, _MOST)  # the count stops there, so that a longer patience never ends
        after = choose(xp, xp.expand_dims(fall, axis=-1) if self.shape else fall, self._lower(xp, state), state.value)
        bad, rest = choose(xp, fall, none, bad), choose(xp, fall, xp.full_like(rest, min(self.cooldown, _MOST)), rest)
        return PlateauState(after, best, state.seen | better, bad, rest), after

    def _better(self, xp: Namespace, state: PlateauState, value: Array) -> Array:
        """Whether a metric is an improvement. NaN never is, nor is the worst of all, an infinite one."""
        lowest, part = self.mode == "min", self.threshold
        best = choose(xp, state.seen, state.best, xp.full_like(state.best, math.inf if lowest else -math.inf))
        value, best = (value, best) if lowest else (-value, -best)  # so that lower is better
        endless = xp.isinf(best)
        known = choose(xp, endless, xp.zeros_like(best), best)  # so that no two infinite numbers are subtracted
        if self.threshold_mode == "rel":
            scale = 1 - part if lowest else 1 + part
            ahead = value < _stretched(best, scale) if scale else xp.zeros_like(endless)
            line, margin = known * scale, known * (part if lowest else -part)
        else:
            ahead = value < best
            line, margin = known - part, xp.full_like(known, part)
            if self.threshold_mode == "size":
                line = choose(xp, known < 0, known * (1 + part), known * (1 - part))
                margin = part * xp.abs(known)
        if dtype_name(best.dtype) == "float64":  # bit for bit what torch computes
            return choose(xp, endless, ahead, value < line)
        # In single precision the line is rounded, so that a metric close to it may come to lie on its other side. The
        # difference of two metrics that are close to each other is exact, and the margin is rounded by far less.
        return choose(xp, endless, ahead, known - value > margin)

    def _lower(self, xp: Namespace, state: PlateauState) -> Array:
        """The value after a fall."""
        lower = state.value * self.factor
        least = _filled(xp, lower, self.minimum)
        lower = choose(xp, lower < least, choose(xp, state.value < least, state.value, least), lower)
        return choose(xp, state.value - lower > self.eps, lower, state.value) if self.eps else lower

    def _read(self, xp: Namespace, state: PlateauState, value: Array) -> Array:
        return xp.astype(state.value, state.value.dtype, copy=True)

    def _template(self, state: PlateauState) -> Array:
        return state.best


def _stretched(infinite: Array, scale: float) -> Array:
    """An infinite number times a finite one, which is not zero."""
    return infinite if scale > 0 else -infinite


def _spread(number: float | FrozenArray, shape: tuple[int, ...]) -> list[float]:
    array = number.array if isinstance(number, FrozenArray) else number
    spread: list[float] = np.broadcast_to(array, shape).tolist()
    return spread


def _filled(xp: Namespace, like: Array, number: float | FrozenArray) -> Array:
    """A number, or one number for each entry of the last axis, in the shape and dtype of `like`."""
    if isinstance(number, FrozenArray):
        return xp.zeros_like(like) + beside(xp, number, like.dtype, like)
    return xp.full_like(like, number)


def _real(expected: str, most: float = math.inf) -> Reader:
    def read(value: Any, name: str) -> float:
        found = number(value, name, RuleError, least=0, most=most, infinite=True, expected=expected)
        return float(freeze(found, name))  # type: ignore[arg-type]  # a number stays one, unless no float holds it

    return Reader("number", read)


@reader("number")
def _count(value: Any, name: str) -> int:
    """A number of updates."""
    expected = "a number of updates, an integer of at least 0"
    return int(number(value, name, RuleError, least=0, whole=True, infinite=True, expected=expected))


def _one_of(options: Any) -> Reader:
    return Reader("text", lambda value, name: option(value, name, get_args(options), RuleError))


@reader("array")
def _values(value: Any, name: str) -> float | FrozenArray:
    """One real number, or a list of them."""
    found = freeze(value, name) if not isinstance(value, str | bool) else value
    expected = "a real number, or a list of them"
    if not isinstance(found, FrozenArray):
        return float(number(found, name, RuleError, infinite=True, expected=expected))
    if len(found.shape) != 1 or not found.shape[0] or np.isnan(found.array).any():
        raise RuleError(f"{name} must be {expected}, got {shown(value)}.")
    return found


@statistic(
    init=_values,
    factor=_real("a real number of at least 0 and less than 1", most=math.nextafter(1, 0)),
    patience=_count,
    threshold=_real("a real number of at least 0"),
    mode=_one_of(Mode),
    cooldown=_count,
    minimum=_values,
    threshold_mode=_one_of(ThresholdMode),
    eps=_real("a real number of at least 0"),
    examples=["plateau(0.1, factor=0.5, patience=2)", "plateau(1.0, patience=0, mode='max', cooldown=1)"],
)
def plateau(
    init: float | Sequence[float],
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    mode: Mode = "min",
    cooldown: int = 0,
    minimum: float | Sequence[float] = 0.0,
    threshold_mode: ThresholdMode = "size",
    eps: float = 0.0,
) -> Plateau:
    """A value that is multiplied by `factor` whenever a metric has not improved for more than `patience` updates.

        improved:  metric < best - margin              (mode "min";  > best + margin for "max")
        margin:    threshold * |best|, threshold * best or threshold     (threshold_mode "size", "rel" or "abs")
        after more than `patience` updates in a row without:  value = max(value * factor, minimum)

    It is a statistic of the metric: `state, value = rule.step(state, metric)`. The first metric is compared with the
    worst possible one, infinity (minus infinity for "max"). A metric that is NaN is no improvement. If the metric has
    several elements, each has a value of its own.

    Parameters
    ----------
    init:
        The first value. A list gives several values, which fall together and may each have a `minimum`: for a metric of
        shape `s` the output has the shape `(*s, len(init))`. `ms.drive` gives each parameter group one of them.
    factor:
        The factor of each fall, at least 0 and less than 1.
    patience:
        How many updates in a row may come without an improvement before the value falls.
    cooldown:
        For how many updates after a fall the updates without an improvement are not counted.
    threshold:
        The margin: at least 0. By default it is relative to the size of the best metric.
    mode:
        "min" if lower metrics are better, "max" if higher ones are.
    minimum:
        The lower bound of the value, or a list with one bound for each value.
    threshold_mode:
        "size": the margin is a fraction of the absolute value of the best metric, so that metrics below zero count like
        others. "rel": it is a fraction of the best metric itself, as in torch; below zero, metrics that are worse by
        less than the margin then count as improvements. "abs": the margin is the threshold itself.
    eps:
        The value falls only if it falls by more than this.

    Raises
    ------
    RuleError:
        An argument is not of its kind, or out of range.
    DTypeError:
        `rule.init(metric)` raises it if the metric is complex.

    Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`, which has `threshold_mode="rel"` and `eps=1e-8`.

    >>> import numpy as np
    >>> rule = plateau(1.0, factor=0.5, patience=1)
    >>> state = rule.init(np.float32(0))
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0):
    ...     state, lr = rule.step(state, np.float32(loss))
    ...     print(lr)
    1.0
    1.0
    1.0
    0.5
    0.5
    0.25
    """
    lengths = {part.shape for part in (init, minimum) if isinstance(part, FrozenArray)}
    if len(lengths) > 1:
        raise RuleError(
            f"init and minimum must have the same length, or be numbers, got {shown(init)} and {shown(minimum)}."
        )
    start: Any = init  # which the readers have frozen
    least: Any = minimum
    return Plateau(start, factor, patience, threshold, mode, cooldown, least, threshold_mode, eps)
