"""The recording namespace's functions that differ only in what becomes of the dtype, from the tables of `infer`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multisched.arrays import kind_of
from multisched.errors import ShapeError
from multisched.graph import infer
from multisched.graph.tensor import Tensor

if TYPE_CHECKING:
    from multisched.graph.namespace import RecordingNamespace

Operand = Any
"""A tensor, a Python number, or a concrete array."""

_NUMERIC = ("int", "uint", "float", "complex")


def _check_order(fn: str, dtype: str) -> None:
    if fn in infer.REAL_ONLY and kind_of(dtype) == "complex":
        infer.check_kind(fn, dtype, "int", "uint", "float")


def unary(fn: str) -> Callable[..., Tensor]:
    """The method that records an elementwise function of one array."""

    def method(self: "RecordingNamespace", x: Operand, /) -> Tensor:
        x = self.asarray(x)
        dtype = x.dtype
        _check_order(fn, dtype)
        if fn in infer.UNARY_TO_FLOAT:
            x = self.astype(x, infer.to_float(x.dtype))
            dtype = x.dtype
        elif fn in infer.UNARY_TO_REAL:
            dtype = infer.to_real(dtype)
        elif fn in infer.UNARY_TO_BOOL:
            infer.check_kind(fn, x.dtype, *(("float",) if fn == "signbit" else _NUMERIC))
            dtype = "bool"
        elif fn in infer.UNARY_LOGICAL:
            infer.check_kind(fn, dtype, "bool")
        elif fn in infer.UNARY_INTEGER:
            infer.check_kind(fn, dtype, "bool", "int", "uint")
        if fn in infer.UNARY_KEEP + infer.UNARY_TO_REAL:
            infer.check_kind(fn, x.dtype, *_NUMERIC)
        if fn in ("real", "imag") and kind_of(x.dtype) != "complex":
            return x if fn == "real" else self.zeros_like(x)
        return self.op(fn, (x,), x.shape, dtype)

    return method


def binary(fn: str) -> Callable[..., Tensor]:
    """The method that records an elementwise function of two arrays."""

    def method(self: "RecordingNamespace", x1: Operand, x2: Operand, /) -> Tensor:
        x1, x2 = self._together(x1, x2)
        dtype = x1.dtype
        _check_order(fn, dtype)
        if fn in infer.BINARY_TO_FLOAT:
            x1, x2 = (self.astype(x, infer.to_float(dtype)) for x in (x1, x2))
            dtype = x1.dtype
        elif fn in infer.BINARY_TO_BOOL:
            dtype = "bool"
        elif fn in infer.BINARY_LOGICAL:
            infer.check_kind(fn, dtype, "bool")
        elif fn in infer.BINARY_INTEGER:
            infer.check_kind(fn, dtype, *(() if "shift" in fn else ("bool",)), "int", "uint")
        else:
            infer.check_kind(fn, dtype, *_NUMERIC)
        return self.op(fn, (x1, x2), infer.broadcast(fn, x1.shape, x2.shape), dtype)

    return method


def reduction(fn: str) -> Callable[..., Tensor]:
    """The method that records a reduction."""
    if fn in infer.REDUCE_ADDING:

        def adding(
            self: "RecordingNamespace", x: Operand, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
        ) -> Tensor:
            x = self.asarray(x)
            name = infer.to_sum(x.dtype, self.backend.default_int) if dtype is None else self.dtype_named(dtype)
            if dtype is None and kind_of(x.dtype) == "uint" and name != x.dtype and not self.backend.sums_unsigned:
                name = self.backend.default_int
            return self.reduce(fn, x, axis, keepdims, name, dtype=name)

        return adding
    if fn in ("std", "var"):

        def spread(
            self: "RecordingNamespace",
            x: Operand,
            /,
            *,
            axis: Any = None,
            correction: float = 0.0,
            keepdims: bool = False,
        ) -> Tensor:
            x = self.asarray(x)
            _check_order(fn, x.dtype)
            return self.reduce(fn, x, axis, keepdims, infer.to_float(x.dtype), correction=correction)

        return spread

    def plain(self: "RecordingNamespace", x: Operand, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
        x = self.asarray(x)
        if fn != "mean" and fn not in infer.REDUCE_TO_BOOL:
            infer.check_kind(fn, x.dtype, "int", "uint", "float")
            if axis is not None and not isinstance(axis, int) and fn in infer.REDUCE_TO_INDEX:
                raise ShapeError(f"{fn} takes one axis or none, got {axis!r}.")
            axes = infer.axes_of(fn, x.shape, axis)
            if any(x.shape[a] == 0 for a in axes):
                raise ShapeError(f"{fn} of nothing: axis {axis} of the shape {x.shape} has no element.")
        if fn in infer.REDUCE_TO_BOOL:
            if kind_of(x.dtype) == "complex":
                x = self.op("not_equal", (x, self.asarray(0, dtype=x.dtype)), x.shape, "bool")
            return self.reduce(fn, x, axis, keepdims, "bool")
        if fn in infer.REDUCE_TO_INDEX:
            return self.reduce(fn, x, axis, keepdims, x.dtype, to=self.backend.default_int)
        return self.reduce(fn, x, axis, keepdims, infer.to_float(x.dtype) if fn == "mean" else x.dtype)

    return plain
