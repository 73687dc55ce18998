"""The recording namespace's functions that differ only in what becomes of the dtype, from the tables of `infer`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multisched.arrays import kind_of
from multisched.graph import infer
from multisched.graph.tensor import Tensor

if TYPE_CHECKING:
    from multisched.graph.namespace import RecordingNamespace

Operand = Any
"""A tensor, a Python number, or a concrete array."""

_NUMERIC = ("int", "uint", "float", "complex")


def unary(fn: str) -> Callable[..., Tensor]:
    """The method that records an elementwise function of one array."""

    def method(self: "RecordingNamespace", x: Operand, /) -> Tensor:
        x = self.asarray(x)
        dtype = x.dtype
        if fn in infer.UNARY_TO_FLOAT:
            x = self.astype(x, infer.to_float(x.dtype))
            dtype = x.dtype
        elif fn in infer.UNARY_TO_REAL:
            dtype = infer.to_real(dtype)
        elif fn in infer.UNARY_TO_BOOL:
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
        if fn in infer.BINARY_TO_FLOAT:
            x1, x2 = (self.astype(x, infer.to_float(dtype)) for x in (x1, x2))
            dtype = x1.dtype
        elif fn in infer.BINARY_TO_BOOL:
            dtype = "bool"
        elif fn in infer.BINARY_LOGICAL:
            infer.check_kind(fn, dtype, "bool")
        elif fn in infer.BINARY_INTEGER:
            infer.check_kind(fn, dtype, "bool", "int", "uint")
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
            return self.reduce(fn, x, axis, keepdims, infer.to_float(x.dtype), correction=correction)

        return spread

    def plain(self: "RecordingNamespace", x: Operand, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
        x = self.asarray(x)
        if fn in infer.REDUCE_TO_BOOL:
            return self.reduce(fn, x, axis, keepdims, "bool")
        if fn in infer.REDUCE_TO_INDEX:
            return self.reduce(fn, x, axis, keepdims, x.dtype, to=self.backend.default_int)
        return self.reduce(fn, x, axis, keepdims, infer.to_float(x.dtype) if fn == "mean" else x.dtype)

    return plain
