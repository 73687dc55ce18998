"""A value that falls whenever a metric has stopped improving."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from multisched.arrays import Array, Namespace, choose, dtype_name, int_max, is_integer, is_real, kind_of
from multisched.averages.statistic import Statistic, counted
from multisched.errors import DTypeError, RuleError, shown

_MOST = int_max("int32")


class PlateauState(NamedTuple):
    """The state of `plateau`, each part of the shape of the metric."""

    value: Array
    """The value now, at least float32."""
    best: Array
    """The best metric so far; zero before there was one."""
    seen: Array
    """Whether there was a metric that is a number."""
    bad: Array
    """Updates without an improvement, int32."""
    rest: Array
    """Updates of the cooldown that are left, int32."""


@dataclass(frozen=True, repr=False)
class Plateau(Statistic):
    """The rule that `plateau` builds; see there."""

    start: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    mode: str = "min"
    cooldown: int = 0
    minimum: float = 0.0

    title: ClassVar[str] = "Plateau"

    def _described(self) -> tuple[str, dict[str, Any]]:
        fields = ("factor", "patience", "threshold", "mode", "cooldown", "minimum")
        return "plateau", {"init": self.start, **{name: getattr(self, name) for name in fields}}

    def _init(self, xp: Namespace, zeros: Array) -> PlateauState:
        if kind_of(dtype_name(zeros.dtype)) != "float":
            raise DTypeError(f"A metric is a real number, got dtype {dtype_name(zeros.dtype)}.")
        counts = xp.zeros_like(zeros, dtype=xp.int32)
        return PlateauState(
            value=xp.full_like(zeros, self.start),
            best=zeros,
            seen=xp.zeros_like(zeros, dtype=xp.bool),
            bad=counts,
            rest=xp.zeros_like(counts),
        )

    def _advance(self, xp: Namespace, state: PlateauState, value: Array, dt: Any = None) -> tuple[PlateauState, Array]:
        margin = self.threshold * xp.abs(state.best)  # of the size of the best, whatever its sign
        better = value < state.best - margin if self.mode == "min" else value > state.best + margin
        better = choose(xp, state.seen, better, value == value)  # a NaN is never better
        best = choose(xp, better, value, state.best)
        none = xp.zeros_like(state.bad)
        resting = state.rest > 0
        bad = choose(xp, better | resting, none, counted(xp, state.bad))
        rest = choose(xp, resting, state.rest - 1, none)
        fall = bad > min(self.patience, _MOST)  # beyond what can be counted: never
        lower = state.value * self.factor
        least = xp.full_like(lower, self.minimum)
        lower = choose(xp, lower < least, choose(xp, state.value < least, state.value, least), lower)
        after = choose(xp, fall, lower, state.value)
        bad, rest = choose(xp, fall, none, bad), choose(xp, fall, xp.full_like(rest, min(self.cooldown, _MOST)), rest)
        return PlateauState(after, best, state.seen | better, bad, rest), after

    def _read(self, xp: Namespace, state: PlateauState, value: Array) -> Array:
        return xp.astype(state.value, state.value.dtype, copy=True)

    def _template(self, state: PlateauState) -> Array:
        return state.best


def plateau(
    init: float,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    mode: str = "min",
    cooldown: int = 0,
    minimum: float = 0.0,
) -> Plateau:
    """A value that is multiplied by `factor` whenever a metric has not improved for more than `patience` updates.

        improved:  metric < best - threshold * |best|     (mode "min";  > best + threshold * |best| for "max")
        after more than `patience` updates in a row without:  value = max(value * factor, minimum)

    A statistic of the metric: `state, value = rule.step(state, metric)`. The margin is a part of the size of the best
    metric so far, so that metrics below zero count as others do. A metric that is NaN is no improvement. Metrics of
    several elements each have a value of their own.

    Parameters
    ----------
    init:
        The value at first.
    factor:
        What it is multiplied by, in (0, 1).
    patience, cooldown:
        How many updates without an improvement are let pass, and for how many after a fall none is counted.
    threshold:
        The relative margin, at least 0.
    mode:
        "min" where lower metrics are better, "max" where higher ones are.
    minimum:
        What the value does not fall below.

    Raises `RuleError` for arguments out of range.

    Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`, except for metrics below zero.

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
    numbers = {"init": init, "factor": factor, "threshold": threshold, "minimum": minimum}
    for name, value in numbers.items():
        if not is_real(value) or value != value:
            raise RuleError(f"{name} of plateau must be a real number, got {shown(value)}.")
    for name, count in {"patience": patience, "cooldown": cooldown}.items():
        if not is_integer(count) or count < 0:
            raise RuleError(f"{name} of plateau must be a non-negative integer, got {shown(count)}.")
    if not 0 < factor < 1:
        raise RuleError(f"factor of plateau must be between 0 and 1, got {factor!r}.")
    if threshold < 0:
        raise RuleError(f"threshold of plateau must be at least 0, got {threshold!r}.")
    if mode not in ("min", "max"):
        raise RuleError(f"mode of plateau must be 'min' or 'max', got {mode!r}.")
    return Plateau(float(init), float(factor), int(patience), float(threshold), mode, int(cooldown), float(minimum))
