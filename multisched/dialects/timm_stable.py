"""The scheduler of timm that stays up for long; part of `dialects.timm`."""

from collections.abc import Callable
from typing import Any

from multisched.dialects.timm_parts import switched, warmed, without_effect
from multisched.dialects.torch_cycles import count
from multisched.errors import ScheduleValueError, StepCountError, shown
from multisched.schedules.combine import delay, from_function, join, stretch
from multisched.schedules.compose import maximum
from multisched.schedules.cycle import warmup_stable_decay
from multisched.schedules.decay import constant, exponential, linear
from multisched.schedules.inverse import inverse_sqrt, inverse_time
from multisched.schedules.parts import above, length, one_of, real
from multisched.schedules.schedule import Schedule

_CURVES = ("linear", "1-sqrt", "cosine")  # of the catalogue


def WSDLRScheduler(
    lr: float,
    t_initial: int,
    decay_t: int,
    lr_min: float = 0.0,
    stable_fn: str = "constant",
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
    without_effect(t_in_epochs, initialize, noise_range_t)
    rate, low = real(lr, "lr"), above(lr_min, "lr_min", 0)
    whole, down = count(t_initial, "t_initial", 1), count(decay_t, "decay_t", 1)
    rising, init = count(warmup_t, "warmup_t"), real(warmup_lr_init, "warmup_lr_init")
    if down > whole:
        raise StepCountError(f"decay_t must be at most t_initial, got {decay_t!r} and {t_initial!r}.")
    left = _left(decay_fn, whole - down, down, decay_power, decay_ratio)
    stable = _stable(rate, rising, stable_fn, stable_timescale, stable_power)
    if stable_fn == "constant" and rate >= low and decay_fn in _CURVES:
        begin = init if rising else 0
        return warmup_stable_decay(rate, rising, whole - down, down, begin, low, decay=str(decay_fn))
    if low:
        stable = maximum(stable, low)
    return warmed(stable * left + low * (1 - left) if low else stable * left, rate, rising, init, True)


def _stable(lr: float, warmup_t: int, stable_fn: Any, timescale: Any, power: Any) -> Schedule:
    kind = one_of(stable_fn, "stable_fn", "constant", "rsqrt", "power")
    exponent = above(power, "stable_power", 0, allowed=False)
    if kind == "constant":
        return constant(lr)
    scale: Any = length(warmup_t if timescale is None else timescale, "stable_timescale", zero=False)
    if kind == "rsqrt":
        return inverse_sqrt(lr, 0, scale)
    return lr * inverse_time(1, 1, scale) ** exponent


def _left(decay_fn: Any, begin: int, steps: int, power: Any, ratio: Any) -> Schedule:
    """From 1 to 0 in `steps`: the factor of what is above `lr_min`."""
    exponent, rest = above(power, "decay_power", 0, allowed=False), above(ratio, "decay_ratio", 0, allowed=False)
    if rest >= 1:
        raise ScheduleValueError(f"decay_ratio must be less than 1, got {ratio!r}.")
    if callable(decay_fn):
        return _called(decay_fn, begin, steps)
    kind = one_of(decay_fn, "decay_fn", *_CURVES, "power", "exp")
    if kind == "power":
        return 1 - linear(0, 1, steps, begin) ** exponent
    if kind == "exp":
        return (exponential(1, rest, steps, begin, end=rest) - rest) / (1 - rest)
    return warmup_stable_decay(1, 0, begin, steps, decay=kind)


def _called(decay_fn: Callable[[Any], Any], begin: int, steps: int) -> Schedule:
    """A function of the part that is over, whose value counts after `begin` alone."""
    try:
        first, last = float(decay_fn(0.0)), float(decay_fn(1.0))
    except (TypeError, ValueError) as cause:
        raise ScheduleValueError(f"decay_fn must give a number at 0 and at 1, unlike {shown(decay_fn)}.") from cause
    part = decay_fn if isinstance(decay_fn, Schedule) else from_function(decay_fn)
    falling = delay(stretch(part, steps), begin)
    if first != 1:
        falling = switched(constant(1), falling, begin + 1)
    return join([falling, constant(last)], [begin + steps])
