"""Schedules that approach 1: decays of averages, which are small while there are few values to average."""

from typing import Any

from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleValueError
from multisched.schedules.clock import elapsed
from multisched.schedules.readers import non_negative, positive
from multisched.schedules.schedule import schedule

__all__ = ["decay_warmup"]


def _in_order(low: float, high: float, **_: Any) -> None:
    if not low <= high <= 1:
        raise ScheduleValueError(f"low and high must be decays, 0 <= low <= high <= 1, got {low!r} and {high!r}.")


@schedule(
    _in_order,
    inv_gamma=positive,
    power=positive,
    low=non_negative,
    high=non_negative,
    examples=["decay_warmup(high=0.99)", "decay_warmup(2, 0.75, low=0.3, high=0.9)"],
)
def decay_warmup(
    xp: Namespace, step: Array, inv_gamma: float = 1, power: float = 2 / 3, low: float = 0, high: float = 0.9999
) -> Array:
    """A decay that grows with the number of updates, for `ema`.

        f(step) = clip(1 - (1 + step / inv_gamma) ** -power, low, high)

    With a power of 1 and an `inv_gamma` of 1, the average is the mean of all values until the decay reaches `high`.
    With a power of 2 / 3, the decay reaches 0.999 at step 31,600 and 0.9999 at step one million; with a power of 3 / 4,
    it reaches them at steps 10,000 and 215,000.

    Parameters
    ----------
    inv_gamma:
        The scale of the time, in updates; more than 0.
    power:
        How fast the memory of the average grows; more than 0.
    low, high:
        The smallest and the largest decay, in [0, 1].

    Raises `ScheduleValueError`.

    Source: the warm-up of `timm.utils.ModelEmaV3`, `diffusers.training_utils.EMAModel` and `ema_pytorch.EMA`.

    >>> alpha = decay_warmup(power=1, high=0.9)
    >>> [alpha(step) for step in (0, 1, 3, 1000)]
    [0.0, 0.5, 0.75, 0.9]
    """
    late = elapsed(xp, step, 0) / float(inv_gamma)
    decay = -xp.expm1(-float(power) * xp.log1p(late))
    decay = xp.where(decay < low, float(low), decay)
    return xp.where(decay > high, float(high), decay)
