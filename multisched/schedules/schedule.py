"""The one class of schedules, and the decorator that makes a constructor from a formula.

A schedule should read as its formula. Everything that is not the formula is here: checking and keeping the arguments,
calling with numbers or arrays, arithmetic, `repr`, equality, hashing and pickling.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, overload

import numpy as np

from multisched.arrays import (
    BITS,
    Array,
    FrozenArray,
    Namespace,
    dtype_name,
    int_max,
    kind_of,
    namespace_of,
)
from multisched.errors import ScheduleStepError, shown
from multisched.schedules.numbers import OnNumber, on_numbers, python_numbers

P = ParamSpec("P")
Formula = Callable[..., Any]

operations: dict[str, Callable[..., "Schedule"]] = {}
"""The constructors of sums, products and the like, by the names of the array API; `compose` fills it."""

infix: dict[Formula, Callable[..., tuple[str, int]]] = {}
"""How `repr` writes them, and how tightly that binds; `compose` fills it."""

methods: dict[str, Callable[..., Any]] = {}
"""What schedules do that stands in files of its own, by the name of the method; `config` and `plot` fill it."""


def _operator(name: str, *, reflected: bool = False) -> Callable[[Any, Any], "Schedule"]:
    def method(self: "Schedule", other: Any) -> Any:
        if not isinstance(other, Schedule | int | float | np.generic | np.ndarray | list | tuple):
            return NotImplemented
        return operations[name](*((other, self) if reflected else (self, other)))

    return method


class Schedule:
    """A pure function of the number of updates that have happened: `lr(step)`.

    Made by the constructors of `multisched.schedules`, such as `piecewise_constant`, and by arithmetic on schedules and
    numbers: `+ - * / **`, `abs`, `ms.minimum`, `ms.maximum`. It is plain data: hashable, picklable, equal by value, and
    `repr` is the expression that builds it.

    `lr(step)` takes

    - a Python number, and gives a float, computed in double precision (a NumPy array where the schedule's values are
      arrays);
    - an array or tracer of any framework, and gives one of that framework, elementwise, of shape
      `step.shape + value_shape`, in float32 for integer steps and in the dtype of floating ones;
    - a declared tensor, and gives a declared tensor.

    So it serves where a framework wants a function of the step: `optax.sgd(learning_rate=lr)`,
    `torch.optim.lr_scheduler.LambdaLR(optimizer, lr)`.

    Raises `ScheduleStepError` for a step that is a bool, a string or complex.
    """

    # An instance dict, always empty: LambdaLR puts it into its own state, and loads it again.
    __slots__ = ("__dict__", "__weakref__", "_arguments", "_formula", "_on_number", "_shape", "_size")
    __array_ufunc__ = None  # NumPy arrays leave binary operators to us

    def __init__(self, formula: Formula, arguments: dict[str, Any]):
        self._formula = formula
        self._arguments = arguments
        parts = [v.shape for v in arguments.values() if isinstance(v, FrozenArray | Schedule)]
        self._shape = np.broadcast_shapes(*parts)  # kept: of a deep composition it would be asked for at every level
        self._size: int = 1 + sum(map(_size_of, arguments.values()))
        # A small one is compiled now, since a compiler that traces it could not; a large one when it is first called:
        # of a deep composition every part would be, too, which takes the square of its size.
        small = not self._shape and self._size <= _SMALL
        self._on_number: OnNumber | None = on_numbers(formula, arguments) if small else None

    @property
    def name(self) -> str:
        """The name of the constructor: `"piecewise_constant"`."""
        return self._formula.__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value: `()` unless the schedule was given arrays."""
        return self._shape

    @overload
    def __call__(self, step: int | float) -> Any: ...
    @overload
    def __call__(self, step: Array) -> Array: ...
    def __call__(self, step: Array) -> Array:
        if type(step) is int and self._on_number is not None:
            return self._on_number(step)
        if type(step) is float and self._on_number is not None:
            return self._on_number(step)
        if type(step) in (int, float) and not self._shape:
            self._on_number = on_numbers(self._formula, self._arguments)
            return self._on_number(step)
        step = _checked_step(step)
        return self._formula(namespace_of(step), step, **self._arguments)

    __add__, __radd__ = _operator("add"), _operator("add", reflected=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", reflected=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", reflected=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", reflected=True)
    __pow__, __rpow__ = _operator("pow"), _operator("pow", reflected=True)

    def __neg__(self) -> "Schedule":
        return operations["negative"](self)

    def __abs__(self) -> "Schedule":
        return operations["abs"](self)

    def to_config(self) -> dict[str, Any]:
        """The schedule as a document for JSON, YAML or TOML, from which `ms.from_config` builds an equal one.

        Raises `ConfigError` where a part is a function, a schedule of one's own, or a number that is not finite.

        >>> import multisched as ms
        >>> (2 * ms.constant(0.1)).to_config()
        {'name': 'multiply', 'x1': 2, 'x2': {'name': 'constant', 'value': 0.1}}
        """
        config: dict[str, Any] = methods["to_config"](self)
        return config

    def plot(self, steps: int, ax: Any = None) -> Any:
        """Draw the schedule over its first steps, with matplotlib, of the extra `plot`.

            the points (k, self(k)) for k in range(steps), joined by lines; a dot at each boundary

        Of more than 2,000 points some are left out between boundaries, which are there with the steps before them.

            axes = lr.plot(1000)
            other.plot(1000, ax=axes).figure.savefig("both.png")

        Parameters
        ----------
        steps:
            How many steps to show, in updates from step 0 on; at least 1.
        ax:
            The matplotlib axes to draw on, for several schedules in one picture; by default those of a new figure,
            which pyplot does not know of.

        Returns the axes. Raises `StepCountError` for another number of steps, `ScheduleValueError` for a schedule of
        arrays, and `ImportError`, with the command that installs it, without matplotlib.

        >>> import multisched as ms
        >>> ms.cosine(0.1, 1000).plot(0)
        Traceback (most recent call last):
        multisched.errors.StepCountError: steps must be a number of steps to show, from 1 to 2**53, got 0 of type int.
        """
        return methods["plot"]([self], steps, ax)

    def _key(self) -> tuple[Any, ...]:
        return self._formula, tuple(self._arguments.items())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        if self._formula in infix:
            return infix[self._formula](**self._arguments)[0]
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


_SMALL = 20  # schedules and steps


def _size_of(argument: Any) -> int:
    """How many schedules and steps are in an argument."""
    if isinstance(argument, Schedule):
        return argument._size
    if isinstance(argument, tuple):
        return len(argument) + sum(part._size for part in argument if isinstance(part, Schedule))
    return 0


def _rebuild(module: str, name: str, arguments: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(module), name)(**arguments)


def _parameters(formula: Formula) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(formula).parameters.items())[2:])


def _checked_step(step: Array) -> Array:
    """`step` as an array that can count updates."""
    if type(step) in (int, float):  # an array-valued schedule at a bare number: the host's arrays
        largest = int_max("int64")
        return np.asarray(max(-largest, min(step, largest)) if type(step) is int else step)
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

    >>> @schedule(lambda start, rate: {"start": float(start), "rate": float(rate)})
    ... def hyperbola(xp, step, start, rate):
    ...     return start / (1 + rate * step)
    >>> lr = hyperbola(1, 0.5)
    >>> lr, lr(0), lr(2)
    (hyperbola(1.0, 0.5), 1.0, 0.5)
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
    if xp is python_numbers:
        return xp.float64
    return step.dtype if kind_of(dtype_name(step.dtype)) == "float" else xp.float32


def largest_step(step: Array) -> float:
    """The largest number that steps of this dtype can reach: later boundaries would only overflow it."""
    dtype = dtype_name(getattr(step, "dtype", "float64"))
    if kind_of(dtype) != "float":
        return int_max(dtype)
    return {"float16": 65504.0, "float64": 2.0**1023}.get(dtype, 2.0**127)
