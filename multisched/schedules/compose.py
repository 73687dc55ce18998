"""Arithmetic of schedules: an operation of a schedule and a number, or of two schedules, is a schedule."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from multisched.arguments import Reader
from multisched.arrays import Array, FrozenArray, Namespace, Plain, beside, freeze, int_max, shape_of, thaw
from multisched.errors import ScheduleValueError, brief, shown
from multisched.schedules.numbers import python_numbers
from multisched.schedules.schedule import Schedule, float_dtype, schedule

__all__ = ["maximum", "minimum"]

F = TypeVar("F", bound=Callable[..., Any])

Operand = Any
"""A schedule, a real number, or an array of them."""


def _kept(operand: Operand, what: str) -> Schedule | Plain:
    return operand if isinstance(operand, Schedule) else freeze(operand, what, ScheduleValueError)


operand: Reader = Reader("operand", lambda value, name: _kept(value, "The operand"))
first: Reader = Reader("operand", lambda value, name: _kept(value, "The first operand"))
second: Reader = Reader("operand", lambda value, name: _kept(value, "The second operand"))


def _fit(x1: Schedule | Plain, x2: Schedule | Plain) -> None:
    if not isinstance(x1, Schedule) and not isinstance(x2, Schedule):
        raise ScheduleValueError(f"One of the operands must be a schedule, got {shown(x1)} and {shown(x2)}.")
    try:
        np.broadcast_shapes(shape_of(x1), shape_of(x2))
    except ValueError as cause:
        raise ScheduleValueError(
            f"The values of {brief(x1)} and {brief(x2)} have shapes that do not broadcast: {shape_of(x1)} and "
            f"{shape_of(x2)}."
        ) from cause


def _same(xp: Namespace, step: Array, **operands: Any) -> list[Array]:
    return [step] * len(operands)


def _values(xp: Namespace, step: Array, *operands: Any) -> list[Array]:
    """The operands at `step`, as arrays that broadcast: first the axes of the step, then those of one value."""
    if xp is python_numbers:
        return [_value(xp, step, operand, 0) for operand in operands]
    steps = len(step.shape)
    ndim = max(len(shape_of(o)) - steps * (not _is_plain(o)) for o in operands)
    return [_value(xp, step, operand, ndim) for operand in operands]


def _arrays(xp: Namespace, step: Array, *operands: Any) -> list[Array]:
    """The same for functions that take arrays alone: bare numbers become arrays."""
    dtype = float_dtype(xp, step)
    return [v if hasattr(v, "dtype") else beside(xp, v, dtype, step) for v in _values(xp, step, *operands)]


def _value(xp: Namespace, step: Array, operand: Any, ndim: int) -> Array:
    if isinstance(operand, int) and abs(operand) > int_max("int32"):  # some frameworks refuse it
        return float(operand)
    if _is_plain(operand):
        return thaw(xp, operand, float_dtype(xp, step), like=step)
    if xp is python_numbers:
        return operand
    steps = tuple(step.shape)
    shape = tuple(operand.shape)[len(steps) :]
    return operand if len(shape) == ndim else xp.reshape(operand, (*steps, *(1,) * (ndim - len(shape)), *shape))


def _is_plain(operand: Any) -> bool:
    """Whether this is a number or an array among the arguments, and not the value of a schedule."""
    return isinstance(operand, int | float | FrozenArray)


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["cosine(0.1, 10) + 0.5"])
def add(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) + x2(step)`, written `x1 + x2`."""
    a, b = _values(xp, step, x1, x2)
    return a + b


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["1 - cosine(1, 10)"])
def subtract(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) - x2(step)`, written `x1 - x2`."""
    a, b = _values(xp, step, x1, x2)
    return a - b


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["0.5 * cosine(0.1, 100)"])
def multiply(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) * x2(step)`, written `x1 * x2`."""
    a, b = _values(xp, step, x1, x2)
    return a * b


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["cosine(0.1, 10) / 4"])
def divide(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) / x2(step)`, written `x1 / x2`."""
    a, b = _values(xp, step, x1, x2)
    return a / b


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["constant(0.5) ** linear(0, 4, 4)"])
def pow(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step)` to the power of `x2(step)`, written `x1 ** x2`."""
    a, b = _values(xp, step, x1, x2)
    return a**b


@schedule(x=operand, clock=_same, examples=["-cosine(0.1, 10)"])
def negative(xp: Namespace, step: Array, x: Any) -> Array:
    """`-x(step)`, written `-x`."""
    return -_values(xp, step, x)[0]


def _in_data_as(name: str) -> Callable[[F], F]:
    """A decorator for a formula whose name is that of a builtin: it is printed and written under this name."""

    def rename(formula: F) -> F:
        formula.__name__ = name
        return formula

    return rename


@schedule(x=operand, clock=_same, examples=["abs(linear(-1, 1, 10))"])
@_in_data_as("abs")
def absolute(xp: Namespace, step: Array, x: Any) -> Array:
    """The absolute value of `x(step)`, written `abs(x)`."""
    return xp.abs(_values(xp, step, x)[0])


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["minimum(linear(0, 0.2, 40), cosine(0.1, 100))"])
def minimum(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """The smaller of two schedules, or of a schedule and a number, at each step.

        f(step) = min(x1(step), x2(step))

    Raises `ScheduleValueError` for an operand that is neither a schedule nor a real number or array, or whose shape
    does not broadcast.

    >>> import multisched as ms
    >>> lr = ms.minimum(ms.piecewise_constant(0.1, {4: 1, 8: 2}), 1.5)
    >>> lr(0), lr(4), lr(8)
    (0.1, 1.0, 1.5)
    >>> lr
    minimum(piecewise_constant(0.1, {4: 1, 8: 2}), 1.5)
    """
    return xp.minimum(*_arrays(xp, step, x1, x2))


@schedule(_fit, x1=first, x2=second, clock=_same, examples=["maximum(exponential(0.1, 0.5, 10), 0.02)"])
def maximum(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """The larger of two schedules, or of a schedule and a number, at each step.

        f(step) = max(x1(step), x2(step))

    Raises `ScheduleValueError` for an operand that is neither a schedule nor a real number or array, or whose shape
    does not broadcast.

    >>> import multisched as ms
    >>> lr = ms.maximum(0.5, ms.piecewise_constant(0.1, {4: 1, 8: 2}))
    >>> lr(0), lr(4), lr(8)
    (0.5, 1.0, 2.0)
    """
    return xp.maximum(*_arrays(xp, step, x1, x2))
