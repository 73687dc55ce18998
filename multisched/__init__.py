"""multisched: variables that update themselves online, on NumPy, JAX and PyTorch.

Lower case is a rule: plain data, pure, of no backend (`piecewise_constant`, `ema`). A capital letter is a thing with
state, which lives on a backend and changes (`PiecewiseConstant`, `Variable`). `declare` leads from one to the other.
"""

from multisched import errors
from multisched.averages import EmaState, PlateauState, SmaState, Statistic, SwaState, ema, plateau, sma, swa
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
from multisched.integrations.torch import drive
from multisched.runtime.registry import available_backends, get_backend, use_backend
from multisched.schedules import (
    Schedule,
    clip,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    delay,
    exponential,
    from_config,
    from_function,
    inverse_sqrt,
    inverse_time,
    join,
    linear,
    maximum,
    minimum,
    noam,
    one_cycle,
    parse,
    piecewise_constant,
    piecewise_interpolate,
    piecewise_scale,
    polynomial,
    repeat,
    schedule,
    stretch,
    tanh,
    warmup,
    warmup_stable_decay,
)

__version__ = "0.1.0"

__all__ = [
    "Declared",
    "EmaState",
    "ExponentialMovingAverage",
    "Function",
    "Graph",
    "PiecewiseConstant",
    "Placeholder",
    "PlateauState",
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
    "clip",
    "constant",
    "cosine",
    "cosine_restarts",
    "current_graph",
    "current_scope",
    "cyclic",
    "declare",
    "delay",
    "drive",
    "ema",
    "errors",
    "exponential",
    "from_config",
    "from_function",
    "function",
    "get_backend",
    "get_ops",
    "get_placeholders",
    "get_updates",
    "get_variables",
    "inverse_sqrt",
    "inverse_time",
    "join",
    "linear",
    "load_variables",
    "maximum",
    "minimum",
    "noam",
    "one_cycle",
    "parse",
    "piecewise_constant",
    "piecewise_interpolate",
    "piecewise_scale",
    "plateau",
    "polynomial",
    "repeat",
    "reset_variables",
    "save_variables",
    "schedule",
    "sma",
    "stretch",
    "swa",
    "tanh",
    "use_backend",
    "warmup",
    "warmup_stable_decay",
]
