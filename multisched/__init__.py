"""multisched: variables that update themselves online, on NumPy, JAX and PyTorch.

A lower-case name is a rule: plain data, pure, and of no backend (`piecewise_constant`, `ema`). A capitalised name is an
object with state, which lives on a backend and changes (`PiecewiseConstant`, `Variable`). `declare` turns the first
kind into the second.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from multisched.arrays import ask_for_frameworks
from multisched.runtime.registry import framework_of, new_frameworks

__version__ = "0.1.0"

ask_for_frameworks(framework_of, new_frameworks)

_MODULES = ("dialects", "errors", "integrations", "testing")
"""The modules that are public by themselves."""

_HOMES = (
    "multisched.runtime.registry",
    "multisched.schedules",
    "multisched.averages",
    "multisched.graph.scope",
    "multisched.graph.tensor",
    "multisched.frontend.variables",
    "multisched.frontend.updates",
    "multisched.frontend.function",
    "multisched.frontend.declare",
    "multisched.frontend.checkpoint",
    "multisched.integrations.optax",
    "multisched.integrations.drive",
    "multisched.trees",
)
"""The modules whose `__all__` is public here, too. `__init__.pyi` has the same list for type checkers.

They are imported in this order until one of them has the name that is asked for: all of them take about 0.2 seconds.
"""


def __getattr__(name: str) -> Any:
    if name == "__all__":
        value: Any = sorted({"errors"}.union(*(import_module(home).__all__ for home in _HOMES)))
    elif name.startswith("_") or "." in name:
        raise _missing(name)
    elif find_spec(f"multisched.{name}"):
        try:
            value = import_module(f"multisched.{name}")
        except ImportError as cause:  # it needs what is not installed, such as click
            raise _missing(name) from cause
    else:
        value = getattr(_home_of(name), name)
    globals()[name] = value
    return value


def _home_of(name: str) -> Any:
    for home in _HOMES:
        module = import_module(home)
        if name in module.__all__:
            return module
    raise _missing(name)


def _missing(name: str) -> AttributeError:
    return AttributeError(f"module 'multisched' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    own = [name for name in globals() if name.startswith("__")]
    return sorted({*own, *_MODULES, *__getattr__("__all__")})
