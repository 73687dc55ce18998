"""What the checks share: how a broken clause is told, how values are compared, how shared memory is found out."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, wraps
from typing import Any, TypeAlias

import numpy as np

from multisched.arrays import Array
from multisched.errors import MultischedError
from multisched.runtime.locks import StateLock
from multisched.runtime.protocol import Backend, Cell
from multisched.runtime.registry import get_backend

Check: TypeAlias = Callable[[Backend], None]
"""Raises `AssertionError` if a backend breaks one clause of the contract."""

ULPS = 4.0
"""How far floats may lie apart between frameworks, in units in the last place at the largest operand or result."""


class ConformanceError(MultischedError, ExceptionGroup[AssertionError]):
    """A backend breaks clauses of the contract: `exceptions` holds one `AssertionError` for each failed check."""

    def derive(self, excs: Sequence[AssertionError]) -> "ConformanceError":  # type: ignore[override]  # narrower
        return ConformanceError(self.message, excs)  # so that what is left by `except*` is one too


def clause(member: str) -> Callable[[Check], Check]:
    """Turn whatever a check raises into an `AssertionError` that says which clause is broken: member and docstring."""

    def decorate(check: Check) -> Check:
        claim = " ".join((check.__doc__ or "").split())

        @wraps(check)
        def checked(backend: Backend) -> None:
            try:
                check(backend)
            except Exception as found:
                reason = str(found) if isinstance(found, AssertionError) else f"{type(found).__name__}: {found}"
                name = getattr(backend, "name", type(backend).__name__)
                raise AssertionError(f"{name!r} breaks {member} in {check.__name__}: {claim}\n{reason}") from found

        return checked

    return decorate


def require(fulfilled: object, given: object, expected: object, got: object) -> None:
    """Raise `AssertionError` with what was given, expected and got, unless fulfilled."""
    if not fulfilled:
        raise AssertionError(f"given {given}\n  expected {expected}\n  got      {got}")


def refused(error: type[Exception], given: str, call: Callable[[], object]) -> None:
    """Require that `call` raises `error`."""
    try:
        result = call()
    except error:
        return
    except Exception as found:
        raise AssertionError(f"given {given}\n  expected {error.__name__}\n  got      {found!r}") from found
    require(False, given, error.__name__, repr(result))


# --- values ----------------------------------------------------------------------------------------------------------
def host_dtype(dtype: str) -> Any:
    """NumPy's dtype of that name, bfloat16 included."""
    return get_backend("numpy").dtype(dtype)


def sample(dtype: str, shape: tuple[int, ...] = (2, 3), start: int = 0) -> np.ndarray:
    """An array of distinct small values that `dtype` holds exactly (of a bool, both)."""
    count = int(np.prod(shape, dtype=object))
    numbers = np.arange(start, start + count).reshape(shape)
    halves = "float" in dtype or "complex" in dtype
    values = numbers % 2 == 0 if dtype == "bool" else numbers * 0.5 if halves else numbers
    return np.array(values, dtype=host_dtype(dtype))  # an array of 0 dimensions too, which can be written to


def expect_array(
    backend: Backend,
    given: object,
    array: Array,
    expected: np.ndarray,
    dtype: str,
    ulps: float = 0.0,
    operands: tuple[Any, ...] = (),
) -> None:
    """Require the shape, dtype and values of an array of the backend."""
    got = backend.to_numpy(array)
    require(type(got) is np.ndarray, f"to_numpy of {given}", "a numpy.ndarray", type(got).__name__)
    told = f"{dtype}{expected.shape} {expected.tolist()}"
    same = got.dtype.name == dtype and got.shape == expected.shape
    require(same and distance(got, expected, operands) <= ulps, given, told, f"{got.dtype}{got.shape} {got.tolist()}")


def distance(got: np.ndarray, expected: np.ndarray, operands: tuple[Any, ...] = ()) -> float:
    """The largest distance of two arrays of one shape, in units in the last place of `got`; infinite for misfits."""
    if got.dtype.kind in "biu":
        return 0.0 if np.array_equal(got, expected) else np.inf
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    got_wide, expected = got.astype(wide), np.asarray(expected).astype(wide)
    if np.array_equal(got_wide, expected, equal_nan=True):
        return 0.0
    finite = np.isfinite(expected)
    if got.dtype.kind not in "fc" or not np.array_equal(got_wide[~finite], expected[~finite], equal_nan=True):
        return np.inf
    scale = np.maximum.reduce([np.broadcast_to(np.abs(x), expected.shape) for x in (expected, *operands)])
    unit = np.spacing(scale[finite].astype(got.real.dtype)).astype(np.float64)
    apart = np.abs(got_wide[finite] - expected[finite]) / unit
    return float(np.max(apart)) if np.all(np.isfinite(apart)) else np.inf


# --- memory ----------------------------------------------------------------------------------------------------------
def write_over(backend: Backend, array: Array) -> None:
    """Change or use up the memory of an array, in each of the ways that may happen to a variable's."""
    other = backend.asarray(1 - backend.to_numpy(array).astype(np.float64), _dtype_of(backend, array))
    with suppress(Exception):  # immutable arrays refuse, each in its own words
        array[...] = other  # some frameworks let users write where their adapters do not
    backend.overwrite(Cell(array, StateLock()), other)
    _consumer(backend)(array)  # type: ignore[arg-type]  # adapters are hashable, which mypy does not know of protocols


@lru_cache(maxsize=4)
def _consumer(backend: Backend) -> Callable[[Array], object]:
    """A program that may use up its argument; kept, since compiling it takes longer than the rest of a check."""
    copy = backend.operation("copy")
    return backend.compile(lambda consumed: (copy(consumed),), 1, True)


def apart(backend: Backend, given: str, written: Array, kept: Array) -> None:
    """Require that `kept` is as it was after `written` has been written over."""
    before = backend.to_numpy(kept)
    require(kept is not written, given, "a new array", "the same one")
    write_over(backend, written)
    try:
        after = backend.to_numpy(kept)
    except Exception as cause:
        raise AssertionError(f"given {given}\n  expected an array of its own\n  got      {cause!r}") from cause
    require(distance(after, before) == 0, given, f"still {before.tolist()} after a write to the other", after.tolist())


def _dtype_of(backend: Backend, array: Array) -> str:
    return str(backend.to_numpy(array).dtype.name)
