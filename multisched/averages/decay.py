"""The weight of the old value, from whichever parameter people think in."""

from collections.abc import Callable
from typing import Any

import numpy as np

from multisched.arrays import FrozenArray, Plain, Symbol, freeze
from multisched.errors import DecayError, brief, shown
from multisched.schedules import Schedule

_FORMULAS: dict[str, tuple[Callable[[Any], Any], float, bool]] = {  # alpha, the smallest value, whether that is allowed
    "halflife": (lambda h: np.exp2(-1 / h), 0, False),
    "span": (lambda s: (s - 1) / (s + 1), 1, True),
    "com": (lambda c: c / (1 + c), 0, True),
    "tau": (lambda t: np.exp(-1 / t), 0, False),
}


def decay_of(alpha: Any, **scales: Any) -> Plain | Schedule:
    """The decay, from exactly one of alpha and the scales of `ema`."""
    given = {name: value for name, value in {"alpha": alpha, **scales}.items() if value is not None}
    if len(given) != 1:
        names = ", ".join(given) or "none of them"
        raise DecayError(f"Exactly one of alpha, {', '.join(scales)} says how fast old values fade, got {names}.")
    ((name, value),) = given.items()
    return _checked_alpha(value) if name == "alpha" else _from_scale(name, value)


def _checked_alpha(alpha: Any) -> Plain | Schedule:
    if isinstance(alpha, Schedule):
        return alpha
    alpha = freeze(alpha, "alpha", DecayError, symbolic=True)
    values = alpha.array if isinstance(alpha, FrozenArray) else alpha
    if not isinstance(alpha, Symbol) and not (np.all(values >= 0) and np.all(values <= 1)):
        raise DecayError(f"alpha is the weight of the old value, in [0, 1], got {brief(alpha)}.")
    return alpha  # type: ignore[no-any-return]  # `alpha` was Any


def _from_scale(name: str, value: Any) -> Plain:
    formula, least, allowed = _FORMULAS[name]
    kept = freeze(value, name, DecayError)
    values = np.asarray(kept.array if isinstance(kept, FrozenArray) else kept, np.float64)
    if not np.all((values >= least) if allowed else (values > least)) or not np.all(np.isfinite(values)):
        bound = f"at least {least}" if allowed else f"more than {least}"
        raise DecayError(f"{name} must be {bound} and finite, got {shown(value)}.")
    alpha = formula(values)
    return FrozenArray(alpha) if values.ndim else float(alpha)
