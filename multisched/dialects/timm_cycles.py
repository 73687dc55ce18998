"""The schedulers of timm that go through cycles: half waves, powers, tangents; part of `dialects.timm`."""

from typing import Any

from multisched.arrays import Array, Namespace
from multisched.dialects.timm_parts import cycles, warmed, without_effect
from multisched.dialects.torch_cycles import count
from multisched.errors import ScheduleValueError
from multisched.schedules.catalogue import of_dialect
from multisched.schedules.curves import Way, along, power_of_gone, power_of_left
from multisched.schedules.cycle import MOST_CYCLES, cosine_restarts
from multisched.schedules.decay import cosine, linear, polynomial, tanh
from multisched.schedules.parts import above, flag, length, real
from multisched.schedules.schedule import Schedule, schedule


def _checked(
    lr: Any, t_initial: Any, lr_min: Any, cycle_mul: Any, cycle_decay: Any, cycle_limit: Any
) -> tuple[float, float, int, float, float, int]:
    """The arguments of `cycles`, after the curve."""
    return (
        real(lr, "lr"),
        above(lr_min, "lr_min", 0),
        count(t_initial, "t_initial", 1),
        above(cycle_mul, "cycle_mul", 1),
        above(cycle_decay, "cycle_decay", 0),
        count(cycle_limit, "cycle_limit"),
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
    without_effect(t_in_epochs, initialize, noise_range_t)
    given = _checked(lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit)
    k = above(k_decay, "k_decay", 0, allowed=False)
    if k == 1 and given[-1] > 1:
        rule = _restarts(*given)
    else:
        rule = cycles(lambda peak, end, steps: cosine(peak, steps, end, k=k), *given)  # type: ignore[arg-type]
    return warmed(rule, given[0], warmup_t, warmup_lr_init, warmup_prefix)


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
    lambda init, end, steps, power, k: {
        "init": real(init, "init"),
        "end": real(end, "end"),
        "steps": length(steps, "steps", zero=False),
        "power": above(power, "power", 0, allowed=False),
        "k": above(k, "k", 0, allowed=False),
    }
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
    without_effect(t_in_epochs, initialize, noise_range_t)
    given = _checked(lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit)
    exponent, k = above(power, "power", 0), above(k_decay, "k_decay", 0, allowed=False)

    def curve(peak: float, end: float, steps: Any) -> Schedule:
        if exponent == 0:
            return linear(peak, end, 0, begin=steps)
        return polynomial(peak, end, steps, exponent) if k == 1 else k_decay_polynomial(peak, end, steps, exponent, k)

    return warmed(cycles(curve, *given), given[0], warmup_t, warmup_lr_init, warmup_prefix)


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
    without_effect(t_in_epochs, initialize, noise_range_t)
    given = _checked(lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit)
    lower, upper = real(lb, "lb"), real(ub, "ub")
    if lower >= upper:
        raise ScheduleValueError(f"lb must be less than ub, got {lb!r} and {ub!r}.")
    rule = cycles(lambda peak, end, steps: tanh(peak, steps, end, lower, upper), *given)  # type: ignore[arg-type]
    peak = given[0] if flag(warmup_prefix, "warmup_prefix") else rule(count(warmup_t, "warmup_t"))
    return warmed(rule, peak, warmup_t, warmup_lr_init, warmup_prefix)
