"""The adapter for any array API namespace, and the base of the others.

It assumes no more than the standard: arrays may be immutable, so state is exchanged, not overwritten; nothing is
compiled; there is no gradient to stop.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import prod
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from multisched.arrays import BITS, averaging_dtype, dtype_name, is_number, kind_of
from multisched.arrays import blended as one_operation
from multisched.errors import DeviceError, DTypeError
from multisched.runtime.protocol import Cell, Container, LeafRuns, Part, Parts, Stage, Step, Write


class ArrayApiBackend:
    """State and functions in terms of the array API alone."""

    scalars_decay = False
    in_place = False
    sums_unsigned = True

    def __init__(self, xp: ModuleType, name: str | None = None):
        self.xp: Any = xp
        self.name = name or xp.__name__
        self.array_types: tuple[type, ...] = (type(xp.zeros(())),)

    def __repr__(self) -> str:
        return f"<backend {self.name!r}>"

    # --- dtypes and devices
    @property
    def default_int(self) -> str:
        return dtype_name(self.xp.arange(1).dtype)

    def supports(self, dtype: str) -> bool:
        return dtype in BITS and hasattr(self.xp, dtype)

    def dtype(self, name: str) -> Any:
        if not self.supports(name):
            raise DTypeError(f"The backend {self.name!r} has no dtype {name!r}{self._dtype_hint(name)}.")
        return getattr(self.xp, name)

    def _dtype_hint(self, name: str) -> str:
        return "" if name in BITS else f"; expected one of {', '.join(BITS)}"

    def device(self, device: Any) -> Any:
        if device is None:
            return None
        known = self._devices()
        for one in known:
            if device is one or str(device) == str(one):
                return one
        raise DeviceError(
            f"The backend {self.name!r} has no device {device!r}; expected one of {list(map(str, known))}."
        )

    def _devices(self) -> list[Any]:
        return list(self.xp.__array_namespace_info__().devices())

    def device_of(self, array: Any) -> Any:
        return array_api_compat.device(array)

    def owns(self, value: object) -> bool:
        return isinstance(value, self.array_types)

    def is_traced(self, value: object) -> bool:
        return False

    # --- arrays
    def asarray(self, value: Any, dtype: str, device: Any = None) -> Any:
        if not self.owns(value):
            value = np.asarray(value)
        return self.xp.asarray(value, dtype=self.dtype(dtype), device=self.device(device), copy=True)

    def as_input(self, value: Any, dtype: str, device: Any = None) -> Any:
        return self.xp.asarray(value, dtype=self.dtype(dtype), device=self.device(device))

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.array(array)

    def copy(self, array: Any) -> Any:
        return self.xp.asarray(array, copy=True)

    def stop_gradient(self, array: Any) -> Any:
        return array

    def bitcast(self, array: Any, dtype: str) -> Any:
        target, given = self.dtype(dtype), dtype_name(array.dtype)
        if BITS.get(given) != BITS[dtype]:
            raise DTypeError(f"The bits of a {given} array cannot be read as {dtype}; expected a dtype of its size.")
        return self._reinterpret(array, target)

    def _reinterpret(self, array: Any, dtype: Any) -> Any:
        host = self.to_numpy(array).view(dtype_name(dtype))
        return self.xp.asarray(host, dtype=dtype, device=self.device_of(array), copy=True)

    # --- functions
    def operation(self, name: str) -> Callable[..., Any]:
        return self.copy if name == "copy" else getattr(self.xp, name)

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        return run

    def overwrite(self, cell: Cell, new: Any) -> None:
        cell.array = new

    def unreadable(self, array: Any) -> str | None:
        return None

    # --- averages of whole models
    def container(self, node: Any) -> Container | None:
        return None

    def signature(self, leaves: list[Any]) -> Any:
        return None

    def addresses(self, leaves: list[Any]) -> list[Any] | None:
        return None

    def placed(self, array: Any) -> Any:
        return self.device_of(array)

    def pack_key(self, array: Any) -> Hashable | None:
        return dtype_name(array.dtype), str(self.device_of(array))

    def local(self, array: Any) -> Any:
        return array

    def part_of(self, array: Any) -> Part | None:
        return None

    def spread(self, part: Any, like: Any) -> Any:
        return part

    def blend(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Any]:
        with np.errstate(all="ignore"):  # of namespaces on NumPy: infinite values are the model's business
            return blended(self.xp, old, new, share, where)

    def blend_by(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
        return blended_by(self.xp, step, old, new, scalars)

    def beside(self, value: Any, like: Any) -> Any:
        return self.asarray(value, dtype_name(like.dtype), self.device_of(like))

    def stage(self) -> Stage:
        return HostStage(self)

    def write(self, target: Any, value: Any) -> None:
        raise TypeError(f"Arrays of the backend {self.name!r} cannot be written.")

    def writer(self, target: Any, value: Any) -> Write:
        if type(self).write is ArrayApiBackend.write:
            self.write(target, value)  # raises
        return partial(self.write, target, value)


class HostStage:
    """Brings arrays to the device that the backend calls "cpu", with copies that its framework makes when it likes."""

    def __init__(self, backend: ArrayApiBackend):
        self._backend = backend
        self._device = backend.device("cpu")
        self._arrays: list[Any] = []

    def put(self, arrays: list[Any]) -> None:
        self._arrays = [self._backend.asarray(array, dtype_name(array.dtype), self._device) for array in arrays]

    def take(self) -> list[Any]:
        arrays, self._arrays = self._arrays, []
        return arrays

    def moved(self, scalar: Any) -> Any:
        if not self._backend.owns(scalar):
            return scalar
        return self._backend.asarray(scalar, dtype_name(scalar.dtype), self._device)


def blended(xp: Any, old: list[Any], new: LeafRuns, share: Any, where: Any) -> list[Any]:
    """`blend`, as a pure function."""
    return [_blended(xp, o, runs, share, where) for o, runs in zip(old, new, strict=True)]


def blended_by(
    xp: Any,
    step: Step,
    old: list[Parts],
    new: LeafRuns,
    scalars: Any,
    positions: Callable[[Any], Any] | None = None,
) -> list[Parts]:
    """`blend_by`, as a pure function. Arrays keep their shapes: to flatten those that are sharded would move them.

    `positions` gives the position of each element of an array, where counting them would gather a sharded one.
    """
    result, at = [], 0
    for parts, runs in zip(old, new, strict=True):
        value, size = gathered(xp, parts[0], runs), prod(parts[0].shape)
        index = positions(value) if positions else xp.reshape(xp.arange(size, dtype=xp.int32), parts[0].shape)
        result.append(step(parts, value, index + wrapped(at), *scalars))
        at += size
    return result


def wrapped(position: int) -> int:
    """A position as an int32 number."""
    return (position + 2**31) % 2**32 - 2**31


def _blended(xp: Any, old: Any, runs: list[list[Any]], share: Any, where: Any) -> Any:
    value = xp.astype(gathered(xp, old, runs), old.dtype)
    if share is None:
        moved = xp.asarray(value, copy=True) if where is None else value
    else:
        moved = _moved(xp, old, value, share)
    return moved if where is None else xp.where(where, moved, old)


def _moved(xp: Any, old: Any, value: Any, share: Any) -> Any:
    """The one operation, in float32 for what is held in half of it."""
    dtype = dtype_name(old.dtype)
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, averaging_dtype(dtype))
    if not is_number(share):
        share = xp.astype(share, getattr(xp, real))
    if real == dtype or kind_of(dtype) == "complex":
        return one_operation(xp, old, value, share)
    wide = getattr(xp, real)
    return xp.astype(one_operation(xp, xp.astype(old, wide), xp.astype(value, wide), share), old.dtype)


def overlaps(shape: Sequence[int], strides: Sequence[int], item: int) -> bool:
    """Whether elements of an array share memory, as those of expanded arrays do; strides in the unit of `item`.

    Of arrays whose dimensions lie in each other in a way that takes a search to tell apart, they are taken to.
    """
    if 0 in shape:
        return False
    reached = item
    for stride, size in sorted((abs(stride), size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if stride < reached:
            return True
        reached += stride * (size - 1)
    return False


def gathered(xp: Any, old: Any, runs: list[list[Any]]) -> Any:
    """The leaves that one array of the state belongs to, as an array of its shape."""
    if len(runs) == 1 and len(runs[0]) == 1 and tuple(runs[0][0].shape) == tuple(old.shape):
        return runs[0][0]
    return xp.concat([xp.reshape(leaf, (-1,)) for run in runs for leaf in run])
