"""Checks of what an adapter says of its framework: names, dtypes, devices, and which values are its own."""

from functools import partial
from typing import Any

import numpy as np

from multisched.arrays import BITS, dtype_name, namespace_of
from multisched.errors import DeviceError, DTypeError
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend
from multisched.testing.support import clause, expect_array, refused, require, sample

_USED = ("bool", "int32", "float32")
"""Dtypes that the library declares of itself: masks, counters and averages."""


@clause("Backend.name")
def name_is_a_name(backend: Backend) -> None:
    """A non-empty string; the adapter itself is accepted wherever the name is, and hashable."""
    require(isinstance(backend.name, str) and backend.name, "name", "a non-empty string", repr(backend.name))
    require(get_backend(backend) is backend, f"get_backend({backend!r})", "the adapter itself", get_backend(backend))
    require(hash(backend) == hash(backend), f"hash({backend!r})", "one number", "two")


@clause("Backend.xp")
def xp_is_a_namespace(backend: Backend) -> None:
    """An array API namespace with a name, whose functions take the backend's arrays, as rules do that run on them."""
    xp = backend.xp
    require(isinstance(getattr(xp, "__name__", None), str), "xp.__name__", "a string", getattr(xp, "__name__", None))
    missing = [name for name in ("asarray", "astype", "where", "isdtype") if not hasattr(xp, name)]
    require(not missing, f"xp = {xp.__name__}", "the functions of the array API", f"none named {', '.join(missing)}")
    array = backend.asarray(sample("float32"), "float32")
    for namespace in (xp, namespace_of(array)):
        doubled = namespace.add(array, array)
        expect_array(backend, f"{namespace.__name__}.add(x, x)", doubled, 2 * sample("float32"), "float32")


@clause("Backend.array_types")
def array_types_are_those_of_arrays(backend: Backend) -> None:
    """The types that a program takes as they are: a tuple that holds those of whatever the adapter makes."""
    types = backend.array_types
    require(isinstance(types, tuple) and types, "array_types", "a non-empty tuple of types", types)
    for shape in ((), (2,), (0, 3)):
        value = sample("float32", shape)
        made = {"asarray": backend.asarray(value, "float32"), "as_input": backend.as_input(value, "float32")}
        made["copy"] = backend.copy(made["asarray"])
        for method, array in made.items():
            require(type(array) in types, f"{method} of shape {shape}", f"one of {types}", type(array))


@clause("Backend.scalars_decay")
def scalars_decay_is_told(backend: Backend) -> None:
    """Whether operators on 0-d arrays give something that is no array."""
    scalar = backend.asarray(1.0, "float32")
    decays = type(scalar + scalar) not in backend.array_types
    require(
        backend.scalars_decay is decays, "x + x of a 0-d array x", f"scalars_decay = {decays}", backend.scalars_decay
    )


@clause("Backend.in_place")
def in_place_is_told(backend: Backend) -> None:
    """Whether `overwrite` writes into the array of a cell: a bool."""
    require(isinstance(backend.in_place, bool), "in_place", "True or False", repr(backend.in_place))


@clause("Backend.default_int")
def default_int_is_that_of_indices(backend: Backend) -> None:
    """The dtype of indices and of sums of small integers, which the backend supports: "int64" or "int32"."""
    default = backend.default_int
    require(default in ("int32", "int64"), "default_int", "'int32' or 'int64'", repr(default))
    require(backend.supports(default), f"supports({default!r})", True, False)
    array = backend.asarray([3, 1, 2], "int32")
    found = {"argmax": backend.operation("argmax")(array), "sum": backend.xp.sum(backend.asarray([1, 2], "int8"))}
    for name, result in found.items():
        require(dtype_name(result.dtype) == default, f"{name} of integers", default, dtype_name(result.dtype))


@clause("Backend.sums_unsigned")
def sums_unsigned_is_told(backend: Backend) -> None:
    """Whether the sum of small unsigned integers is unsigned, of the width of `default_int`; else it is that."""
    if not backend.supports("uint8"):
        return  # there are no small unsigned integers
    expected = f"u{backend.default_int}" if backend.sums_unsigned else backend.default_int
    found = dtype_name(backend.xp.sum(backend.asarray([1, 2], "uint8")).dtype)
    require(found == expected, f"sum of uint8, sums_unsigned={backend.sums_unsigned}", expected, found)


@clause("Backend.supports, Backend.dtype")
def dtypes_are_there_or_refused(backend: Backend) -> None:
    """A supported dtype can be made and is the framework's own; any other raises `DTypeError`."""
    for dtype in _USED:
        require(backend.supports(dtype) is True, f"supports({dtype!r})", "True: the library needs it", False)
    for dtype in BITS:
        supported = backend.supports(dtype)
        require(isinstance(supported, bool), f"supports({dtype!r})", "True or False", repr(supported))
        if not supported:
            refused(DTypeError, f"dtype({dtype!r})", partial(backend.dtype, dtype))
            continue
        native, array = backend.dtype(dtype), backend.asarray(sample(dtype), dtype)
        require(dtype_name(native) == dtype, f"dtype({dtype!r})", "the dtype of that name", repr(native))
        require(array.dtype == native, f"asarray(x, {dtype!r})", f"an array of dtype {native}", array.dtype)
    for dtype in ("float33", "", "asarray"):
        require(backend.supports(dtype) is False, f"supports({dtype!r})", False, True)
        refused(DTypeError, f"dtype({dtype!r})", partial(backend.dtype, dtype))


@clause("Backend.device, Backend.device_of")
def devices_are_found_or_refused(backend: Backend) -> None:
    """The device of an array can be given again, None is the default, and an unknown name raises `DeviceError`."""
    array = backend.asarray(sample("float32"), "float32", None)
    device = backend.device_of(array)
    for given in (device, backend.device(device)):
        for method in (backend.asarray, backend.as_input):
            again = method(sample("float32"), "float32", given)
            expect_array(backend, f"an array on device {given!r}", again, sample("float32"), "float32")
        there = backend.device_of(backend.asarray(array, "float32", given))
        require(there == device, f"device_of(asarray(x, device={given!r}))", repr(device), repr(there))
    refused(DeviceError, "device('no such device')", lambda: backend.device("no such device"))
    refused(
        DeviceError, "asarray(x, device='no such device')", lambda: backend.asarray(1.0, "float32", "no such device")
    )


@clause("Backend.owns")
def own_arrays_are_known(backend: Backend) -> None:
    """True for arrays of this backend, of any shape, and what its operators give; false for anything else."""
    array, scalar = backend.asarray(sample("float32"), "float32"), backend.asarray(1.0, "float32")
    for given, own in {"x": array, "0-d": scalar, "0-d + 0-d": scalar + scalar, "x == x": array == array}.items():
        require(backend.owns(own) is True, f"owns({given})", True, False)
    foreign: tuple[Any, ...] = (1.0, True, None, "x", [1.0], (1.0,), {}, object(), np.float32)
    for value in foreign:
        require(backend.owns(value) is False, f"owns({value!r})", False, True)


@clause("Backend.is_traced, Backend.owns")
def tracers_are_known(backend: Backend) -> None:
    """A value that only a compiler knows is traced, and owned as its arrays are; one that can be read now is not."""
    for value in (backend.asarray(1.0, "float32"), np.ones(2), 1.0, None):
        require(backend.is_traced(value) is False, f"is_traced({value!r})", False, True)

    def run(array: Any) -> tuple[Any, ...]:
        require(backend.owns(array) is True, "owns(x) while x is being compiled", True, False)
        if not backend.is_traced(array):
            expect_array(backend, "x, said not to be traced", array, sample("float32"), "float32")
        return (array + array,)

    (result,) = backend.compile(run, 0, True)(backend.asarray(sample("float32"), "float32"))
    require(backend.is_traced(result) is False, "is_traced of a compiled function's result", False, True)


CHECKS = (
    name_is_a_name,
    xp_is_a_namespace,
    array_types_are_those_of_arrays,
    scalars_decay_is_told,
    in_place_is_told,
    default_int_is_that_of_indices,
    sums_unsigned_is_told,
    dtypes_are_there_or_refused,
    devices_are_found_or_refused,
    own_arrays_are_known,
    tracers_are_known,
)
