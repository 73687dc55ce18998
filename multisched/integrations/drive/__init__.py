"""`drive`: schedules in the hyperparameters of torch optimizers.

    drive(...) --settings--> arguments --meanings--> what each group gets --writer--> the optimizer's groups

`harness` has the hooks on an optimizer, and `groups` what is known of its groups. `driver` is what `drive` returns;
`state` and `copies` are parts of it.
"""

from collections.abc import Mapping
from typing import Any

from multisched.averages.plateau import Plateau
from multisched.errors import NotARule, OptimizerError, shown
from multisched.integrations.drive.driver import Driver, driver_class
from multisched.integrations.drive.groups import KnownGroup
from multisched.integrations.drive.harness import harness_of
from multisched.integrations.drive.settings import Relative as Relative
from multisched.integrations.drive.settings import Rules, Setting, check_plateau, is_fed, read_settings, relative
from multisched.trees.attach import check_hooked, innermost

__all__ = ["drive", "relative"]


def drive(
    optimizer: Any,
    *,
    scale: Mapping[str, str] | None = None,
    plateau: Plateau | None = None,
    manual: bool = False,
    replace: bool = False,
    **hyperparameters: Rules | Mapping[str, Rules] | Mapping[int, Rules],
) -> Driver:
    """Keep hyperparameters of torch optimizers at the values of schedules, from now on.

        lr=schedule                 schedule(k) in every group, at its update k, counted from 0
        lr=ms.relative(schedule)    own value of the group * schedule(k)
        lr={group: ...}             one of these for each group that is named; the others stay as they are
        scale={"lr": key}           schedule(k) * group[key], in groups that have the key

    With `lr=schedule`, a group whose own value is 0 keeps 0 if another group has a value other than 0: biases without
    weight decay, frozen layers. If all groups have 0, all get the schedule. If own values other than 0 differ, it is
    not clear what is meant, which is an error. For example, three groups with the own rates 0.1, 0.1 and 0 and
    `lr=ms.constant(0.3)` get 0.3, 0.3 and 0. Two groups with 0.1 and 0.01 and `lr=ms.relative(ms.constant(0.3))` get
    0.03 and 0.003.

    The own value of a group is the value that it has when `drive` is called or the group is added. It is read once, and
    never from a checkpoint that is loaded later, so that a resumed run follows the schedule that it is given now. So
    drive an optimizer before you load its state.

    The values are written at once; after each step, as the values of the next, so that logs show what they would show
    with torch's schedulers; and again before each step, so that no step is taken with the value of a group just added,
    of a checkpoint just loaded, or of a line that set it by hand. A step counts once, however often it evaluates a
    closure, and does not count if `GradScaler` skips it.

    Parameters
    ----------
    optimizer:
        A `torch.optim.Optimizer`, or a list of them, each of which counts its own steps. A value that is a tensor is
        written in place, into a tensor that no other group has; the learning rate of a `capturable` optimizer becomes
        a tensor. So a compiled step is not compiled again.
    scale:
        By hyperparameter, the key under which a group holds a factor; a group without the key has the factor 1.
    plateau:
        A rule fed by a metric, `ms.plateau(1.0, ...)`, whose value multiplies `lr`. `lr=ms.plateau(0.1, ...)`, in its
        place, is the rate itself; with a list in place of 0.1, or as `minimum`, it is the rate of each group. Feed the
        rule by `driver.report(metric)`.
    manual:
        Count the calls of `driver.step()` instead of the optimizers' steps, with one count for all of them, or set the
        clock in the unit of the schedules: `driver.step(at=tokens)`. It is needed for a step that is captured in a CUDA
        graph, since no hook runs there.
    replace:
        Replace a driver of the same hyperparameter and group, as for a notebook cell that is run again. The other
        driver is detached from everything that it drives. The own values that it has read are taken from it; the count
        begins at 0.
    hyperparameters:
        `lr=`, `weight_decay=`, `momentum=` or whatever else the groups have. A dict names groups by their `name`, which
        stands for all groups of this name, later ones included, or by their index over the groups of all optimizers.
        A tuple, as in `betas=(ms.linear(0.9, 0.95, 99), 0.999)`, is made of schedules, `ms.relative(...)` and numbers.

    Returns
    -------
    The driver, a `torch.optim.lr_scheduler.LRScheduler`, and with `ms.plateau` a `ReduceLROnPlateau`, with

    - `state_dict()`: `{"count": n}`, or `{"count": [n, m]}` of several optimizers, ready for JSON;
    - `load_state_dict(state)`, before or after the optimizer's;
    - `values()`: by hyperparameter, a list over all groups; `get_last_lr()`; `count`;
    - `step(at=)` with `manual`, and `report(metric)` with `ms.plateau`; without `manual`, `step()` does nothing;
    - `detach()`, which leaves the groups with their last values.

    The driver does not keep its optimizer alive. A deep copy of it, or a pickle, goes on with a copy of the optimizer.

    Raises
    ------
    NotARule:
        A hyperparameter is given something other than a schedule of numbers, or a tuple or dict of them.
    OptimizerError:
        `optimizer` is not a torch optimizer, or is one that calls no hooks; a group or key that is named does not
        exist; a group lacks a hyperparameter; it is not clear what is meant for groups that differ; or something is
        driven already, by `error.driver`. In each case nothing is written, and no hook stays. If it is not clear what
        is meant for a group that is added later, the next step raises before it changes anything.

    In JAX there is nothing to drive: a schedule is an optax schedule already, `optax.sgd(learning_rate=lr)`.
    """
    optimizers = _optimizers(optimizer)
    if not hyperparameters:
        raise NotARule("drive needs at least one schedule, such as lr=ms.cosine(0.1, 1000).")
    groups = [group for each in optimizers for group in each.param_groups]
    settings = read_settings(hyperparameters, groups, scale)
    check_plateau(plateau, hyperparameters.get("lr"))
    others = _others(optimizers, settings)
    if others and not replace:
        name = others[0][1]
        raise OptimizerError(
            f"{name} is driven already, by the driver that this error has as `.driver`. Replace it with\n"
            f"    ms.drive(optimizer, {name}=..., replace=True)\n"
            "or end it with error.driver.detach(), after which the groups keep their last values.",
            others[0][0],
        )
    driver: Driver = driver_class(is_fed(settings, plateau))(optimizers, settings, plateau, bool(manual))
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


def _others(optimizers: list[Any], settings: list[Setting]) -> list[tuple[Driver, str]]:
    """The drivers that drive one of the hyperparameters in one of the groups already, each with the hyperparameter."""
    found: list[tuple[Driver, str]] = []
    first = 0
    for optimizer in optimizers:
        harness = harness_of(optimizer)
        if harness is not None:
            harness.find_groups(unclear="later")
            drivers = [writer.driver for writer in harness.writers]
            for index, known in enumerate(harness.groups, first):
                wanted = [setting.name for setting in settings if setting.rule_of(index, known.group) is not None]
                found += [(driver, name) for name in wanted for driver in drivers if _drives(driver, known, name)]
        first += len(optimizer.param_groups)
    return found


def _drives(driver: Driver, known: KnownGroup, name: str) -> bool:
    """Whether a driver has this hyperparameter of this group."""
    index = known.reading(driver).index
    return any(own.name == name and own.rule_of(index, known.group) is not None for own in driver.settings)
