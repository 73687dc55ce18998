"""Schedules in the hyperparameters of torch optimizers."""

from collections.abc import Mapping
from typing import Any

from multisched.averages.plateau import Plateau
from multisched.errors import NotARule, OptimizerError, listed, shown
from multisched.integrations.attach import check_hooked, innermost
from multisched.integrations.driving.driver import Drive, driver_class, is_fed
from multisched.integrations.driving.harness import harness_of
from multisched.integrations.driving.settings import Relative as Relative
from multisched.integrations.driving.settings import Setting, read_setting, relative

__all__ = ["drive", "relative"]


def drive(
    optimizer: Any,
    *,
    scale: Mapping[str, str] | None = None,
    plateau: Plateau | None = None,
    manual: bool = False,
    replace: bool = False,
    **hyperparameters: Any,
) -> Any:
    """Keep hyperparameters of torch optimizers at the values of schedules, from now on.

        lr=schedule                 schedule(k) in every group, at its update k, counted from 0
        lr=ms.relative(schedule)    own value of the group * schedule(k)
        lr={group: ...}             one of these for each group that is named; the others stay as they are
        scale={"lr": key}           schedule(k) * group[key], in groups that have the key

    With `lr=schedule`, a group whose own value is 0 keeps 0 if another group has a value that is not: biases without
    weight decay, layers that are frozen. If all have 0, all get the schedule. If own values other than 0 differ, it is
    not clear what is meant, which is an error. For own rates of 0.1, 0.1 and 0 and `lr=ms.constant(0.3)` the groups get
    0.3, 0.3 and 0; for 0.1 and 0.01, `lr=ms.relative(ms.constant(0.3))` gives them 0.03 and 0.003.

    A group's own value is what it has when `drive` is called or the group is added, and is read once. It is never read
    from a checkpoint that is loaded after: a run that is resumed follows the schedule that it is given now. So drive an
    optimizer before it is loaded.

    The values are written at once, after each step (those of the next, so that logs show what torch's schedulers would
    show), and again before each step: a group just added, a checkpoint just loaded and a value set by hand take no step
    undriven. A step counts once, however often it evaluates a closure, and not at all if `GradScaler` skips it.

    Parameters
    ----------
    optimizer:
        A `torch.optim.Optimizer`, or a list of them, each of which counts its own steps. Values that are tensors are
        written in place, each group in a tensor of its own; a learning rate becomes a tensor if the optimizer is
        `capturable`. So no compiled step has to be compiled again.
    scale:
        By hyperparameter, the key under which a group holds a factor; a group without the key has the factor 1.
    plateau:
        A rule fed by a metric, `ms.plateau(1.0, ...)`, whose value multiplies `lr`. `lr=ms.plateau(0.1, ...)` is the
        rate itself; with a list in place of 0.1, or as `minimum`, the rate of each group. `driver.report(metric)` feeds
        it.
    manual:
        Count the calls of `driver.step()` instead of the optimizers' steps, one count for all, or set the clock in the
        unit of the schedules: `driver.step(at=tokens)`. For a step that is captured in a CUDA graph, in which no hook
        runs.
    replace:
        Whether to replace a driver of the same hyperparameter and group, as a notebook cell that is run again does. The
        other driver is detached from all that it drives; own values are those that it read; the count begins at 0.
    hyperparameters:
        `lr=`, `weight_decay=`, `momentum=` or whatever the groups have. A dict names groups by their `name`, which
        stands for all groups of this name, later ones included, or by their index over the groups of all optimizers.
        A tuple, as in `betas=(ms.linear(0.9, 0.95, 99), 0.999)`, is made of schedules, `ms.relative(...)` and numbers.

    Returns
    -------
    The driver, a `torch.optim.lr_scheduler.LRScheduler`, and with `ms.plateau` a `ReduceLROnPlateau`, with

    - `state_dict()`: `{"count": n}`, or `{"count": [n, m]}` of several optimizers, ready for JSON;
    - `load_state_dict(state)`, before or after the optimizer's;
    - `values()`: by hyperparameter, a list over all groups; `get_last_lr()`; `count`;
    - `step(at=)` with `manual`, `report(metric)` with `ms.plateau`; any other call of `step()` does nothing;
    - `detach()`, which leaves the last values.

    The driver does not keep its optimizer alive. A deep copy of it, or a pickle, goes on with a copy of the optimizer.

    Raises
    ------
    NotARule:
        A hyperparameter is given something else than a schedule of numbers, or a tuple or dict of them.
    OptimizerError:
        This is no torch optimizer, or one that calls no hooks. A group or key that is named does not exist, or a group
        lacks a hyperparameter. It is not clear what is meant for groups that differ. Something is driven already:
        `error.driver` is the driver. In each case nothing is written, and no hook stays. If a group is added later, for
        which it is not clear what is meant, the next step raises before it changes anything.

    In JAX there is nothing to drive: a schedule is an optax schedule already, `optax.sgd(learning_rate=lr)`.
    """
    optimizers = _optimizers(optimizer)
    if not hyperparameters:
        raise NotARule("drive needs at least one schedule, such as lr=ms.cosine(0.1, 1000).")
    groups = [group for each in optimizers for group in each.param_groups]
    settings = _settings(hyperparameters, groups, scale)
    _check_plateau(plateau, hyperparameters.get("lr"))
    others = _others(optimizers, settings)
    if others and not replace:
        name = others[0][1]
        raise OptimizerError(
            f"{name} is driven already, by the driver that this error has as `.driver`. Replace it with\n"
            f"    ms.drive(optimizer, {name}=..., replace=True)\n"
            "or end it with error.driver.detach(), after which the groups keep their last values.",
            others[0][0],
        )
    driver = driver_class(is_fed(settings, plateau))(optimizers, settings, plateau, bool(manual))
    driver.attach(list(dict.fromkeys(other for other, _ in others)))
    return driver


def _optimizers(given: Any) -> list[Any]:
    """The optimizers that have the hooks, inside of what wraps them."""
    optimizers = [innermost(each) for each in (given if isinstance(given, list | tuple) else [given])]
    for each in optimizers:
        if not hasattr(each, "param_groups") or not hasattr(each, "register_step_post_hook"):
            raise OptimizerError(f"drive takes a torch optimizer or a list of them, got {shown(given)}.")
        check_hooked(each, "ms.drive({}, ...)")
    if not optimizers:
        raise OptimizerError("drive takes a torch optimizer or a list of them, got an empty list.")
    if len({id(each) for each in optimizers}) < len(optimizers):
        raise OptimizerError(
            "drive was given one optimizer twice in a list; each counts its own steps, and needs one place."
        )
    return optimizers


def _settings(hyperparameters: dict[str, Any], groups: list[Any], scale: Any) -> list[Setting]:
    if scale is not None and not (isinstance(scale, Mapping) and all(isinstance(key, str) for key in scale.values())):
        raise OptimizerError(f'scale is a dict such as {{"lr": "lr_scale"}}, got {shown(scale)}.')
    scale = scale or {}
    if unknown := [name for name in scale if name not in hyperparameters]:
        raise OptimizerError(f"scale names {listed(unknown)}, which is not driven; driven: {listed(hyperparameters)}.")
    return [read_setting(name, given, groups, scale.get(name)) for name, given in hyperparameters.items()]


def _check_plateau(plateau: Any, rate: Any) -> None:
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
    if any(isinstance(getattr(rule, "schedule", rule), Plateau) for rule in rules):
        raise OptimizerError(
            "lr is fed by a metric already; plateau= would multiply it by a second rule. Give lr=ms.plateau(0.1), "
            "or lr=schedule, plateau=ms.plateau(1.0)."
        )


def _others(optimizers: list[Any], settings: list[Setting]) -> list[tuple[Drive, str]]:
    """The drivers that have a hyperparameter of a group that is to be driven now, each with the hyperparameter."""
    found: list[tuple[Drive, str]] = []
    first = 0
    for optimizer in optimizers:
        harness = harness_of(optimizer)
        if harness is not None:
            harness.see(unclear="later")
            for index, member in enumerate(harness.members, first):
                for setting in settings:
                    if setting.rule_of(index, member.group) is not None:
                        found += [
                            (line.driver, setting.name) for line in harness.lines if _drives(line, member, setting)
                        ]
        first += len(optimizer.param_groups)
    return found


def _drives(line: Any, member: Any, setting: Setting) -> bool:
    """Whether a driver has this hyperparameter of this group."""
    return any(
        own.name == setting.name and own.rule_of(member.index_of.get(line.driver), member.group) is not None
        for own in line.driver.settings
    )
