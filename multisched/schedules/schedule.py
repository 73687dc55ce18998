"""The one class of schedules, and the decorator that makes a constructor from a formula.

A schedule should read as its formula. Everything else is here: keeping the arguments, calls with numbers or arrays,
arithmetic, `repr`, equality, hashing and pickling.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, overload

import numpy as np

from multisched.arguments import Reader, bound, constructor_of, read_all
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
from multisched.errors import ArgumentError, RuleError, ScheduleStepError, shown
from multisched.schedules.nested import value_of, walk
from multisched.schedules.numbers import OnNumber, on_numbers, python_numbers

P = ParamSpec("P")
Formula = Callable[..., Any]

Clock = Callable[..., list[Array]]
"""`clock(xp, step, **arguments)`: the steps at which a formula needs the values of the schedules in its arguments."""

Edges = Callable[[dict[str, Any], float], Any]
"""`edges(arguments, until)`: a list of steps, or a generator that yields `(schedule, until)` for those of a part, is
sent them, and returns the list."""


_OPERANDS = (int, float, Fraction, Decimal, np.generic, np.ndarray, list, tuple)  # and no framework's arrays


_Operator = Callable[[Any, Any], "Schedule"]


def _operator(name: str, *, reflected: bool = False) -> _Operator:
    def method(self: "Schedule", other: Any) -> Any:
        if not isinstance(other, (Schedule, *_OPERANDS)):
            return NotImplemented
        return _operation(name)(*((other, self) if reflected else (self, other)))

    return method


def _operation(name: str) -> Callable[..., "Schedule"]:
    from multisched.schedules import compose  # which is written with the decorator below

    operation: Callable[..., Schedule] = getattr(compose, name)
    return operation


class Schedule:
    """A pure function of the number of updates that have happened: `lr(step)`.

    The constructors of `multisched.schedules`, such as `piecewise_constant`, make schedules, and so does arithmetic on
    schedules and numbers: `+ - * / **`, `abs`, `ms.minimum`, `ms.maximum`. A schedule is plain data: it is hashable and
    picklable, compares by value, and prints as the expression that builds it.

    The result of `lr(step)` depends on the step:

    - For a Python number, it is a float, computed in double precision. If the values of the schedule are arrays, it is
      a NumPy array.
    - For an array or tracer, it is one of the same framework, of shape `step.shape + value_shape`. It has the dtype
      float32 for integer steps, and the dtype of the steps for floating ones.
    - For a declared tensor, it is a declared tensor.

    So you can pass a schedule where a framework takes a function of the step: `optax.sgd(learning_rate=lr)`,
    `torch.optim.lr_scheduler.LambdaLR(optimizer, lr)`.

    Integer steps of any dtype, signed or unsigned, count exactly up to the largest number of the dtype, wherever the
    boundaries of the schedule are. A schedule that ends at a value has exactly this value from its end on, also inside
    compilers. Between its ends it does not leave the interval of its values.

    Steps below 0 have the value at 0. If the step is NaN, so is the value. At an infinite step, the value is the one at
    the end, or, for a schedule without an end that repeats, the one at the beginning of a period.

    Raises `ScheduleStepError` if the step is a bool, a string or a complex number.
    """

    # The instance dict is always empty. LambdaLR saves it in its own state, and loads it again.
    __slots__ = (
        *("__dict__", "__weakref__", "_arguments", "_clock", "_depth", "_edges", "_formula"),
        *("_hash", "_on_number", "_parts", "_places", "_shape", "_size"),
    )
    __array_ufunc__ = None  # NumPy arrays leave binary operators to us

    def __init__(
        self, formula: Formula, arguments: dict[str, Any], clock: Clock | None = None, edges: Edges | None = None
    ):
        self._formula = formula
        self._arguments = arguments
        self._clock = clock
        self._edges = edges
        self._hash: int | None = None
        # These are kept, because a deep composition asks for them at every level.
        self._places = tuple(_places(arguments))
        self._parts: tuple[Schedule, ...] = tuple(_parts(arguments))
        self._depth: int = 1 + max((part._depth for part in self._parts), default=0)
        self._size: int = 1 + sum(part._size for part in self._parts) + sum(map(_length, arguments.values()))
        shapes = [v.shape for v in arguments.values() if isinstance(v, FrozenArray | Schedule)]
        self._shape = np.broadcast_shapes(*shapes)
        # A small schedule is compiled now, because torch.compile cannot trace the compilation. A large one is compiled
        # at its first call: compiling every part of a deep composition would take the square of its size.
        small = not self._shape and self._size <= _SMALL
        self._on_number: OnNumber | None = self._compiled() if small else None

    @property
    def name(self) -> str:
        """The name of the constructor: `"piecewise_constant"`."""
        return self._formula.__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value: `()` unless the schedule was given arrays."""
        return self._shape

    @overload
    def __call__(self, step: int | float) -> float: ...
    @overload
    def __call__(self, step: Array) -> Array: ...
    def __call__(self, step: Array) -> Array:
        if type(step) is int and self._on_number is not None:
            return self._on_number(step)
        if type(step) is float and self._on_number is not None and step - step == 0:
            return self._on_number(step)
        if type(step) in (int, float) and not self._shape:
            if step - step != 0:  # infinite or NaN, for which Python's own division raises
                with np.errstate(all="ignore"):
                    return float(self(np.asarray(step)))
            self._on_number = self._compiled()
            return self._on_number(step)
        step = _checked_step(step)
        if kind_of(dtype_name(step.dtype)) == "float":
            return _at_floats(self, step)
        return value_of(self, namespace_of(step), step)

    def _compiled(self) -> OnNumber:
        return on_numbers(lambda xp, step: value_of(self, xp, step))

    __add__: ClassVar[_Operator] = _operator("add")
    __radd__: ClassVar[_Operator] = _operator("add", reflected=True)
    __sub__: ClassVar[_Operator] = _operator("subtract")
    __rsub__: ClassVar[_Operator] = _operator("subtract", reflected=True)
    __mul__: ClassVar[_Operator] = _operator("multiply")
    __rmul__: ClassVar[_Operator] = _operator("multiply", reflected=True)
    __truediv__: ClassVar[_Operator] = _operator("divide")
    __rtruediv__: ClassVar[_Operator] = _operator("divide", reflected=True)
    __pow__: ClassVar[_Operator] = _operator("pow")
    __rpow__: ClassVar[_Operator] = _operator("pow", reflected=True)

    def __neg__(self) -> "Schedule":
        return _operation("negative")(self)

    def __abs__(self) -> "Schedule":
        return _operation("absolute")(self)

    def to_config(self) -> dict[str, Any]:
        """The schedule as a document for JSON, YAML or TOML, from which `ms.from_config` builds an equal one.

        Raises `ConfigError` if a part is a function, a schedule that is not in the catalogue, or a number that is not
        finite.

        >>> import multisched as ms
        >>> (2 * ms.constant(0.1)).to_config()
        {'name': 'multiply', 'x1': 2, 'x2': {'name': 'constant', 'value': 0.1}}
        """
        from multisched.schedules.config import to_config  # which knows the constructors of all schedules

        return to_config(self)

    def plot(self, steps: int, ax: Any = None) -> Any:
        """Draw the schedule over its first steps, with matplotlib, which the extra `plot` installs.

            the points (k, self(k)) for k in range(steps), joined by lines; a dot at each boundary

        If there are more than 2,000 points, some points between boundaries are left out.

            axes = lr.plot(1000)
            other.plot(1000, ax=axes).figure.savefig("both.png")

        Parameters
        ----------
        steps:
            How many steps to show, in updates from step 0 on; at least 1.
        ax:
            The matplotlib axes to draw on, for several schedules in one picture. Default: the axes of a new figure,
            which is not registered with pyplot.

        Returns the axes. Raises `StepCountError` if `steps` is not a number of steps, `ScheduleValueError` if the
        values of the schedule are arrays, and `ImportError` if matplotlib is not installed.

        >>> import multisched as ms
        >>> ms.cosine(0.1, 1000).plot(0)
        Traceback (most recent call last):
        multisched.errors.StepCountError: steps must be a number of steps to show, from 1 to 2**53, got 0 of type int.
        """
        from multisched.schedules.plot import plot  # few programs draw

        return plot([self], steps, ax)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        seen: set[tuple[int, int]] = set()
        pairs = [(self, other)]
        while pairs:
            a, b = pairs.pop()
            if a is b or (id(a), id(b)) in seen:
                continue
            seen.add((id(a), id(b)))
            if a._formula != b._formula or a._places != b._places or a._size != b._size or _rest(a) != _rest(b):
                return False
            pairs += zip(a._parts, b._parts, strict=True)
        return True

    def __hash__(self) -> int:
        if self._hash is None:
            for node in walk(self, lambda node: () if node._hash is not None else node._parts):
                node._hash = hash((node._formula, tuple(node._arguments.items())))  # those of its parts are known
        return self._hash  # type: ignore[return-value]  # the loop has set it

    def __repr__(self) -> str:
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        """The text that `repr` prints, in pieces; an error message takes only the first ones."""
        from multisched.schedules.text import pieces  # which knows the constructors of all schedules

        return pieces(self)

    def __copy__(self) -> "Schedule":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Schedule":
        return self  # nothing in it ever changes, as with a number

    def __reduce__(self) -> tuple[Any, ...]:
        for node in walk(self, lambda node: node._parts):
            if "<locals>" in node._formula.__qualname__:
                raise RuleError(
                    f"{node.name} is defined inside a function, where a pickle could not find it again. Define it at "
                    "the top level of a module."
                )
        if self._depth <= _DEEP:
            return _rebuild, _named(self, self._arguments)
        nodes = walk(self, lambda node: node._parts)
        number = {id(node): i for i, node in enumerate(nodes)}
        return _rebuild_nodes, ([(*_named(n, _rest(n)), [number[id(p)] for p in n._parts], n._places) for n in nodes],)


_SMALL = 20  # schedules and steps
_DEEP = 50  # from here on pickles are flat, since pickling is recursive


# --- the parts of a schedule -----------------------------------------------------------------------------------------
def _places(arguments: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    """The names of the arguments that are schedules, with None, and of lists of schedules, with their lengths."""
    for name, argument in arguments.items():
        if isinstance(argument, Schedule):
            yield name, None
        elif isinstance(argument, tuple) and argument and all(isinstance(part, Schedule) for part in argument):
            yield name, len(argument)


def _parts(arguments: dict[str, Any]) -> Iterator["Schedule"]:
    for name, many in _places(arguments):
        yield from arguments[name] if many is not None else (arguments[name],)


def _length(argument: Any) -> int:
    return len(argument) if isinstance(argument, tuple) else 0


def _rest(schedule: Schedule) -> dict[str, Any]:
    """The arguments that are not schedules."""
    places = dict(schedule._places)
    return {name: argument for name, argument in schedule._arguments.items() if name not in places}


# --- pickles ---------------------------------------------------------------------------------------------------------
def _named(schedule: Schedule, arguments: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    return schedule._formula.__module__, schedule._formula.__qualname__, arguments


_MOVED = {  # where pickles of 0.1 look for constructors, and where these stand now
    "multisched.dialects.timm_cycles": "multisched.dialects.timm",
    "multisched.dialects.torch_cycles": "multisched.dialects.torch",
    "multisched.dialects.transformers_waves": "multisched.dialects.transformers",
}


def _rebuild(module: str, name: str, arguments: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(_MOVED.get(module, module)), name)(**arguments)


def _rebuild_nodes(nodes: list[tuple[str, str, dict[str, Any], list[int], tuple[tuple[str, int | None], ...]]]) -> Any:
    """Build a list of schedules, each of which may contain earlier ones, and return the last."""
    built: list[Any] = []
    for module, name, rest, numbers, places in nodes:
        parts = iter([built[number] for number in numbers])
        inside = {place: next(parts) if many is None else [next(parts) for _ in range(many)] for place, many in places}
        built.append(_rebuild(module, name, {**rest, **inside}))
    return built[-1]


def _parameters(formula: Formula) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(formula).parameters.items())[2:])


def _checked_step(step: Array) -> Array:
    """`step` as an array of integers or floats; else raise `ScheduleStepError`."""
    if type(step) in (int, float):  # a schedule of arrays at a bare number gives a NumPy array
        largest = int_max("int64")
        return np.asarray(max(-largest, min(step, largest)) if type(step) is int else step)
    dtype = dtype_name(getattr(step, "dtype", type(step)))
    if dtype not in BITS or kind_of(dtype) not in ("int", "uint", "float"):
        raise ScheduleStepError(
            f"A schedule is a function of a step: an integer or real number, or an array of them, got {shown(step)}."
        )
    return step


def _at_floats(rule: Schedule, step: Array) -> Array:
    """The value at floating steps. Steps of 16 bits are computed in single precision; a step of NaN gives NaN."""
    xp, dtype = namespace_of(step), step.dtype
    if BITS[dtype_name(dtype)] == 16:
        step = xp.astype(step, xp.float32)
    value = value_of(rule, xp, step)
    known = step == step
    known = xp.reshape(known, tuple(step.shape) + (1,) * len(rule.shape)) if rule.shape else known
    value = xp.where(known, value, math.nan) if hasattr(value, "dtype") else value
    return value if getattr(value, "dtype", dtype) == dtype else xp.astype(value, dtype)


def schedule(
    check: Callable[..., dict[str, Any] | None] | None = None,
    *,
    clock: Clock | None = None,
    edges: Edges | None = None,
    examples: Sequence[str] = (),
    **readers: Reader,
) -> Callable[[Callable[Concatenate[Namespace, Array, P], Array]], Callable[P, Schedule]]:
    """Turn `formula(xp, step, *parameters)` into the constructor `formula(*parameters) -> Schedule`.

    Parameters
    ----------
    **readers:
        A reader for each parameter, which checks the argument and returns plain data. `multisched.arguments` has
        readers of numbers and options, `multisched.schedules.readers` those of values, lengths and schedules. Calls,
        configs and expressions use the same readers.
    check:
        A function that checks what a reader cannot, such as two bounds in the wrong order. It takes the same parameters
        after their readers, and raises an error if they define no schedule. It may return a dict of all of them as
        plain data.
    clock:
        For a formula with schedules among its arguments: a function of the parameters of the formula, which returns the
        steps at which the formula needs the values of these schedules, in the order of the arguments. The formula is
        then given the values in place of the schedules, which can be nested to any depth. Without `clock`, the formula
        calls the schedules itself.
    edges:
        `edges(arguments, until)`: the steps up to `until` at which another part of the formula takes over, for plots
        and tests; see `multisched.schedules.edges`. Default: the edges of the schedules among the arguments.
    examples:
        Expressions that build typical schedules, such as `"hyperbola(1, 0.5)"`. The laws are tested on them, and the
        gallery shows the first one. A schedule that can be found by its name needs at least one.

    If a call has a keyword that the formula does not have, the constructor raises `ArgumentError`, which names the
    nearest one.

    >>> from multisched.schedules.readers import non_negative, real
    >>> @schedule(start=real, rate=non_negative, examples=["hyperbola(1, 0.5)"])
    ... def hyperbola(xp, step, start, rate=1):
    ...     return start / (1 + rate * step)
    >>> lr = hyperbola(1, 0.5)
    >>> lr, lr(0), lr(2)
    (hyperbola(1, rate=0.5), 1.0, 0.5)
    >>> hyperbola(1, -1)
    Traceback (most recent call last):
    multisched.errors.ScheduleValueError: rate must be a real number of at least 0, got -1 of type int.

    >>> from multisched.schedules.readers import inner
    >>> @schedule(schedule=inner, clock=lambda xp, step, schedule: [2 * step])
    ... def twice_as_fast(xp, step, schedule):
    ...     return schedule
    >>> twice_as_fast(lr)(1)
    0.5
    """
    if edges is not None and not callable(edges):
        raise ArgumentError(f"edges must be a function of the arguments and a step, got {shown(edges)}.")

    def decorate(formula: Callable[Concatenate[Namespace, Array, P], Array]) -> Callable[P, Schedule]:
        if not inspect.isfunction(formula):
            raise ArgumentError(f"@schedule(...) decorates a formula; write it with parentheses. Got {shown(formula)}.")
        signature = inspect.Signature(list(_parameters(formula).values()), return_annotation=Schedule)

        @wraps(formula)
        def constructor(*args: P.args, **kwargs: P.kwargs) -> Schedule:
            taken = read_all(readers, bound(formula.__name__, signature, args, kwargs))
            checked = check(**taken) if check is not None else None
            return Schedule(formula, taken if checked is None else checked, clock, edges)

        return constructor_of(constructor, signature, readers, examples)

    return decorate


def float_dtype(xp: Namespace, step: Array) -> Any:
    """The dtype of a schedule's values at `step`: float32 for integer steps, that of the steps otherwise."""
    if xp is python_numbers:
        return xp.float64
    return step.dtype if kind_of(dtype_name(step.dtype)) == "float" else xp.float32


def largest_step(step: Array) -> float:
    """The largest number that a step of this dtype can be. A later boundary is never reached, and would overflow."""
    dtype = dtype_name(getattr(step, "dtype", "float64"))
    if kind_of(dtype) != "float":
        return int_max(dtype)
    return {"float16": 65504.0, "float64": 2.0**1023}.get(dtype, 2.0**127)
