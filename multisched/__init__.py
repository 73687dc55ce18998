"""multisched: variables that update themselves online, on NumPy, JAX and PyTorch.

Lower case is a rule: plain data, pure, of no backend (`piecewise_constant`, `ema`). A capital letter is a thing with
state, which lives on a backend and changes (`PiecewiseConstant`, `Variable`). `declare` leads from one to the other.
"""

from multisched import errors
from multisched.averages import EmaState, SmaState, Statistic, SwaState, ema, sma, swa
from multisched.frontend.checkpoint import load_variables, save_variables
from multisched.frontend.declare import (
    Declared,
    ExponentialMovingAverage,
    PiecewiseConstant,
    SimpleMovingAverage,
    declare,
)
from multisched.frontend.function import Function, function
from multisched.frontend.updates import (
    add_updates,
    get_ops,
    get_placeholders,
    get_updates,
    get_variables,
    reset_variables,
)
from multisched.frontend.variables import Placeholder, Variable
from multisched.graph.scope import Graph, Scope, current_graph, current_scope
from multisched.graph.tensor import Tensor
from multisched.runtime.registry import available_backends, get_backend, use_backend
from multisched.schedules import Schedule, maximum, minimum, piecewise_constant, schedule

__version__ = "0.1.0"

__all__ = [
    "Declared",
    "EmaState",
    "ExponentialMovingAverage",
    "Function",
    "Graph",
    "PiecewiseConstant",
    "Placeholder",
    "Schedule",
    "Scope",
    "SimpleMovingAverage",
    "SmaState",
    "Statistic",
    "SwaState",
    "Tensor",
    "Variable",
    "add_updates",
    "available_backends",
    "current_graph",
    "current_scope",
    "declare",
    "ema",
    "errors",
    "function",
    "get_backend",
    "get_ops",
    "get_placeholders",
    "get_updates",
    "get_variables",
    "load_variables",
    "maximum",
    "minimum",
    "piecewise_constant",
    "reset_variables",
    "save_variables",
    "schedule",
    "sma",
    "swa",
    "use_backend",
]
