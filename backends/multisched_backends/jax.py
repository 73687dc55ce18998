"""JAX: functions are jitted, and state is exchanged for the result of a call that was donated the old one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as xp
import numpy as np

from multisched.errors import DeviceError
from multisched_backends.array_api import ArrayApiBackend


class JaxBackend(ArrayApiBackend):
    """Arrays are immutable: a variable's array is only ever held by its cell, since a call consumes it."""

    def __init__(self) -> None:
        super().__init__(xp, "jax")
        self.array_types = (type(xp.zeros(())), np.ndarray)

    @property
    def default_int(self) -> str:
        return "int64" if jax.config.jax_enable_x64 else "int32"  # type: ignore[attr-defined]

    def supports(self, dtype: str) -> bool:
        wide = dtype in ("int64", "uint64", "float64", "complex128")
        return super().supports(dtype) and (not wide or bool(jax.config.jax_enable_x64))  # type: ignore[attr-defined]

    def dtype(self, name: str) -> Any:
        return np.dtype(super().dtype(name))

    def _dtype_hint(self, name: str) -> str:
        if super().supports(name):
            return ', unless it is enabled with jax.config.update("jax_enable_x64", True)'
        return super()._dtype_hint(name)

    def device(self, device: Any) -> Any:
        """A `jax.Device` or `Sharding`, or the name of a platform, with a number or without: "cpu", "gpu:1"."""
        if not isinstance(device, str):
            return device
        platform, _, number = device.partition(":")
        try:
            return jax.devices(platform)[int(number or 0)]
        except (RuntimeError, ValueError, IndexError) as cause:
            known = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
            raise DeviceError(f"The backend 'jax' has no device {device!r}; expected one of {known}.") from cause

    def device_of(self, array: Any) -> Any:
        return array.sharding if len(array.sharding.device_set) == 1 else None

    def owns(self, value: object) -> bool:
        return isinstance(value, jax.Array)

    def is_traced(self, value: object) -> bool:
        return isinstance(value, jax.core.Tracer)

    def asarray(self, value: Any, dtype: str, device: Any = None) -> Any:
        if not self.owns(value):
            value = np.asarray(value)
        return xp.array(value, dtype=self.dtype(dtype), copy=True, device=self.device(device))

    def as_input(self, value: Any, dtype: str, device: Any = None) -> Any:
        return value.astype(dtype) if self.owns(value) else np.asarray(value, dtype=self.dtype(dtype))

    def copy(self, array: Any) -> Any:
        return xp.copy(array)

    def stop_gradient(self, array: Any) -> Any:
        return jax.lax.stop_gradient(array)

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        return jax.jit(run, donate_argnums=range(consumed)) if jit else run
