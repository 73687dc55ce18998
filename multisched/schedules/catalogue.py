"""Every constructor that may stand in a config or an expression, by name: nothing else can be built from data.

A function cannot be written as data, so `from_function` is not among them; nor is the decorator, which makes new ones.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from multisched.schedules import combine, compose, cycle, decay, inverse, piecewise, steps
from multisched.schedules.schedule import Schedule

Constructor = Callable[..., Schedule]

_CONSTRUCTORS: tuple[Constructor, ...] = (
    combine.clip,
    combine.delay,
    combine.join,
    combine.repeat,
    combine.stretch,
    combine.warmup,
    compose.add,
    compose.divide,
    compose.maximum,
    compose.minimum,
    compose.multiply,
    compose.negative,
    compose.pow,
    compose.subtract,
    cycle.cosine_restarts,
    cycle.cyclic,
    cycle.one_cycle,
    cycle.warmup_stable_decay,
    decay.constant,
    decay.cosine,
    decay.exponential,
    decay.linear,
    decay.polynomial,
    decay.tanh,
    inverse.inverse_sqrt,
    inverse.inverse_time,
    inverse.noam,
    piecewise.piecewise_constant,
    steps.piecewise_interpolate,
    steps.piecewise_scale,
)

CATALOGUE: Mapping[str, Constructor] = MappingProxyType(
    {"abs": compose.absolute} | {constructor.__name__: constructor for constructor in _CONSTRUCTORS}
)
"""The constructors of all schedules that are data, and of their arithmetic, by the names of the array API."""

DEEPEST = 100
"""How deep schedules that are read may be nested: far deeper, and Python's own stack would end in their formulas."""
