"""The schedule of transformers that warms up, stays level and decays; part of `dialects.transformers`."""

from collections.abc import Callable, Mapping
from typing import Any

from multisched.dialects.optax_curves import whole
from multisched.dialects.transformers_waves import ahead, wave
from multisched.errors import ScheduleOptionError
from multisched.schedules.combine import join
from multisched.schedules.cycle import warmup_stable_decay
from multisched.schedules.decay import constant, cosine, linear, polynomial
from multisched.schedules.parts import above, one_of
from multisched.schedules.schedule import Schedule


def get_wsd_schedule(
    lr: float,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
) -> Schedule:
    """From `min_lr_ratio * lr` up to `lr`, level, and down again, where it stays.

    The level phase takes `num_stable_steps`, or what the other two leave of `num_training_steps`; if that is less than
    nothing, so much of the decay is left out. Where both are given, the first counts. "1-sqrt" falls as the square root
    of the time, and rises as one minus the root of the time left. `num_cycles` is that of a decay of "cosine".

    >>> lr = get_wsd_schedule(1.0, 2, 4, num_training_steps=10, decay_type="linear")
    >>> [lr(step) for step in (0, 1, 2, 6, 8, 10, 11)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    >>> lr
    warmup_stable_decay(1.0, 2, 4, 4)
    """
    rate, cycles = above(lr, "lr", 0), above(num_cycles, "num_cycles", 0)
    low = rate * above(min_lr_ratio, "min_lr_ratio", 0)
    warm, fall = (
        whole(steps, what, zero=True)
        for steps, what in ((num_warmup_steps, "num_warmup_steps"), (num_decay_steps, "num_decay_steps"))
    )
    level = _level(warm + fall, num_training_steps, num_stable_steps)
    for kind, what in ((warmup_type, "warmup_type"), (decay_type, "decay_type")):
        one_of(kind, what, "linear", "cosine", "1-sqrt")
    one_way = decay_type != "cosine" or cycles == 0.5
    if one_way and warmup_type != "1-sqrt" and level >= 0:
        return warmup_stable_decay(rate, warm, level, fall, low, low, warmup_type, decay_type)
    stay = max(level, 0)
    if one_way:
        rest = warmup_stable_decay(rate, 0, stay, fall, end=low, decay=decay_type)
    else:
        rest = join([constant(rate), wave(rate, low, max(1, fall), cycles), constant(low)], [stay, stay + fall])
    rest = ahead(rest, -level) if level < 0 else rest
    return join([_RISES[warmup_type](low, rate, warm), rest], [warm]) if warm else rest


_RISES: Mapping[str, Callable[[float, float, int], Schedule]] = {
    "linear": linear,
    "cosine": lambda low, high, steps: cosine(low, steps, high),
    "1-sqrt": lambda low, high, steps: polynomial(low, high, steps, 0.5),
}


def _level(others: int, num_training_steps: Any, num_stable_steps: Any) -> int:
    if num_stable_steps is not None:
        return whole(num_stable_steps, "num_stable_steps", zero=True)
    if num_training_steps is None:
        raise ScheduleOptionError("One of num_training_steps and num_stable_steps is needed, got neither.")
    return whole(num_training_steps, "num_training_steps", zero=True) - others
