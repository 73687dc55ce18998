"""The arguments of `drive`, checked against the groups that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from multisched.arrays import is_finite, is_integer, is_real
from multisched.averages.plateau import Plateau
from multisched.errors import NotARule, OptimizerError, listed, shown
from multisched.schedules import Schedule

Group: TypeAlias = dict[str, Any]
"""A group of parameters, as a torch optimizer has it in `param_groups`."""


@dataclass(frozen=True)
class Relative:
    """What `relative` returns: each group's own value times `schedule`."""

    schedule: Schedule | Plateau

    def __repr__(self) -> str:
        return f"relative({self.schedule!r})"


Rule: TypeAlias = Schedule | Plateau | Relative
Rules: TypeAlias = Rule | tuple[Rule | float, ...]
"""What one group is given for a hyperparameter: a rule, or one for each number of a tuple such as `betas`."""


def relative(schedule: Schedule | Plateau) -> Relative:
    """For `ms.drive`: each group's own value times the schedule, as torch's `LambdaLR` has it.

        value of a group at update k = own value * schedule(k)

    The own value is the one that the group has when `ms.drive` is called, or when the group is added.

    Raises `NotARule` for anything but a schedule of numbers or an `ms.plateau` of one number.

    >>> import multisched as ms
    >>> ms.relative(ms.cosine(1.0, 100))
    relative(cosine(1.0, 100))
    """
    if not _is_rule(schedule):
        raise NotARule(f"relative takes a schedule of numbers, such as ms.cosine(1.0, 1000), got {shown(schedule)}.")
    return Relative(schedule)


def source_of(rule: Rule) -> Schedule | Plateau:
    """The schedule of a rule, without `relative` around it."""
    return rule.schedule if isinstance(rule, Relative) else rule


@dataclass
class Setting:
    """One hyperparameter that is driven: a rule for all groups, or rules for the groups that a dict names."""

    name: str
    rule: Rules | None = None
    """The rule for all groups; None where a dict names groups."""
    by_index: dict[int, Rules] = field(default_factory=dict)
    """Rules by the index that a group has over all optimizers when the driver is made."""
    by_name: dict[Any, Rules] = field(default_factory=dict)
    """Rules by the `name` of a group."""
    scale: str | None = None
    """The key under which a group holds its factor."""

    def rule_of(self, index: int | None, group: Group) -> Rules | None:
        """The rule of a group, or None if it has none; a group that was added later has no index."""
        if self.rule is not None:
            return self.rule
        if index is not None and index in self.by_index:
            return self.by_index[index]
        name = group.get("name")
        can_be_key = type(name).__hash__ is not None and not isinstance(name, bool)  # True would find the key 1
        return self.by_name.get(name) if can_be_key else None

    def rules(self) -> list[Rule | float]:
        """All rules; those of a tuple one by one."""
        given = [self.rule] if self.rule is not None else [*self.by_index.values(), *self.by_name.values()]
        return [each for rule in given for each in (rule if isinstance(rule, tuple) else (rule,))]

    def factor_of(self, group: Group) -> float | None:
        """The factor that the group holds; None if it holds none or the setting has no `scale`."""
        if self.scale is None or self.scale not in group:
            return None
        return number(group[self.scale], f"{self.scale!r}, the factor of {self.name} of a group,")


# --- reading ---------------------------------------------------------------------------------------------------------
def read_settings(hyperparameters: Mapping[str, Any], groups: list[Group], scale: Any) -> list[Setting]:
    """The settings for the arguments of `drive`. Raises `NotARule` or `OptimizerError` for wrong ones."""
    if scale is not None and not (isinstance(scale, Mapping) and all(isinstance(key, str) for key in scale.values())):
        raise OptimizerError(f'scale is a dict such as {{"lr": "lr_scale"}}, got {shown(scale)}.')
    keys = scale or {}
    if unknown := [name for name in keys if name not in hyperparameters]:
        raise OptimizerError(
            f"scale names {listed(unknown)}, which this call does not drive; it drives {listed(hyperparameters)}."
        )
    return [_read_setting(name, given, groups, keys.get(name)) for name, given in hyperparameters.items()]


def _read_setting(name: str, given: Any, groups: list[Group], scale: str | None) -> Setting:
    setting = Setting(name, scale=scale)
    if isinstance(given, Plateau) and given.shape:
        given = _one_for_each_group(name, given, groups)
    if isinstance(given, Mapping):
        if not given:
            raise NotARule(f"{name} is an empty dict; it must name at least one group, such as {name}={{0: schedule}}.")
        for key, rule in given.items():
            _check_type(f"{name}[{key!r}]", rule)
            _enter(setting, key, rule, groups)
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


def _one_for_each_group(name: str, rule: Plateau, groups: list[Group]) -> dict[int, Plateau]:
    """A rule of several numbers as rules of one number, by the index of the group."""
    rules = rule.each()
    if len(rules) != len(groups):
        raise OptimizerError(
            f"{name} is a rule of {len(rules)} values, one for each group, and there are {len(groups)} groups. Name "
            f"the groups that it drives: {name}={{0: ms.plateau(0.1), ...}}."
        )
    return dict(enumerate(rules))


def _enter(setting: Setting, key: Any, rule: Rules, groups: list[Group]) -> None:
    """Enter a rule for the groups that a key of a dict means: an index, or a name."""
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


def _same_name(name: Any, key: Any) -> bool:
    """Whether a key of a dict is this name, which True and 1 are not."""
    return not isinstance(name, bool) and not isinstance(key, bool) and bool(name == key)


# --- checks ----------------------------------------------------------------------------------------------------------
def _check_type(what: str, rule: Any) -> None:
    if isinstance(rule, tuple):
        if not all(_is_rule(each) or isinstance(each, Relative) or is_real(each) for each in rule):
            raise NotARule(f"{what} must be made of schedules and numbers, got {rule!r}.")
        if any(is_real(each) and not is_finite(each) for each in rule):
            raise NotARule(f"{what} must be made of schedules and finite numbers, got {rule!r}.")
    elif not _is_rule(rule) and not isinstance(rule, Relative):
        raise NotARule(f"{what} must be a schedule of numbers, such as ms.cosine(0.1, 1000), got {shown(rule)}.")


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, Schedule | Plateau) and rule.shape == ()


def check_shape(what: str, rule: Rules, value: Any) -> None:
    """Raise `NotARule` unless both are tuples of one length, or neither is a tuple."""
    is_tuple = isinstance(value, tuple | list)
    if isinstance(rule, tuple) and not (is_tuple and len(value) == len(rule)):
        raise NotARule(f"{what} must be like the optimizer's own, {value!r}, got {rule!r}.")
    if is_tuple and not isinstance(rule, tuple):
        raise NotARule(f"{what} must be a tuple, as the optimizer's own, {value!r}, got {rule!r}.")


def _check_scale(setting: Setting, groups: Sequence[Group]) -> None:
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


def check_plateau(plateau: Any, rate: Any) -> None:
    """Raise `NotARule` or `OptimizerError` unless `plateau` can multiply `rate`, what `lr` is given."""
    if plateau is None:
        return
    if not isinstance(plateau, Plateau) or plateau.shape:
        raise NotARule(
            f"plateau takes a rule of one value fed by a metric, such as ms.plateau(1.0), got {shown(plateau)}."
        )
    if rate is None:
        raise OptimizerError(
            "plateau= multiplies lr, which is not driven: give lr=schedule, or lr=ms.plateau(0.1) alone."
        )
    rules = rate.values() if isinstance(rate, Mapping) else [rate]
    if any(isinstance(source_of(rule), Plateau) for rule in rules):
        raise OptimizerError(
            "lr is fed by a metric already; plateau= would multiply it by a second rule. Give lr=ms.plateau(0.1), "
            "or lr=schedule, plateau=ms.plateau(1.0)."
        )


def is_fed(settings: list[Setting], plateau: Plateau | None) -> bool:
    """Whether a rule among these is fed by a metric."""
    rules = [rule for setting in settings for rule in setting.rules()]
    return plateau is not None or any(
        isinstance(source_of(rule), Plateau) for rule in rules if isinstance(rule, Schedule | Plateau | Relative)
    )


def number(value: Any, what: str) -> float:
    """A finite number of Python, NumPy or a tensor, as a float."""
    held = value
    if hasattr(value, "numel") and value.numel() == 1:
        held = value.item()
    if not is_real(held) or not is_finite(held):
        raise OptimizerError(f"{what} must be a finite number, got {shown(value)}.")
    return float(held)
