"""Schedules through given points: factors at steps, and lines or half waves between values at steps."""

from typing import Any

from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleValueError
from multisched.schedules.curves import CURVES, through
from multisched.schedules.edges import keys
from multisched.schedules.piecewise import Steps, piecewise_constant, steps_of
from multisched.schedules.readers import one_of, real
from multisched.schedules.schedule import schedule

__all__ = ["piecewise_interpolate", "piecewise_scale"]


@schedule(
    init=real,
    steps_and_scales=steps_of(real),
    edges=keys("steps_and_scales"),
    examples=["piecewise_scale(0.1, {40: 0.5, 80: 0.2})"],
)
def piecewise_scale(xp: Namespace, step: Array, init: float, steps_and_scales: Any) -> Array:
    """The value `init`, multiplied by a factor at each key.

        f(step) = init * product of steps_and_scales[k] over all keys k <= step

    Parameters
    ----------
    init:
        The value before the first key.
    steps_and_scales:
        `{step: factor}`. Keys are non-negative integers, in any order; a factor applies *at* its key. If the dict is
        empty, the schedule is constant.

    Raises `StepKeyError`, `StepKeyTypeError` and `ScheduleValueError`.

    Sources: `optax.piecewise_constant_schedule`, `torch.optim.lr_scheduler.MultiStepLR`.

    >>> lr = piecewise_scale(1.0, {4: 0.5, 8: 0.5})
    >>> [lr(step) for step in (0, 3, 4, 7, 8, 100)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    values, value = [], init
    for key, scale in steps_and_scales:
        value = value * scale
        values.append((key, value))
    return piecewise_constant.__wrapped__(xp, step, init, Steps(values))  # type: ignore[attr-defined]  # by `schedule`


def _at_least_one(steps_and_values: Steps, **_: Any) -> None:
    if not steps_and_values:
        raise ScheduleValueError("steps_and_values must have at least one step to go through, got none.")


@schedule(
    _at_least_one,
    steps_and_values=steps_of(real),
    kind=one_of("linear", "cosine"),
    edges=keys("steps_and_values"),
    examples=[
        "piecewise_interpolate({0: 0, 20: 0.1, 60: 0.02, 100: 0.05})",
        "piecewise_interpolate({3: 1, 8: 0}, kind='cosine')",
    ],
)
def piecewise_interpolate(xp: Namespace, step: Array, steps_and_values: Any, kind: str = "linear") -> Array:
    """Given values at given steps, connected by lines or half waves.

        f(k) = steps_and_values[k];  between two keys along the curve;  level before the first and after the last

    Parameters
    ----------
    steps_and_values:
        `{step: value}`, with at least one key. Keys are non-negative integers, in any order; values are real numbers.
    kind:
        "linear" for lines, or "cosine" for half waves, which are level at each key.

    Raises `StepKeyError`, `StepKeyTypeError`, `ScheduleValueError` and `ScheduleOptionError`.

    Source: `optax.piecewise_interpolate_schedule`, which takes factors instead of values.

    >>> lr = piecewise_interpolate({0: 0.0, 4: 1.0, 6: 0.0})
    >>> [lr(step) for step in (0, 2, 4, 5, 6, 7)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    return through(xp, step, steps_and_values, CURVES[kind])
