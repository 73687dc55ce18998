"""Schedules in the hyperparameters of a torch optimizer.

A driver is a scheduler of torch's own kind, so that whatever asks for one takes it: Lightning, Accelerate, a loop that
calls `scheduler.step()`. It counts the optimizer's own steps, by a hook: nothing has to be called, a call that is made
changes nothing, and a step that `GradScaler` skips does not count.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from multisched.errors import NotARule, OptimizerError, shown
from multisched.integrations.attach import innermost
from multisched.schedules import Schedule


def drive(optimizer: Any, *, manual: bool = False, **hyperparameters: Any) -> Any:
    """Keep hyperparameters of a torch optimizer at the values of schedules, from now on.

    At its update k, counted from 0, each group has `schedule(k) * factor`, where the factor is what the group's own
    value was, relative to the optimizer's default: a group declared with a tenth of the rate keeps a tenth.

    Parameters
    ----------
    optimizer:
        A `torch.optim.Optimizer`. Values that are tensors are written in place; a learning rate becomes a tensor if the
        optimizer is `capturable`, so that no compiled or captured step has to be compiled again.
    manual:
        Count the calls of `driver.step()` instead of the optimizer's steps: for a step that is captured as a whole, in
        which no hook can run.
    hyperparameters:
        `lr=`, `weight_decay=`, `momentum=` or whatever the groups have, each a schedule; a tuple of schedules and
        numbers for a tuple, `betas=(ms.linear(0.9, 0.95, 1000), 0.999)`; or a dict of these by the `name` of groups,
        the others of which stay as they are.

    Returns
    -------
    The driver, a `torch.optim.lr_scheduler.LRScheduler`: `state_dict()` is the count alone, and `load_state_dict`
    brings the values of that update back; `get_last_lr()`; `detach()` ends it.

    Raises
    ------
    NotARule:
        A hyperparameter is given something else than a schedule, or a tuple or dict of them.
    OptimizerError:
        No group has a hyperparameter or a name of the kind, or this is no torch optimizer.

    In JAX there is nothing to drive: a schedule is an optax schedule already, `optax.sgd(learning_rate=lr)`.
    """
    if not hyperparameters:
        raise NotARule("drive needs at least one schedule, such as lr=ms.cosine(0.1, 1000).")
    optimizer = innermost(optimizer)
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "register_step_post_hook"):
        raise OptimizerError(f"drive takes a torch optimizer, got {shown(optimizer)}.")
    for name, rule in hyperparameters.items():
        _check(optimizer, name, rule)
    return _driver_class()(optimizer, hyperparameters, manual)


def _check(optimizer: Any, name: str, rule: Any) -> None:
    groups = optimizer.param_groups
    if isinstance(rule, Mapping):
        named = {group.get("name") for group in groups}
        if unknown := sorted(str(key) for key in rule if key not in named):
            known = ", ".join(sorted(map(repr, named - {None}))) or "none that have a name"
            raise OptimizerError(f"{name}: the optimizer has no group named {', '.join(unknown)}; its groups: {known}.")
        for key, part in rule.items():
            _check_rule(f"{name}[{key!r}]", part, [g[name] for g in groups if g.get("name") == key and name in g])
        groups = [group for group in groups if group.get("name") in rule]
    else:
        _check_rule(name, rule, [group[name] for group in groups if name in group])
    if any(name not in group for group in groups):
        known = ", ".join(key for key in groups[0] if key not in ("params", "name"))
        raise OptimizerError(f"{type(optimizer).__name__} has no hyperparameter {name!r}; it has {known}.")


def _check_rule(what: str, rule: Any, values: list[Any]) -> None:
    if isinstance(rule, tuple):
        if not all(isinstance(part, Schedule | int | float) for part in rule):
            raise NotARule(f"{what} must be made of schedules and numbers, got {rule!r}.")
        if any(not isinstance(value, tuple | list) or len(value) != len(rule) for value in values):
            raise NotARule(f"{what} must be like the optimizer's own, {values[0]!r}, got {rule!r}.")
    elif not isinstance(rule, Schedule) or rule.shape != ():
        raise NotARule(f"{what} must be a schedule of numbers, got {shown(rule)}.")
    elif any(isinstance(value, tuple | list) for value in values):
        raise NotARule(f"{what} must be a tuple, as the optimizer's own, {values[0]!r}, got {rule!r}.")


@cache
def _driver_class() -> Any:
    import torch

    class Driver(torch.optim.lr_scheduler.LRScheduler):
        """Keeps hyperparameters of an optimizer at the values of schedules; made by `multisched.drive`."""

        def __init__(self, optimizer: Any, rules: dict[str, Any], manual: bool):  # the base's would step, and warn
            self.optimizer, self.rules, self.manual = optimizer, rules, manual
            self.last_epoch = 0
            self._step_count = 1
            # A compiled step goes on after the hook, and is not compiled again for each count.
            apart: Any = torch.compiler.disable
            hook = apart(self._after_step)
            self._hook = None if manual else optimizer.register_step_post_hook(hook)
            self._write()
            self.base_lrs = [group.get("initial_lr", group.get("lr")) for group in optimizer.param_groups]

        @property
        def count(self) -> int:
            """Updates so far."""
            return int(self.last_epoch)

        def step(self, epoch: Any = None) -> None:
            """Nothing, since the optimizer's steps are counted; with `manual`, one update more."""
            if self.manual:
                self._advance()

        def _advance(self) -> None:
            self.last_epoch += 1
            self._write()

        def _after_step(self, stepped: Any, *_: Any) -> None:
            found_inf = getattr(
                stepped, "found_inf", None
            )  # of GradScaler, for fused optimizers, which skip by themselves
            if found_inf is None or not float(found_inf):
                self._advance()

        def _write(self) -> None:
            for group in self.optimizer.param_groups:
                for name, rule in self.rules.items():
                    if isinstance(rule, Mapping):
                        rule = rule.get(group.get("name"))
                    if rule is not None:
                        _set(torch, self.optimizer, group, name, _value(rule, self.count))

        def get_last_lr(self) -> list[Any]:
            """The learning rates of the groups now."""
            return [float(group["lr"]) for group in self.optimizer.param_groups]

        get_lr = get_last_lr

        def state_dict(self) -> dict[str, Any]:
            """How many updates there were."""
            return {"count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Go on from a count, with the values of that update."""
            count = state_dict.get("count")
            if set(state_dict) != {"count"} or type(count) is not int or count < 0:
                raise OptimizerError(f"The state of a driver is {{'count': updates}}, got {state_dict!r}.")
            self.last_epoch = count
            self._write()

        def detach(self) -> None:
            """Leave the optimizer as it is from now on."""
            if self._hook is not None:
                self._hook.remove()
            self.rules = {}

    return Driver


def _value(rule: Any, count: int) -> Any:
    if isinstance(rule, tuple):
        return tuple(_value(part, count) for part in rule)
    return rule(count) if isinstance(rule, Schedule) else rule


def _set(torch: Any, optimizer: Any, group: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, tuple):
        group[name] = tuple(_placed(torch, old, new) for old, new in zip(group[name], value, strict=True))
        return
    initial = group.setdefault(f"initial_{name}", float(group[name]))  # in the optimizer's checkpoints, too
    default = optimizer.defaults.get(name)
    if default is not None and float(default) != 0:
        value = value * (initial / float(default))
    if name == "lr" and group.get("capturable") and not isinstance(group[name], torch.Tensor):
        group[name] = torch.tensor(value, dtype=torch.float32, device=group["params"][0].device)
    else:
        group[name] = _placed(torch, group[name], value)


def _placed(torch: Any, old: Any, new: float) -> Any:
    """`new`, in the tensor that holds the old value if one does."""
    return old.fill_(new) if isinstance(old, torch.Tensor) else new
