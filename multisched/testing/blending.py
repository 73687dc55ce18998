"""Checks of how the leaves of a model are blended into the arrays of an average.

Arrays of the state are given all at once, as in use: one that is held for one leaf alone, and packs of several leaves.
"""

from math import prod
from typing import Any

import numpy as np

from multisched.arrays import Array, dtype_name, namespace_of
from multisched.runtime.protocol import Backend, Parts
from multisched.testing.support import ULPS, apart, clause, expect_array, require, sample

_RUNS: dict[str, tuple[tuple[tuple[int, ...], ...], ...]] = {
    "a leaf": (((2, 3),),),
    "a 0-d leaf": (((),),),
    "an empty leaf": (((0, 3),),),
    "a pack of leaves": (((2, 3), (2, 3)), ((4,),), ((), ()), ((0, 2),), ((1, 2), (1, 2), (1, 2))),
}
"""The shapes of the leaves that one array of the state belongs to: runs of one shape."""
LARGE = 2**20 + 3
"""Elements of an array that adapters do not work through in one block."""

Runs = list[list[np.ndarray]]


class Given:
    """Arrays to be blended: what is held, and leaves of the dtypes in turn; on the host, and on the backend."""

    backend: Backend
    held: str
    """The dtype of the arrays that are held."""
    dtypes: tuple[str, ...]
    values: list[Runs]
    before: list[np.ndarray]

    def __init__(self, backend: Backend, held: str, dtypes: tuple[str, ...] = ()):
        self.backend, self.held = backend, held
        self.dtypes = dtypes or (held,)
        self.values = [self._leaves(runs) for runs in _RUNS.values()]
        self.before = [sample(held, _joined(runs).shape, 1) for runs in self.values]

    def _leaves(self, runs: tuple[tuple[tuple[int, ...], ...], ...]) -> Runs:
        found: Runs = []
        count, at = 0, 4
        for run in runs:
            found += [[]]
            for shape in run:
                found[-1].append(sample(self.dtypes[count % len(self.dtypes)], shape, at))
                count, at = count + 1, at + prod(shape)
        return found

    def arrays(self) -> tuple[list[Array], list[list[list[Array]]]]:
        """Both, new ones on the backend at each call."""
        make = self.backend.asarray
        new = [[[make(leaf, leaf.dtype.name) for leaf in run] for run in runs] for runs in self.values]
        return [make(array, self.held) for array in self.before], new

    def expect(self, share: Any, number: float | None, where: Any = None, moves: bool = True, ulps: float = 0) -> None:
        """Blend, and require what a share of `number` gives; None copies."""
        old, new = self.arrays()
        result = self.backend.blend(old, new, share, where)
        told = f"blend into {self.held}, leaves of {', '.join(self.dtypes)}, share={share!r}, where={where!r}"
        require(len(result) == len(old), told, f"{len(old)} arrays", len(result))
        for layout, array, before, runs in zip(_RUNS, result, self.before, self.values, strict=True):
            value = _joined(runs)
            expected = _mean(before, value, number) if moves else before
            expect_array(self.backend, f"{told}, {layout}", array, expected, self.held, ulps, (before, value))
            require(type(array) in self.backend.array_types, told, self.backend.array_types, type(array))


def _joined(runs: Runs) -> np.ndarray:
    """Leaves as the array that holds them, floats in double precision, since not all have a common dtype."""
    wide = {"c": np.complex128, "f": np.float64, "V": np.float64}
    leaves = [leaf.astype(wide.get(leaf.dtype.kind, leaf.dtype)) for run in runs for leaf in run]
    return leaves[0] if len(leaves) == 1 else np.concatenate([leaf.reshape(-1) for leaf in leaves])


def _mean(before: np.ndarray, value: np.ndarray, share: float | None) -> np.ndarray:
    """What blending must give, computed in double precision."""
    if share is None or share == 1:
        return np.asarray(value.astype(before.dtype))
    old = before.astype(value.dtype)
    return np.asarray((old + share * (value - old)).astype(before.dtype))


def _floating(backend: Backend) -> list[str]:
    dtypes = ("float32", "float64", "bfloat16", "float16", "complex64")
    return [dtype for dtype in dtypes if backend.supports(dtype)]


# --- blend -----------------------------------------------------------------------------------------------------------
@clause("Backend.blend")
def blend_moves_by_the_share(backend: Backend) -> None:
    """`old + share * (new - old)` for each array, a share being a float or a floating scalar array; 0 moves nothing."""
    for dtype in _floating(backend):
        given = Given(backend, dtype)
        for number in (0.25, 0.75, 0.0):  # numbers that give exact results
            given.expect(number, number)
            given.expect(backend.asarray(number, "float32"), number)
        if dtype not in ("bfloat16", "float16"):
            given.expect(0.1, 0.1, ulps=ULPS)  # in the precision of what is held


@clause("Backend.blend")
def blend_copies(backend: Backend) -> None:
    """A share of None copies arrays of any dtype; one of 1 gives the value exactly, whatever was there before."""
    for dtype in ("bool", "int32", "int64", "uint8", *_floating(backend)):
        if backend.supports(dtype):
            Given(backend, dtype).expect(None, None)
    for dtype in _floating(backend):
        for before in (1e4, np.inf, np.nan):
            given = Given(backend, dtype)
            given.before = [np.full_like(array, before) for array in given.before]
            with np.errstate(all="ignore"):  # of namespaces that are NumPy's underneath
                for share in (None, 1.0, backend.asarray(1.0, "float32")):
                    given.expect(share, 1.0)


@clause("Backend.blend")
def blend_takes_other_dtypes(backend: Backend) -> None:
    """Leaves may be of other dtypes of the kind, each its own, blended in the dtype of what is held."""
    floats = [("float32", "bfloat16"), ("float32", "float16"), ("float32", "float64"), ("float64", "float32")]
    integers = [("int64", "int32"), ("int32", "int64")]
    for held, dtype in (*floats, ("bfloat16", "float32"), ("complex64", "complex128"), *integers):
        if not (backend.supports(held) and backend.supports(dtype)):
            continue
        for dtypes in ((dtype,), (dtype, held)):
            given = Given(backend, held, dtypes)
            given.expect(None, None)
            if (held, dtype) in integers:
                continue
            if held != "bfloat16":  # what the narrow ones among the leaves cannot hold
                given.values = [[[leaf + leaf.dtype.type(2**-12) for leaf in run] for run in x] for x in given.values]
            for number in (1.0, 0.25):
                given.expect(number, number)
                given.expect(backend.asarray(number, "float32"), number)


@clause("Backend.blend")
def blend_stays_where_false(backend: Backend) -> None:
    """Where `where`, a boolean scalar array, is false, all stays as it is, also beside NaN; where true, it moves."""
    yes, no = backend.asarray(True, "bool"), backend.asarray(False, "bool")
    shares = (None, 1.0, 0.25, backend.asarray(1.0, "float32"), backend.asarray(0.25, "float32"))
    for dtype, dtypes in (("float32", ()), ("float32", ("float16",)), ("complex64", ()), ("int32", ())):
        if not all(map(backend.supports, (dtype, *dtypes))):
            continue
        for share in shares[:1] if dtype == "int32" else shares:
            given = Given(backend, dtype, dtypes)
            given.expect(share, None if share is None else float(share), yes)
            if dtype != "int32":
                given.values = [[[np.full_like(leaf, np.nan) for leaf in run] for run in x] for x in given.values]
            given.expect(share, None, no, moves=False)


@clause("Backend.blend, Backend.in_place")
def blend_writes_in_place(backend: Backend) -> None:
    """In place where arrays are mutable: what was given holds the result."""
    if not backend.in_place:
        return  # what was given may have been used up
    for share in (None, 1.0, 0.25, backend.asarray(0.25, "float32")):
        old, new = Given(backend, "float32").arrays()
        result = backend.blend(old, new, share)
        for layout, array, given in zip(_RUNS, result, old, strict=True):
            told = f"{layout} with share={share!r}, the array that was given"
            expect_array(backend, told, given, backend.to_numpy(array), "float32")


@clause("Backend.blend")
def blend_shares_no_memory(backend: Backend) -> None:
    """Neither does a later write to a leaf reach the result, nor one to the result a leaf."""
    for share in (None, 1.0, 0.25):
        for where in (None, backend.asarray(True, "bool")):
            told = f"with share={share!r}, where={where!r}"
            for result_first in (True, False):
                old, new = Given(backend, "float32").arrays()
                for layout, array, runs in zip(_RUNS, backend.blend(old, new, share, where), new, strict=True):
                    leaf = runs[0][0]
                    apart(backend, f"{layout} {told}", *((array, leaf) if result_first else (leaf, array)))


@clause("Backend.blend, Backend.blend_by")
def blends_record_nothing(backend: Backend) -> None:
    """What is blended carries no gradient, though the leaves do."""
    if not hasattr(backend.asarray(1.0, "float32"), "requires_grad_"):
        return  # the arrays of this framework carry none
    for share in (None, 1.0, 0.25, backend.asarray(0.25, "float32"), "by a step"):
        old, new = Given(backend, "float32").arrays()
        for leaf in [leaf for runs in new for run in runs for leaf in run]:
            leaf.requires_grad_()
        if share == "by a step":
            held = [parts[0] for parts in backend.blend_by(_latest, [(array,) for array in old], new)]
        else:
            held = backend.blend(old, new, share)
        for array in held:
            told = f"leaves that record, share={share!r}"
            require(not array.requires_grad, told, "arrays that do not", "one that does")


def _latest(parts: Parts, value: Array, index: Array) -> Parts:
    return (value + 0 * parts[0],)


@clause("Backend.blend")
def blend_takes_large_and_transposed_leaves(backend: Backend) -> None:
    """Leaves of any size, in any order of memory, into what `asarray` makes of an array of any order."""
    transposed = backend.operation("permute_dims")
    for shape in ((1, LARGE), (1025, 1030), (3, 2)):
        host = large(shape)
        leaf = transposed(backend.asarray(np.ascontiguousarray(host.T) + 8, "float32"), (1, 0))
        for order in (np.ascontiguousarray(host), transposed(backend.asarray(host.T, "float32"), (1, 0))):
            (result,) = backend.blend([backend.asarray(order, "float32")], [[[leaf]]], 0.25)
            expect_large(f"blend of a transposed leaf of shape {shape}", backend.to_numpy(result), host + 2)


def large(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that float32 holds exactly, and that tell elements of different blocks apart."""
    return (np.arange(prod(shape)) % 4099).reshape(shape).astype(np.float32)


def expect_large(given: str, got: np.ndarray, expected: np.ndarray) -> None:
    """Without all elements in the message."""
    same = got.shape == expected.shape and got.dtype == expected.dtype
    require(same, given, f"{expected.dtype}{expected.shape}", f"{got.dtype}{got.shape}")
    wrong = np.flatnonzero(got != expected)
    if wrong.size:
        require(False, f"{given}, element {wrong[0]}", expected.reshape(-1)[wrong[0]], got.reshape(-1)[wrong[0]])


# --- blend_by --------------------------------------------------------------------------------------------------------
def _step(parts: Parts, value: Array, index: Array, scale: Any, shift: Any, nothing: None) -> Parts:
    """Of two parts: the first and the value, scaled; the second and the position, shifted."""
    shapes = {tuple(array.shape) for array in (*parts, value, index)}
    require(len(parts) == 2 and len(shapes) == 1, "a step", "two parts, a value and an index of one shape", shapes)
    require(dtype_name(index.dtype) == "int32", "index", "an int32 array", index.dtype)
    require(nothing is None, "a scalar of None", None, nothing)
    xp, dtype = namespace_of(parts[0]), parts[0].dtype
    return parts[0] + scale * xp.astype(value, dtype), parts[1] + xp.astype(index, dtype) + shift


@clause("Backend.blend_by")
def blend_by_takes_each_step(backend: Backend) -> None:
    """`step(parts, value, index, *scalars)` gives each part, with `index` counting the elements of all arrays."""
    given = Given(backend, "float32")
    for scale, shift in ((0.5, 2.0), (1.0, -1), (backend.asarray(0.5, "float32"), backend.asarray(2.0, "float32"))):
        old, new = given.arrays()
        seconds = [backend.asarray(100 + array, "float32") for array in given.before]
        held = backend.blend_by(_step, list(zip(old, seconds, strict=True)), new, scale, shift, None)
        told, at = f"blend_by with scalars {scale!r}, {shift!r}, None", 0
        for layout, parts, before, runs in zip(_RUNS, held, given.before, given.values, strict=True):
            require(len(parts) == 2, f"{told}, {layout}", "two parts", len(parts))
            place = np.arange(at, at + before.size).reshape(before.shape)
            first = (before + np.float32(scale) * _joined(runs)).astype(np.float32)
            expect_array(backend, f"{told}, first part of {layout}", parts[0], first, "float32")
            second = (100 + before + place + np.float32(shift)).astype(np.float32)
            expect_array(backend, f"{told}, second part of {layout}", parts[1], second, "float32")
            at += before.size


@clause("Backend.blend_by")
def blend_by_gives_values_in_their_dtype(backend: Backend) -> None:
    """`value` is what the leaves hold, in the dtype of the leaves, and the results are held in that of the parts."""
    for held, dtype in (("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", "float32"), ("float32", "int32")):
        if not (backend.supports(held) and backend.supports(dtype)):
            continue
        seen: list[str] = []

        def step(parts: Parts, value: Array, index: Array, seen: list[str] = seen) -> Parts:
            seen.append(dtype_name(value.dtype))
            return (namespace_of(value).astype(value, parts[0].dtype),)

        given = Given(backend, held, (dtype,))
        old, new = given.arrays()
        result = backend.blend_by(step, [(array,) for array in old], new)
        require(set(seen) == {dtype}, f"leaves of {dtype}", f"a value of {dtype}", sorted(set(seen)))
        for layout, parts, before, runs in zip(_RUNS, result, given.before, given.values, strict=True):
            expected = _joined(runs).astype(before.dtype)
            expect_array(backend, f"{dtype} leaves in {held} parts, {layout}", parts[0], expected, held)


@clause("Backend.blend_by")
def blend_by_takes_large_leaves(backend: Backend) -> None:
    """Block by block gives what one step for all elements gives, and in place where arrays are mutable."""
    host = large((LARGE,))
    old = [tuple(backend.asarray(array, "float32") for array in (host[:size], 0 * host[:size])) for size in (3, LARGE)]
    new = [[[backend.asarray(host[:size] + 8, "float32")]] for size in (3, LARGE)]
    held = backend.blend_by(_step, list(old), new, 0.25, 1.0, None)
    expected = host + np.float32(0.25) * (host + 8), np.arange(3, LARGE + 3, dtype=np.float32) + 1
    for parts in (held[1], old[1]) if backend.in_place else (held[1],):
        for number, (part, wanted) in enumerate(zip(parts, expected, strict=True)):
            expect_large(f"part {number} of a leaf of {LARGE} elements", backend.to_numpy(part), wanted)


CHECKS = (
    blend_moves_by_the_share,
    blend_copies,
    blend_takes_other_dtypes,
    blend_stays_where_false,
    blend_writes_in_place,
    blend_shares_no_memory,
    blends_record_nothing,
    blend_takes_large_and_transposed_leaves,
    blend_by_takes_each_step,
    blend_by_gives_values_in_their_dtype,
    blend_by_takes_large_leaves,
)
