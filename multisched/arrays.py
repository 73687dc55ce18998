"""What rules need to know about arrays, whatever framework made them.

Rules are plain array API code. This file finds the namespace of their arguments without importing any framework, names
dtypes by strings, and turns array arguments into plain data.
"""

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import array_api_compat
import numpy as np

from multisched.errors import BackendMismatch, DTypeError, RuleError, shown

Array: TypeAlias = Any
"""An array of any array API namespace, a tracer of one, or a declared tensor."""

Namespace: TypeAlias = Any
"""An array API namespace: a module such as `numpy`, or the recording namespace."""

BITS = {
    "bool": 8,
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex64": 64, "complex128": 128},
}
"""The size in bits of every dtype that the library knows: those of the array API standard, and bfloat16."""


def kind_of(dtype: str) -> str:
    """The kind of a dtype: `"bool"`, `"int"`, `"uint"`, `"float"` or `"complex"`."""
    return "float" if dtype == "bfloat16" else dtype.rstrip("0123456789")


def dtype_name(dtype: object) -> str:
    """The standard's name of a dtype of any framework, or of a type of Python or NumPy.

    Python's types stand for the default dtypes of declared tensors.

    >>> dtype_name(np.dtype("f4")), dtype_name(np.float64), dtype_name(float), dtype_name("torch.int8")
    ('float32', 'float64', 'float32', 'int8')
    """
    if isinstance(dtype, np.dtype):
        return _NUMPY_NAMES.get(dtype) or dtype.name
    if isinstance(dtype, type):
        return _PYTHON_NAMES.get(dtype) or np.dtype(dtype).name
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


_NUMPY_NAMES = {np.dtype(name): name for name in BITS if name != "bfloat16"}  # NumPy computes `name` at each access
_PYTHON_NAMES: dict[type, str] = {bool: "bool", int: "int32", float: "float32", complex: "complex64"}


def checked_dtype(dtype: object) -> str:
    """The standard's name of a dtype. Raises `DTypeError` for anything that is not a dtype of the standard."""
    name = dtype_name(dtype)
    if name not in BITS:
        raise DTypeError(f"{dtype!r} is not a dtype of the array API; expected one of {', '.join(BITS)}.")
    return name


def int_max(dtype: str) -> int:
    """The largest value of an integer dtype."""
    return int(2 ** (BITS[dtype] - (kind_of(dtype) == "int"))) - 1


def int_min(dtype: str) -> int:
    """The smallest value of an integer dtype."""
    return -int_max(dtype) - 1 if kind_of(dtype) == "int" else 0


def holds_all(wide: str, narrow: str) -> bool:
    """Whether a dtype can hold every value of another dtype of its kind, with no finite value becoming infinite."""
    return BITS[wide] > BITS[narrow] or wide == narrow or (wide, narrow) == ("bfloat16", "float16")


def averaging_dtype(dtype: str) -> str:
    """The dtype in which values of `dtype` are averaged: floating or complex, and at least float32."""
    kind = kind_of(dtype)
    return dtype if kind == "complex" or (kind == "float" and BITS[dtype] >= 32) else "float32"


# --- namespaces ------------------------------------------------------------------------------------------------------
def is_symbolic(value: object) -> bool:
    """True for a declared tensor: it has a shape and a dtype, but no value before a function runs."""
    return getattr(type(value), "__multisched_symbolic__", False)


def is_number(value: object) -> bool:
    """True for Python's own numbers, which have no namespace."""
    return type(value) in _NUMBERS


def as_real(value: Any) -> int | float | None:
    """A real number of any type as Python's own `int` or `float`; None for anything else, such as a bool.

    Numbers are those of Python and NumPy, enumerations and other subclasses of `int` and `float`, fractions, decimals,
    and 0-dimensional arrays. Rules keep the result, so the `repr` of a user's class never becomes part of source code.

    >>> as_real(np.float64(0.5)), as_real(np.ones((), np.int8)), as_real(Fraction(1, 4)), as_real(True)
    (0.5, 1, 0.25, None)
    """
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]  # `type() in` does not narrow
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Fraction | Decimal):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
        except ValueError:  # a signalling NaN
            return math.nan
    return _scalar(value)


def _scalar(value: Any) -> int | float | None:
    """The number in a 0-dimensional array, if it is real and its value is known now."""
    if getattr(value, "shape", None) != () or is_symbolic(value):
        return None
    kind = kind_of(dtype_name(getattr(value, "dtype", "")))
    if kind not in ("int", "uint", "float"):
        return None
    try:
        number = value.item() if hasattr(value, "item") else value
        return float(number) if kind == "float" else int(number)
    except Exception:  # it is traced, or has no data
        return None


def is_integer(value: object) -> TypeGuard[int]:
    """True for an integer on the host, but not for bools and arrays."""
    return not _is_array(value) and type(as_real(value)) is int


def is_real(value: object) -> TypeGuard[int | float]:
    """True for a real number on the host, but not for bools and arrays."""
    return not _is_array(value) and as_real(value) is not None


def is_finite(number: float) -> bool:
    """Whether a real number is finite in double precision."""
    try:
        return math.isfinite(number)
    except OverflowError:  # a larger int
        return False


def _is_array(value: object) -> bool:
    return hasattr(value, "dtype") and not isinstance(value, np.generic)


_NUMBERS = (int, float, bool, complex)
_modules: dict[type, ModuleType] = {}


def namespace_of(*values: Array) -> Namespace:
    """The array API namespace of the arrays among `values`, of which there must be one.

    Raises `BackendMismatch` if they have two namespaces.

    >>> namespace_of(1.5, np.ones(2)).__name__
    'array_api_compat.numpy'
    """
    found = None
    for value in values:
        if type(value) in _NUMBERS:
            continue
        _ask(type(value))
        xp = _modules.get(type(value)) or _find_namespace(value)
        if found is not None and found is not xp:
            raise BackendMismatch(
                f"Arrays of two backends in one expression: {found.__name__} and {xp.__name__}. Convert one first."
            )
        found = xp
    return found


def _find_namespace(value: Array) -> Namespace:
    for base in type(value).__mro__[1:]:  # such as torch's Parameter, which is a Tensor
        if base in _modules:
            return _modules[base]
    xp = array_api_compat.array_namespace(value)
    if isinstance(xp, ModuleType):  # a recording namespace depends on the tensor, not only on its type
        _modules[type(value)] = xp
    return xp


# --- what the array API lacks ----------------------------------------------------------------------------------------
class Framework(NamedTuple):
    """What rules need of a framework besides its namespace."""

    stop_gradient: Callable[[Array], Array]
    where: Callable[[Array, Array, Array], Array]


_frameworks: dict[str, Framework] = {}


def stop_gradient(xp: Namespace, array: Array) -> Array:
    """`array` without its gradient, for which the array API has no function."""
    return _framework(xp).stop_gradient(array)


def choose(xp: Namespace, condition: Array, x1: Array, x2: Array) -> Array:
    """`xp.where` of arrays of one dtype. It skips the promotion of dtypes, which can take longer than the rest."""
    return _framework(xp).where(condition, x1, x2)


def clipped(xp: Namespace, x: Array, low: float | None, high: float | None) -> Array:
    """`xp.clip` by numbers that the dtype of `x` holds. For NumPy it is five times as fast as `xp.clip`."""
    if not isinstance(x, _OF_NUMPY):
        return xp.clip(x, low, high)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


_OF_NUMPY = (np.ndarray, np.generic)  # a tuple, since torch.compile cannot trace a union of types


def _framework(xp: Namespace) -> Framework:
    found = _frameworks.get(xp.__name__)
    if found is None:
        found = _framework_of(xp)
        if isinstance(xp, ModuleType):
            _frameworks[xp.__name__] = found
    return found


def plain_framework(xp: Namespace) -> Framework:
    """The framework of a namespace of which nothing else is known."""
    return Framework(lambda array: array, xp.where)


_framework_of: Callable[[Namespace], Framework] = plain_framework
_new_frameworks: Callable[[], Iterable[tuple[type, Namespace, Framework]]] = tuple


def ask_for_frameworks(
    framework_of: Callable[[Namespace], Framework],
    new_frameworks: Callable[[], Iterable[tuple[type, Namespace, Framework]]],
) -> None:
    """Say who knows the frameworks: the registry of backends, which this layer cannot import.

    `framework_of(xp)` gives the framework of one namespace. `new_frameworks()` gives each framework that has been
    imported since the last call: its type of arrays, its namespace, and what it can do.
    """
    global _framework_of, _new_frameworks
    _framework_of, _new_frameworks = framework_of, new_frameworks


def _ask(array_type: type) -> None:
    """Ask for new frameworks when a type of arrays is first seen."""
    if array_type not in _asked:
        _asked.add(array_type)
        for kind, xp, framework in _new_frameworks():
            _modules[kind] = xp
            _frameworks[xp.__name__] = framework


_asked: set[type] = set()
# torch.compile cannot trace the look-up. The mark makes it call the function while tracing, and read the dicts above
# afterwards.
_ask._dynamo_marked_constant = True  # type: ignore[attr-defined]  # an attribute of torch's own


# --- the one operation of averages ------------------------------------------------------------------------------------
def blended(xp: Namespace, mean: Array, value: Array, share: Any) -> Array:
    """`mean + share * (value - mean)`: exactly `value` at a share of 1 and `mean` at 0, even if they are infinite.

    `share` is a number, or an array that broadcasts. The result is a new array.
    """
    if is_number(share):
        if not LEAST_SHARE <= share < LARGEST_SHARE:
            share = exact_share(share, dtype_name(mean.dtype))
            if share in (0, 1):
                return xp.astype(value if share else mean, mean.dtype, copy=True)
        return mean + share * (value - mean)
    copies, stays = share == 1, share == 0
    none, idle = xp.zeros_like(mean), copies | stays
    old, new = choose(xp, idle, none, mean), choose(xp, idle, none, value)  # avoids inf - inf
    return choose(xp, copies, value, choose(xp, stays, mean, old + share * (new - old)))


LEAST_SHARE, LARGEST_SHARE = 2.0**-126, 1 - 2.0**-25
"""Between these (the first included), a share is neither 0 nor 1 in float32, the least precise arithmetic in use."""


def exact_share(share: float, dtype: str) -> float:
    """The share to use in an average of a dtype: 0 or 1 if the arithmetic, in at least float32, rounds it to that.

    Otherwise the result for infinite values would depend on whether a share was rounded before or after it was compared
    with 0 and 1. Shares below the smallest normal number count as 0, since some processors flush them to 0.
    """
    if dtype in ("float64", "complex128"):
        return share
    return 0.0 if share < LEAST_SHARE else 1.0 if share >= LARGEST_SHARE else share


# --- arrays as plain data --------------------------------------------------------------------------------------------
class FrozenArray:
    """An array as plain data: hashable, picklable, compared by value, and independent of any framework.

    It is held in double precision. Its `repr` is a nested list of numbers, from which it can be built again.
    """

    __slots__ = ("array",)
    array: np.ndarray
    """Read-only, of dtype float64 or complex128."""

    def __init__(self, array: Any):
        array = np.asarray(array)
        self.array = np.array(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64)
        self.array.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenArray) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.shape, tuple(self.array.ravel().tolist())))

    def __repr__(self) -> str:
        return repr(self.array.tolist())

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenArray, (self.array.copy(),)


class Symbol:
    """A declared tensor as the argument of a rule. It is equal only to itself, and cannot be pickled."""

    __slots__ = ("tensor",)
    tensor: Any
    """The declared tensor, which is defined in a layer above this one."""

    def __init__(self, tensor: Any):
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and other.tensor is self.tensor

    def __hash__(self) -> int:
        return hash(self.tensor)

    def __repr__(self) -> str:
        return repr(self.tensor)


_LARGEST = int(np.finfo(np.float64).max)

Plain: TypeAlias = int | float | complex | FrozenArray | Symbol
"""A number or an array in the form in which rules hold it."""


def freeze(
    value: Any, what: str, error: type[RuleError] = RuleError, *, real: bool = True, symbolic: bool = False
) -> Plain:
    """A value as plain data: a number, a `FrozenArray` or, if `symbolic`, a `Symbol`. `what` begins error texts."""
    if isinstance(value, FrozenArray | Symbol):
        return value
    if (number := as_real(value)) is not None:
        if isinstance(number, int) and abs(number) > _LARGEST:
            raise error(f"{what} must be at most 1.8e308, got {shown(value)}.")
        return number
    if is_symbolic(value):
        if symbolic:
            return Symbol(value)
        raise error(_not_plain(value, what, real))
    try:
        array = np.asarray(value)
        numeric = array.dtype.kind in ("iuf" if real else "iufc") or dtype_name(array.dtype) == "bfloat16"
    except Exception as cause:
        raise error(_not_plain(value, what, real)) from cause
    if not numeric:
        raise error(_not_plain(value, what, real))
    return FrozenArray(array) if array.ndim else FrozenArray(array).array.item()


def _not_plain(value: Any, what: str, real: bool) -> str:
    kind = "real number" if real else "number"
    return f"{what} must be a {kind} or an array of them whose values are known now, got {shown(value)}."


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a frozen argument, or of the values of a schedule."""
    return () if isinstance(value, int | float | complex) else value.shape


def thaw(xp: Namespace, value: Plain, dtype: Any, like: Array) -> Array:
    """A frozen argument for use in a formula: a number as it is, an array in `xp`, on the device of `like`."""
    return value if isinstance(value, int | float | complex) else beside(xp, value, dtype, like)


def beside(xp: Namespace, value: Plain, dtype: Any, like: Array) -> Array:
    """A frozen argument as an array in `xp`, of this dtype and on the device of `like`."""
    if isinstance(value, Symbol):
        return xp.astype(value.tensor, dtype)
    device = getattr(like, "device", None)
    elsewhere = device is None or hasattr(device, "device_set")  # traced, or spread over many devices
    where = {} if elsewhere else {"device": device}
    return _made(xp, value, dtype, where) if isinstance(value, FrozenArray) else xp.asarray(value, dtype=dtype, **where)


def _made(xp: Namespace, value: FrozenArray, dtype: Any, where: dict[str, Any]) -> Array:
    return xp.asarray(value.array.copy(), dtype=dtype, **where)


# For torch.compile the result is a constant of the program. A NumPy array would become an input of it, on which `vmap`
# and `grad` inside a compiled function fail.
_made._dynamo_marked_constant = True  # type: ignore[attr-defined]  # an attribute of torch's own
