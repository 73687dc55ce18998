"""The schedulers of `timm.scheduler`, as schedules: `CosineLRScheduler(0.1, t_initial=300)(t)`.

The value at t is the rate that timm has set after `scheduler.step(t)`, where `t_in_epochs` is true and t counts epochs,
or after `scheduler.step_update(t)`, where it is false and t counts updates: the formula is the same, and all lengths
are in the unit of t. Names, order and defaults of the arguments are timm's, with `lr`, the rate that the optimizer has,
in place of `optimizer`. `t_in_epochs`, `initialize` and, without noise, the other arguments of it have no effect.

Noise is not there: `noise_range_t` must be None. Bad arguments raise `ScheduleValueError`, `ScheduleOptionError` or
`StepCountError`, also some at which timm fails later or not at all: `docs/dialects-timm.md` names them.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from multisched.arguments import Reader, optional, reader, unchecked
from multisched.arrays import Array, Namespace
from multisched.averages.plateau import Plateau
from multisched.dialects import constructor, of_dialect
from multisched.dialects._readers import count, some
from multisched.dialects.torch import ReduceLROnPlateau
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules.combine import delay, from_function, join, repeat, stretch, warmup
from multisched.schedules.compose import maximum
from multisched.schedules.curves import Way, along, power_of_gone, power_of_left
from multisched.schedules.cycle import MOST_CYCLES, cosine_restarts, starts, warmup_stable_decay
from multisched.schedules.decay import constant, cosine, exponential, linear, polynomial, tanh
from multisched.schedules.edges import after
from multisched.schedules.inverse import inverse_sqrt, inverse_time
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.readers import at_least, flag, non_negative, one_of, positive, real, some_steps
from multisched.schedules.schedule import Schedule, schedule
from multisched.schedules.steps import piecewise_scale

__all__ = [
    "CosineLRScheduler",
    "MultiStepLRScheduler",
    "PlateauLRScheduler",
    "PolyLRScheduler",
    "StepLRScheduler",
    "TanhLRScheduler",
    "WSDLRScheduler",
]


# --- what all constructors take --------------------------------------------------------------------------------------
@reader("any")
def _no_noise(value: Any, name: str) -> None:
    """None, since there is no noise here."""
    if value is not None:
        raise ScheduleOptionError(
            f"{name} must be None: the noise of timm is drawn from the generator of torch at each step, and is no "
            f"formula of the step, got {shown(value)}."
        )


_ALL: Mapping[str, Reader] = {
    "lr": real,
    "warmup_t": count,
    "warmup_lr_init": real,
    "noise_range_t": _no_noise,
    "noise_pct": unchecked("number"),
    "noise_std": unchecked("number"),
    "noise_seed": unchecked("integer"),
    "initialize": flag,
}
_TIMED: Mapping[str, Reader] = {**_ALL, "t_in_epochs": flag}
_WARMED: Mapping[str, Reader] = {**_TIMED, "warmup_prefix": flag}
_CYCLES: Mapping[str, Reader] = {
    **_WARMED,
    "t_initial": some,
    "lr_min": non_negative,
    "cycle_mul": at_least(1),
    "cycle_decay": non_negative,
    "cycle_limit": count,
}


# --- at steps --------------------------------------------------------------------------------------------------------
@constructor(
    **_WARMED,
    decay_t=some_steps,
    decay_rate=non_negative,
    examples=["timm.StepLRScheduler(0.1, decay_t=40, decay_rate=0.5)", "timm.StepLRScheduler(1, 2.5, 0.5, warmup_t=2)"],
)
def StepLRScheduler(
    lr: float,
    decay_t: float,
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    initialize: bool = True,
) -> Schedule:
    """`lr * decay_rate ** (t // decay_t)`; `decay_rate` is at least 0, and `decay_t` may be a fraction.

    With `warmup_t`, a line from `warmup_lr_init` to `lr` comes first: before the rest if `warmup_prefix`, else in place
    of its beginning.

    >>> lr = StepLRScheduler(1.0, 2.5, decay_rate=0.5, warmup_t=2)
    >>> [lr(t) for t in (0, 1, 2, 4, 5, 7)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.25]
    """
    if decay_rate == 0:  # whose power of 0 is 1
        rule = piecewise_constant(lr, {math.ceil(decay_t): 0.0})
    else:
        rule = exponential(lr, decay_rate, decay_t, staircase=True)
    return _warmed(rule, lr, warmup_t, warmup_lr_init, warmup_prefix)


@constructor(
    **_WARMED,
    decay_t=unchecked("integers"),
    decay_rate=real,
    examples=["timm.MultiStepLRScheduler(0.1, decay_t=[40], decay_rate=0.5)"],
)
def MultiStepLRScheduler(
    lr: float,
    decay_t: Sequence[int],
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    initialize: bool = True,
) -> Schedule:
    """`lr`, multiplied by `decay_rate` one step before each of `decay_t`, once for each time that it is listed.

    So a 4 rules from t = 3 on, as timm has it; a 0, like a 1, from 0 on. They do not decrease. For the warm-up see
    `StepLRScheduler`.

    >>> lr = MultiStepLRScheduler(1.0, [2, 4], decay_rate=0.5)
    >>> [lr(t) for t in (0, 1, 2, 3, 4)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    if not isinstance(decay_t, Sequence) or isinstance(decay_t, str):
        raise ScheduleValueError(f"decay_t must be a list of steps, got {shown(decay_t)}.")
    milestones = [count(step, f"Step {i} of decay_t") for i, step in enumerate(decay_t)]
    if any(later < earlier for earlier, later in pairwise(milestones)):
        raise StepCountError(f"The steps of decay_t must not decrease, got {list(decay_t)}.")
    counts = Counter(max(step - 1, 0) for step in milestones)
    rule = piecewise_scale(lr, {step: decay_rate**times for step, times in counts.items()})
    return _warmed(rule, lr, warmup_t, warmup_lr_init, warmup_prefix)


# --- in cycles: half waves, powers, tangents -------------------------------------------------------------------------
@constructor(
    **_CYCLES,
    k_decay=positive,
    examples=[
        "timm.CosineLRScheduler(0.1, t_initial=80)",
        "timm.CosineLRScheduler(1, 8, 0.1, cycle_mul=2, cycle_limit=2, warmup_t=2, k_decay=0.5)",
    ],
)
def CosineLRScheduler(
    lr: float,
    t_initial: int,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    k_decay: float = 1.0,
    initialize: bool = True,
) -> Schedule:
    """Half waves from `lr` down to `lr_min`, at first in `t_initial` steps, and `lr_min` after `cycle_limit` of them.

        lr_min + (lr * cycle_decay ** i - lr_min) * (1 + cos(pi * u ** k_decay)) / 2
        u = (t - start_i) / length_i in cycle i,  length_i = t_initial * cycle_mul ** i

    With `warmup_t`, a line from `warmup_lr_init` to `lr` comes first: before the wave if `warmup_prefix`, else in place
    of its beginning, and then the value jumps from `lr` to where the wave is. `cycle_mul` is at least 1; with more, the
    200th cycle is the last.

    >>> lr = CosineLRScheduler(1.0, 8, warmup_t=2, warmup_lr_init=0.5)
    >>> [round(lr(t), 4) for t in (0, 1, 2, 4, 8, 9)]
    [0.5, 0.75, 0.8536, 0.5, 0.0, 0.0]
    >>> CosineLRScheduler(1.0, 8, warmup_t=2, warmup_lr_init=0.5, warmup_prefix=True)
    warmup(cosine(1.0, 8), 2, init=0.5)
    """
    if k_decay == 1 and cycle_limit > 1:
        rule = _restarts(lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    else:

        def curve(peak: float, end: float, steps: Any) -> Schedule:
            return cosine(peak, steps, end, k=k_decay)

        rule = _cycles(curve, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    return _warmed(rule, lr, warmup_t, warmup_lr_init, warmup_prefix)


def _restarts(lr: float, low: float, steps: int, longer: float, lower: float, limit: int) -> Schedule:
    """Half waves whose peaks fall to 0, where those of the catalogue fall to their end: a second wave is the rest."""
    last = limit if longer == 1 else min(limit, MOST_CYCLES)
    if lower == 1 or low == 0:
        return cosine_restarts(lr, steps, longer, lower, low, last)
    both: Schedule = cosine_restarts(lr, steps, longer, lower, cycles=last) + cosine_restarts(
        0, steps, longer, end=low, cycles=last
    )
    return both


@schedule(
    init=real,
    end=real,
    steps=some_steps,
    power=positive,
    k=positive,
    edges=after("steps"),
    examples=["timm.k_decay_polynomial(0.1, 0, 80, 2, 0.5)"],
)
@of_dialect("timm")
def k_decay_polynomial(
    xp: Namespace, step: Array, init: float, end: float, steps: int, power: float, k: float
) -> Array:
    """`end + (init - end) * (1 - u ** k) ** power`, `u` the part of `steps` that is over, 0 to 1.

    >>> lr = k_decay_polynomial(1.0, 0.0, 4, power=2, k=2)
    >>> [lr(step) for step in (0, 2, 4, 5)]
    [1.0, 0.5625, 0.0, 0.0]
    """

    def curve(xp: Namespace, way: Way) -> Way:
        return power_of_left(power)(xp, power_of_gone(k)(xp, way))

    return along(xp, step, init, end, 0, steps, curve)


@constructor(
    **_CYCLES,
    power=non_negative,
    k_decay=positive,
    examples=[
        "timm.PolyLRScheduler(0.1, t_initial=80)",
        "timm.PolyLRScheduler(1, 4, 1, cycle_decay=0.5, cycle_limit=2)",
    ],
)
def PolyLRScheduler(
    lr: float,
    t_initial: int,
    power: float = 0.5,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    k_decay: float = 1.0,
    initialize: bool = True,
) -> Schedule:
    """`lr_min + (lr * cycle_decay ** i - lr_min) * (1 - u ** k_decay) ** power`; see `CosineLRScheduler` for the rest.

    `power` is at least 0; at 0 each cycle is level.

    >>> lr = PolyLRScheduler(1.0, 4, power=1, cycle_decay=0.5, cycle_limit=2)
    >>> [lr(t) for t in (0, 2, 3, 4, 6, 8, 9)]
    [1.0, 0.5, 0.25, 0.5, 0.25, 0.0, 0.0]
    """

    def curve(peak: float, end: float, steps: Any) -> Schedule:
        if power == 0:
            return linear(peak, end, 0, begin=steps)
        if k_decay == 1:
            return polynomial(peak, end, steps, power)
        return k_decay_polynomial(peak, end, steps, power, k_decay)

    rule = _cycles(curve, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    return _warmed(rule, lr, warmup_t, warmup_lr_init, warmup_prefix)


@constructor(
    **_CYCLES,
    lb=real,
    ub=real,
    examples=["timm.TanhLRScheduler(0.1, t_initial=80)", "timm.TanhLRScheduler(1, 10, lr_min=0.1, warmup_t=2)"],
)
def TanhLRScheduler(
    lr: float,
    t_initial: int,
    lb: float = -7.0,
    ub: float = 3.0,
    lr_min: float = 0.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    initialize: bool = True,
) -> Schedule:
    """`lr_min + (lr * cycle_decay ** i - lr_min) * (1 - tanh(lb * (1 - u) + ub * u)) / 2`; `lb` is less than `ub`.

    See `CosineLRScheduler` for the rest. Only here a warm-up that is no prefix goes to where the tangent is when it is
    over. A tangent begins a little below `lr` and ends a little above `lr_min`.

    >>> lr = TanhLRScheduler(1.0, 10, warmup_t=2)
    >>> [round(lr(t), 4) for t in (0, 1, 2, 7, 9, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.018, 0.0]
    """
    if lb >= ub:
        raise ScheduleValueError(f"lb must be less than ub, got {lb!r} and {ub!r}.")

    def curve(peak: float, end: float, steps: Any) -> Schedule:
        return tanh(peak, steps, end, lb, ub)

    rule = _cycles(curve, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    return _warmed(rule, lr if warmup_prefix else rule(warmup_t), warmup_t, warmup_lr_init, warmup_prefix)


# --- up for long, then down ------------------------------------------------------------------------------------------
_CURVES = ("linear", "1-sqrt", "cosine")  # of the catalogue


@constructor(
    **_TIMED,
    t_initial=some,
    decay_t=some,
    lr_min=non_negative,
    stable_fn=one_of("constant", "rsqrt", "power"),
    stable_timescale=optional(unchecked("number")),
    stable_power=positive,
    decay_fn=unchecked("text"),
    decay_power=positive,
    decay_ratio=positive,
    examples=[
        "timm.WSDLRScheduler(0.1, t_initial=80, decay_t=40)",
        "timm.WSDLRScheduler(1, 20, 5, 0.1, 'rsqrt', decay_fn='exp', warmup_t=4)",
    ],
)
def WSDLRScheduler(
    lr: float,
    t_initial: int,
    decay_t: int,
    lr_min: float = 0.0,
    stable_fn: Literal["constant", "rsqrt", "power"] = "constant",
    stable_timescale: float | None = None,
    stable_power: float = 0.5,
    decay_fn: str | Callable[[Any], Any] = "1-sqrt",
    decay_power: float = 0.5,
    decay_ratio: float = 0.1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    t_in_epochs: bool = True,
    noise_range_t: None = None,
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int = 42,
    initialize: bool = True,
) -> Schedule:
    """A line up to `lr` in `warmup_t` steps, `lr` times `stable`, and in the last `decay_t` of `t_initial` more, down.

        s = t - warmup_t
        lr_min + (max(lr * stable(s), lr_min) - lr_min) * decay(u),  u = (s - (t_initial - decay_t)) / decay_t

        stable: 1 ("constant");  1 / sqrt(1 + s / stable_timescale) ("rsqrt");  (1 + s / stable_timescale) ** -power
            ("power"); the timescale is `warmup_t` unless given
        decay: 1 - u ("linear");  1 - sqrt(u) ("1-sqrt");  (1 + cos(pi * u)) / 2 ("cosine");  1 - u ** decay_power
            ("power");  (decay_ratio ** u - decay_ratio) / (1 - decay_ratio) ("exp"); or a function of u

    A function has a value at 0, too, though the rate is that of `stable` there. On arrays, it is given an array: see
    `ms.from_function`.

    >>> lr = WSDLRScheduler(1.0, 8, decay_t=4, decay_fn="linear", warmup_t=2)
    >>> [lr(t) for t in (0, 1, 2, 6, 8, 10, 11)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if decay_t > t_initial:
        raise StepCountError(f"decay_t must be at most t_initial, got {decay_t!r} and {t_initial!r}.")
    level = t_initial - decay_t
    left = _left(decay_fn, level, decay_t, decay_power, decay_ratio)
    stable = _stable(lr, warmup_t, stable_fn, stable_timescale, stable_power)
    if stable_fn == "constant" and lr >= lr_min and decay_fn in _CURVES:
        begin = warmup_lr_init if warmup_t else 0
        return warmup_stable_decay(lr, warmup_t, level, decay_t, begin, lr_min, decay=str(decay_fn))
    if lr_min:
        stable = maximum(stable, lr_min)
    rule: Schedule = stable * left + lr_min * (1 - left) if lr_min else stable * left
    return _warmed(rule, lr, warmup_t, warmup_lr_init, True)


def _stable(lr: float, warmup_t: int, kind: str, timescale: float | None, power: float) -> Schedule:
    if kind == "constant":
        return constant(lr)
    scale: Any = some_steps(warmup_t if timescale is None else timescale, "stable_timescale")
    if kind == "rsqrt":
        return inverse_sqrt(lr, 0, scale)
    decaying: Schedule = lr * inverse_time(1, 1, scale) ** power
    return decaying


def _left(decay_fn: Any, begin: int, steps: int, power: float, ratio: float) -> Schedule:
    """The factor of what is above `lr_min`: from 1 to 0 in `steps`."""
    if ratio >= 1:
        raise ScheduleValueError(f"decay_ratio must be less than 1, got {ratio!r}.")
    if callable(decay_fn):
        return _called(decay_fn, begin, steps)
    kind = one_of(*_CURVES, "power", "exp")(decay_fn, "decay_fn")
    if kind == "power":
        return 1 - linear(0, 1, steps, begin) ** power
    if kind == "exp":
        return (exponential(1, ratio, steps, begin, end=ratio) - ratio) / (1 - ratio)
    return warmup_stable_decay(1, 0, begin, steps, decay=kind)


def _called(decay_fn: Callable[[Any], Any], begin: int, steps: int) -> Schedule:
    """A function of the part of the decay that is over; before `begin`, the factor is 1."""
    try:
        first, last = float(decay_fn(0.0)), float(decay_fn(1.0))
    except (TypeError, ValueError) as cause:
        raise ScheduleValueError(f"decay_fn must give a number at 0 and at 1, unlike {shown(decay_fn)}.") from cause
    part = decay_fn if isinstance(decay_fn, Schedule) else from_function(decay_fn)
    falling = delay(stretch(part, steps), begin)
    if first != 1:
        falling = _switched(constant(1), falling, begin + 1)
    return join([falling, constant(last)], [begin + steps])


# --- of a metric -----------------------------------------------------------------------------------------------------
@constructor(
    **{**_ALL, "lr": unchecked("number")},
    decay_rate=unchecked("number"),
    patience_t=unchecked("integer"),
    threshold=unchecked("number"),
    cooldown_t=unchecked("integer"),
    lr_min=unchecked("number"),
    mode=unchecked("text"),
    noise_type=unchecked("text"),
    examples=["timm.PlateauLRScheduler(0.1)"],
)
def PlateauLRScheduler(
    lr: float,
    decay_rate: float = 0.1,
    patience_t: int = 10,
    threshold: float = 1e-4,
    cooldown_t: int = 0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    lr_min: float = 0.0,
    mode: Literal["min", "max"] = "max",
    noise_range_t: None = None,
    noise_type: str = "normal",
    noise_pct: float = 0.67,
    noise_std: float = 1.0,
    noise_seed: int | None = None,
    initialize: bool = True,
) -> Plateau:
    """A rate that falls when a metric has stopped improving: no schedule, but a rule of the metric, `ms.plateau`.

    The value after the n-th metric, from 1, is the rate that timm has set after `scheduler.step(n, metric)`. See
    `dialects.torch.ReduceLROnPlateau`, which it is made of. A warm-up is not there: `warmup_t` must be 0.

    Raises `RuleError`.

    >>> PlateauLRScheduler(0.1, decay_rate=0.5, patience_t=2, lr_min=0.01)
    plateau(0.1, factor=0.5, patience=2, mode='max', minimum=0.01, threshold_mode='rel', eps=1e-08)
    """
    if warmup_t > 0:
        raise ScheduleOptionError(
            "warmup_t must be 0: the rule of a metric begins with the first metric. "
            f"Let a schedule drive the first updates, and the rule those after, got {warmup_t!r}."
        )
    return ReduceLROnPlateau(lr, mode, decay_rate, patience_t, threshold, cooldown=cooldown_t, min_lr=lr_min)


# --- one after the other ---------------------------------------------------------------------------------------------
def _switched(before: Schedule, after: Schedule, step: int) -> Schedule:
    """`before`, and from `step` on `after`, on one clock: unlike in `join`, `after` does not start at its step 0."""
    both: Schedule = before * piecewise_constant(1, {step: 0}) + after * piecewise_constant(0, {step: 1})
    return both


def _warmed(after: Schedule, peak: float, steps: int, init: float, prefix: bool) -> Schedule:
    """A line up to `peak`, then the schedule: from its beginning if the line is a prefix, else on the same clock."""
    if steps == 0:
        return after
    if prefix and after(0) == peak:
        return warmup(after, steps, init)
    line = linear(init, peak, steps)
    return join([line, after], [steps]) if prefix else _switched(line, after, steps)


def _in_turn(rules: Sequence[Schedule], begins: Sequence[float]) -> Schedule:
    """Each schedule from its own beginning, which may be a fraction, up to the next."""
    if all(begin == int(begin) for begin in begins):
        return join(rules, [int(begin) for begin in begins[1:]])
    firsts = [math.ceil(begin) for begin in begins]
    windows = [piecewise_constant(1, {firsts[1]: 0})]
    windows += [piecewise_constant(0, {first: 1, end: 0}) for first, end in pairwise(firsts[1:])]
    windows += [piecewise_constant(0, {firsts[-1]: 1})]
    late = [delay(rule, begin) for rule, begin in zip(rules, begins, strict=True)]
    return _sum([rule * window for rule, window in zip(late, windows, strict=True)])


def _sum(terms: list[Schedule]) -> Schedule:
    """Added up in pairs, so that many are not nested deeply."""
    half = len(terms) // 2
    return _sum(terms[:half]) + _sum(terms[half:]) if half else terms[0]


_Curve = Callable[[float, float, float], Schedule]
"""One cycle: from a value, to another, in so many steps."""


# --- cycles ----------------------------------------------------------------------------------------------------------
def _cycles(curve: _Curve, lr: float, low: float, steps: int, longer: float, lower: float, limit: int) -> Schedule:
    """Cycle i from `lr * lower ** i` to `low` in `steps * longer ** i`; after the last, `low`."""
    if limit == 0:
        return constant(low)
    if limit == 1:
        return curve(lr, low, steps)
    if longer == 1:
        return join([_alike(curve, lr, low, steps, lower), constant(low)], [limit * steps])
    ends = [_whole(end) for end in starts(steps, longer, min(limit, MOST_CYCLES))]
    rules = [curve(lr * lower**i, low, steps * longer**i) for i in range(len(ends))]
    return _in_turn(rules, [0, *ends[:-1]])


def _whole(step: float) -> float:
    """`step`, or the integer that it is but for rounding."""
    return round(step) if math.isclose(step, round(step), rel_tol=1e-12) else step


def _alike(curve: _Curve, lr: float, low: float, steps: int, lower: float) -> Schedule:
    """Cycles of one length, for ever."""
    if lower == 1:
        return repeat(curve(lr, low, steps), steps)
    peaks = exponential(lr, lower, steps, staircase=True) if lower else piecewise_constant(lr, {steps: 0})
    wave = repeat(curve(1, 0, steps), steps)
    return peaks * wave + low * (1 - wave) if low else peaks * wave
