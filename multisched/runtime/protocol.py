"""The contract between the library and a backend.

A backend supplies only what the array API lacks: how arrays are made from the host's and given back, where state lives
and how it is overwritten, how a function is compiled, and how gradients are stopped. `multisched.testing` checks an
adapter against all of it; `multisched_backends.array_api.ArrayApiBackend` implements it for any namespace, and an
adapter overrides what its framework does better.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from multisched.arrays import Array, Namespace

Device = Any
"""A device in the backend's own terms, or its name; None is the default."""

_serial = itertools.count()


class StateLock:
    """What to hold while reading or writing the cells that share it.

    Whoever needs several takes them in the order of `serial`, so that two threads never wait for each other.
    """

    __slots__ = ("lock", "serial")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.serial = next(_serial)


class Cell:
    """Where the value of one variable lives: `array`, in whichever way the backend overwrites it."""

    __slots__ = ("array", "lock")

    def __init__(self, array: Array, lock: StateLock):
        self.array = array
        self.lock = lock


class Backend(Protocol):
    """What every adapter supplies. Dtypes go by the names of the array API standard, and bfloat16."""

    name: str
    """As users write it in `backend=`."""
    xp: Namespace
    """The array API namespace, whose functions the compiled programs call."""
    array_types: tuple[type, ...]
    """Types that a program takes as they are, if shape and dtype are right."""
    scalars_decay: bool
    """Whether operators on 0-d arrays give something that is no array, as NumPy's do."""
    in_place: bool
    """Whether `overwrite` writes into the array of a cell; else it makes the new array that of the cell."""
    sums_unsigned: bool
    """Whether small unsigned integers are summed as unsigned ones; else as integers of the default dtype."""

    @property
    def default_int(self) -> str:
        """The dtype of indices and of sums of small integers: "int64" or "int32"."""

    def supports(self, dtype: str) -> bool:
        """Whether arrays of the dtype can be made, as the framework is configured now."""

    def dtype(self, name: str) -> Any:
        """The framework's dtype of that name."""

    def device(self, device: Device) -> Any:
        """The framework's device for the name; raises `DeviceError` if there is none."""

    def device_of(self, array: Array) -> Any:
        """The device on which an array lies."""

    def owns(self, value: object) -> bool:
        """Whether a value is an array of this backend, or a tracer of one."""

    def is_traced(self, value: object) -> bool:
        """Whether a value is known only to a compiler now."""

    def asarray(self, value: Any, dtype: str, device: Device = None) -> Array:
        """A new array, sharing no memory with `value`, with no gradient: what state is made of."""

    def as_input(self, value: Any, dtype: str, device: Device = None) -> Array:
        """`value` as an array, sharing memory if it can: what programs read."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host."""

    def copy(self, array: Array) -> Array:
        """A copy that shares no memory, and is differentiable where the framework differentiates."""

    def stop_gradient(self, array: Array) -> Array:
        """The same values, through which no gradient flows."""

    def operation(self, name: str) -> Callable[..., Array]:
        """The function of the array API by that name, or `"copy"`."""

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        """`run(*arrays) -> arrays`, made fast; it may consume the first `consumed` of its arguments."""

    def overwrite(self, cell: Cell, new: Array) -> None:
        """Make `new` the value of a cell: in place where arrays are mutable, by exchanging the array elsewhere."""
