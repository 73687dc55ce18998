"""What the arguments of `drive` mean for each group of an optimizer.

A group's value of a hyperparameter is a source times a factor: the source is a schedule or a rule fed by a metric, the
factor is 1, the group's own value, or what the group holds under a key. All of it is decided here, once for each group,
from plain numbers; nothing here knows torch.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from multisched.arrays import is_real
from multisched.averages.plateau import Plateau
from multisched.errors import OptimizerError
from multisched.integrations.driving.settings import Group, Relative, Setting, check_shape, number
from multisched.schedules import Schedule

Own: TypeAlias = float | tuple[float, ...]
Source: TypeAlias = Callable[[float], float]


class Part(NamedTuple):
    """One number of a group: `sources[source] * factor`, or `factor` alone where `source` is None."""

    source: int | None
    factor: float


Parts: TypeAlias = Part | tuple[Part, ...]


# --- where values come from ------------------------------------------------------------------------------------------
class Fed:
    """A rule fed by a metric, with its state; as a source, it has its latest value at any step."""

    def __init__(self, rule: Plateau):
        self.rule = rule
        self.state: Any = rule.init(np.float64(0))

    def __call__(self, clock: float) -> float:
        return float(self.state.value)


class Product:
    """A schedule times a rule fed by a metric."""

    def __init__(self, schedule: Source, fed: Fed):
        self.schedule, self.fed = schedule, fed

    def __call__(self, clock: float) -> float:
        return float(self.schedule(clock)) * self.fed(clock)


class Sources:
    """Every schedule and fed rule of a driver, each evaluated once a step however many groups follow it."""

    def __init__(self, plateau: Plateau | None):
        self.calls: list[Source] = []
        self.names: list[str] = []
        self.fed: list[Fed] = []
        self._index: dict[tuple[Any, bool], int] = {}
        self._fed_index: dict[Plateau, Fed] = {}
        self._plateau = plateau

    def index(self, name: str, rule: Schedule | Plateau) -> int:
        """The index in `calls` of a rule of this hyperparameter."""
        times = name == "lr" and self._plateau is not None
        if (rule, times) not in self._index:
            call: Source = self._feed(rule) if isinstance(rule, Plateau) else rule
            if times:
                assert self._plateau is not None
                call = Product(call, self._feed(self._plateau))
            self._index[rule, times] = len(self.calls)
            self.calls.append(call)
            self.names.append(f"{name}: {rule!r}")
        return self._index[rule, times]

    def _feed(self, rule: Plateau) -> Fed:
        if rule not in self._fed_index:
            self._fed_index[rule] = Fed(rule)
            self.fed.append(self._fed_index[rule])
        return self._fed_index[rule]

    def states(self) -> list[Any]:
        """The states of the rules fed by a metric."""
        return [fed.state for fed in self.fed]

    def go_on_from(self, states: Iterable[Any]) -> None:
        """Give the rules fed by a metric these states."""
        for fed, state in zip(self.fed, states, strict=True):
            fed.state = state

    def check(self, clock: float, values: Iterable[float] | None = None) -> None:
        """Raise `OptimizerError` if a source is infinite or not a number at this clock."""
        values = [float(call(clock)) for call in self.calls] if values is None else values
        for name, value in zip(self.names, values, strict=True):
            if not math.isfinite(value):
                raise OptimizerError(f"{name} is {value} at {clock}; a hyperparameter must be finite.")

    def program(self, meanings: list[Parts]) -> Callable[[float], list[Any]]:
        """A function from the clock to the value of each meaning, which raises as `check` does.

        It is written out as source, as schedules are at numbers: every step calls it, and a loop would cost twice as
        much.
        """
        names: dict[str, Any] = {"check": self.check, "isfinite": math.isfinite}
        values = [f"v{i}" for i in range(len(self.calls))]
        names.update({f"s{i}": getattr(call, "_on_number", None) or call for i, call in enumerate(self.calls)})

        def written(parts: Parts) -> str:
            if not isinstance(parts, Part):
                return f"({', '.join(map(written, parts))},)"
            factor = f"f{len(names)}"
            if parts.source is None or parts.factor != 1:
                names[factor] = parts.factor
            if parts.source is None:
                return factor
            return f"v{parts.source}" if parts.factor == 1 else f"v{parts.source} * {factor}"

        body = [f"v{i} = float(s{i}(clock))" for i in range(len(self.calls))]
        if values:
            body.append(f"if not isfinite({' + '.join(values)}): check(clock, [{', '.join(values)}])")
        body.append(f"return [{', '.join(map(written, meanings))}]")
        exec("def program(clock):\n    " + "\n    ".join(body), names)  # numbered names alone, no text of anybody's
        program: Callable[[float], list[Any]] = names["program"]
        return program


# --- one group -------------------------------------------------------------------------------------------------------
def own_value(name: str, rule: Any, group: Group) -> Own:
    """What the group itself has, as floats."""
    if name not in group:
        raise OptimizerError(f"A group that was added has no hyperparameter {name!r}, which is driven.")
    check_shape(name, rule, group[name])
    value = group[name]
    what = f"{name} of a group"
    return tuple(number(part, what) for part in value) if isinstance(value, tuple | list) else number(value, what)


def parts_of(setting: Setting, rule: Any, own: Own, everyone: list[Own], group: Group, sources: Sources) -> Parts:
    """What a group is to have; `everyone` are the own values of all groups, this one included.

    Raises `OptimizerError` where one rule for all groups meets non-zero values that differ.
    """
    factor = setting.factor_of(group)
    if not isinstance(rule, tuple):
        return _part(setting, rule, own, everyone, factor, sources)
    columns = zip(*(values for values in everyone if isinstance(values, tuple)), strict=True)
    assert isinstance(own, tuple)
    return tuple(
        _part(setting, part, mine, column, factor, sources)
        for part, mine, column in zip(rule, own, columns, strict=True)
    )


def _part(
    setting: Setting, rule: Any, own: Any, everyone: Iterable[Any], factor: float | None, sources: Sources
) -> Part:
    if isinstance(rule, Relative):
        return Part(sources.index(setting.name, rule.schedule), own)
    if setting.rule is not None:
        others = [value for value in everyone if value != 0]
        if setting.scale is None and not all(_close(value, others[0]) for value in others):
            raise _unclear(setting, everyone)
        if others and own == 0:
            return Part(None, 0.0)
    if is_real(rule):
        return Part(None, float(rule))
    return Part(sources.index(setting.name, rule), 1.0 if factor is None else factor)


def _unclear(setting: Setting, everyone: Iterable[Any]) -> OptimizerError:
    name = setting.name
    values = ", ".join(f"{value:g}" for value in everyone)
    ways = {
        f"{name}=ms.relative(schedule)": "each group's own value times the schedule",
        f"{name}={{0: schedule, 1: schedule}}": "exactly these values, for groups by index or name",
        f"{name}=schedule, scale={{{name!r}: 'key'}}": "the schedule times what each group holds under this key",
    }
    width = max(map(len, ways))
    return OptimizerError(
        f"The groups have different values of {name}: {values}. So {name}={setting.rule!r} does not say what each of "
        "them is to have. Say one of" + "".join(f"\n    {line:{width}}  {words}" for line, words in ways.items())
    )


def _close(a: float, b: float) -> bool:
    """Equal, up to the rounding of a value that a float32 tensor held."""
    return math.isclose(a, b, rel_tol=2**-23)
