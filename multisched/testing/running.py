"""Checks of how functions are compiled, and of how state is overwritten."""

from typing import Any

import numpy as np

from multisched.runtime.locks import StateLock
from multisched.runtime.protocol import Backend, Cell
from multisched.testing.support import clause, expect_array, require, sample


def _accumulate(total: Any, kept: Any, value: Any) -> tuple[Any, ...]:
    return total * kept, total + value


@clause("Backend.compile")
def compile_computes_at_each_call(backend: Backend) -> None:
    """`run(*arrays) -> arrays`, made fast: called often, it gives what `run` gives for the arrays of that call."""
    for jit in (True, False):
        run = backend.compile(_accumulate, 0, jit)
        kept = backend.asarray([2.0, 3.0], "float32")
        for start in (0, 1, 5, 0):
            total, value = (sample("float32", (2,), start + i) for i in range(2))
            arrays = backend.asarray(total, "float32"), kept, backend.as_input(value, "float32")
            product, new = run(*arrays)
            given = f"jit={jit}, total={total}, kept=[2. 3.], value={value}"
            expect_array(backend, given, product, total * np.array([2.0, 3.0]), "float32")
            expect_array(backend, given, new, total + value, "float32")
            for array, expected in zip(arrays, (total, np.array([2.0, 3.0]), value), strict=True):
                expect_array(backend, f"{given}, arguments that may not be consumed", array, expected, "float32")


@clause("Backend.compile")
def compile_consumes_only_the_first(backend: Backend) -> None:
    """It may consume the first `consumed` of its arguments, whose place the results take, and no others."""
    run = backend.compile(_accumulate, 1, True)
    total = backend.asarray([0.0, 0.0], "float32")
    kept, value = backend.asarray([2.0, 3.0], "float32"), backend.asarray([0.5, 1.0], "float32")
    host, products = np.zeros(2), []
    for call in range(5):
        product, total = run(total, kept, value)
        products.append((product, host * [2.0, 3.0]))
        host = host + np.array([0.5, 1.0])
        expect_array(backend, f"call {call}, state fed back", total, host, "float32")
    for call, (product, expected) in enumerate(products):
        expect_array(backend, f"the output of call {call}, after the last", product, expected, "float32")
    expect_array(backend, "an argument not to be consumed", kept, np.array([2.0, 3.0]), "float32")
    expect_array(backend, "an argument not to be consumed", value, np.array([0.5, 1.0]), "float32")


@clause("Backend.compile")
def compile_takes_programs_of_any_form(backend: Backend) -> None:
    """Programs without arguments or without results, of scalars and of empty arrays, of mixed dtypes."""
    constant = backend.asarray(2.5, "float32")
    copy, astype = backend.operation("copy"), backend.operation("astype")
    require(tuple(backend.compile(lambda: (), 0, True)()) == (), "a program of nothing", (), "something")
    expect_array(
        backend, "no argument", backend.compile(lambda: (copy(constant),), 0, True)()[0], np.array(2.5), "float32"
    )
    run = backend.compile(lambda n, x: (astype(n, backend.dtype("float32")) + x, n + 1, x > 0), 0, True)
    for shape in ((), (0,), (2, 2)):
        n, x = sample("int32", shape), sample("float32", shape)
        results = run(backend.asarray(n, "int32"), backend.asarray(x, "float32"))
        expected = ((n + x, "float32"), (n + 1, "int32"), (x > 0, "bool"))
        for result, (value, dtype) in zip(results, expected, strict=True):
            expect_array(backend, f"an int32 and a float32 array of shape {shape}", result, np.asarray(value), dtype)


@clause("Backend.overwrite")
def overwrite_sets_the_value(backend: Backend) -> None:
    """Make `new` the value of a cell, for any dtype and shape, and for what operators on its arrays give."""
    for dtype in ("float32", "int32", "bool"):
        for shape in ((), (2, 3), (0, 3)):
            cell = Cell(backend.asarray(sample(dtype, shape), dtype), StateLock())
            for start in (1, 2):
                new = sample(dtype, shape, start)
                backend.overwrite(cell, backend.asarray(new, dtype))
                expect_array(backend, f"a {dtype} cell of shape {shape}", cell.array, new, dtype)
                require(type(cell.array) in backend.array_types, "a cell", backend.array_types, type(cell.array))
    for value in (np.array(1.5, np.float32), sample("float32")):
        cell = Cell(backend.asarray(value, "float32"), StateLock())
        backend.overwrite(cell, backend.operation("copy")(cell.array + cell.array))
        expect_array(backend, "x + x for x", cell.array, value + value, "float32")


@clause("Backend.in_place, Backend.overwrite")
def overwrite_writes_in_place_or_exchanges(backend: Backend) -> None:
    """In place, a cell keeps its array; else it holds another one."""
    for shape in ((), (2, 3)):
        array = backend.asarray(sample("float32", shape), "float32")
        cell = Cell(array, StateLock())
        backend.overwrite(cell, backend.asarray(sample("float32", shape, 1), "float32"))
        expected = "the same array" if backend.in_place else "another array"
        require((cell.array is array) is backend.in_place, f"in_place={backend.in_place}", expected, "the reverse")


@clause("Backend.overwrite")
def overwrite_leaves_snapshots(backend: Backend) -> None:
    """Copies taken of a cell before, on the backend and on the host, stay as they were."""
    for shape in ((), (2, 3)):
        cell = Cell(backend.asarray(sample("float32", shape), "float32"), StateLock())
        snapshots, hosts = [], []
        for start in range(1, 4):
            snapshots.append(backend.copy(cell.array))
            hosts.append(backend.to_numpy(cell.array))
            backend.overwrite(cell, backend.asarray(sample("float32", shape, start), "float32"))
        for start, (snapshot, host) in enumerate(zip(snapshots, hosts, strict=True)):
            expected = sample("float32", shape, start)
            expect_array(backend, f"snapshot {start}, after the last overwrite", snapshot, expected, "float32")
            require(np.array_equal(host, expected), f"host snapshot {start}", expected.tolist(), host.tolist())


@clause("Backend.in_place, Backend.overwrite")
def overwrite_in_place_copies(backend: Backend) -> None:
    """In place, the cell takes the values of `new`, not its memory: a later overwrite does not reach `new`."""
    if not backend.in_place:
        return  # the cell then holds `new` itself
    cell = Cell(backend.asarray(sample("float32"), "float32"), StateLock())
    new = backend.asarray(sample("float32", (2, 3), 1), "float32")
    backend.overwrite(cell, new)
    backend.overwrite(cell, backend.asarray(sample("float32", (2, 3), 2), "float32"))
    expect_array(backend, "new, after the next overwrite", new, sample("float32", (2, 3), 1), "float32")


CHECKS = (
    compile_computes_at_each_call,
    compile_consumes_only_the_first,
    compile_takes_programs_of_any_form,
    overwrite_sets_the_value,
    overwrite_writes_in_place_or_exchanges,
    overwrite_leaves_snapshots,
    overwrite_in_place_copies,
)
