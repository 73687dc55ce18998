"""The recording namespace: the array API, where calling a function records the call as a new tensor.

Each method checks its arguments, infers the shape and the dtype of the result, and adds an `Op` to the graph. Casts are
operations of their own, so that every backend computes in the same dtypes. Each backend has one namespace.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from multisched.arrays import BITS, is_number, kind_of
from multisched.errors import ShapeError
from multisched.graph import infer
from multisched.graph.recorder import Operand, Recorder
from multisched.graph.tabled import binary, elementwise, reduction, unary
from multisched.graph.tensor import BackendInfo, Constant, Tensor


class RecordingNamespace(Recorder):
    """The array API over declared tensors of one backend."""

    __name__ = "multisched.recording"
    pi: ClassVar[float] = np.pi
    e: ClassVar[float] = np.e
    inf: ClassVar[float] = np.inf
    nan: ClassVar[float] = np.nan
    newaxis: ClassVar[None] = None

    def __repr__(self) -> str:
        return f"<recording namespace of backend {self.backend.name!r}>"

    # --- creation
    def full(self, shape: Any, fill_value: Operand, *, dtype: Any = None, device: Any = None) -> Tensor:
        return self.broadcast_to(self.asarray(fill_value, dtype=dtype), shape)

    def zeros(self, shape: Any, dtype: Any = "float32", *, device: Any = None) -> Tensor:
        return self.full(shape, 0, dtype=dtype)

    def ones(self, shape: Any, dtype: Any = "float32", *, device: Any = None) -> Tensor:
        return self.full(shape, 1, dtype=dtype)

    def full_like(self, x: Operand, fill_value: Operand, *, dtype: Any = None, device: Any = None) -> Tensor:
        x = self.asarray(x)
        return self.full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype)

    def zeros_like(self, x: Operand, *, dtype: Any = None, device: Any = None) -> Tensor:
        return self.full_like(x, 0, dtype=dtype)

    def ones_like(self, x: Operand, *, dtype: Any = None, device: Any = None) -> Tensor:
        return self.full_like(x, 1, dtype=dtype)

    def arange(
        self, start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
    ) -> Tensor:
        first, last = (0, start) if stop is None else (start, stop)
        fractions = any(isinstance(x, float) for x in (first, last, step))
        return self.asarray(np.arange(first, last, step), dtype=dtype or ("float32" if fractions else "int32"))

    # --- functions with rules of their own
    def where(self, condition: Operand, x1: Operand, x2: Operand, /) -> Tensor:
        condition = self.asarray(condition)
        infer.check_kind("where, as its condition,", condition.dtype, "bool")
        x1, x2 = self.together(x1, x2)
        shape = infer.broadcast("where", condition.shape, x1.shape, x2.shape)
        return self.op("where", (condition, x1, x2), shape, x1.dtype)

    def clip(self, x: Operand, /, min: Operand = None, max: Operand = None) -> Tensor:
        x = self.asarray(x)
        infer.check_kind("clip", x.dtype, "int", "uint", "float")
        bounds = [
            None if b is None else self.asarray(b, dtype=x.dtype) if is_number(b) else self.astype(b, x.dtype)
            for b in (min, max)
        ]
        shape = infer.broadcast("clip", x.shape, *(b.shape for b in bounds if b is not None))
        return self.op("clip", (x, *bounds), shape, x.dtype)

    def real(self, x: Operand, /) -> Tensor:
        x = self.asarray(x)
        return x if kind_of(x.dtype) in ("int", "uint", "float") else elementwise(self, "real", x)

    def imag(self, x: Operand, /) -> Tensor:
        x = self.asarray(x)
        return self.zeros_like(x) if kind_of(x.dtype) in ("int", "uint", "float") else elementwise(self, "imag", x)

    def matmul(self, x1: Operand, x2: Operand, /) -> Tensor:
        x1, x2 = self.together(x1, x2)
        infer.check_kind("matmul", x1.dtype, "int", "uint", "float", "complex")
        return self.op("matmul", (x1, x2), infer.matmul(x1.shape, x2.shape), x1.dtype)

    # --- shapes
    def reshape(self, x: Operand, /, shape: Any, *, copy: bool | None = None) -> Tensor:
        return self._view("reshape", x, lambda a, s: a.reshape(s), tuple(np.atleast_1d(shape).tolist()))

    def permute_dims(self, x: Operand, /, axes: Sequence[int]) -> Tensor:
        x = self.asarray(x)
        return self._view("permute_dims", x, np.transpose, tuple(a + x.ndim if a < 0 else a for a in axes))

    def expand_dims(self, x: Operand, /, *, axis: int = 0) -> Tensor:
        return self._view("expand_dims", x, np.expand_dims, axis=axis)

    def squeeze(self, x: Operand, /, axis: int | tuple[int, ...]) -> Tensor:
        return self._view("squeeze", x, np.squeeze, axis)

    def broadcast_to(self, x: Operand, /, shape: Any) -> Tensor:
        x, shape = self.asarray(x), (shape,) if isinstance(shape, int) else tuple(shape)
        if isinstance(x, Constant):
            if x.shape == shape:
                return x
            infer.viewed("broadcast_to", x.shape, lambda a: np.broadcast_to(a, shape))
            return Constant(np.broadcast_to(x.value, shape), x.dtype, self)
        return self._view("broadcast_to", x, np.broadcast_to, shape)

    def getitem(self, x: Tensor, key: Any) -> Tensor:
        if isinstance(key, Tensor):
            infer.check_kind("Indexing with a tensor", key.dtype, "int", "uint")
            rows = self.take(x, self.reshape(key, (-1,)), axis=0)
            return self.reshape(rows, (*key.shape, *x.shape[1:]))
        keys = key if isinstance(key, tuple) else (key,)
        if not all(_is_index(k) for k in keys):
            raise ShapeError(
                f"{x} cannot be indexed with {key!r}. An index consists of integers, slices, ... and None, or is an "
                "integer tensor. In place of a boolean mask use xp.where, since shapes cannot depend on values."
            )
        named = sum(k is not None for k in keys)
        if named < x.ndim and not any(k is Ellipsis for k in keys):  # not every backend fills up by itself
            keys = (*keys, Ellipsis)
        keys, reversed_axes = _forwards(x.shape, tuple(keys))
        view = self._view("getitem", x, lambda array, k: array[k], keys)
        return self.op("flip", (view,), view.shape, x.dtype, axis=reversed_axes) if reversed_axes else view

    def _view(self, fn: str, x: Operand, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        x = self.asarray(x)
        shape = infer.viewed(fn, x.shape, lambda array: view(array, *args, **kwargs))
        args = (shape,) if fn in ("reshape", "broadcast_to") else args  # -1 and the like resolved
        return self.op(fn, (x, *args), shape, x.dtype, **kwargs)

    def concat(self, arrays: Sequence[Operand], /, *, axis: int | None = 0) -> Tensor:
        tensors = self.together(*_some("concat", arrays))
        shape = infer.concatenated([t.shape for t in tensors], axis)
        return self.op("concat", tuple(tensors), shape, tensors[0].dtype, axis=axis)

    def stack(self, arrays: Sequence[Operand], /, *, axis: int = 0) -> Tensor:
        tensors = self.together(*_some("stack", arrays))
        if len({t.shape for t in tensors}) > 1:
            raise ShapeError(f"stack: the shapes {' and '.join(str(t.shape) for t in tensors)} differ.")
        shape = infer.viewed("stack", tensors[0].shape, lambda a: np.expand_dims(a, axis))
        axis = axis % len(shape)
        shape = (*shape[:axis], len(tensors), *shape[axis + 1 :])
        return self.op("stack", tuple(tensors), shape, tensors[0].dtype, axis=axis)

    def take(self, x: Operand, indices: Operand, /, *, axis: int | None = None) -> Tensor:
        x, indices = self.asarray(x), self.asarray(indices)
        infer.check_kind("take, as its indices,", indices.dtype, "int", "uint")
        if indices.dtype not in ("int32", "int64"):  # not every backend takes others
            indices = self.astype(indices, self.backend.default_int)
        if indices.ndim != 1 or (axis is None and x.ndim != 1):
            raise ShapeError(f"take needs 1-dimensional indices and an axis, got {indices} and axis={axis}.")
        (axis,) = infer.axes_of("take", x.shape, 0 if axis is None else axis)
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.op("take", (x, indices), shape, x.dtype, axis=axis)


def _is_index(key: Any) -> bool:
    if isinstance(key, bool | np.bool_):
        return False
    return key is None or key is Ellipsis or isinstance(key, int | np.integer | slice)


def _forwards(shape: infer.Shape, keys: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """`keys` without negative steps, which torch lacks, and the axes of the result that must be reversed instead."""
    plain, at, axis, flipped = list(keys), 0, 0, []
    for i, key in enumerate(keys):
        if key is Ellipsis:
            skipped = len(shape) - sum(k is not None and k is not Ellipsis for k in keys)
            at, axis = at + skipped, axis + skipped
            continue
        if isinstance(key, slice) and key.step != 0 and at < len(shape):
            steps = range(shape[at])[key]
            backwards = steps.step < 0
            low, high = (steps[-1], steps[0]) if steps and backwards else (steps.start, steps.stop - 1)
            plain[i] = slice(low, high + 1, abs(steps.step)) if steps else slice(0, 0)
            flipped += [axis] * backwards
        at += key is not None
        axis += key is None or isinstance(key, slice)
    return tuple(plain), tuple(flipped)


def _some(fn: str, arrays: Sequence[Operand]) -> Sequence[Operand]:
    if isinstance(arrays, Tensor) or not arrays:
        raise ShapeError(f"{fn} takes a list or tuple of at least one array, got {arrays!r}.")
    return arrays


for _names, _make in ((infer.UNARY, unary), (infer.BINARY, binary), (infer.REDUCTIONS, reduction)):
    for _fn in _names:
        if not hasattr(RecordingNamespace, _fn):
            _method = _make(_fn)
            _method.__name__ = _method.__qualname__ = _fn
            setattr(RecordingNamespace, _fn, _method)
for _name in BITS:
    setattr(RecordingNamespace, _name, _name)

_namespaces: dict[BackendInfo, RecordingNamespace] = {}


def recording_namespace(backend: BackendInfo) -> RecordingNamespace:
    """The one recording namespace of a backend."""
    if backend not in _namespaces:
        _namespaces[backend] = RecordingNamespace(backend)
    return _namespaces[backend]
