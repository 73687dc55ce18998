"""The functions of the recording namespace that differ only in their dtypes: elementwise functions and reductions.

A row says which kinds of dtypes a function takes, to which dtype its operands are cast, and which dtype its result has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from multisched.arrays import checked_dtype, kind_of
from multisched.errors import ShapeError
from multisched.graph import infer
from multisched.graph.recorder import Operand, Recorder
from multisched.graph.tensor import BackendInfo, Op, Tensor


class Row(NamedTuple):
    """What becomes of the dtype in one function."""

    kinds: tuple[str, ...]
    """The kinds that the function takes."""
    cast: Callable[[str, BackendInfo], str]
    """The dtype to which operands of a dtype are cast."""
    result: Callable[[str, BackendInfo], str]
    """The dtype of the result, from the dtype after the cast."""


def _same(dtype: str, backend: BackendInfo) -> str:
    return dtype


def _float(dtype: str, backend: BackendInfo) -> str:
    return infer.to_float(dtype)


def _real(dtype: str, backend: BackendInfo) -> str:
    return infer.to_real(dtype)


def _bool(dtype: str, backend: BackendInfo) -> str:
    return "bool"


def _index(dtype: str, backend: BackendInfo) -> str:
    return backend.default_int


def _sum(dtype: str, backend: BackendInfo) -> str:
    wide = infer.to_sum(dtype, backend.default_int)
    signed = kind_of(dtype) == "uint" and wide != dtype and not backend.sums_unsigned
    return backend.default_int if signed else wide


def _rows(*groups: tuple[tuple[str, ...], tuple[str, ...], Any, Any]) -> dict[str, Row]:
    """The rows of groups of functions; those that complex numbers lack do not take these."""
    return {
        fn: Row(tuple(k for k in kinds if k != "complex" or fn not in infer.REAL_ONLY), cast, result)
        for names, kinds, cast, result in groups
        for fn in names
    }


_BOOL, _INTEGERS = ("bool",), ("int", "uint")
_NUMBERS = (*_INTEGERS, "float", "complex")
_ALL = (*_BOOL, *_NUMBERS)

ELEMENTWISE = _rows(
    (infer.UNARY_KEEP + infer.BINARY_KEEP, _NUMBERS, _same, _same),
    (infer.UNARY_TO_FLOAT + infer.BINARY_TO_FLOAT, _ALL, _float, _same),
    (infer.UNARY_TO_REAL, _NUMBERS, _same, _real),
    (infer.UNARY_TO_BOOL, _NUMBERS, _same, _bool),
    (infer.BINARY_TO_BOOL, _ALL, _same, _bool),
    (infer.UNARY_LOGICAL + infer.BINARY_LOGICAL, _BOOL, _same, _same),
    (infer.UNARY_INTEGER + infer.BINARY_INTEGER, _BOOL + _INTEGERS, _same, _same),
    (("bitwise_left_shift", "bitwise_right_shift"), _INTEGERS, _same, _same),
    (("signbit",), ("float",), _same, _bool),
)
REDUCTIONS = _rows(
    (infer.REDUCE_KEEP, _NUMBERS, _same, _same),
    (infer.REDUCE_ADDING, _ALL, _sum, _same),
    (infer.REDUCE_TO_FLOAT, _ALL, _float, _same),
    (infer.REDUCE_TO_BOOL, _ALL, _bool, _same),
    (infer.REDUCE_TO_INDEX, _NUMBERS, _same, _index),
)


# --- elementwise functions
def elementwise(xp: Recorder, fn: str, *operands: Tensor) -> Tensor:
    """Record an elementwise function of tensors of one dtype."""
    row, dtype = ELEMENTWISE[fn], operands[0].dtype
    infer.check_kind(fn, dtype, *row.kinds)
    cast = row.cast(dtype, xp.backend)
    args = tuple(xp.astype(x, cast) for x in operands)
    return xp.op(fn, args, infer.broadcast(fn, *(x.shape for x in args)), row.result(cast, xp.backend))


def unary(fn: str) -> Callable[..., Tensor]:
    """The method that records an elementwise function of one array."""

    def method(self: Recorder, x: Operand, /) -> Tensor:
        return elementwise(self, fn, self.asarray(x))

    return method


def binary(fn: str) -> Callable[..., Tensor]:
    """The method that records an elementwise function of two arrays."""

    def method(self: Recorder, x1: Operand, x2: Operand, /) -> Tensor:
        return elementwise(self, fn, *self.together(x1, x2))

    return method


# --- reductions
def reduction(fn: str) -> Callable[..., Tensor]:
    """The method that records a reduction, with the options that the standard gives it."""
    return _adding(fn) if fn in infer.REDUCE_ADDING else _spread(fn) if fn in ("std", "var") else _plain(fn)


def _adding(fn: str) -> Callable[..., Tensor]:
    def method(self: Recorder, x: Operand, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
        x = self.asarray(x)
        name = REDUCTIONS[fn].cast(x.dtype, self.backend) if dtype is None else checked_dtype(dtype)
        return _reduce(self, fn, self.astype(x, name), axis, keepdims, dtype=name)

    return method


def _spread(fn: str) -> Callable[..., Tensor]:
    def method(
        self: Recorder, x: Operand, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
    ) -> Tensor:
        x = self.asarray(x)
        infer.check_kind(fn, x.dtype, *REDUCTIONS[fn].kinds)
        return _reduce(self, fn, _cast(self, fn, x), axis, keepdims, correction=correction)

    return method


def _plain(fn: str) -> Callable[..., Tensor]:
    def method(self: Recorder, x: Operand, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
        x = self.asarray(x)
        infer.check_kind(fn, x.dtype, *REDUCTIONS[fn].kinds)
        if fn in infer.REDUCE_KEEP + infer.REDUCE_TO_INDEX:
            _check_elements(fn, x, axis)
        return _reduce(self, fn, _cast(self, fn, x), axis, keepdims)

    return method


def _check_elements(fn: str, x: Tensor, axis: Any) -> None:
    """Refuse to look for the largest element of none, and for its index along several axes."""
    if axis is not None and not isinstance(axis, int) and fn in infer.REDUCE_TO_INDEX:
        raise ShapeError(f"{fn} takes one axis or none, got {axis!r}.")
    if any(x.shape[a] == 0 for a in infer.axes_of(fn, x.shape, axis)):
        raise ShapeError(f"{fn} needs at least one element, but axis {axis} of the shape {x.shape} has none.")


def _cast(xp: Recorder, fn: str, x: Tensor) -> Tensor:
    if fn in infer.REDUCE_TO_BOOL and kind_of(x.dtype) == "complex":
        return elementwise(xp, "not_equal", x, xp.asarray(0, dtype=x.dtype))
    return xp.astype(x, REDUCTIONS[fn].cast(x.dtype, xp.backend))


def _reduce(xp: Recorder, fn: str, x: Tensor, axis: Any, keepdims: bool, **options: Any) -> Tensor:
    shape = infer.reduced(fn, x.shape, axis, keepdims)
    result = REDUCTIONS[fn].result(x.dtype, xp.backend)
    return Op(fn, (x,), {"axis": axis, "keepdims": keepdims, **options}, shape, result, xp)
