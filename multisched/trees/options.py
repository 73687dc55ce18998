"""The arguments of an average: its rule, backend and seed, the mask of an update, and how it is stored."""

from dataclasses import dataclass
from operator import index
from typing import Any, Literal

import numpy as np

from multisched.arrays import averaging_dtype, checked_dtype, kind_of
from multisched.averages.mean import Mean
from multisched.averages.statistic import checked_mask
from multisched.errors import AverageError, BackendMismatch, MaskError, NotARule, TracedInputError, shown
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend
from multisched.trees.leaf import owner
from multisched.trees.rounding import Compensated, Rounding, Stochastic

RoundingName = Literal["stochastic", "compensated"]
"""The ways of rounding to bfloat16, as users write them."""

_ROUNDINGS: dict[str, type[Rounding]] = {"stochastic": Stochastic, "compensated": Compensated}


@dataclass(frozen=True)
class Storage:
    """How the arrays of an average are stored: in which dtype, rounded how, and on which device."""

    dtype: str | None
    """None for that of each leaf, or one that is wide enough to average it."""
    rounding: Rounding | None
    device: Literal["cpu"] | None
    """The host, or None where the model lies."""

    def dtype_for(self, leaf_dtype: str) -> str:
        """The dtype in which the average of a leaf is stored."""
        if self.dtype is None:
            return averaging_dtype(leaf_dtype)
        if kind_of(leaf_dtype) != "complex":
            return self.dtype
        if self.rounding is not None:
            raise AverageError("There are no complex numbers of bfloat16: copy or skip the complex leaves.")
        return "complex128" if self.dtype == "float64" else "complex64"


def storage_of(backend: Backend, dtype: Any, rounding: RoundingName | None, offload: Literal["cpu"] | None) -> Storage:
    """How an average is stored, by the arguments of `Average`."""
    name = None if dtype is None else checked_dtype(dtype)
    found = None if rounding is None else _rounding_of(backend, rounding, name, dtype)
    if offload not in ("cpu", None):
        raise AverageError(f'offload is "cpu" or None, got {offload!r}.')
    if name is not None and kind_of(name) != "float":
        raise AverageError(f"dtype is the floating dtype in which the average is held, got {dtype!r}.")
    return Storage(name, found, offload)


def _rounding_of(backend: Backend, rounding: RoundingName, name: str | None, dtype: Any) -> Rounding:
    if rounding not in _ROUNDINGS:
        raise AverageError(f"rounding is one of {', '.join(map(repr, _ROUNDINGS))}, or None, got {rounding!r}.")
    if name != "bfloat16":
        raise AverageError(f'rounding={rounding!r} is for averages with dtype="bfloat16", got dtype={dtype!r}.')
    return _ROUNDINGS[rounding](backend)


def checked_seed(seed: Any) -> int:
    """The seed, if it is an integer."""
    try:
        return index(seed)
    except TypeError as cause:
        raise AverageError(f"seed is an integer, got {shown(seed)}.") from cause


def mask_of(backend: Backend, where: Any) -> Any:
    """`where`, if it is a boolean scalar: a bool if the host knows it, else an array of the backend."""
    where = checked_mask(where)
    if isinstance(where, bool | np.ndarray):
        return bool(where)
    if not backend.owns(where):
        raise MaskError(f"where must be a bool, or an array of the backend {backend.name!r}, got {shown(where)}.")
    if backend.is_traced(where):
        raise TracedInputError("where is being traced by a compiler, and an average cannot keep a traced value.")
    return where


def checked_rule(rule: Any) -> Mean:
    """The rule, if it can average a model."""
    if not isinstance(rule, Mean):
        raise NotARule(
            f"A model is averaged by a rule such as ms.ema(0.999), ms.swa() or ms.power_ema(0.1), got {rule!r}."
        )
    rule.share(0, 0.0)  # says what is wrong with rules that have no one share
    return rule


def backend_of(leaves: list[Any]) -> Backend:
    """The one backend of the arrays among leaves; those of NumPy go with any other."""
    found = {b.name: b for leaf in leaves if (b := owner(leaf)) is not None}
    others = [backend for name, backend in found.items() if name != "numpy"] or list(found.values())
    if len(others) > 1:
        raise BackendMismatch(
            f"The tree holds arrays of the backends {', '.join(b.name for b in others)}; one is meant."
        )
    return others[0] if others else get_backend()
