"""A framework in a hundred lines: an array API namespace whose arrays are immutable boxes around NumPy's."""

import operator
import sys

import numpy as np

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
FUNCTIONS = (
    *("abs", "acos", "acosh", "add", "all", "any", "argmax", "argmin", "asin", "asinh", "astype", "atan", "atan2"),
    *("atanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift"),
    *("bitwise_xor", "broadcast_to", "ceil", "clip", "concat", "conj", "copysign", "cos", "cosh", "divide", "equal"),
    *("exp", "expand_dims", "expm1", "flip", "floor", "floor_divide", "full", "full_like", "greater"),
    *("greater_equal", "hypot", "imag", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p"),
    *("log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "matmul", "max", "maximum"),
    *("mean", "min", "minimum", "multiply", "negative", "nextafter", "not_equal", "ones", "ones_like", "permute_dims"),
    *("positive", "pow", "prod", "real", "reciprocal", "remainder", "reshape", "round", "sign", "signbit", "sin"),
    *("sinh", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "take", "tan", "tanh", "trunc", "var"),
    *("where", "zeros", "zeros_like"),
)
OPERATORS = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
)


class Array:
    """An array that nobody can write to."""

    __slots__ = ("_host",)
    device = "cpu"

    def __init__(self, host):
        self._host = np.array(host)
        self._host.flags.writeable = False

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)

    def __array_namespace__(self, *, api_version=None):
        return sys.modules[__name__]

    def __getitem__(self, key):
        return Array(self._host[key])

    def __bool__(self):
        return bool(self._host)

    def __float__(self):
        return float(self._host)

    def __repr__(self):
        return f"toy.Array({self._host})"


def unboxed(value):
    """NumPy's array in a box, in a list of boxes, or whatever else it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(unboxed, value))
    return value._host if isinstance(value, Array) else value


def boxed(function):
    """A function of boxes, from one of NumPy's arrays."""

    def call(*args, **kwargs):
        return Array(function(*map(unboxed, args), **{name: unboxed(value) for name, value in kwargs.items()}))

    return call


def asarray(value, *, dtype=None, device=None, copy=None):
    return Array(np.asarray(unboxed(value), dtype=dtype))


def isdtype(dtype, kind):
    return np.isdtype(dtype, kind)


def result_type(*values):
    return np.result_type(*map(unboxed, values))


globals().update({name: np.dtype(name) for name in DTYPES})
globals().update({name: boxed(getattr(np, name)) for name in FUNCTIONS})
for _name in OPERATORS:
    _function = getattr(operator, f"__{_name}__")
    setattr(Array, f"__{_name}__", boxed(_function))
    setattr(Array, f"__r{_name}__", boxed(lambda x, y, function=_function: function(y, x)))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(Array, f"__{_name}__", boxed(getattr(operator, f"__{_name}__")))
Array.__hash__ = object.__hash__
