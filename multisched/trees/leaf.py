"""What is known of each leaf of a model, and whether what comes in is of the kind."""

import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from multisched.arrays import BITS, dtype_name, is_symbolic, kind_of, namespace_of
from multisched.errors import LeafError, MultischedError, TracedInputError, TreeMismatch, shown
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend
from multisched.trees.policy import COPY, SKIP, is_dense
from multisched.trees.structure import loaded_backends


class Leaf(NamedTuple):
    """What is known of a leaf."""

    name: str
    policy: str
    shape: tuple[int, ...] | None
    """None for what is no array, or is skipped."""
    dtype: str
    device: Any


def described(backend: Backend, name: str, policy: str, leaf: Any) -> Leaf:
    """What is known of a leaf from what it is at first."""
    if policy == SKIP or not hasattr(leaf, "dtype"):
        return Leaf(name, policy, None, "", None)
    if is_symbolic(leaf):
        raise LeafError(f"The leaf {name!r} is declared and has no value; ms.declare averages it: {leaf}.")
    if backend.is_traced(leaf):
        raise TracedInputError(_TRACED)
    dtype, lacking = dtype_name(leaf.dtype), _lacking(backend, leaf)
    if policy == COPY and (lacking or not _is_plain(backend, leaf)):
        return Leaf(name, policy, None, "", None)
    if lacking:
        raise LeafError(f'The leaf {name!r} {lacking} Or leave it out: select={{{name!r}: "skip"}}.')
    if is_deleted(leaf):
        raise LeafError(f"The leaf {name!r} has no values any more: it was {_DONATED}")
    owned = leaf if backend.owns(leaf) else _converted(backend, name, leaf, LeafError)
    return Leaf(name, policy, tuple(leaf.shape), dtype, backend.placed(owned))


def _is_plain(backend: Backend, leaf: Any) -> bool:
    """Whether a leaf can lie among the arrays of an average: a dense one of a dtype that all backends know."""
    here = backend.owns(leaf) or isinstance(leaf, np.ndarray | np.generic)
    return here and dtype_name(leaf.dtype) in BITS and is_dense(backend, leaf)


def _lacking(backend: Backend, leaf: Any) -> str:
    """Why an array has no values, in words; empty if it has some."""
    tell: Any = getattr(backend, "lacking", None)  # an adapter may have no such arrays
    return "" if tell is None or not backend.owns(leaf) else str(tell(leaf))


def duplicate(leaf: Any) -> Any:
    """A copy of a leaf of any kind, if it is an array; anything else as it is."""
    if not hasattr(leaf, "dtype") or (backend := owner(leaf)) is None or isinstance(leaf, np.generic):
        return leaf
    return getattr(backend, "duplicate", backend.copy)(leaf)


def owner(leaf: Any) -> Any:
    """The backend whose array a leaf is, if any."""
    found = next((backend for backend in loaded_backends() if backend.owns(leaf)), None)
    if found is None and hasattr(leaf, "__array_namespace__") and not is_symbolic(leaf):
        return get_backend(namespace_of(leaf))
    return found


Memos = dict[str, dict[str, Any]]
"""A memo for each pool."""


class Seen:
    """Checks leaves against what is known of them, and remembers what is right, since looking at each takes time."""

    def __init__(self, backend: Backend, leaves: Sequence[Leaf]):
        self._backend = backend
        self._leaves = leaves
        self._arrays = [i for i, leaf in enumerate(leaves) if leaf.shape is not None]
        self._all = len(self._arrays) == len(leaves)
        self._types: set[type] = set()
        self._signature: Any = None
        self._before: tuple[list[Any], Any, Memos] | None = None

    def memos(self, bound: bool) -> "Memos":
        """What adapters may note of the leaves that were checked last, see `Runs`: gone with the first that moves."""
        return {} if self._before is None or not bound else self._before[2]

    def checked(self, leaves: list[Any], bound: bool = False) -> list[Any]:
        """The leaves, as arrays of the backend; `bound` for those of the model that the average was made of.

        Raises `TreeMismatch` for one of another shape, kind of dtype, or device.
        """
        arrays = self._of(leaves)
        if bound and self._same(arrays):
            return leaves
        if bound:
            self._before = None
        if not self._looks_right(arrays):
            result = [checked(self._backend, leaf, value) for leaf, value in zip(self._leaves, leaves, strict=True)]
            if not all(map(operator.is_, leaves, result)):
                return result
            self._types, self._signature = set(map(type, arrays)), self._backend.signature(arrays)
        addresses = self._backend.addresses(arrays) if bound else None
        if addresses is not None:
            self._before = references(arrays), addresses, {}
        return leaves

    def _same(self, arrays: list[Any]) -> bool:
        if self._before is None:
            return False
        before, then, _ = self._before
        return all(map(operator.is_, arrays, map(operator.call, before))) and self._backend.addresses(arrays) == then

    def _of(self, leaves: list[Any]) -> list[Any]:
        return leaves if self._all else [leaves[i] for i in self._arrays]

    def _looks_right(self, arrays: list[Any]) -> bool:
        if self._signature is None or not set(map(type, arrays)) <= self._types:
            return False
        return bool(self._backend.signature(arrays) == self._signature)


def references(arrays: list[Any]) -> list[Callable[[], Any]]:
    """Weak ones: arrays that the user exchanges are not kept alive. Of what allows none, one to nothing."""
    found: list[Callable[[], Any]] = []
    for array in arrays:
        try:
            found.append(weakref.ref(array))
        except TypeError:
            found.append(lambda: None)
    return found


def checked(backend: Backend, leaf: Leaf, value: Any) -> Any:
    """The value of a leaf, if it is as the leaf was."""
    if leaf.shape is None:
        return value
    if not backend.owns(value):
        value = _converted(backend, leaf.name, value, TreeMismatch)
    shape, dtype = tuple(value.shape), dtype_name(value.dtype)
    if shape != leaf.shape:
        raise TreeMismatch(f"{leaf.name!r} has the shape {shape}, and {leaf.shape} in the average.")
    if dtype != leaf.dtype and (dtype not in BITS or kind_of(dtype) != kind_of(leaf.dtype)):
        raise TreeMismatch(f"{leaf.name!r} has the dtype {dtype}, and {leaf.dtype} in the average.")
    if backend.is_traced(value):
        raise TracedInputError(_TRACED)
    device = backend.placed(value)
    if device != leaf.device:
        raise TreeMismatch(f"{leaf.name!r} is on the device {device}, and on {leaf.device} in the average.")
    return value


def _converted(backend: Backend, name: str, value: Any, error: type[MultischedError]) -> Any:
    """An array of NumPy in a tree of another backend."""
    if not isinstance(value, np.ndarray | np.generic):
        raise error(f"{name!r} is no array of the backend {backend.name!r}, got {shown(value)}.")
    array = backend.as_input(value, dtype_name(value.dtype))  # there are programs that take NumPy's as they are
    return array if backend.owns(array) else backend.asarray(array, dtype_name(value.dtype))


def deleted(leaves: Sequence[Leaf], values: Sequence[Any]) -> str | None:
    """What is wrong with values of which one has no memory any more."""
    for leaf, value in zip(leaves, values, strict=True):
        if leaf.shape is not None and is_deleted(value):
            return f"{leaf.name!r} has no values any more: it was {_DONATED}"
    return None


def is_deleted(array: Any) -> bool:
    """Whether the framework has given the memory of an array away, as JAX does with what is donated."""
    found = getattr(array, "is_deleted", None)
    try:
        return callable(found) and bool(found())
    except TypeError:  # of a tracer
        return False


_DONATED = """\
donated to a compiled function, or deleted. Give the arrays that the function returned: avg.update(new_params)."""
_TRACED = """\
A leaf is being traced by a compiler, and an average cannot keep a traced value. Inside jit or scan use the pure rule,
`rule.init` and `rule.step` on each leaf, or `ms.as_optax(rule)` in the optimizer."""
