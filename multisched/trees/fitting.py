"""The arrays of a state, of whichever backend or in a file, as arrays of the average that loads them.

What does not fit raises `CheckpointMismatch`. `where` opens its message, such as "Cannot load ...: average/w".
"""

from typing import Any

import numpy as np

from multisched.arrays import BITS, dtype_name, holds_all, int_max, int_min, kind_of, namespace_of
from multisched.errors import CheckpointMismatch, MultischedError, shown
from multisched.runtime.files import Later
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend
from multisched.trees.leaf import duplicate, is_deleted


def fitted(backend: Backend, where: str, value: Any, held: Any, dtype: str, like: Any) -> Any:
    """An array of a state as one that can be loaded in place of `held`, an array of the average of this dtype.

    `like` is the distributed array of which `held` is the part here, or None.
    """
    _check_is_array(where, value)
    here = _part_here(backend, where, value, like)
    if tuple(here.shape) != tuple(held.shape):
        raise CheckpointMismatch(f"{where} has the shape {tuple(here.shape)} there, and {tuple(held.shape)} here.")
    there = dtype_name(value.dtype)
    if there != dtype:
        _check_kinds(where, there, dtype)
    may_lose = there != dtype and not holds_all(dtype, there)
    if may_lose or not backend.owns(value) or backend.is_traced(value):
        here = on_host(backend, where, here)
    elif here.dtype == held.dtype and backend.device_of(here) == backend.device_of(held) is not None:
        return here  # loading copies it
    if may_lose:
        _check_values(where, here, there, dtype)
    try:
        return backend.beside(here, held)
    except (TypeError, ValueError, RuntimeError) as cause:  # on a device without values, say
        raise CheckpointMismatch(f"{where} cannot be brought to the arrays of the average: {cause}.") from cause


def fitted_object(backend: Backend, where: str, value: Any, held: Any) -> Any:
    """An array of a state that is copied as it is, as one that can be held in place of `held`."""
    forms = [_form(array) for array in (value, held)]
    if forms[0] != forms[1]:
        raise CheckpointMismatch(f"{where} has the dtype and shape {forms[0]} there, and {forms[1]} here.")
    if backend.owns(value) or not backend.owns(held):
        return duplicate(value)
    try:
        return backend.beside(value, held)
    except (MultischedError, TypeError, ValueError, RuntimeError) as cause:
        raise CheckpointMismatch(f"{where} cannot be brought to the backend {backend.name!r}: {cause}.") from cause


def on_host(backend: Backend, where: str, value: Any) -> np.ndarray:
    """An array of any backend or in a file, as NumPy's."""
    if isinstance(value, Later):
        return value.read()
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    try:
        owner = backend if backend.owns(value) else get_backend(namespace_of(value))
        return owner.to_numpy(value)
    except (MultischedError, TypeError, ValueError, RuntimeError) as cause:
        raise CheckpointMismatch(f"{where} is no array with values, got {shown(value)}.") from cause


def _check_is_array(where: str, value: Any) -> None:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise CheckpointMismatch(f"{where} is no array, got {shown(value)}.")
    if is_deleted(value):
        raise CheckpointMismatch(f"{where} has no values any more: it was donated to a compiled function, or deleted.")


def _part_here(backend: Backend, where: str, value: Any, like: Any) -> Any:
    """The part of an array that lies here, if the array is laid out over the devices as `like` is."""
    here = backend.local(value) if backend.owns(value) else value
    if (here is not value or like is not None) and (there := _layout(backend, value)) != _layout(backend, like):
        raise CheckpointMismatch(f"{where} is laid out as {there} there, and as {_layout(backend, like)} here.")
    return here


def _form(array: Any) -> tuple[str, tuple[int, ...] | None]:
    """The dtype and the shape of an array of any kind; nested ones have none."""
    try:
        shape = tuple(getattr(array, "shape", ()))
    except RuntimeError:
        shape = None
    return dtype_name(getattr(array, "dtype", "")), shape


def _check_kinds(where: str, there: str, here: str) -> None:
    """Refuse to cast to another kind: floats, complex numbers, integers with a sign, those without, bools."""
    if there not in BITS or kind_of(there) != kind_of(here):
        raise CheckpointMismatch(f"{where} has the dtype {there} there, and {here} here, which is of another kind.")


def _check_values(where: str, values: np.ndarray, there: str, here: str) -> None:
    """Refuse values that do not fit: integers out of range, and finite numbers that would become infinite."""
    if values.dtype.kind in "iu":
        lost = values[(values > int_max(here)) | (values < int_min(here))]
    else:
        with np.errstate(over="ignore"):
            lost = values[np.isfinite(values) & ~np.isfinite(values.astype(get_backend("numpy").dtype(here)))]
    if lost.size:
        raise CheckpointMismatch(
            f"{where} has the dtype {there} there, and {here} here, in which {lost.reshape(-1)[0]} does not fit."
        )


def _layout(backend: Any, array: Any) -> Any:
    """How an array is laid out over devices, with the shape of the whole; "one array" if it is none of those."""
    distributed = array is not None and backend.owns(array) and backend.local(array) is not array
    return (tuple(array.shape), backend.placed(array)) if distributed else "one array"
