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
from collections.abc import Sequence
from itertools import pairwise

from multisched.averages.plateau import Plateau
from multisched.dialects.timm_cycles import CosineLRScheduler, PolyLRScheduler, TanhLRScheduler
from multisched.dialects.timm_parts import warmed, without_effect
from multisched.dialects.timm_stable import WSDLRScheduler
from multisched.dialects.torch import ReduceLROnPlateau
from multisched.dialects.torch_cycles import count
from multisched.errors import ScheduleOptionError, ScheduleValueError, StepCountError, shown
from multisched.schedules.decay import exponential
from multisched.schedules.parts import above, length, real
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.schedule import Schedule
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
    without_effect(t_in_epochs, initialize, noise_range_t)
    rate, steps = real(lr, "lr"), length(decay_t, "decay_t", zero=False)
    if above(decay_rate, "decay_rate", 0) == 0:  # whose power of 0 is 1
        rule = piecewise_constant(rate, {math.ceil(steps): 0.0})
    else:
        rule = exponential(rate, decay_rate, steps, staircase=True)  # type: ignore[arg-type]
    return warmed(rule, rate, warmup_t, warmup_lr_init, warmup_prefix)


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
    without_effect(t_in_epochs, initialize, noise_range_t)
    if not isinstance(decay_t, Sequence) or isinstance(decay_t, str):
        raise ScheduleValueError(f"decay_t must be a list of steps, got {shown(decay_t)}.")
    milestones = [count(step, f"Step {i} of decay_t") for i, step in enumerate(decay_t)]
    if any(later < earlier for earlier, later in pairwise(milestones)):
        raise StepCountError(f"The steps of decay_t must not decrease, got {list(decay_t)}.")
    counts = Counter(max(step - 1, 0) for step in milestones)
    rate, factor = real(lr, "lr"), real(decay_rate, "decay_rate")
    rule = piecewise_scale(rate, {step: factor**times for step, times in counts.items()})
    return warmed(rule, rate, warmup_t, warmup_lr_init, warmup_prefix)


def PlateauLRScheduler(
    lr: float,
    decay_rate: float = 0.1,
    patience_t: int = 10,
    threshold: float = 1e-4,
    cooldown_t: int = 0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    lr_min: float = 0.0,
    mode: str = "max",
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
    without_effect(True, initialize, noise_range_t)
    if count(warmup_t, "warmup_t") > 0:
        raise ScheduleOptionError(
            "warmup_t must be 0: the rule of a metric begins with the first metric. "
            f"Let a schedule drive the first updates, and the rule those after, got {warmup_t!r}."
        )
    real(warmup_lr_init, "warmup_lr_init")
    return ReduceLROnPlateau(lr, mode, decay_rate, patience_t, threshold, cooldown=cooldown_t, min_lr=lr_min)
