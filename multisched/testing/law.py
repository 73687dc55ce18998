"""How a law is told: its number, its name, what it says, and where a rule breaks it."""

import sys
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from multisched.arrays import Array
from multisched.errors import BackendNotInstalled, brief
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import available_backends, get_backend
from multisched.testing.support import require


class Law(NamedTuple):
    """One law of rules, as `docs/design.md` numbers it."""

    number: int
    name: str
    says: str
    """The law in a sentence."""
    check: Callable[[Any, Backend | str], None]
    """`check(rule, backend)` raises `AssertionError` where the rule breaks the law; `backend` may be a name."""


def law(number: int, name: str) -> Callable[[Callable[[Any, Backend], None]], Law]:
    """Make a law of a function `check(rule, adapter)`, whose docstring says it.

    Whatever the function raises becomes an `AssertionError` that names the law, the rule and the backend.
    """

    def decorate(check: Callable[[Any, Backend], None]) -> Law:
        says = " ".join((check.__doc__ or "").split())

        @wraps(check)
        def checked(rule: Any, backend: Backend | str) -> None:
            backend = get_backend(backend)
            try:
                check(rule, backend)
            except Exception as found:
                reason = str(found)
                if not isinstance(found, AssertionError):
                    frame = traceback.extract_tb(found.__traceback__)[-1]
                    reason = f"{type(found).__name__} in {frame.filename}:{frame.lineno}: {found}"
                raise AssertionError(
                    f"{brief(rule, 200)} breaks law {number}, {name}, on {backend.name!r}: {says}\n{reason}"
                ) from found

        return Law(number, name, says, checked)

    return decorate


def adapters(backends: Any = None) -> Iterator[Backend]:
    """The adapters of the named backends; by default of those whose framework is installed."""
    named = [backends] if isinstance(backends, str) else backends
    for name in available_backends() if named is None else named:
        try:
            yield get_backend(name)
        except BackendNotInstalled:
            if backends is not None:
                raise


def within(given: object, got: Any, expected: Any, ulps: float, largest: float, dtype: str = "float32") -> None:
    """Require that numbers are as expected: not finite where these are not, and else within units in the last place.

    A unit is that of `largest`, the largest operand, in `dtype`.
    """
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    require(got.shape == expected.shape, given, f"the shape {expected.shape}", f"the shape {got.shape}")
    unit = float(np.spacing(np.asarray(max(abs(largest), float(np.finfo(dtype).tiny)), dtype)))
    finite = np.isfinite(expected)
    near = np.abs(np.where(finite, got - np.where(finite, expected, 0), 0)) <= ulps * unit
    same = (got == expected) | (np.isnan(got) & np.isnan(expected)) | (finite & near)
    require(same.all(), given, f"{expected} to {ulps:g} units in the last place of {dtype} at {largest:g}", got)


def can_be_pickled(definition: Any) -> bool:
    """Whether pickle finds a function or class by its module and name; not one that was defined inside a function."""
    found: Any = sys.modules.get(definition.__module__ or "")
    for name in definition.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not None


def on_host(backend: Backend, array: Array) -> np.ndarray:
    """A copy of an array on the host."""
    return np.array(backend.to_numpy(array))
