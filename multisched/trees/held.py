"""By which rule, in which dtype and where an average is held."""

from operator import index
from typing import Any

import numpy as np

from multisched.arrays import averaging_dtype, checked_dtype, kind_of
from multisched.averages.mean import Mean
from multisched.averages.statistic import checked_mask
from multisched.errors import AverageError, BackendMismatch, MaskError, NotARule, TracedInputError, shown
from multisched.runtime.protocol import Backend, Stage
from multisched.runtime.registry import get_backend
from multisched.trees.leaf import owner
from multisched.trees.rounding import Compensated, Rounding, Stochastic

_ROUNDINGS: dict[str, type[Rounding]] = {"stochastic": Stochastic, "compensated": Compensated}


def rounding_of(backend: Backend, rounding: str | None, dtype: Any) -> Rounding | None:
    """How an average is rounded to bfloat16."""
    if rounding is None:
        return None
    if rounding not in _ROUNDINGS:
        raise AverageError(f"rounding is one of {', '.join(map(repr, _ROUNDINGS))}, or None, got {rounding!r}.")
    if dtype is None or checked_dtype(dtype) != "bfloat16":
        raise AverageError(f'rounding={rounding!r} is for averages with dtype="bfloat16", got dtype={dtype!r}.')
    return _ROUNDINGS[rounding](backend)


def held_dtype(dtype: str, wanted: Any, rounding: Rounding | None) -> str:
    """The dtype in which the average of a leaf of `dtype` is held."""
    if wanted is None:
        return averaging_dtype(dtype)
    name = checked_dtype(wanted)
    if kind_of(name) != "float":
        raise AverageError(f"dtype is the floating dtype in which the average is held, got {wanted!r}.")
    if kind_of(dtype) != "complex":
        return name
    if rounding is not None:
        raise AverageError("There are no complex numbers of bfloat16: copy or skip the complex leaves.")
    return "complex128" if name == "float64" else "complex64"


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


def stage_of(backend: Backend, offload: str) -> Stage:
    """What brings a model to the host."""
    if offload != "cpu":
        raise AverageError(f'offload is "cpu" or None, got {offload!r}.')
    return backend.stage()


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
