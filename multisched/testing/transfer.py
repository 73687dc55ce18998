"""Checks of how arrays are made, given back and copied: the right values, memory of their own, no gradient."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from multisched.arrays import BITS, Array
from multisched.errors import DTypeError
from multisched.runtime.locks import StateLock
from multisched.runtime.protocol import Backend, Cell
from multisched.testing.support import apart, clause, expect_array, host_dtype, refused, require, sample


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


LAYOUTS: dict[str, Callable[[str], np.ndarray]] = {
    "a contiguous": sample,
    "a Fortran-ordered": lambda dtype: np.asfortranarray(sample(dtype)),
    "a non-contiguous": lambda dtype: sample(dtype, (4, 6))[::2, 1::2],
    "a negative-stride": lambda dtype: sample(dtype)[::-1, ::-1],
    "a broadcast": lambda dtype: np.broadcast_to(sample(dtype, (3,)), (2, 3)),
    "a read-only": lambda dtype: _read_only(sample(dtype)),
    "a 0-d": lambda dtype: sample(dtype, (), 1),
    "an empty": lambda dtype: sample(dtype, (0,)),
    "an empty 2-d": lambda dtype: sample(dtype, (0, 3)),
}
"""NumPy arrays in each of the layouts that users have."""


def supported(backend: Backend) -> list[str]:
    """The dtypes of the backend, by the standard's names, and bfloat16."""
    return [dtype for dtype in BITS if backend.supports(dtype)]


def aligned(dtype: str, size: int) -> np.ndarray:
    """A NumPy array of the alignment that tempts frameworks to share its memory."""
    width = host_dtype(dtype).itemsize
    memory = np.zeros(size * width + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * width].view(host_dtype(dtype))


# --- from the host and back ------------------------------------------------------------------------------------------
@clause("Backend.asarray")
def asarray_takes_any_layout(backend: Backend) -> None:
    """A new array of the value of a NumPy array, however that lies in memory, in every dtype."""
    for dtype in supported(backend):
        for layout, make in LAYOUTS.items():
            value = make(dtype)
            expect_array(backend, f"{layout} {dtype} array", backend.asarray(value, dtype), np.array(value), dtype)


@clause("Backend.asarray")
def asarray_takes_lists_and_numbers(backend: Backend) -> None:
    """A new array of the value of a Python number or of nested lists of them."""
    for value in (1.5, -2, True, [], [1.0, 2.5], [[1, 2], [3, 4]]):
        expect_array(backend, repr(value), backend.asarray(value, "float32"), np.array(value, np.float32), "float32")


@clause("Backend.asarray")
def asarray_casts(backend: Backend) -> None:
    """A new array of the dtype asked for, from a NumPy array or one of its own of another dtype."""
    for given, dtype in (("int32", "float32"), ("float32", "int32"), ("bool", "float32"), ("float32", "float32")):
        value = sample(given)
        expected = value.astype(dtype)
        for array in (value, backend.asarray(value, given)):
            told = f"{type(array).__name__} of {given}"
            expect_array(backend, told, backend.asarray(array, dtype), expected, dtype)
    wide = np.linspace(0.1, 0.7, 7)
    expect_array(backend, "float64", backend.asarray(wide, "float32"), wide.astype(np.float32), "float32")


@clause("Backend.asarray")
def asarray_copies_from_the_host(backend: Backend) -> None:
    """Sharing no memory with a NumPy array: a later write to that changes nothing."""
    for dtype in ("float32", "int32", "bool"):
        for value in (aligned(dtype, 4096), sample(dtype), sample(dtype, (), 1)):
            array, before = backend.asarray(value, dtype), value.copy()
            value[...] = 1 - value.astype(np.float32)
            expect_array(backend, "a NumPy array written to after asarray", array, before, dtype)


@clause("Backend.asarray")
def asarray_copies_its_own(backend: Backend) -> None:
    """Sharing no memory with an array of its own, so that neither a write nor a donation of one reaches the other."""
    for dtype in ("float32", "int32", "bool"):
        for shape in ((), (2, 3)):
            for written_first in (True, False):
                source = backend.asarray(sample(dtype, shape), dtype)
                pair = (source, backend.asarray(source, dtype))
                apart(backend, f"asarray of a {dtype} array of shape {shape}", *(pair if written_first else pair[::-1]))


@clause("Backend.as_input")
def as_input_gives_what_programs_read(backend: Backend) -> None:
    """The value as an array of the dtype, of a type that a program takes, from the host's and its own arrays."""
    for dtype in supported(backend):
        for layout, make in LAYOUTS.items():
            value = make(dtype)
            array = backend.as_input(value, dtype)
            expect_array(backend, f"{layout} {dtype} array", array, np.array(value), dtype)
            require(type(array) in backend.array_types, f"{layout} array", backend.array_types, type(array))
    for given, dtype in (("int32", "float32"), ("float64", "float32"), ("float32", "float32")):
        value = sample(given)
        sources = [value, backend.asarray(value, given)] if backend.supports(given) else [value]
        for source in sources:
            told = f"{type(source).__name__} of {given}"
            expect_array(backend, told, backend.as_input(source, dtype), value.astype(dtype), dtype)


@clause("Backend.as_input")
def as_input_leaves_its_argument(backend: Backend) -> None:
    """A read: neither a NumPy array nor one of its own is changed or used up."""
    value = sample("float32")
    own = backend.asarray(value, "float32")
    for given in (value, own):
        backend.as_input(given, "float32")
        backend.as_input(given, "int32")
    require(np.array_equal(value, sample("float32")), "a NumPy array", sample("float32").tolist(), value.tolist())
    expect_array(backend, "an array of its own", own, sample("float32"), "float32")


@clause("Backend.to_numpy")
def to_numpy_copies(backend: Backend) -> None:
    """A copy on the host, which can be written to, of the array as it was."""
    for dtype in supported(backend):
        for shape in ((), (2, 3), (0, 3)):
            array = backend.asarray(sample(dtype, shape, 1), dtype)
            host = backend.to_numpy(array)
            given = f"a {dtype} array of shape {shape}"
            require(type(host) is np.ndarray, given, "a numpy.ndarray", type(host).__name__)
            require(host.flags.writeable, given, "an array that can be written to", "a read-only one")
            host[...] = np.zeros((), host.dtype)
            expect_array(backend, f"{given}, after a write to the copy", array, sample(dtype, shape, 1), dtype)
    array = backend.asarray(sample("float32"), "float32")
    host = backend.to_numpy(array)
    backend.overwrite(Cell(array, StateLock()), backend.asarray(np.full((2, 3), 9.0), "float32"))
    given = "an array overwritten after to_numpy"
    require(np.array_equal(host, sample("float32")), given, sample("float32").tolist(), host.tolist())


@clause("Backend.to_numpy")
def to_numpy_takes_views_and_scalars(backend: Backend) -> None:
    """A copy of whatever operations give: transposed, sliced, broadcast, or a decayed scalar."""
    value = sample("float32", (3, 4))
    array = backend.asarray(value, "float32")
    scalar = backend.asarray(1.5, "float32")
    views = {
        "a transpose": (backend.operation("permute_dims")(array, (1, 0)), value.T),
        "a slice": (array[:, 1], value[:, 1]),
        "a broadcast": (backend.operation("broadcast_to")(array[:1, :], (3, 4)), np.broadcast_to(value[:1], (3, 4))),
        "a sum of 0-d arrays": (scalar + scalar, np.array(3.0)),
    }
    for given, (view, expected) in views.items():
        expect_array(backend, given, view, expected, "float32")


@clause("Backend.copy, Backend.operation('copy')")
def copy_shares_nothing(backend: Backend) -> None:
    """A copy that shares no memory: neither a write nor a donation of one reaches the other."""
    for method in (backend.copy, backend.operation("copy")):
        for dtype, shape in (("float32", ()), ("float32", (2, 3)), ("int32", (2, 3)), ("bool", (4,))):
            for written_first in (True, False):
                value = sample(dtype, shape, 1)
                source = backend.asarray(value, dtype)
                pair = (source, method(source))
                given = f"copy of a {dtype} array of shape {shape}"
                expect_array(backend, given, pair[1], value, dtype)
                apart(backend, given, *(pair if written_first else pair[::-1]))
    view = backend.operation("broadcast_to")(backend.asarray(sample("float32", (3,)), "float32"), (2, 3))
    expected = np.broadcast_to(sample("float32", (3,)), (2, 3))
    expect_array(backend, "copy of a broadcast array", backend.copy(view), expected, "float32")


# --- bits ------------------------------------------------------------------------------------------------------------
@clause("Backend.bitcast")
def bitcast_reads_the_same_bits(backend: Backend) -> None:
    """The bits of an array of integers or floats, read as others of the same size, also while being compiled."""
    for pair in (("float32", "int32"), ("bfloat16", "int16"), ("float64", "int64")):
        if not all(backend.supports(dtype) for dtype in pair):
            continue
        for given, dtype in (pair, pair[::-1]):
            for layout in ("a contiguous", "a non-contiguous", "a 0-d", "an empty 2-d"):
                value = LAYOUTS[layout](given)
                array, expected = backend.asarray(value, given), value.copy().view(host_dtype(dtype))
                told = f"{layout} {given} array, bitcast to {dtype}"
                expect_array(backend, told, backend.bitcast(array, dtype), expected, dtype)
                expect_array(backend, f"{layout} {given} array, after bitcast", array, value, given)
            source = backend.asarray(sample(given), given)
            run = backend.compile(lambda x, dtype=dtype: (backend.bitcast(x, dtype) + 1,), 0, True)
            expected = sample(given).view(host_dtype(dtype)) + np.ones((), host_dtype(dtype))
            expect_array(backend, f"bitcast of {given} to {dtype}, plus 1, compiled", run(source)[0], expected, dtype)


@clause("Backend.bitcast")
def bitcast_refuses_other_sizes(backend: Backend) -> None:
    """A dtype of another size raises `DTypeError`, and so does one that the backend has not."""
    array = backend.asarray(sample("float32"), "float32")
    for dtype in ("bool", "float33"):
        refused(DTypeError, f"bitcast(x, {dtype!r}), x of float32", partial(backend.bitcast, array, dtype))


# --- gradients -------------------------------------------------------------------------------------------------------
def gradient(backend: Backend, function: Callable[[Array], Array], at: np.ndarray) -> np.ndarray | None:
    """The gradient of the sum of `function`; None where the framework has none, as far as can be seen from outside.

    Recognised are arrays that record (`requires_grad_`, `backward`), and frameworks with a function `grad`.
    """
    array, total = backend.asarray(at, "float32"), backend.operation("sum")
    if hasattr(array, "requires_grad_"):
        array.requires_grad_()
        result = total(function(array), axis=None)
        if not result.requires_grad:
            return np.zeros_like(at)
        result.backward()
        return backend.to_numpy(array.grad) if array.grad is not None else np.zeros_like(at)
    framework = importlib.import_module(backend.xp.__name__.partition(".")[0])
    if not hasattr(framework, "grad"):
        return None
    found: Any = framework.grad(lambda x: total(function(x), axis=None))(array)
    return backend.to_numpy(found)


def _expect_gradient(backend: Backend, given: str, function: Callable[[Array], Array], expected: float) -> None:
    at = sample("float32", (3,), 1)
    found = gradient(backend, function, at)
    if found is not None:
        wanted = np.full(3, expected)
        require(np.array_equal(found, wanted), given, f"the gradient {wanted.tolist()}", found.tolist())


@clause("Backend.stop_gradient")
def stop_gradient_stops_gradients(backend: Backend) -> None:
    """The same values, through which no gradient flows."""
    array = backend.asarray(sample("float32"), "float32")
    expect_array(backend, "stop_gradient(x)", backend.stop_gradient(array), sample("float32"), "float32")
    stop = backend.stop_gradient
    _expect_gradient(backend, "2 x + 5 stop_gradient(x)", lambda x: 2.0 * x + 5.0 * stop(x), 2.0)


@clause("Backend.copy, Backend.as_input")
def copies_and_inputs_pass_gradients(backend: Backend) -> None:
    """A copy and an input are differentiable where the framework differentiates."""
    copy, as_input = backend.copy, backend.as_input
    _expect_gradient(backend, "2 x + 3 copy(x)", lambda x: 2.0 * x + 3.0 * copy(x), 5.0)
    _expect_gradient(backend, "2 x + 3 as_input(x)", lambda x: 2.0 * x + 3.0 * as_input(x, "float32"), 5.0)


@clause("Backend.asarray, Backend.overwrite, Backend.to_numpy")
def state_carries_no_gradient(backend: Backend) -> None:
    """State carries no gradient, though the value it is made of or overwritten with does; the host reads either."""
    array = backend.asarray(sample("float32"), "float32")
    if not hasattr(array, "requires_grad_"):
        return  # the arrays of this framework carry none
    array.requires_grad_()
    expect_array(backend, "an array that records", array, sample("float32"), "float32")
    made = backend.asarray(array, "float32")
    require(not made.requires_grad, "asarray of an array that records", "one that does not", "one that does")
    cell = Cell(made, StateLock())
    backend.overwrite(cell, array * 2)
    require(
        not cell.array.requires_grad, "overwrite with an array that records", "a cell that does not", "one that does"
    )
    expect_array(backend, "overwrite with an array that records", cell.array, 2 * sample("float32"), "float32")


CHECKS = (
    asarray_takes_any_layout,
    asarray_takes_lists_and_numbers,
    asarray_casts,
    asarray_copies_from_the_host,
    asarray_copies_its_own,
    as_input_gives_what_programs_read,
    as_input_leaves_its_argument,
    to_numpy_copies,
    to_numpy_takes_views_and_scalars,
    copy_shares_nothing,
    bitcast_reads_the_same_bits,
    bitcast_refuses_other_sizes,
    stop_gradient_stops_gradients,
    copies_and_inputs_pass_gradients,
    state_carries_no_gradient,
)
