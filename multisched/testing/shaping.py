"""Checks of the operations that reduce, choose, shape, join and index arrays, called as programs call them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from multisched.arrays import Array, kind_of
from multisched.graph import infer
from multisched.runtime.protocol import Backend
from multisched.testing.operations import Case, computing, run
from multisched.testing.support import ULPS, apart, clause, sample

_REDUCED = {
    **dict.fromkeys(infer.REDUCE_KEEP + infer.REDUCE_TO_INDEX, ("int", "uint", "float")),
    **dict.fromkeys(infer.REDUCE_ADDING, ("int", "uint", "float", "complex")),
    **dict.fromkeys(infer.REDUCE_TO_FLOAT, ("float",)),
    **dict.fromkeys(infer.REDUCE_TO_BOOL, ("bool",)),
}
"""The kinds of dtype that a program gives to each reduction."""


# --- reductions ------------------------------------------------------------------------------------------------------
def _reductions(backend: Backend, name: str, dtype: str) -> Iterator[Case]:
    if kind_of(dtype) not in _REDUCED[name]:
        return
    axes: list[Any] = [None, 0, -1]
    axes += [] if name in infer.REDUCE_TO_INDEX else [(0, 2)]
    axes += [()] if name in infer.REDUCE_ADDING else []
    function, extra = backend.operation(name), _extra(backend, name, dtype)
    for axis in axes:
        for keepdims in (False, True):
            x = _shuffled(dtype, (2, 3, 2))
            expected = np.asarray(_reference(name)(x, axis=axis, keepdims=keepdims))
            yield _reduction(backend, name, function, x, expected, axis=axis, keepdims=keepdims, **extra)
    if name in ("sum", "prod", "all", "any"):  # which have a value for no elements
        empty = np.zeros((0, 3), x.dtype)
        expected = _reference(name)(empty, axis=0)
        yield _reduction(backend, name, function, empty, expected, axis=0, keepdims=False, **extra)


def _reduction(
    backend: Backend, name: str, function: Callable[..., Array], x: np.ndarray, expected: np.ndarray, **kwargs: Any
) -> Case:
    dtype = backend.default_int if name in infer.REDUCE_TO_INDEX else x.dtype.name
    told = f"{name} with {', '.join(f'{key}={value}' for key, value in kwargs.items())},"
    ulps = 0.0 if name in ("sum", "max", "min") else ULPS
    return Case(told, lambda array: function(array, **kwargs), (x,), expected, dtype, ulps, elementwise=False)


def _extra(backend: Backend, name: str, dtype: str) -> dict[str, Any]:
    if name in infer.REDUCE_ADDING:
        return {"dtype": backend.dtype(dtype)}
    return {"correction": 1.0} if name in ("std", "var") else {}


def _reference(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(np, name)
    if name in ("std", "var"):
        return lambda x, **kwargs: function(x.astype(np.float64), correction=1.0, **kwargs)
    if name in infer.REDUCE_ADDING:
        return lambda x, **kwargs: function(x, dtype=x.dtype, **kwargs)
    return lambda x, **kwargs: function(x.astype(np.float64) if name == "mean" else x, **kwargs)


def _shuffled(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Small values in no order, without a tie that would leave the largest open."""
    x = sample(dtype, shape, 1).ravel()
    return x[np.random.default_rng(0).permutation(x.size)].reshape(shape)


@clause("Backend.operation")
def reductions(backend: Backend) -> None:
    """Over one axis, several, all or none, with `keepdims`; adding takes a `dtype`, and the spread a `correction`."""
    for dtype in computing(backend):
        run(backend, [case for name in infer.REDUCTIONS for case in _reductions(backend, name, dtype)])


# --- choices ---------------------------------------------------------------------------------------------------------
@clause("Backend.operation('where')")
def where_chooses(backend: Backend) -> None:
    """Elementwise and by a scalar, NaN and infinity kept apart, with a Python number as either choice."""
    where, x, y = backend.operation("where"), sample("float32"), -sample("float32") - 1
    y[0, 0], x[1, 1] = np.nan, np.inf
    cases = []
    for condition in (x > 0.75, np.array(True), np.array(False), np.array([[True], [False]])):
        expected = np.where(condition, x, y)
        cases.append(Case("where", where, (condition, x, y), expected, "float32"))
        number = np.where(condition, x, np.float32(2.5))
        cases.append(Case("where(..., 2.5)", lambda c, a: where(c, a, 2.5), (condition, x), number, "float32"))
        number = np.where(condition, np.float32(0.5), x)
        cases.append(Case("where(c, 0.5, ...)", lambda c, a: where(c, 0.5, a), (condition, x), number, "float32"))
    for dtype in computing(backend):
        a, b = sample(dtype), sample(dtype, (3,), 3)
        condition = sample("bool")
        cases.append(Case("where", where, (condition, a, b), np.where(condition, a, b), dtype))
    run(backend, cases)


@clause("Backend.operation('clip')")
def clip_bounds(backend: Backend) -> None:
    """Between two arrays of its dtype, which broadcast, or by one of them, the other being None."""
    clip, cases = backend.operation("clip"), []
    for dtype in ("int32", "float32"):
        x, low, high = sample(dtype), sample(dtype, (), 2), sample(dtype, (3,), 3)
        cases.append(Case("clip(x, low, high)", clip, (x, low, high), np.clip(x, low, high), dtype))
        cases.append(Case("clip(x, low, None)", lambda a, b: clip(a, b, None), (x, low), np.maximum(x, low), dtype))
        cases.append(Case("clip(x, None, high)", lambda a, b: clip(a, None, b), (x, high), np.minimum(x, high), dtype))
    run(backend, cases)


# --- shapes ----------------------------------------------------------------------------------------------------------
_SHAPING: dict[str, tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = {
    "reshape to a matrix": ((2, 6), ((3, 4),), {}),
    "reshape to a scalar": ((1, 1), ((),), {}),
    "reshape of an empty array": ((0, 3), ((3, 0, 2),), {}),
    "permute_dims": ((2, 3, 4), ((2, 0, 1),), {}),
    "expand_dims at the start": ((2, 3), (), {"axis": 0}),
    "expand_dims at the end": ((2, 3), (), {"axis": -1}),
    "squeeze of one axis": ((2, 1, 3), (1,), {}),
    "squeeze of two axes": ((1, 2, 1), ((0, 2),), {}),
    "broadcast_to a matrix": ((3,), ((2, 3),), {}),
    "broadcast_to from a scalar": ((), ((2, 3),), {}),
    "broadcast_to nothing": ((1, 3), ((0, 3),), {}),
    "flip": ((2, 3, 2), (), {"axis": (0, 2)}),
}


@clause("Backend.operation")
def shapes(backend: Backend) -> None:
    """The standard's functions that give the same values in another shape or order."""
    for dtype in ("bool", "int32", "float32"):
        cases = []
        for told, (shape, args, kwargs) in _SHAPING.items():
            name = told.partition(" ")[0]
            x, call = sample(dtype, shape, 1), backend.operation(name)
            expected = getattr(np, name)(x, *args, **kwargs)
            bound = _bound(call, *args, **kwargs)
            cases.append(Case(told, bound, (x,), expected, dtype))
        run(backend, cases)


def _bound(call: Callable[..., Array], *args: Any, **kwargs: Any) -> Callable[[Array], Array]:
    return lambda x: call(x, *args, **kwargs)


@clause("Backend.operation")
def joins(backend: Backend) -> None:
    """`concat` along an axis or of all flattened, `stack` along a new axis, `take` by an array of integers."""
    concat, stack, take = map(backend.operation, ("concat", "stack", "take"))
    cases = []
    for dtype in ("int32", "float32"):
        x, y = sample(dtype), sample(dtype, (1, 3), 6)
        for axis in (0, None):
            joined = np.concatenate([x, y], axis=axis)
            cases.append(Case(f"concat, axis={axis},", _listed(concat, axis), (x, y), joined, dtype))
        for axis in (0, 1, 2):
            cases.append(Case(f"stack, axis={axis},", _listed(stack, axis), (x, -x), np.stack([x, -x], axis), dtype))
        for axis, rows in ((0, [1, 0, 1]), (1, [2]), (1, [])):
            indices = np.array(rows, np.int32)
            taken = np.take(x, indices, axis=axis)
            call = _taking(take, axis)
            cases.append(Case(f"take, axis={axis},", call, (x, indices), taken, dtype))
    run(backend, cases)


def _listed(join: Callable[..., Array], axis: int | None) -> Callable[..., Array]:
    return lambda *arrays: join(list(arrays), axis=axis)


def _taking(take: Callable[..., Array], axis: int) -> Callable[..., Array]:
    return lambda x, indices: take(x, indices, axis=axis)


_KEYS: tuple[Any, ...] = (
    *((1, ...), (-1, 2, ...), (slice(1, 3), ...), (slice(None, None, 2), 0, ...), (..., 1), (..., -1, slice(0, 0))),
    *((None, ...), (..., None), (slice(None), None, 1, ...), (2, 1, 0), (slice(-2, None), slice(1), slice(None))),
)


@clause("Backend.array_types")
def indexing(backend: Backend) -> None:
    """Arrays are indexed by integers, slices that step forwards, `...` and None, as the standard has it."""
    x = sample("float32", (3, 4, 2))
    run(backend, [Case(f"x[{key}]", _indexed(key), (x,), np.asarray(x[key]), "float32") for key in _KEYS])


def _indexed(key: Any) -> Callable[[Array], Array]:
    return lambda x: x[key]


@clause("Backend.operation")
def fresh_choices_are_their_own(backend: Backend) -> None:
    """The results of `where`, `matmul`, `argmax` and `argmin` share no memory with an argument."""
    where, argmax, argmin = map(backend.operation, ("where", "argmax", "argmin"))
    x, y = (backend.asarray(sample("float32", (2, 2), start), "float32") for start in (0, 4))
    for chosen in (True, False):
        condition = backend.asarray(chosen, "bool")
        source = backend.copy(x if chosen else y)
        result = where(condition, source, y) if chosen else where(condition, x, source)
        apart(backend, f"where({chosen}, x, y)", source, result)
    calls: dict[str, Callable[[Array], Array]] = {"x @ y": lambda a: a @ y, "argmax": argmax, "argmin": argmin}
    for told, call in calls.items():
        source = backend.copy(x)
        apart(backend, told, source, call(source))


CHECKS = (reductions, where_chooses, clip_bounds, shapes, joins, indexing, fresh_choices_are_their_own)
