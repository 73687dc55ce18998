"""The adapter for any array API namespace, and the base of the others.

It assumes no more than the standard: arrays may be immutable, so state is exchanged, not overwritten; nothing is
compiled; there is no gradient to stop.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from multisched.arrays import BITS, dtype_name
from multisched.errors import DeviceError, DTypeError
from multisched.runtime.protocol import Cell


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

    # --- functions
    def operation(self, name: str) -> Callable[..., Any]:
        return self.copy if name == "copy" else getattr(self.xp, name)

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        return run

    def overwrite(self, cell: Cell, new: Any) -> None:
        cell.array = new
