"""Schedules that jump from one value to the next at given steps."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from multisched.arguments import Reader, reader
from multisched.arrays import (
    Array,
    Namespace,
    Plain,
    as_real,
    beside,
    freeze,
    shape_of,
)
from multisched.errors import ScheduleValueError, StepKeyError, StepKeyTypeError, brief, shown
from multisched.schedules.clock import reached
from multisched.schedules.edges import keys
from multisched.schedules.numbers import python_numbers
from multisched.schedules.readers import LAST_STEP
from multisched.schedules.schedule import float_dtype, largest_step, schedule

__all__ = ["piecewise_constant"]


class Steps(tuple[tuple[int, Plain], ...]):
    """`{step: value}` as plain data: pairs in the order of their steps, printed as the dict that builds them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{step}: {value!r}" for step, value in self) + "}"


_WRITTEN = re.compile(r"-?(?:0|[1-9][0-9]{0,308})", re.ASCII)


def _checked_key(key: Any, what: str) -> int:
    number = int(key) if isinstance(key, str) and _WRITTEN.fullmatch(key) else as_real(key)
    if number is not None and number != number:
        raise StepKeyError(f"Keys of {what} are steps, non-negative integers, got {shown(key)}.")
    if type(number) is not int:
        raise StepKeyTypeError(f"Keys of {what} are steps, non-negative integers, got {shown(key)}.")
    if number < 0:
        raise StepKeyError(f"Keys of {what} are steps, counted from 0, got the negative key {brief(number)}.")
    if number > LAST_STEP:
        raise StepKeyError(f"Keys of {what} are steps, of at most 1.8e308, got {shown(key)}.")
    return number


def checked_steps(steps_and_values: Any, what: str) -> list[tuple[int, Any]]:
    """The pairs of a dict whose keys are steps, in their order. Keys may be strings of digits, as JSON has them."""
    if isinstance(steps_and_values, Steps):  # from a pickle
        steps_and_values = dict(steps_and_values)
    if not isinstance(steps_and_values, Mapping):
        raise ScheduleValueError(f"{what} is a dict {{step: value}}, got {shown(steps_and_values)}.")
    steps: dict[int, Any] = {}
    for key in steps_and_values:
        step = _checked_key(key, what)
        if step in steps:
            raise StepKeyError(f"{what} has the step {brief(step)} twice, once as {shown(key)}.")
        steps[step] = steps_and_values[key]
    return sorted(steps.items(), key=lambda pair: pair[0])


def steps_of(value: Reader) -> Reader:
    """A dict `{step: value}` whose values are read by this reader."""

    def check(given: Any, name: str) -> Steps:
        pairs = checked_steps(given, name)
        return Steps((step, value(each, f"The value at step {step}")) for step, each in pairs)

    return Reader("steps", check)


@reader("array")
def real_array(value: Any, name: str) -> Plain:
    """A real number or an array of them, as plain data."""
    return freeze(value, name, ScheduleValueError)


def _one_shape(init: Plain, steps_and_values: Steps) -> None:
    for key, value in steps_and_values:
        if shape_of(value) != shape_of(init):
            raise ScheduleValueError(
                f"All values of a schedule have one shape: init has {shape_of(init)}, "
                f"the value at step {key!r} has {shape_of(value)}."
            )


@schedule(
    _one_shape,
    init=real_array,
    steps_and_values=steps_of(real_array),
    edges=keys("steps_and_values"),
    examples=[
        "piecewise_constant(0.1, {40: 0.05, 80: 0.01})",
        "piecewise_constant(1, {})",
        "piecewise_constant([0, 1], {0: [1, 2], 5: [3, 4]})",
    ],
)
def piecewise_constant(xp: Namespace, step: Array, init: Any, steps_and_values: Any) -> Array:
    """The value `init` before the first key, and from each key on the value of that key.

        f(step) = steps_and_values[k] for the largest key k <= step;  init before the first key

    Parameters
    ----------
    init:
        The value before the first key: a real number, or an array of them.
    steps_and_values:
        `{step: value}`. A key is a step, a non-negative integer, or a string of digits, as in JSON; the order does not
        matter. The new value holds *at* its key. Values have the shape of `init`. If the dict is empty, the schedule is
        constant.

    Raises
    ------
    StepKeyError:
        A key is negative, NaN, or given twice, as 4 and "4". `StepKeyTypeError` if it is a bool, a float or not a
        number.
    ScheduleValueError:
        A value is not a real number, or the shapes differ.

    Source: `symjax.nn.schedules.PiecewiseConstant`.

    >>> lr = piecewise_constant(0.1, {4: 1, 8: 2})
    >>> [lr(step) for step in (0, 3, 4, 7, 8, 1000)]
    [0.1, 0.1, 1.0, 1.0, 2.0, 2.0]
    >>> import numpy as np
    >>> lr(np.arange(6))
    array([0.1, 0.1, 0.1, 0.1, 1. , 1. ], dtype=float32)
    >>> lr
    piecewise_constant(0.1, {4: 1, 8: 2})
    """
    if steps_and_values and steps_and_values[0][0] == 0:  # a value from step 0 on also holds before 0
        init, steps_and_values = steps_and_values[0][1], Steps(steps_and_values[1:])
    if xp is python_numbers and len(steps_and_values) > _FEW:
        return xp.call(_found([float(init), *(float(v) for _, v in steps_and_values)], steps_and_values), step)
    steps = [(key, value) for key, value in steps_and_values if key <= largest_step(step)]
    dtype, shape = float_dtype(xp, step), shape_of(init)
    values = [beside(xp, value, dtype, like=step) for value in (init, *(value for _, value in steps))]
    if shape:
        result = xp.broadcast_to(values[0], tuple(step.shape) + shape)
        step = xp.reshape(step, tuple(step.shape) + (1,) * len(shape))
    else:
        result = values[0] if steps else xp.full_like(step, init, dtype=dtype)
    for (key, _), value in zip(steps, values[1:], strict=True):
        result = xp.where(reached(xp, step, key), value, result)
    return result


_FEW = 4  # with so few keys, comparing with each is faster than a search


def _found(values: list[float], steps_and_values: Steps) -> Callable[[float], float]:
    keys = [key for key, _ in steps_and_values]
    return lambda step: values[bisect_right(keys, step)]
