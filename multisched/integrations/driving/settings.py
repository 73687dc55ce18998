"""The arguments of `drive`, checked against the groups that there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from multisched.arrays import is_finite, is_integer, is_real
from multisched.averages.plateau import Plateau
from multisched.errors import NotARule, OptimizerError, shown
from multisched.schedules import Schedule

Group: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Relative:
    """The rule that `relative` builds; see there."""

    schedule: Schedule | Plateau

    def __repr__(self) -> str:
        return f"relative({self.schedule!r})"


def relative(schedule: Schedule | Plateau) -> Relative:
    """For `ms.drive`: each group's own value times the schedule, as torch's `LambdaLR` has it.

        value of a group at update k = own value * schedule(k)

    The own value is the one that the group has when `ms.drive` is called, or when the group is added.

    Raises `NotARule` for anything but a schedule of numbers or an `ms.plateau`.

    >>> import multisched as ms
    >>> ms.relative(ms.cosine(1.0, 100))
    relative(cosine(1.0, 100))
    """
    if not _is_rule(schedule):
        raise NotARule(f"relative takes a schedule of numbers, such as ms.cosine(1.0, 1000), got {shown(schedule)}.")
    return Relative(schedule)


@dataclass
class Setting:
    """A hyperparameter and its rules: one for all groups, or one for each group that a dict names."""

    name: str
    rule: Any = None
    """The rule for all groups; None where a dict names groups."""
    by_index: dict[int, Any] = field(default_factory=dict)
    """Rules by the index of a group, counted over all optimizers, when the driver was made."""
    by_name: dict[Any, Any] = field(default_factory=dict)
    scale: str | None = None
    """The key under which a group holds its factor."""

    def rule_of(self, index: int | None, group: Group) -> Any:
        """The rule of a group, or None; a group that was added later has no index."""
        if self.rule is not None:
            return self.rule
        if index is not None and index in self.by_index:
            return self.by_index[index]
        name = group.get("name")
        named = type(name).__hash__ is not None and not isinstance(name, bool)  # True would find the key 1
        return self.by_name.get(name) if named else None

    def rules(self) -> list[Any]:
        """All rules, with the parts of tuples one by one."""
        given = [self.rule] if self.rule is not None else [*self.by_index.values(), *self.by_name.values()]
        return [part for rule in given for part in (rule if isinstance(rule, tuple) else (rule,))]

    def factor_of(self, group: Group) -> float | None:
        """The factor that the group holds; None where it holds none or the setting has no `scale`."""
        if self.scale is None or self.scale not in group:
            return None
        return number(group[self.scale], f"{self.scale!r}, the factor of {self.name} of a group,")


def read_setting(name: str, given: Any, groups: list[Group], scale: str | None) -> Setting:
    """The setting for one argument of `drive`, checked against the groups that there are."""
    setting = Setting(name, scale=scale)
    if isinstance(given, Plateau) and given.shape:
        given = _by_group(name, given, groups)
    if isinstance(given, Mapping):
        if not given:
            raise NotARule(f"{name} is an empty dict; it must name at least one group, such as {name}={{0: schedule}}.")
        for key, rule in given.items():
            _check_type(f"{name}[{key!r}]", rule)
            _place(setting, key, rule, groups)
    else:
        _check_type(name, given)
        setting.rule = given
    for index, group in enumerate(groups):
        rule = setting.rule_of(index, group)
        if rule is not None:
            if name not in group:
                known = ", ".join(str(key) for key in group if key not in ("params", "param_names", "name"))
                raise OptimizerError(f"Group {index} has no hyperparameter {name!r}; it has {known}.")
            check_shape(f"{name}[{index}]" if isinstance(given, Mapping) else name, rule, group[name])
    if scale is not None:
        _check_scale(setting, groups)
    return setting


def _by_group(name: str, rule: Plateau, groups: list[Group]) -> dict[int, Plateau]:
    """The rules of one value that a rule of several has, by the index of the group."""
    rules = rule.each()
    if len(rules) != len(groups):
        raise OptimizerError(
            f"{name} is a rule of {len(rules)} values, one for each group, and there are {len(groups)} groups. Name "
            f"the groups that it drives: {name}={{0: ms.plateau(0.1), ...}}."
        )
    return dict(enumerate(rules))


def _place(setting: Setting, key: Any, rule: Any, groups: list[Group]) -> None:
    """Enter a rule for the groups that a key of a dict means."""
    name = setting.name
    named = [i for i, group in enumerate(groups) if "name" in group and _same_name(group["name"], key)]
    index = int(key) if is_integer(key) else None
    indexed = [index] if index is not None and 0 <= index < len(groups) else []
    if not named and not indexed:
        names = [repr(group["name"]) for group in groups if "name" in group]
        known = f"; names: {', '.join(dict.fromkeys(names))}" if names else ", none of which has a name"
        raise OptimizerError(f"{name}: there is no group {key!r}. There are groups 0 to {len(groups) - 1}{known}.")
    if named and indexed and named != indexed:
        raise OptimizerError(
            f"{name}: {key!r} is the index of a group and the name of another, group {named[0]}. Name the groups by "
            "strings."
        )
    if twice := [i for i in named or indexed if setting.rule_of(i, groups[i]) is not None]:
        raise OptimizerError(f"{name}: group {twice[0]} is given two rules, one by its name and one by its index.")
    if named:
        setting.by_name[key] = rule
    else:
        setting.by_index[indexed[0]] = rule


def _check_type(what: str, rule: Any) -> None:
    if isinstance(rule, tuple):
        if not all(_is_rule(part) or isinstance(part, Relative) or is_real(part) for part in rule):
            raise NotARule(f"{what} must be made of schedules and numbers, got {rule!r}.")
        if any(is_real(part) and not is_finite(part) for part in rule):
            raise NotARule(f"{what} must be made of schedules and finite numbers, got {rule!r}.")
    elif not _is_rule(rule) and not isinstance(rule, Relative):
        raise NotARule(f"{what} must be a schedule of numbers, such as ms.cosine(0.1, 1000), got {shown(rule)}.")


def check_shape(what: str, rule: Any, value: Any) -> None:
    pair = isinstance(value, tuple | list)
    if isinstance(rule, tuple) and not (pair and len(value) == len(rule)):
        raise NotARule(f"{what} must be like the optimizer's own, {value!r}, got {rule!r}.")
    if pair and not isinstance(rule, tuple):
        raise NotARule(f"{what} must be a tuple, as the optimizer's own, {value!r}, got {rule!r}.")


def _check_scale(setting: Setting, groups: list[Group]) -> None:
    name, key = setting.name, setting.scale
    if any(isinstance(rule, Relative) for rule in setting.rules()):
        raise OptimizerError(
            f"{name} is given ms.relative and scale={{{name!r}: {key!r}}}. Either a group has its own value times the "
            f"schedule: leave scale= out; or the factor that it holds times the schedule: {name}=schedule."
        )
    if any(isinstance(setting.rule_of(i, g), tuple) for i, g in enumerate(groups)):
        raise OptimizerError(f"scale={{{name!r}: {key!r}}} cannot scale {name}, which is a tuple.")
    if not any(key in group for group in groups):
        raise OptimizerError(f"scale={{{name!r}: {key!r}}}: no group has the key {key!r}.")
    for group in groups:
        setting.factor_of(group)


def number(value: Any, what: str) -> float:
    """A finite number of Python, NumPy or a tensor, as a float."""
    held = value
    if hasattr(value, "numel") and value.numel() == 1:
        held = value.item()
    if not is_real(held) or not is_finite(held):
        raise OptimizerError(f"{what} must be a finite number, got {shown(value)}.")
    return float(held)


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, Schedule | Plateau) and rule.shape == ()


def _same_name(name: Any, key: Any) -> bool:
    """Whether a key of a dict is this name, which True and 1 are not."""
    return not isinstance(name, bool) and not isinstance(key, bool) and bool(name == key)
