"""The one class of schedules, and the decorator that makes a constructor from a formula.

A schedule should read as its formula. Everything that is not the formula is here: checking and keeping the arguments,
calling with numbers or arrays, `repr`, equality, hashing and pickling.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from multisched.arrays import (
    BITS,
    Array,
    FrozenArray,
    Namespace,
    dtype_name,
    int_max,
    kind_of,
    namespace_of,
    python_numbers,
    shape_of,
)
from multisched.errors import ScheduleStepError, shown

P = ParamSpec("P")
Formula = Callable[..., Any]


class Schedule:
    """A pure function of the number of updates that have happened: `lr(step)`.

    Made by the constructors of `multisched.schedules`, such as `piecewise_constant`. It is plain data: hashable,
    picklable, equal by value, and `repr` is the expression that builds it.

    `lr(step)` takes

    - a Python int, and gives a float (a NumPy array where the schedule's values are arrays);
    - an array or tracer of any framework, and gives one of that framework, elementwise, of shape
      `step.shape + value_shape`, in float32 for integer steps and in the dtype of floating ones;
    - a declared tensor, and gives a declared tensor.

    Raises `ScheduleStepError` for a step that is a bool, a string or complex.
    """

    __slots__ = ("__weakref__", "_arguments", "_formula")

    def __init__(self, formula: Formula, arguments: dict[str, Any]):
        self._formula = formula
        self._arguments = arguments

    @property
    def name(self) -> str:
        """The name of the constructor: `"piecewise_constant"`."""
        return self._formula.__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value: `()` unless the schedule was given arrays."""
        return next((shape_of(v) for v in self._arguments.values() if isinstance(v, FrozenArray)), ())

    def __call__(self, step: Array) -> Array:
        if type(step) is int and not self.shape:
            return float(self._formula(python_numbers, step, **self._arguments))
        step = _checked_step(step, self.shape)
        xp = namespace_of(step)
        if xp is python_numbers:
            return float(self._formula(xp, step, **self._arguments))
        return self._formula(xp, step, **self._arguments)

    def _key(self) -> tuple[Any, ...]:
        return self._formula, tuple(self._arguments.items())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        given = []
        for name, parameter in _parameters(self._formula).items():
            value = self._arguments[name]
            if parameter.default is inspect.Parameter.empty:
                given.append(repr(value))
            elif value != parameter.default:
                given.append(f"{name}={value!r}")
        return f"{self.name}({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._formula.__module__, self._formula.__qualname__, self._arguments)


def _rebuild(module: str, name: str, arguments: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(module), name)(**arguments)


def _parameters(formula: Formula) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(formula).parameters.items())[2:])


def _checked_step(step: Array, shape: tuple[int, ...]) -> Array:
    """`step` as a number or array that can count updates."""
    if type(step) in (int, float):
        import numpy as np  # an array-valued schedule at a bare number: the host's arrays

        return np.asarray(step) if shape else step
    dtype = dtype_name(getattr(step, "dtype", type(step)))
    if dtype not in BITS or kind_of(dtype) not in ("int", "uint", "float"):
        raise ScheduleStepError(
            f"A schedule is a function of a step: an integer or real number, or an array of them, got {shown(step)}."
        )
    return step


def schedule(
    check: Callable[..., dict[str, Any]],
) -> Callable[[Callable[Concatenate[Namespace, Array, P], Array]], Callable[P, Schedule]]:
    """Turn `formula(xp, step, *parameters)` into the constructor `formula(*parameters) -> Schedule`.

    `check` takes the same parameters, raises for those that define no schedule, and returns them as plain data.
    """

    def decorate(formula: Callable[Concatenate[Namespace, Array, P], Array]) -> Callable[P, Schedule]:
        signature = inspect.Signature(list(_parameters(formula).values()), return_annotation=Schedule)

        @wraps(formula)
        def constructor(*args: P.args, **kwargs: P.kwargs) -> Schedule:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return Schedule(formula, check(**bound.arguments))

        constructor.__signature__ = signature  # type: ignore[attr-defined]
        constructor.__annotations__ = {"return": Schedule}
        return constructor

    return decorate


def float_dtype(xp: Namespace, step: Array) -> Any:
    """The dtype of a schedule's values at `step`: float32 for integer steps, that of the steps otherwise."""
    return step.dtype if kind_of(dtype_name(step.dtype)) == "float" else xp.float32


def largest_step(step: Array) -> float:
    """The largest number that steps of this dtype can reach: later boundaries would only overflow it."""
    dtype = dtype_name(step.dtype)
    return math.inf if kind_of(dtype) == "float" else int_max(dtype)
