"""JAX: functions are jitted, and state is exchanged for what they return."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import numpy as np

from multisched.errors import DeviceError
from multisched.runtime.protocol import Cell, Container, LeafRuns, Part, Parts, Step, Write
from multisched_backends import host, jax_exchange, jax_sharding
from multisched_backends.array_api import ArrayApiBackend, blended, blended_by

_PLAIN = (list, tuple, dict, type(None))
"""Containers of Python, which are not JAX's own."""


class JaxBackend(ArrayApiBackend):
    """Arrays are immutable, so a call exchanges those of its variables for new ones; see `jax_exchange`."""

    immutable = True

    def __init__(self) -> None:
        super().__init__(xp, "jax")
        with jax.ensure_compile_time_eval():  # inside of a trace, as in jax.jit(lr), `zeros` gives a tracer
            self.array_types = (type(xp.zeros(())), np.ndarray)

    @property
    def default_int(self) -> str:
        return "int64" if jax.config.jax_enable_x64 else "int32"  # type: ignore[attr-defined]  # made at run time

    def supports(self, dtype: str) -> bool:
        wide = dtype in ("int64", "uint64", "float64", "complex128")
        return super().supports(dtype) and (not wide or bool(jax.config.jax_enable_x64))  # type: ignore[attr-defined]  # made at run time

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
        """The sharding of an array that each of its devices has whole, which is one for arrays of any shape."""
        sharding = getattr(array, "sharding", None)  # NumPy's, which programs take as they are, have none
        return sharding if sharding is not None and sharding.is_fully_replicated else None

    def owns(self, value: object) -> bool:
        return isinstance(value, jax.Array)

    def unreadable(self, array: Any) -> str | None:
        deleted = not self.is_traced(array) and array.is_deleted()
        return "it has been deleted, as by a jitted function to which it was donated" if deleted else None

    def is_traced(self, value: object) -> bool:
        return isinstance(value, jax.core.Tracer)

    def asarray(self, value: Any, dtype: str, device: Any = None) -> Any:
        if not self.owns(value):
            value = np.asarray(value)
        elif device is not None:  # `array` makes none on another device than that on which the user has put it
            return jax.device_put(value.astype(self.dtype(dtype)), self.device(device), may_alias=False)
        return xp.array(value, dtype=self.dtype(dtype), copy=True, device=self.device(device))

    def as_input(self, value: Any, dtype: str, device: Any = None) -> Any:
        return value.astype(dtype) if self.owns(value) else np.asarray(value, dtype=self.dtype(dtype))

    def copy(self, array: Any) -> Any:
        return xp.copy(array)

    def stop_gradient(self, array: Any) -> Any:
        return jax.lax.stop_gradient(array)

    def _reinterpret(self, array: Any, dtype: Any) -> Any:
        return jax.lax.bitcast_convert_type(array, dtype)

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        return jax.jit(run, donate_argnums=range(consumed)) if jit else run

    def exchanging(self, run: Callable[..., Any], cells: Sequence[Cell], jit: bool) -> Callable[..., Any]:
        places = jax_exchange.large(cells) if jit and type(self).compile is JaxBackend.compile else []
        return jax_exchange.Exchanging(run, cells, places) if places else self.compile(run, 0, jit)

    # --- averages of whole models
    def container(self, node: Any) -> Container | None:
        return None if type(node) in _PLAIN or jax.tree_util.all_leaves([node]) else TreeLeaves(node)

    def signature(self, leaves: list[Any]) -> Any:
        shardings = [leaf.sharding for leaf in leaves]
        kinds = set(shardings)
        return [leaf.aval for leaf in leaves], kinds if len(kinds) == 1 else shardings

    def placed(self, array: Any) -> Any:
        return jax_sharding.placed(array)

    def part_of(self, array: Any) -> Part | None:
        return jax_sharding.part_of(array)

    def pack_key(self, array: Any) -> Hashable | None:
        return (array.dtype, array.sharding) if len(array.sharding.device_set) == 1 else None

    def beside(self, value: Any, like: Any) -> Any:
        return jax.device_put(value.astype(like.dtype), like.sharding)

    def renewed(self, array: Any) -> Any:
        """Zeros in the place of an array that was donated to a call that never gave it back."""
        return xp.zeros(array.shape, array.dtype, device=array.sharding)

    def blend(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Any]:
        result = list(old)
        host.perform(self.blend_writes(result, new, share, where))
        return result

    def blend_writes(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Write]:
        return jax_sharding.by_place(_kept if _debugging() else _blend, old, new, share, where)

    def blend_by(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
        result = list(old)
        host.perform(self.blend_by_writes(step, result, new, *scalars))
        return result

    def blend_by_writes(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Write]:
        run = _kept_by if _debugging() else _blend_by
        return jax_sharding.by_place(partial(run, step), old, new, *scalars)


def _debugging() -> bool:
    """Whether a call may raise when its result is known: then it is not donated what is to be kept."""
    return bool(jax.config.jax_debug_nans or jax.config.jax_debug_infs)  # type: ignore[attr-defined]  # made at run time


def _by_step(step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
    return blended_by(xp, step, old, new, scalars, jax_sharding.positions)


def _by_share(old: list[Any], new: LeafRuns, share: Any, where: Any) -> list[Any]:
    return blended(xp, old, new, share, where)


_blend, _kept = jax.jit(_by_share, donate_argnums=0), jax.jit(_by_share)
_blend_by = jax.jit(_by_step, static_argnums=0, donate_argnums=1)
_kept_by = jax.jit(_by_step, static_argnums=0)


class TreeLeaves:
    """The leaves of what is registered with JAX as a tree, and with nobody else: an Equinox or a Flax module."""

    def __init__(self, node: Any):
        paths, structure = jax.tree_util.tree_flatten_with_path(node)
        self._structure: Any = structure
        self.names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths)

    def read(self, node: Any) -> list[Any] | None:
        leaves, structure = jax.tree_util.tree_flatten(node)
        return leaves if structure == self._structure else None

    def rebuild(self, leaves: list[Any]) -> Any:
        return jax.tree_util.tree_unflatten(self._structure, leaves)
