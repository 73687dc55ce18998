"""What the arguments of `drive` mean for each group of an optimizer.

The value of a hyperparameter in a group is a source times a factor. The source is a schedule, or a rule that is fed by
a metric. The factor is 1, the group's own value, or what the group holds under a key. All of this is decided here, once
for each group, from plain numbers; nothing here knows torch.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from multisched.averages.plateau import Plateau, PlateauState
from multisched.errors import OptimizerError
from multisched.integrations.drive.settings import Group, Relative, Rule, Rules, Setting, check_shape, number
from multisched.schedules import Schedule

Own: TypeAlias = float | tuple[float, ...]
"""The own value of a group: what the group has for a hyperparameter before it is driven."""

Source: TypeAlias = Callable[[float], float]
"""A function from the clock to a value."""


class Term(NamedTuple):
    """One number of a group: `sources[source] * factor`, or `factor` alone where `source` is None."""

    source: int | None
    factor: float


Meaning: TypeAlias = Term | tuple[Term, ...]
"""What a group is to have for a hyperparameter: one number, or a tuple of them."""


# --- where values come from ------------------------------------------------------------------------------------------
class Fed:
    """A rule that is fed by a metric, with its state; as a source, it has its latest value at any clock."""

    def __init__(self, rule: Plateau):
        self.rule = rule
        self.state: PlateauState = rule.init(np.float64(0))

    def __call__(self, clock: float) -> float:
        return float(self.state.value)


class Product:
    """A schedule times a rule that is fed by a metric."""

    schedule: Source
    fed: Fed

    def __init__(self, schedule: Source, fed: Fed):
        self.schedule, self.fed = schedule, fed

    def __call__(self, clock: float) -> float:
        return float(self.schedule(clock)) * self.fed(clock)


class Sources:
    """Every schedule and fed rule of a driver; each is evaluated once a step, however many groups follow it."""

    def __init__(self, plateau: Plateau | None):
        self.calls: list[Source] = []
        self.names: list[str] = []
        self.fed: list[Fed] = []
        self._index: dict[tuple[Schedule | Plateau, bool], int] = {}
        self._fed_by_rule: dict[Plateau, Fed] = {}
        self._plateau = plateau

    def index(self, name: str, rule: Schedule | Plateau) -> int:
        """The index in `calls` of a rule of the hyperparameter `name`."""
        plateau = self._plateau if name == "lr" else None
        key = rule, plateau is not None
        if key not in self._index:
            call: Source = self._feed(rule) if isinstance(rule, Plateau) else rule
            self._index[key] = len(self.calls)
            self.calls.append(call if plateau is None else Product(call, self._feed(plateau)))
            self.names.append(f"{name}: {rule!r}")
        return self._index[key]

    def _feed(self, rule: Plateau) -> Fed:
        if rule not in self._fed_by_rule:
            self._fed_by_rule[rule] = Fed(rule)
            self.fed.append(self._fed_by_rule[rule])
        return self._fed_by_rule[rule]

    def states(self) -> list[PlateauState]:
        """The states of the rules that are fed by a metric."""
        return [fed.state for fed in self.fed]

    def restore(self, states: Iterable[PlateauState]) -> None:
        """Give the rules that are fed by a metric these states."""
        for fed, state in zip(self.fed, states, strict=True):
            fed.state = state

    def check(self, clock: float, values: Iterable[float] | None = None) -> None:
        """Raise `OptimizerError` if a source is infinite or not a number at this clock."""
        values = [float(call(clock)) for call in self.calls] if values is None else values
        for name, value in zip(self.names, values, strict=True):
            if not math.isfinite(value):
                raise OptimizerError(f"{name} is {value} at {clock}; a hyperparameter must be finite.")

    def program(self, meanings: list[Meaning]) -> Callable[[float], list[Any]]:
        """A function from the clock to the value of each meaning, which raises as `check` does.

        It is written out as source, as schedules are at numbers: every step calls it, and a loop would take twice as
        long.
        """
        names: dict[str, Any] = {"check": self.check, "isfinite": math.isfinite}
        values = [f"v{i}" for i in range(len(self.calls))]
        names.update({f"s{i}": getattr(call, "_on_number", None) or call for i, call in enumerate(self.calls)})

        def written(meaning: Meaning) -> str:
            if not isinstance(meaning, Term):
                return f"({', '.join(map(written, meaning))},)"
            factor = f"f{len(names)}"
            if meaning.source is None or meaning.factor != 1:
                names[factor] = meaning.factor
            if meaning.source is None:
                return factor
            return f"v{meaning.source}" if meaning.factor == 1 else f"v{meaning.source} * {factor}"

        body = [f"v{i} = float(s{i}(clock))" for i in range(len(self.calls))]
        if values:
            body.append(f"if not isfinite({' + '.join(values)}): check(clock, [{', '.join(values)}])")
        body.append(f"return [{', '.join(map(written, meanings))}]")
        exec("def program(clock):\n    " + "\n    ".join(body), names)  # the text has numbered names and nothing else
        program: Callable[[float], list[Any]] = names["program"]
        return program


# --- one group -------------------------------------------------------------------------------------------------------
def own_value(name: str, rule: Rules, group: Group) -> Own:
    """What the group itself has, as floats."""
    if name not in group:
        raise OptimizerError(f"A group that was added has no hyperparameter {name!r}, which is driven.")
    check_shape(name, rule, group[name])
    value = group[name]
    what = f"{name} of a group"
    return tuple(number(each, what) for each in value) if isinstance(value, tuple | list) else number(value, what)


def meaning_of(setting: Setting, rule: Rules, own: Own, everyone: list[Own], group: Group, sources: Sources) -> Meaning:
    """What a group is to have; `everyone` are the own values of all groups, this one included.

    Raises `OptimizerError` where one rule for all groups meets own values that differ and are not 0.
    """
    factor = setting.factor_of(group)
    if not isinstance(rule, tuple):
        return _term(setting, rule, cast(float, own), cast(list[float], everyone), factor, sources)
    assert isinstance(own, tuple)
    columns = zip(*(values for values in everyone if isinstance(values, tuple)), strict=True)
    return tuple(
        _term(setting, each, mine, column, factor, sources)
        for each, mine, column in zip(rule, own, columns, strict=True)
    )


def _term(
    setting: Setting, rule: Rule | float, own: float, everyone: Iterable[float], factor: float | None, sources: Sources
) -> Term:
    if isinstance(rule, Relative):
        return Term(sources.index(setting.name, rule.schedule), own)
    if setting.rule is not None:
        others = [value for value in everyone if value != 0]
        if setting.scale is None and not all(_close(value, others[0]) for value in others):
            raise _unclear(setting, everyone)
        if others and own == 0:
            return Term(None, 0.0)
    if isinstance(rule, Schedule | Plateau):
        return Term(sources.index(setting.name, rule), 1.0 if factor is None else factor)
    return Term(None, float(rule))


def _unclear(setting: Setting, everyone: Iterable[float]) -> OptimizerError:
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
