"""The adapter of toy for multisched, written against the contract alone."""

import numpy as np

import toy
from multisched.errors import DeviceError, DTypeError


class ToyBackend:
    """State is exchanged, nothing is compiled, and there is one device."""

    name = "toy"
    xp = toy
    array_types = (toy.Array,)
    scalars_decay = False
    in_place = False
    default_int = "int64"
    sums_unsigned = True

    def supports(self, dtype):
        return dtype in toy.DTYPES

    def dtype(self, name):
        if not self.supports(name):
            raise DTypeError(f"The backend 'toy' has no dtype {name!r}.")
        return np.dtype(name)

    def device(self, device):
        if device not in (None, "cpu"):
            raise DeviceError(f"The backend 'toy' has no device {device!r}; expected 'cpu'.")
        return "cpu"

    def device_of(self, array):
        return array.device

    def owns(self, value):
        return isinstance(value, toy.Array)

    def is_traced(self, value):
        return False

    def asarray(self, value, dtype, device=None):
        self.device(device)
        return toy.asarray(value, dtype=self.dtype(dtype))

    as_input = asarray

    def to_numpy(self, array):
        return np.array(toy.unboxed(array))

    def copy(self, array):
        return toy.asarray(array)

    def stop_gradient(self, array):
        return array

    def operation(self, name):
        return self.copy if name == "copy" else getattr(toy, name)

    def compile(self, run, consumed, jit):
        return run

    def overwrite(self, cell, new):
        cell.array = new
