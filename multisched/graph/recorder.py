"""The core of the recording namespace: it turns operands into tensors, makes casts explicit, and records operations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multisched.arrays import BITS, checked_dtype, dtype_name, is_number, kind_of
from multisched.errors import BackendMismatch, DTypeError, shown
from multisched.graph import infer
from multisched.graph.tensor import BackendInfo, Constant, Op, Tensor, common_backend

Operand = Any
"""A tensor, a Python number, or a concrete array."""

_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": ("complex",),
    "numeric": ("int", "uint", "float", "complex"),
}
"""The kinds of dtypes by their names in the standard."""


class Recorder:
    """What every function of the recording namespace needs, for one backend."""

    def __init__(self, backend: BackendInfo):
        self.backend = backend

    # --- constants
    def accepts(self, value: object) -> bool:
        """Whether a tensor's binary operator takes `value` as its other operand."""
        return isinstance(value, Tensor | np.ndarray | np.generic | int | float | complex) or self.backend.owns(value)

    def asarray(self, obj: Operand, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
        if isinstance(obj, Tensor):
            if obj.backend is not self.backend:
                raise BackendMismatch(
                    f"{obj} is of backend {obj.backend.name!r} and cannot be used in an expression of backend "
                    f"{self.backend.name!r}. Declare both with the same backend=."
                )
            return obj if dtype is None else self.astype(obj, dtype)
        obj = plain_number(obj)
        array = self._host(obj)
        if dtype is not None:
            name = checked_dtype(dtype)
        elif isinstance(obj, np.ndarray | np.generic) or self.backend.owns(obj):
            name = dtype_name(array.dtype)
        else:
            name = {"b": "bool", "i": "int32", "f": "float32", "c": "complex64"}.get(array.dtype.kind, "")
        if name not in BITS:
            raise DTypeError(f"{shown(obj)} is not a number or an array of numbers.")
        return self._constant(array, name)

    def _constant(self, value: np.ndarray, dtype: str) -> Constant:
        if dtype == "bfloat16":  # NumPy has no bfloat16: the backend rounds
            return Constant(value, dtype, self)
        if kind_of(dtype) in ("int", "uint") and value.dtype.kind in "fc" and not np.all(np.isfinite(value)):
            raise DTypeError(f"{value} cannot be an {dtype}, which holds finite integers only.")
        integers = kind_of(dtype) in ("int", "uint") and value.dtype.kind in "iu" and value.size
        if integers and not np.iinfo(dtype).min <= value.min() <= value.max() <= np.iinfo(dtype).max:
            raise DTypeError(f"{value} is outside the range of {dtype}.")
        return Constant(value.astype(dtype, copy=False), dtype, self)

    def _host(self, obj: Any) -> np.ndarray:
        if self.backend.owns(obj):
            return self.backend.to_numpy(obj)
        if is_number(obj) or isinstance(obj, np.ndarray | np.generic | list | tuple):
            return np.array(obj)
        raise BackendMismatch(
            f"An array of type {type(obj).__module__}.{type(obj).__name__} cannot be used in an expression of backend "
            f"{self.backend.name!r}: give an array of that backend, or a NumPy array."
        )

    # --- dtypes
    def isdtype(self, dtype: Any, kind: Any) -> bool:
        if isinstance(kind, tuple):
            return any(self.isdtype(dtype, k) for k in kind)
        name = checked_dtype(dtype)
        return kind_of(name) in _KINDS[kind] if kind in _KINDS else name == checked_dtype(kind)

    def result_type(self, *operands: Any) -> str:
        dtypes = [x.dtype if isinstance(x, Tensor) else x for x in operands if not is_number(x)]
        result = checked_dtype(dtypes[0])
        for dtype in dtypes[1:]:
            result = infer.promote(result, checked_dtype(dtype))
        for number in filter(is_number, operands):
            result = infer.promote_number(result, number)
        return result

    def astype(self, x: Operand, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
        x, name = self.asarray(x), checked_dtype(dtype)
        if kind_of(x.dtype) == "complex" and kind_of(name) != "complex":
            raise DTypeError(f"{x} is complex and cannot be cast to {name}. Take xp.real, xp.imag or xp.abs of it.")
        if isinstance(x, Constant) and x.dtype != name:
            return self._constant(x.value, name)
        return x if x.dtype == name else self.op("astype", (x, name), x.shape, name)

    def together(self, *operands: Operand) -> Sequence[Tensor]:
        """The operands as tensors of the one dtype to which they promote."""
        known = [x if is_number(x) else self.asarray(x) for x in map(plain_number, operands)]
        common_backend(*known)
        dtype = self.result_type(*(known if not all(map(is_number, known)) else map(self.asarray, known)))
        return [self.asarray(x, dtype=dtype) if is_number(x) else self.astype(x, dtype, copy=False) for x in known]

    # --- recording
    def op(self, fn: str, args: tuple[Any, ...], shape: infer.Shape, dtype: str, **kwargs: Any) -> Tensor:
        """Record an operation, whose result has this shape and dtype."""
        common_backend(*args)
        return Op(fn, args, kwargs, tuple(shape), dtype, self)


def plain_number(value: Any) -> Any:
    """A number of a subclass of Python's types, such as an enumeration, as Python's own; anything else as it is."""
    if is_number(value) or isinstance(value, np.generic):  # NumPy's float64 is a float
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return complex.__pos__(value) if isinstance(value, complex) else value
