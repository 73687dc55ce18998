"""The adapter of toy for multisched, written against the contract alone."""

from math import prod

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

    def bitcast(self, array, dtype):
        target = self.dtype(dtype)
        if target.itemsize != array.dtype.itemsize:
            raise DTypeError(f"The bits of a {array.dtype} array cannot be read as {dtype}.")
        return toy.Array(toy.unboxed(array).view(target))

    def operation(self, name):
        return self.copy if name == "copy" else getattr(toy, name)

    def compile(self, run, consumed, jit):
        return run

    def overwrite(self, cell, new):
        cell.array = new

    # --- averages of whole models
    def container(self, node):
        return None

    def signature(self, leaves):
        return [(leaf.shape, leaf.dtype) for leaf in leaves]

    def addresses(self, leaves):
        return None

    def placed(self, array):
        return self.device_of(array)

    def pack_key(self, array):
        return array.dtype

    def local(self, array):
        return array

    def spread(self, part, like):
        return part

    def blend(self, old, new, share, where=None):
        return [blended(array, runs, share, where) for array, runs in zip(old, new, strict=True)]

    def blend_by(self, step, old, new, *scalars):
        result, at = [], 0
        for parts, runs in zip(old, new, strict=True):
            shape, size = parts[0].shape, prod(parts[0].shape)
            index = toy.asarray(np.arange(at, at + size).astype(np.int32))
            flat = tuple(toy.reshape(part, (-1,)) for part in parts)
            stepped = step(flat, joined(runs, (size,)), index, *scalars)
            result.append(tuple(toy.reshape(part, shape) for part in stepped))
            at += size
        return result

    def beside(self, value, like):
        return toy.asarray(value, dtype=like.dtype)

    def stage(self):
        return Stage()

    def write(self, target, value):
        raise TypeError("Nobody can write to the arrays of toy.")


def blended(old, runs, share, where):
    """An array of the state, with the leaves that belong to it blended in."""
    value = toy.astype(joined(runs, old.shape), old.dtype)
    copied = share is None or float(share) == 1
    moved = value if copied else toy.astype(old + share * (value - old), old.dtype)
    return moved if where is None else toy.where(where, moved, old)


def joined(runs, shape):
    """The leaves of all runs, one after another."""
    return toy.reshape(toy.concat([toy.reshape(leaf, (-1,)) for run in runs for leaf in run]), shape)


class Stage:
    """Nobody can write to what is put, so that it need not be copied."""

    def put(self, arrays):
        self._arrays = arrays

    def take(self):
        return self._arrays

    def moved(self, scalar):
        return scalar
