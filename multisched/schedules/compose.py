"""Arithmetic of schedules: a schedule and a number, or two schedules, make a schedule."""

from collections.abc import Callable
from typing import Any

import numpy as np

from multisched.arrays import Array, Namespace, Plain, beside, freeze, int_max, shape_of, thaw
from multisched.errors import ScheduleValueError, shown
from multisched.schedules.schedule import Schedule, float_dtype, infix, operations, schedule

Operand = Any
"""A schedule, a real number, or an array of them."""


def _kept(operand: Operand, what: str) -> Schedule | Plain:
    return operand if isinstance(operand, Schedule) else freeze(operand, what, ScheduleValueError)


def _one(x: Operand) -> dict[str, Any]:
    return {"x": _kept(x, "The operand")}


def _two(x1: Operand, x2: Operand) -> dict[str, Any]:
    if not isinstance(x1, Schedule) and not isinstance(x2, Schedule):
        raise ScheduleValueError(f"One of the operands must be a schedule, got {shown(x1)} and {shown(x2)}.")
    first, second = _kept(x1, "The first operand"), _kept(x2, "The second operand")
    try:
        np.broadcast_shapes(shape_of(first), shape_of(second))
    except ValueError as cause:
        raise ScheduleValueError(
            f"The values of {first!r} and {second!r} have shapes that do not broadcast: {shape_of(first)} and "
            f"{shape_of(second)}."
        ) from cause
    return {"x1": first, "x2": second}


def _values(xp: Namespace, step: Array, *operands: Schedule | Plain) -> list[Array]:
    """The operands at `step`, as arrays that broadcast: axes of the step first, those of one value last."""
    ndim = max(len(shape_of(operand)) for operand in operands)
    return [_value(xp, step, operand, ndim) for operand in operands]


def _arrays(xp: Namespace, step: Array, *operands: Schedule | Plain) -> list[Array]:
    """The same for functions that take no bare numbers."""
    dtype = float_dtype(xp, step)
    return [v if hasattr(v, "dtype") else beside(xp, v, dtype, step) for v in _values(xp, step, *operands)]


def _value(xp: Namespace, step: Array, operand: Schedule | Plain, ndim: int) -> Array:
    if isinstance(operand, int) and abs(operand) > int_max("int32"):  # which a bare integer cannot be everywhere
        return float(operand)
    if not isinstance(operand, Schedule):
        return thaw(xp, operand, float_dtype(xp, step), like=step)
    value = operand._formula(xp, step, **operand._arguments)
    missing = ndim - len(operand.shape)
    if not missing:
        return value
    steps = tuple(step.shape)
    return xp.reshape(value, (*steps, *(1,) * missing, *tuple(value.shape)[len(steps) :]))


@schedule(_two)
def add(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) + x2(step)`, written `x1 + x2`."""
    a, b = _values(xp, step, x1, x2)
    return a + b


@schedule(_two)
def subtract(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) - x2(step)`, written `x1 - x2`."""
    a, b = _values(xp, step, x1, x2)
    return a - b


@schedule(_two)
def multiply(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) * x2(step)`, written `x1 * x2`."""
    a, b = _values(xp, step, x1, x2)
    return a * b


@schedule(_two)
def divide(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step) / x2(step)`, written `x1 / x2`."""
    a, b = _values(xp, step, x1, x2)
    return a / b


@schedule(_two)
def pow(xp: Namespace, step: Array, x1: Any, x2: Any) -> Array:
    """`x1(step)` to the power of `x2(step)`, written `x1 ** x2`."""
    a, b = _values(xp, step, x1, x2)
    return a**b


@schedule(_one)
def negative(xp: Namespace, step: Array, x: Any) -> Array:
    """`-x(step)`, written `-x`."""
    return -_values(xp, step, x)[0]


@schedule(_one)
def absolute(xp: Namespace, step: Array, x: Any) -> Array:
    """The absolute value of `x(step)`, written `abs(x)`."""
    return xp.abs(_values(xp, step, x)[0])


@schedule(_two)
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


@schedule(_two)
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


operations.update(add=add, subtract=subtract, multiply=multiply, divide=divide, pow=pow)
operations.update(negative=negative, abs=absolute)


# --- repr: the expression that builds it, with no more parentheses than it needs -------------------------------------
_ATOM, _POWER, _NEGATIVE, _PRODUCT, _SUM = 4, 3, 2, 1, 0
_SIGNS = {  # the sign, how tightly it binds, and how tightly its operands must
    add: ("+", _SUM, _SUM, _PRODUCT),
    subtract: ("-", _SUM, _SUM, _PRODUCT),
    multiply: ("*", _PRODUCT, _PRODUCT, _NEGATIVE),
    divide: ("/", _PRODUCT, _PRODUCT, _NEGATIVE),
    pow: ("**", _POWER, _ATOM, _NEGATIVE),
}


def _shown(operand: Any, binds: int) -> str:
    if isinstance(operand, Schedule) and operand._formula in infix:
        text, tightly = infix[operand._formula](**operand._arguments)
    else:
        text = repr(operand)
        tightly = _NEGATIVE if text.startswith("-") else _ATOM
    return f"({text})" if tightly < binds else text


def _writes(sign: str, binds: int, left: int, right: int) -> Callable[..., tuple[str, int]]:
    return lambda x1, x2: (f"{_shown(x1, left)} {sign} {_shown(x2, right)}", binds)


infix.update({constructor.__wrapped__: _writes(*sign) for constructor, sign in _SIGNS.items()})  # type: ignore[attr-defined]
infix[negative.__wrapped__] = lambda x: (f"-{_shown(x, _NEGATIVE)}", _NEGATIVE)  # type: ignore[attr-defined]
infix[absolute.__wrapped__] = lambda x: (f"abs({x!r})", _ATOM)  # type: ignore[attr-defined]
