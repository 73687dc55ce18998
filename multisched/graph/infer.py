"""The shapes and dtypes that the functions of the array API give, without computing anything.

The tables list the functions; the recording namespace is built from them. Dtypes are promoted as the standard says, in
the same way for every backend. Where the standard leaves a mix of kinds undefined, the result has the wider kind: an
integer and a float give the dtype of the float.
"""

from typing import Any

import numpy as np

from multisched.arrays import BITS, kind_of
from multisched.errors import DTypeError, ShapeError

Shape = tuple[int, ...]

# Elementwise functions, grouped by the dtype of the result.
UNARY_KEEP = ("ceil", "conj", "floor", "negative", "positive", "round", "sign", "square", "trunc")
UNARY_TO_FLOAT = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p"),
    *("log2", "reciprocal", "sin", "sinh", "sqrt", "tan", "tanh"),
)
UNARY_TO_REAL = ("abs", "imag", "real")
UNARY_TO_BOOL = ("isfinite", "isinf", "isnan", "signbit")
UNARY_INTEGER = ("bitwise_invert",)
UNARY_LOGICAL = ("logical_not",)
BINARY_KEEP = ("add", "floor_divide", "maximum", "minimum", "multiply", "pow", "remainder", "subtract")
BINARY_INTEGER = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")
BINARY_TO_FLOAT = ("atan2", "copysign", "divide", "hypot", "logaddexp", "nextafter")
BINARY_TO_BOOL = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")
REAL_ONLY = {
    *("ceil", "floor", "trunc", "signbit", "floor_divide", "remainder", "maximum", "minimum", "atan2", "copysign"),
    *("hypot", "logaddexp", "nextafter", "greater", "greater_equal", "less", "less_equal", "max", "min", "argmax"),
    *("argmin", "std", "var"),
}
"""Functions that the standard defines for real numbers only: most of them need an order."""
BINARY_LOGICAL = ("logical_and", "logical_or", "logical_xor")

# Reductions, grouped likewise.
REDUCE_KEEP = ("max", "min")
REDUCE_ADDING = ("prod", "sum")
REDUCE_TO_FLOAT = ("mean", "std", "var")
REDUCE_TO_BOOL = ("all", "any")
REDUCE_TO_INDEX = ("argmax", "argmin")

UNARY = UNARY_KEEP + UNARY_TO_FLOAT + UNARY_TO_REAL + UNARY_TO_BOOL + UNARY_INTEGER + UNARY_LOGICAL
BINARY = BINARY_KEEP + BINARY_INTEGER + BINARY_TO_FLOAT + BINARY_TO_BOOL + BINARY_LOGICAL
REDUCTIONS = REDUCE_KEEP + REDUCE_ADDING + REDUCE_TO_FLOAT + REDUCE_TO_BOOL + REDUCE_TO_INDEX

FRESH = {
    *BINARY,
    *UNARY_TO_FLOAT,
    *UNARY_TO_BOOL,
    *UNARY_INTEGER,
    *UNARY_LOGICAL,
    *("where", "matmul", "negative", "square", "argmax", "argmin"),
}
"""Functions whose result shares no memory with an argument on any backend. The others may return a view."""

_EXACT_KINDS = {"bool": "bool", "int": "integer", "uint": "integer", "float": "floating", "complex": "complex"}


def promote(first: str, second: str) -> str:
    """The dtype to which two dtypes promote."""
    if first == second:
        return first
    kinds = {kind_of(first), kind_of(second)}
    if "complex" in kinds:
        wide = any(BITS[to_real(d)] > 32 for d in (first, second) if kind_of(d) in ("float", "complex"))
        return "complex128" if wide else "complex64"
    if "float" in kinds:
        floats = [d for d in (first, second) if kind_of(d) == "float"]
        same_size = len(floats) == 2 and BITS[floats[0]] == BITS[floats[1]]  # float16 and bfloat16
        return "float32" if same_size else max(floats, key=BITS.__getitem__)
    if "bool" in kinds:
        return first if second == "bool" else second
    if len(kinds) == 1:
        return max(first, second, key=BITS.__getitem__)
    signed, unsigned = (first, second) if kind_of(first) == "int" else (second, first)
    if BITS[signed] > BITS[unsigned]:
        return signed
    if unsigned == "uint64":
        raise DTypeError(f"{first} and {second} have no common dtype. Cast one of them: xp.astype(x, dtype).")
    return f"int{2 * BITS[unsigned]}"


def promote_number(dtype: str, number: Any) -> str:
    """The dtype to which an array of `dtype` and a Python number promote: `dtype`, unless its kind is too narrow."""
    kind = "complex" if isinstance(number, complex) else "float" if isinstance(number, float) else "int"
    if isinstance(number, bool) or (kind_of(dtype) in ("float", "complex") and kind != "complex"):
        return dtype
    if kind == "int":
        return dtype if kind_of(dtype) in ("int", "uint") else "int32"
    if kind == "complex":
        return {"float64": "complex128", "complex128": "complex128"}.get(dtype, "complex64")
    return "float32"


def to_float(dtype: str) -> str:
    """The floating dtype to which a function such as `exp` casts `dtype`: float32 for integers and bools."""
    return dtype if kind_of(dtype) in ("float", "complex") else "float32"


def to_real(dtype: str) -> str:
    """The dtype of the real part of `dtype`."""
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def to_sum(dtype: str, default_int: str) -> str:
    """The dtype in which the standard sums `dtype`: for integers at least as wide as the backend's default integer."""
    kind = kind_of(dtype)
    if kind == "bool":
        return default_int
    if kind in ("int", "uint") and BITS[dtype] < BITS[default_int]:
        return f"{kind}{BITS[default_int]}"
    return dtype


def check_kind(fn: str, dtype: str, *allowed: str) -> None:
    """Raise `DTypeError` unless the dtype is of a kind that the function takes."""
    if kind_of(dtype) not in allowed:
        *others, last = dict.fromkeys(_EXACT_KINDS[kind] for kind in allowed)
        kinds = f"{', '.join(others)} or {last}" if others else last
        raise DTypeError(f"{fn} takes {kinds} dtypes, got {dtype}.")


def broadcast(fn: str, *shapes: Shape) -> Shape:
    """The shape to which shapes broadcast."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as cause:
        raise ShapeError(f"{fn}: the shapes {' and '.join(map(str, shapes))} do not broadcast.") from cause


def viewed(fn: str, shape: Shape, view: Any) -> Shape:
    """The shape of `view(array)`, found by NumPy on an array of this shape that occupies no memory."""
    try:
        return tuple(view(np.broadcast_to(np.empty((), np.bool_), shape)).shape)
    except (ValueError, IndexError, TypeError) as cause:
        raise ShapeError(f"{fn} of a tensor of shape {shape}: {cause}.") from cause


def axes_of(fn: str, shape: Shape, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The axes over which a function reduces, as non-negative numbers."""
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    if any(isinstance(a, bool) or not isinstance(a, int | np.integer) for a in axes):
        raise ShapeError(f"{fn}: an axis must be an integer, got {axis!r} for the shape {shape}.")
    normal = tuple(a + len(shape) if a < 0 else a for a in axes)
    if any(not 0 <= a < len(shape) for a in normal) or len(set(normal)) < len(normal):
        raise ShapeError(f"{fn}: axis {axis} does not fit the shape {shape}.")
    return normal


def reduced(fn: str, shape: Shape, axis: int | tuple[int, ...] | None, keepdims: bool) -> Shape:
    """The shape of the result of a reduction."""
    axes = axes_of(fn, shape, axis)
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def matmul(a: Shape, b: Shape) -> Shape:
    """The shape of a matrix product."""
    if not a or not b or a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ShapeError(
            f"matmul: the shapes {a} and {b} do not fit. The last axis of the first operand must be as long as the "
            "last but one of the second."
        )
    rows, columns = a[-2:-1] if len(a) > 1 else (), b[-1:] if len(b) > 1 else ()
    return (*broadcast("matmul", a[:-2], b[:-2]), *rows, *columns)


def concatenated(shapes: list[Shape], axis: int | None) -> Shape:
    """The shape of arrays that are joined along an axis, or flattened and joined if that is None."""
    if axis is None:
        return (sum(int(np.prod(shape, dtype=object)) for shape in shapes),)
    (axis,) = axes_of("concat", shapes[0], axis)
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rests) > 1 or any(len(shape) != len(shapes[0]) for shape in shapes):
        raise ShapeError(f"concat: the shapes {' and '.join(map(str, shapes))} differ along another axis than {axis}.")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
