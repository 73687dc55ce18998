"""What is known of each leaf of a model, and the check that what comes in later is like it."""

import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from multisched.arrays import BITS, dtype_name, is_symbolic, kind_of, namespace_of
from multisched.errors import LeafError, MultischedError, TracedInputError, TreeMismatch, shown
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend
from multisched.trees.policy import COPY, SKIP, Policy, is_dense
from multisched.trees.structure import loaded_backends


class Leaf(NamedTuple):
    """What is known of a leaf since the average was made."""

    name: str
    policy: Policy
    shape: tuple[int, ...] | None
    """None for what is no array, or is skipped."""
    dtype: str
    device: Any
    """As `Backend.placed` tells it: the device, or the layout over several."""


def described(backend: Backend, name: str, policy: Policy, leaf: Any) -> Leaf:
    """What is known of a leaf from its first value."""
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
    """Why an array has no values, in words; "" if it has some."""
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


class LeafChecks:
    """Checks the leaves of a model against what is known of them.

    To look at each leaf takes time, so that the types and the signature of leaves that were right are kept: leaves of
    the same signature are right, too.
    """

    def __init__(self, backend: Backend, leaves: Sequence[Leaf]):
        self._backend = backend
        self._leaves = leaves
        self._arrays = [i for i, leaf in enumerate(leaves) if leaf.shape is not None]
        self._types: set[type] = set()
        self._signature: Any = None

    def arrays_of(self, leaves: list[Any]) -> list[Any]:
        """Those of all leaves that are arrays of the average."""
        return leaves if len(self._arrays) == len(leaves) else [leaves[i] for i in self._arrays]

    def checked(self, leaves: list[Any]) -> list[Any]:
        """The leaves as arrays of the backend: the same list, unless some are converted from NumPy.

        Raises `TreeMismatch` for a leaf of another shape, kind of dtype, or device.
        """
        arrays = self.arrays_of(leaves)
        if self._are_known(arrays):
            return leaves
        found = [checked(self._backend, leaf, value) for leaf, value in zip(self._leaves, leaves, strict=True)]
        if not all(map(operator.is_, leaves, found)):
            return found
        self._types, self._signature = set(map(type, arrays)), self._backend.signature(arrays)
        return leaves

    def _are_known(self, arrays: list[Any]) -> bool:
        if self._signature is None or not set(map(type, arrays)) <= self._types:
            return False
        return bool(self._backend.signature(arrays) == self._signature)


def references(arrays: list[Any]) -> list[Callable[[], Any]]:
    """Weak references, which do not keep arrays alive that the user exchanges; a dead one where none can be made."""
    found: list[Callable[[], Any]] = []
    for array in arrays:
        try:
            found.append(weakref.ref(array))
        except TypeError:
            found.append(lambda: None)
    return found


def checked(backend: Backend, leaf: Leaf, value: Any) -> Any:
    """The value of a leaf, if its shape, kind of dtype and device are those that the leaf had."""
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
    """An array of NumPy in a tree of another backend, as an array of that backend."""
    if not isinstance(value, np.ndarray | np.generic):
        raise error(f"{name!r} is no array of the backend {backend.name!r}, got {shown(value)}.")
    array = backend.as_input(value, dtype_name(value.dtype))  # there are programs that take NumPy's as they are
    return array if backend.owns(array) else backend.asarray(array, dtype_name(value.dtype))


def deleted(leaves: Sequence[Leaf], values: Sequence[Any]) -> str | None:
    """A message that names the first leaf whose value has no memory any more; None if there is none."""
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
