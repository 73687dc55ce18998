"""The driver that `drive` returns: its clock, its state, and what becomes of it when it is copied.

It is a scheduler of torch's own kind, so that whatever asks for one takes it: Lightning, Accelerate, a loop that calls
`scheduler.step()`. It counts the optimizers' own steps, by the hooks of `harness`.
"""

import copy
import importlib
import warnings
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn

import numpy as np

from multisched.arrays import is_real
from multisched.averages.plateau import Plateau
from multisched.errors import OptimizerError
from multisched.integrations.driving.copies import packed, unpack
from multisched.integrations.driving.harness import Harness, harness_of
from multisched.integrations.driving.meaning import Own, Parts, Sources, own_value, parts_of
from multisched.integrations.driving.members import Clock, Line, Member
from multisched.integrations.driving.settings import Relative, Setting
from multisched.integrations.driving.state import (
    checked_clock,
    checked_counts,
    checked_states,
    metric_value,
    plain,
    saved_state,
)


class Drive:
    """Everything of a driver that is not torch's; `driver_class` joins it to `LRScheduler`."""

    def __init__(self, optimizers: list[Any], settings: list[Setting], plateau: Plateau | None, manual: bool):
        self.settings, self.plateau, self.manual = settings, plateau, manual
        self.sources = Sources(plateau)
        for setting in settings:
            for rule in setting.rules():
                if not is_real(rule):
                    self.sources.index(setting.name, getattr(rule, "schedule", rule))
        shared = Clock()
        self.clocks = [shared if manual else Clock() for _ in optimizers]
        self.refs: list[Any] = [weakref.ref(optimizer) for optimizer in optimizers]
        self.harnesses: list[Any] = []
        """Weak references, too: none before the driver is attached, and none after it is detached."""
        self.kept: list[Any] = []
        """Optimizers that only this driver has: those of a copy, made with it."""
        self._step_count = 1  # Accelerate counts it up
        self._read_late: list[str] = []
        """Hyperparameters with `ms.relative` whose own values are those of an optimizer that had taken steps."""

    # --- optimizers --------------------------------------------------------------------------------------------------
    def attach(self, replaced: list["Drive"]) -> None:
        """Hang the driver on its optimizers and write, or raise and leave everything as it was.

        Own values are those that the replaced drivers read, where they did.
        """
        optimizers = self.optimizers
        harnesses = [harness_of(optimizer) or Harness(optimizer) for optimizer in optimizers]
        lines = [Line(self, clock) for clock in self.clocks]
        first = 0
        try:
            self.harnesses = [weakref.ref(harness) for harness in harnesses]
            for optimizer, harness in zip(optimizers, harnesses, strict=True):
                harness.see(unclear="later")
                for index, member in enumerate(harness.members):
                    self._read(member, first + index, replaced)
                first += len(optimizer.param_groups)
            meanings = [[self.meaning(member) for member in harness.members] for harness in harnesses]
            self.sources.check(0)
        except BaseException:
            self.harnesses = []
            for harness in harnesses:
                for member in harness.members:
                    member.forget(self)
            raise
        self._read_late = [setting.name for setting in self.settings if self._is_late(setting, optimizers, replaced)]
        for other in replaced:
            other.detach()
        for harness, line, parts in zip(harnesses, lines, meanings, strict=True):
            for member, meaning in zip(harness.members, parts, strict=True):
                member.parts[self] = meaning
            harness.join(line)

    def _is_late(self, setting: Setting, optimizers: list[Any], replaced: list["Drive"]) -> bool:
        relative = any(isinstance(rule, Relative) for rule in setting.rules())
        known = any(setting.name == other.name for driver in replaced for other in driver.settings)
        return relative and not known and any(optimizer.state for optimizer in optimizers)

    def _read(self, member: Member, index: int, replaced: list["Drive"]) -> None:
        member.index_of[self] = index
        own = member.own[self] = {}
        for setting in self.settings:
            rule = setting.rule_of(index, member.group)
            if rule is not None:
                read = [m[setting.name] for other in replaced if setting.name in (m := member.own.get(other, {}))]
                own[setting.name] = read[0] if read else own_value(setting.name, rule, member.group)

    def meaning(self, member: Member) -> dict[str, Parts]:
        """What a group is to have, by hyperparameter. Raises `OptimizerError` where that is unclear.

        What is clear of one hyperparameter is fixed, though another is not.
        """
        parts = member.decided.setdefault(self, {})
        group = member.group
        unclear: OptimizerError | None = None
        for setting in self.settings:
            rule = setting.rule_of(member.index_of.get(self), group)
            if rule is None or setting.name in parts:
                continue
            try:
                own = member.own[self].get(setting.name)
                if own is None:
                    own = member.own[self][setting.name] = own_value(setting.name, rule, group)
                parts[setting.name] = parts_of(setting, rule, own, self._everyone(setting.name), group, self.sources)
            except OptimizerError as error:
                unclear = unclear or error
        if unclear is not None:
            raise unclear
        return parts

    def _everyone(self, name: str) -> list[Own]:
        """The own values of all groups of all optimizers."""
        members = [member for ref in self.harnesses if (harness := ref()) for member in harness.members]
        return [member.own[self][name] for member in members if name in member.own.get(self, {})]

    def detach(self) -> None:
        """Leave the optimizers as they are from now on; a second call changes nothing."""
        for ref in self.harnesses:
            harness = ref()
            if harness is not None:
                harness.leave(self)
        self.harnesses = []

    @property
    def optimizer(self) -> Any:
        """The optimizer, or the first of several. Raises `OptimizerError` if it is gone."""
        optimizer = self.refs[0]()
        if optimizer is None:
            raise OptimizerError(
                "The optimizer of this driver is gone. A driver does not keep it alive; keep it in a variable:\n"
                "    optimizer = torch.optim.SGD(...)\n"
                "    driver = ms.drive(optimizer, ...)"
            )
        return optimizer

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers that are still there."""
        return [optimizer for ref in self.refs if (optimizer := ref()) is not None]

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    # --- the clock ---------------------------------------------------------------------------------------------------
    @property
    def count(self) -> Any:
        """The steps so far; a list for several optimizers, which count their own; with `manual` the clock."""
        counts = [clock.count for clock in self.clocks]
        return counts[0] if self.manual or len(counts) == 1 else counts

    @property
    def last_epoch(self) -> Any:
        """The count of the first optimizer, by torch's name."""
        return self.clocks[0].count

    def step(self, metric: Any = None, /, *, at: Any = None) -> None:
        """Set the clock of a `manual` driver; of any other, nothing, since the optimizer's steps are counted.

        Parameters
        ----------
        metric:
            What `report` takes, for trainers that give it to a scheduler, as to torch's `ReduceLROnPlateau`.
        at:
            The clock, in the unit of the schedules; without it, a `manual` driver counts one step more.

        Raises `OptimizerError`, and changes nothing, for a clock that is no number from 0 on or of a driver that is not
        `manual`, for a metric where no rule takes one, and where a driver was detached.
        """
        if metric is not None:
            if at is not None or not self.sources.fed:
                raise OptimizerError(
                    f"step({metric!r}) gives a metric, and this driver has no ms.plateau that takes one. The clock "
                    f"of a driver made with manual=True is set by step(at={metric!r})."
                )
            self.report(metric)
        if not self.manual:
            if at is not None:
                raise OptimizerError(
                    f"step(at={at!r}) sets a clock, and this driver counts the steps of its optimizer. Make it with "
                    "ms.drive(optimizer, manual=True, ...), or give it a count: load_state_dict({'count': n})."
                )
            return
        clock = self.clocks[0].count
        if at is None:
            if not isinstance(clock, int):
                raise OptimizerError(
                    f"The clock is at {clock!r}, which counts no steps; say where it is now: step(at=...)."
                )
            at = clock + 1
        self._set([checked_clock(at)])

    def report(self, metric: Any) -> None:
        """Give a metric to every `ms.plateau` of the driver; what it makes of it counts from the next step on.

        Raises `OptimizerError`, and changes nothing, for anything but a real number or an array of one, and where no
        rule takes a metric.
        """
        if not self.sources.fed:
            raise OptimizerError("No rule of this driver takes a metric; drive with lr=ms.plateau(0.1) or plateau=.")
        value = np.float64(metric_value(metric))
        with np.errstate(all="ignore"):  # metrics may be infinite
            states = [fed.rule.step(fed.state, value)[0] for fed in self.sources.fed]
        self._set([self.clocks[0].count] if self.manual else [clock.count for clock in self.clocks], states)

    def _set(self, counts: list[Any], states: list[Any] | None = None) -> None:
        """Set the clocks, and the states of rules fed by a metric, and write.

        Where a value cannot be had, nothing changes.
        """
        harnesses, before = self._attached(), self.sources.states()
        try:
            self.sources.go_on_from(before if states is None else states)
            for count in counts:
                self.sources.check(count)
            for harness in harnesses:
                harness.see()
            for harness in harnesses:
                harness.forget_values(self)
            for clock, count in zip(self.clocks, counts * len(self.clocks) if self.manual else counts, strict=True):
                clock.count = count
            for harness in harnesses:
                harness.write()
        except BaseException:
            self.sources.go_on_from(before)
            raise

    def _attached(self) -> list[Harness]:
        if not self.harnesses:
            raise OptimizerError("This driver was detached or replaced, and writes no more. Drive the optimizer again.")
        harnesses = [harness for ref in self.harnesses if (harness := ref()) is not None]
        return [harness for harness in harnesses if harness.optimizer() is not None]

    # --- values ------------------------------------------------------------------------------------------------------
    def values(self) -> dict[str, list[Any]]:
        """The driven hyperparameters as they are now: by name, a list over all groups of all optimizers.

        Floats, tuples of floats for tuples, and None for a group that has no such hyperparameter.
        """
        return {setting.name: [plain(g.get(setting.name)) for g in self._groups()] for setting in self.settings}

    def get_last_lr(self) -> list[Any]:
        """The learning rates of all groups now, which are those of the next step."""
        return [plain(group["lr"]) for group in self._groups() if "lr" in group]

    get_lr = get_last_lr

    # --- states ------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """`{"count": n}`, with a list for several optimizers; the states of rules fed by a metric; ready for JSON."""
        state: dict[str, Any] = {"count": self.count}
        if self.sources.fed:
            state["plateau"] = [saved_state(fed) for fed in self.sources.fed]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state, with the values that the schedules of this driver have there.

        Raises `OptimizerError`, and changes nothing, for a state of another kind of driver.
        """
        states = checked_states(self, state_dict)
        counts = checked_counts(self, state_dict)
        self._tell_late(counts)
        self._set(counts, states)

    def _tell_late(self, counts: list[Any]) -> None:
        """Warn of own values that were read from what looks like a checkpoint of the run that goes on now."""
        if self._read_late and any(counts) and not any(clock.count for clock in self.clocks):
            name = self._read_late[0]
            warnings.warn(
                f"ms.drive read the own values of {name} from an optimizer that had taken steps. If it was driven "
                "before, as that of a checkpoint was, ms.relative now multiplies what was multiplied already. "
                "Load the optimizer after it is driven:\n"
                f"    driver = ms.drive(optimizer, {name}=ms.relative(schedule))\n"
                "    optimizer.load_state_dict(...)\n"
                "    driver.load_state_dict(...)",
                UserWarning,
                stacklevel=3,
            )

    # --- copies ------------------------------------------------------------------------------------------------------
    def __copy__(self) -> NoReturn:
        raise OptimizerError(
            "A shallow copy of a driver would drive the same optimizer a second time. Use copy.deepcopy((optimizer, "
            "driver)), which copies both."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Drive":
        twin: Drive = type(self).__new__(type(self))
        memo[id(self)] = twin
        parts = packed(self)
        optimizers = parts.pop("optimizers")
        alone = [optimizer for optimizer in optimizers if id(optimizer) not in memo]
        copied = copy.deepcopy(optimizers, memo)
        unpack(twin, **copy.deepcopy(parts, memo), optimizers=copied)
        twin.kept = [copy.deepcopy(optimizer, memo) for optimizer in alone if optimizer is not None]  # of the memo
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        return unpickled, (packed(self),)


@cache
def driver_class(fed: bool) -> Any:
    """The class of drivers, made when torch is there; one that is fed by a metric is a `ReduceLROnPlateau`, too.

    So trainers that look for this class, as that of Hugging Face does, give it the metric.
    """
    schedulers: Any = importlib.import_module("torch.optim.lr_scheduler")

    class Driver(Drive, schedulers.LRScheduler):  # type: ignore[misc]
        """Keeps hyperparameters of optimizers at the values of schedules; made by `multisched.drive`."""

    class FedDriver(Driver, schedulers.ReduceLROnPlateau):  # type: ignore[misc]
        """A driver with an `ms.plateau`; made by `multisched.drive`."""

    return FedDriver if fed else Driver


def is_fed(settings: list[Setting], plateau: Plateau | None) -> bool:
    """Whether a driver of these has a rule that is fed by a metric."""
    rules = [rule for setting in settings for rule in setting.rules()]
    return plateau is not None or any(isinstance(getattr(rule, "schedule", rule), Plateau) for rule in rules)


def unpickled(parts: dict[str, Any]) -> Any:
    """The driver of a pickle."""
    kind = driver_class(is_fed(parts["settings"], parts["plateau"]))
    driver = kind.__new__(kind)
    unpack(driver, **parts)
    driver.kept = [optimizer for optimizer in parts["optimizers"] if optimizer is not None]
    return driver
