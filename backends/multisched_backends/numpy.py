"""NumPy: state is written in place, and programs run as they are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from operator import setitem
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from multisched.errors import DTypeError, shown
from multisched.runtime.protocol import Cell, LeafRuns, Parts, Step, Write
from multisched_backends import host, numpy_blend
from multisched_backends.array_api import ArrayApiBackend, overlaps

_WHOLE = repeat(...)


class NumpyBackend(ArrayApiBackend):
    """The reference: what the others are compared with."""

    scalars_decay = True
    in_place = True
    default_int = "int64"

    def __init__(self) -> None:
        super().__init__(xp, "numpy")
        self.array_types = (np.ndarray,)

    def owns(self, value: object) -> bool:
        return isinstance(value, np.ndarray | np.generic)

    def supports(self, dtype: str) -> bool:
        return dtype == "bfloat16" or super().supports(dtype)

    def dtype(self, name: str) -> Any:
        if name == "bfloat16":
            return _bfloat16()
        return np.dtype(super().dtype(name))

    def asarray(self, value: Any, dtype: str, device: Any = None) -> Any:
        self.device(device)
        return np.array(value, dtype=self.dtype(dtype), order="C")

    def as_input(self, value: Any, dtype: str, device: Any = None) -> Any:
        return np.asarray(value, dtype=self.dtype(dtype))

    def copy(self, array: Any) -> Any:
        return np.array(array)

    def _reinterpret(self, array: Any, dtype: Any) -> Any:
        return array.view(dtype)

    def operation(self, name: str) -> Callable[..., Any]:
        # astype: the method is the same without a detour; the others are NumPy's own wherever the names agree.
        return _astype if name == "astype" else super().operation(name)

    def overwrite(self, cell: Cell, new: Any) -> None:
        cell.array[...] = new

    def overwriting(self, arrays: Sequence[Any], new: Sequence[Any]) -> Iterable[object]:
        return map(setitem, arrays, _WHOLE, new)

    def addresses(self, leaves: list[Any]) -> Any:
        return self.signature(leaves)  # an array stays where it is

    def signature(self, leaves: list[Any]) -> Any:
        return [leaf.shape for leaf in leaves], [leaf.dtype for leaf in leaves]

    def blend(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Any]:
        with self.committing():
            host.perform(self.blend_writes(old, new, share, where))
        return old

    def blend_writes(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Write]:
        if (where is None or where) and (share is None or share != 0):
            return numpy_blend.blend(old, new, None if share is None else float(share))
        return []

    def blend_by(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
        with self.committing():
            host.perform(self.blend_by_writes(step, old, new, *scalars))
        return old

    def blend_by_writes(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Write]:
        return numpy_blend.blend_by(step, old, new, scalars)

    def write(self, target: Any, value: Any) -> None:
        np.copyto(target, value, casting="same_kind")

    def writer(self, target: Any, value: Any) -> Write:
        if not isinstance(target, np.ndarray):
            raise TypeError(f"a scalar of NumPy, {shown(target)}, cannot be written.")
        if not target.flags.writeable:
            raise ValueError("assignment destination is read-only.")
        if overlaps(target.shape, target.strides, target.itemsize):
            raise ValueError("several elements of an array are one number in memory.")
        return partial(setitem, target, ..., value)

    def extent(self, array: Any) -> tuple[int, int] | None:
        return np.lib.array_utils.byte_bounds(array) if array.size else None

    @contextmanager
    def committing(self, targets: Iterable[Any] = ()) -> Iterator[None]:
        with np.errstate(all="ignore"):  # infinite values are the model's business; a warning would run Python
            try:
                yield
            except BaseException:
                host.settle()
                raise


def _astype(array: Any, dtype: Any) -> Any:
    return array.astype(dtype)


def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ImportError as cause:
        raise DTypeError("NumPy has no bfloat16 of its own; install it with\n    pip install ml_dtypes") from cause
    return np.dtype(ml_dtypes.bfloat16)
