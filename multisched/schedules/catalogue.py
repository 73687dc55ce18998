"""Every constructor that may stand in a config or an expression, by name: nothing else can be built from data.

Some formulas only a dialect has, such as that of torch's OneCycleLR. In data, and in what `repr` prints, the dialect's
name stands before theirs. They, and the rules of averages, are imported when they are looked up, from the files that
are listed here, since the imports of the library go the other way; no name leads to another file.

A function cannot be written as data, so `from_function` is not among them; nor is the decorator, which makes new ones.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, TypeVar

from multisched.schedules import approach, combine, compose, cycle, decay, inverse, piecewise, steps
from multisched.schedules.schedule import Schedule

Constructor = Callable[..., Any]
"""What makes a schedule, or a rule of averages."""

F = TypeVar("F", bound=Callable[..., Any])

_CONSTRUCTORS: tuple[Constructor, ...] = (
    approach.decay_warmup,
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

_FORMULAS_OF_DIALECTS = {
    "timm.k_decay_polynomial": "multisched.dialects.timm",
    "torch.OneCycleLR": "multisched.dialects.torch",
    "torch.OneCycleMomentum": "multisched.dialects.torch",
    "torch.by_cycle": "multisched.dialects.torch",
    "transformers.ahead": "multisched.dialects.transformers",
}


_RULES = {
    "ema": "multisched.averages.ema",
    "paced": "multisched.averages.pace",
    "plateau": "multisched.averages.plateau",
    "power_ema": "multisched.averages.power",
    "sma": "multisched.averages.window",
    "swa": "multisched.averages.uniform",
}


class _Imported(Mapping[str, Constructor]):
    """Constructors by name, each imported when it is asked for."""

    def __init__(self, modules: dict[str, str]):
        self.modules = modules

    def __getitem__(self, name: str) -> Constructor:
        module = importlib.import_module(self.modules[name])
        constructor: Constructor = getattr(module, name.rpartition(".")[2])
        return constructor

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)


DIALECTS: Mapping[str, Constructor] = _Imported(_FORMULAS_OF_DIALECTS)
"""The constructors of the schedules that are data, but only a dialect's."""

RULES: Mapping[str, Constructor] = _Imported(_RULES)
"""The constructors of the rules of averages."""


def of_dialect(dialect: str) -> Callable[[F], F]:
    """A decorator for a formula that only this dialect has: its schedules are printed, and written, as it is listed."""

    def rename(formula: F) -> F:
        formula.__name__ = f"{dialect}.{formula.__name__}"
        return formula

    return rename


def by_name(name: str) -> Constructor:
    """The constructor of that name. Raises `KeyError` if there is none."""
    return CATALOGUE[name] if name in CATALOGUE else RULES[name] if name in RULES else DIALECTS[name]


def similar(name: Any, *more: str) -> str:
    """A hint at the name of the catalogue, or of `more`, that is most like this one, to end an error message with."""
    if not isinstance(name, str) or len(name) > _LONGEST:
        return ""
    near = get_close_matches(name, [*CATALOGUE, *RULES, *DIALECTS, *more], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def is_rule(value: Any) -> bool:
    """Whether this is a schedule or a rule of averages."""
    return isinstance(value, Schedule) or hasattr(type(value), "_described")


def described(rule: Any) -> tuple[str | None, dict[str, Any]] | None:
    """The name of what builds a schedule or a rule of averages, None if it is not listed, and its arguments.

    None for what is neither, and for a rule of averages that is not listed.
    """
    if isinstance(rule, Schedule):
        return name_of(rule._formula), rule._arguments
    name, arguments = rule._described() if is_rule(rule) else (None, {})
    return None if name is None else (name, arguments)


def name_of(formula: Callable[..., Any]) -> str | None:
    """The name of a formula in data; None for one that is not listed."""
    if formula in _NAMES:
        return _NAMES[formula]
    return formula.__name__ if _FORMULAS_OF_DIALECTS.get(formula.__name__) == formula.__module__ else None


_NAMES = {constructor.__wrapped__: name for name, constructor in CATALOGUE.items()}  # type: ignore[attr-defined]

_LONGEST = 100  # characters of a name for which others are compared with it

DEEPEST = 100
"""How deep schedules that are read may be nested: far deeper, and Python's own stack would end in their formulas."""
