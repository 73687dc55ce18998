"""What is known of each leaf of a model, and whether what comes in is of the kind."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from multisched.arrays import BITS, dtype_name, is_symbolic, kind_of
from multisched.errors import LeafError, TracedInputError, TreeMismatch, shown
from multisched.runtime.protocol import Backend
from multisched.trees.policy import SKIP
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
    dtype = dtype_name(leaf.dtype)
    if dtype not in BITS:
        raise LeafError(f"The leaf {name!r} has the dtype {dtype}, which is not one of {', '.join(BITS)}: skip it.")
    if backend.is_traced(leaf):
        raise TracedInputError(_TRACED)
    owned = leaf if backend.owns(leaf) else backend.as_input(leaf, dtype)
    return Leaf(name, policy, tuple(leaf.shape), dtype, backend.device_of(owned))


def owner(leaf: Any) -> Any:
    """The backend whose array a leaf is, if any."""
    return next((backend for backend in loaded_backends() if backend.owns(leaf)), None)


class Seen:
    """Checks leaves against what is known of them, and remembers what is right, since looking at each takes time."""

    def __init__(self, backend: Backend, leaves: Sequence[Leaf]):
        self._backend = backend
        self._leaves = leaves
        self._arrays = [i for i, leaf in enumerate(leaves) if leaf.shape is not None]
        self._all = len(self._arrays) == len(leaves)
        self._types: set[type] = set()
        self._signature: Any = None
        self._kept: tuple[list[Any], Any] | None = None

    def checked(self, leaves: list[Any], kept: bool = False) -> list[Any]:
        """The leaves, as arrays of the backend; `kept` for those that are alive anyway, as a module's are.

        Raises `TreeMismatch` for one of another shape, kind of dtype, or device.
        """
        addresses = self._backend.addresses(self._of(leaves)) if kept else None
        if addresses is not None and self._kept is not None:
            before, then = self._kept
            if addresses == then and all(map(operator.is_, leaves, before)):
                return leaves
        if addresses is None and self._looks_right(leaves):
            return leaves
        result = [checked(self._backend, leaf, value) for leaf, value in zip(self._leaves, leaves, strict=True)]
        if addresses is not None:
            self._kept = leaves, addresses
        elif all(map(operator.is_, leaves, result)):
            self._types, self._signature = set(map(type, leaves)), self._backend.signature(self._of(leaves))
        return result

    def _of(self, leaves: list[Any]) -> list[Any]:
        return leaves if self._all else [leaves[i] for i in self._arrays]

    def _looks_right(self, leaves: list[Any]) -> bool:
        if self._signature is None or not set(map(type, leaves)) <= self._types:
            return False
        return bool(self._backend.signature(self._of(leaves)) == self._signature)


def checked(backend: Backend, leaf: Leaf, value: Any) -> Any:
    """The value of a leaf, if it is as the leaf was."""
    if leaf.shape is None:
        return value
    if not backend.owns(value):
        value = _converted(backend, leaf, value)
    shape, dtype = tuple(value.shape), dtype_name(value.dtype)
    if shape != leaf.shape:
        raise TreeMismatch(f"{leaf.name!r} has the shape {shape}, and {leaf.shape} in the average.")
    if dtype != leaf.dtype and (dtype not in BITS or kind_of(dtype) != kind_of(leaf.dtype)):
        raise TreeMismatch(f"{leaf.name!r} has the dtype {dtype}, and {leaf.dtype} in the average.")
    if backend.is_traced(value):
        raise TracedInputError(_TRACED)
    device = backend.device_of(value)
    if device != leaf.device:
        raise TreeMismatch(f"{leaf.name!r} is on the device {device}, and on {leaf.device} in the average.")
    return value


def _converted(backend: Backend, leaf: Leaf, value: Any) -> Any:
    """An array of NumPy in a tree of another backend."""
    if not hasattr(value, "dtype") or owner(value) is None:
        raise TreeMismatch(f"{leaf.name!r} is no array of the backend {backend.name!r}, got {shown(value)}.")
    return backend.as_input(value, dtype_name(value.dtype))


_TRACED = """\
A leaf is being traced by a compiler, and an average cannot keep a traced value. Inside jit or scan use the pure rule,
`rule.init` and `rule.step` on each leaf, or `ms.as_optax(rule)` in the optimizer."""
