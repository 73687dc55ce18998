"""multisched: variables that update themselves online, on NumPy, JAX and PyTorch.

Lower case is a rule: plain data, pure, of no backend (`piecewise_constant`, `ema`). A capital letter is a thing with
state, which lives on a backend and changes (`PiecewiseConstant`, `Variable`). `declare` leads from one to the other.
"""

import importlib
from typing import Any

import multisched.runtime.registry  # noqa: F401 (it tells rules what frameworks are there)
from multisched import errors  # noqa: F401 (in __all__)

__version__ = "0.1.0"

_HOMES = {
    "multisched.averages": (
        "EmaState",
        "PacedState",
        "PlateauState",
        "PowerEmaState",
        "SmaState",
        "Statistic",
        "SwaState",
        "ema",
        "paced",
        "plateau",
        "power_ema",
        "sma",
        "swa",
    ),
    "multisched.frontend.checkpoint": (
        "load_variables",
        "save_variables",
    ),
    "multisched.frontend.declare": (
        "Declared",
        "ExponentialMovingAverage",
        "PiecewiseConstant",
        "SimpleMovingAverage",
        "declare",
    ),
    "multisched.frontend.function": (
        "Function",
        "function",
    ),
    "multisched.frontend.updates": (
        "add_updates",
        "get_ops",
        "get_placeholders",
        "get_updates",
        "get_variables",
        "reset_variables",
    ),
    "multisched.frontend.variables": (
        "Placeholder",
        "Variable",
    ),
    "multisched.graph.scope": (
        "Graph",
        "Scope",
        "current_graph",
        "current_scope",
    ),
    "multisched.graph.tensor": ("Tensor",),
    "multisched.integrations.attach": ("Attachment",),
    "multisched.integrations.drive": ("drive",),
    "multisched.integrations.driving.settings": ("relative",),
    "multisched.integrations.optax": (
        "as_optax",
        "average_of",
    ),
    "multisched.runtime.registry": (
        "available_backends",
        "get_backend",
        "use_backend",
    ),
    "multisched.schedules": (
        "Schedule",
        "clip",
        "constant",
        "cosine",
        "cosine_restarts",
        "cyclic",
        "decay_warmup",
        "delay",
        "exponential",
        "from_config",
        "from_function",
        "inverse_sqrt",
        "inverse_time",
        "join",
        "linear",
        "maximum",
        "minimum",
        "noam",
        "one_cycle",
        "parse",
        "piecewise_constant",
        "piecewise_interpolate",
        "piecewise_scale",
        "polynomial",
        "repeat",
        "schedule",
        "stretch",
        "tanh",
        "warmup",
        "warmup_stable_decay",
    ),
    "multisched.trees": (
        "Average",
        "Snapshot",
        "load",
        "posthoc",
        "posthoc_weights",
        "save",
    ),
}
"""Where the public names live. Each is imported when it is first used: all of them take a tenth of a second."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "errors"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'multisched' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
