"""The driver that `drive` returns: its clock, its state, and what becomes of it when it is copied.

It is a scheduler of torch's own kind, so that whatever asks for one takes it: Lightning, Accelerate, a loop that calls
`scheduler.step()`. It counts the optimizers' own steps, by the hooks of `harness`.
"""

import copy
import importlib
import warnings
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

import numpy as np

from multisched.averages.plateau import Plateau, PlateauState
from multisched.errors import OptimizerError
from multisched.integrations.drive.copies import packed, unpack
from multisched.integrations.drive.groups import KnownGroup
from multisched.integrations.drive.harness import Harness, harness_of
from multisched.integrations.drive.meanings import Own, Sources, meaning_of, own_value
from multisched.integrations.drive.settings import Relative, Setting, is_fed, source_of
from multisched.integrations.drive.state import (
    Count,
    checked_clock,
    checked_counts,
    checked_states,
    metric_value,
    plain,
    saved_state,
)
from multisched.integrations.drive.writer import Progress, Writer
from multisched.schedules import Schedule


class Driver:
    """Keeps hyperparameters of torch optimizers at the values of schedules; made by `multisched.drive`, see there.

    Everything of it that is not torch's stands here; `driver_class` joins it to `LRScheduler`.
    """

    settings: list[Setting]
    plateau: Plateau | None
    manual: bool
    sources: Sources

    def __init__(
        self, optimizers: Sequence[Any], settings: list[Setting], plateau: Plateau | None, manual: bool
    ) -> None:
        self.settings, self.plateau, self.manual = settings, plateau, manual
        self.sources = Sources(plateau)
        for setting in settings:
            for rule in setting.rules():
                if isinstance(rule, Schedule | Plateau | Relative):
                    self.sources.index(setting.name, source_of(rule))
        shared = Progress()
        self.progress: list[Progress] = [shared if manual else Progress() for _ in optimizers]
        """One for each optimizer; with `manual`, one and the same for all."""
        self.refs: list[Any] = [weakref.ref(optimizer) for optimizer in optimizers]
        self.harnesses: list[Any] = []
        """Weak references, too: none before the driver is attached, and none after it is detached."""
        self.kept: list[Any] = []
        """The optimizers of a copy, which were copied with it and which nobody else may have."""
        self._step_count = 1  # Accelerate counts it up
        self._read_late: list[str] = []
        """Hyperparameters with `ms.relative` whose own values are those of an optimizer that had taken steps."""

    # --- optimizers --------------------------------------------------------------------------------------------------
    def attach(self, replaced: list["Driver"]) -> None:
        """Hang the driver on its optimizers and write, or raise and leave everything as it was.

        Own values that a replaced driver has read are taken from it.
        """
        optimizers = self.optimizers
        harnesses = [harness_of(optimizer) or Harness(optimizer) for optimizer in optimizers]
        try:
            self.harnesses = [weakref.ref(harness) for harness in harnesses]
            self._read_all(harnesses, replaced)
            for harness in harnesses:
                for known in harness.groups:
                    self._find_meanings(known)
            self.sources.check(0)
        except BaseException:
            self.harnesses = []
            for harness in harnesses:
                for known in harness.groups:
                    known.forget(self)
            raise
        self._read_late = [setting.name for setting in self.settings if self._is_late(setting, optimizers, replaced)]
        for other in replaced:
            other.detach()
        for harness, progress in zip(harnesses, self.progress, strict=True):
            for known in harness.groups:
                known.reading(self).settled = True
            harness.join(Writer(self, progress))

    def _read_all(self, harnesses: list[Harness], replaced: list["Driver"]) -> None:
        first = 0
        for harness in harnesses:
            harness.find_groups(unclear="later")
            for index, known in enumerate(harness.groups, first):
                self._read(known, index, replaced)
            first += len(harness.groups)

    def _read(self, known: KnownGroup, index: int, replaced: list["Driver"]) -> None:
        reading = known.reading(self)
        reading.index = index
        for setting in self.settings:
            rule = setting.rule_of(index, known.group)
            if rule is not None:
                name = setting.name
                before = [own[name] for other in replaced if name in (own := known.own(other))]
                reading.own[name] = before[0] if before else own_value(name, rule, known.group)

    def _is_late(self, setting: Setting, optimizers: list[Any], replaced: list["Driver"]) -> bool:
        relative = any(isinstance(rule, Relative) for rule in setting.rules())
        known = any(setting.name == other.name for driver in replaced for other in driver.settings)
        return relative and not known and any(optimizer.state for optimizer in optimizers)

    def decide(self, known: KnownGroup) -> None:
        """Decide what a group is to have, once. Raises `OptimizerError` where that is unclear."""
        reading = known.reading(self)
        if not reading.settled:
            self._find_meanings(known)
            reading.settled = True

    def _find_meanings(self, known: KnownGroup) -> None:
        """What a group is to have, by hyperparameter. Raises `OptimizerError` where that is unclear.

        What is clear of one hyperparameter is kept, though another is not.
        """
        reading, group = known.reading(self), known.group
        unclear: OptimizerError | None = None
        for setting in self.settings:
            name, rule = setting.name, setting.rule_of(reading.index, group)
            if rule is None or name in reading.meanings:
                continue
            try:
                if name not in reading.own:
                    reading.own[name] = own_value(name, rule, group)
                everyone = self._everyone(name)
                reading.meanings[name] = meaning_of(setting, rule, reading.own[name], everyone, group, self.sources)
            except OptimizerError as error:
                unclear = unclear or error
        if unclear is not None:
            raise unclear

    def _everyone(self, name: str) -> list[Own]:
        """The own values of all groups of all optimizers."""
        groups = [known for ref in self.harnesses if (harness := ref()) for known in harness.groups]
        return [own[name] for known in groups if name in (own := known.own(self))]

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
    def count(self) -> Count:
        """The steps so far; a list for several optimizers, each of which counts its own; with `manual`, the clock."""
        counts = self._counts()
        return counts[0] if len(counts) == 1 else counts

    def _counts(self) -> list[int | float]:
        """The clock of each optimizer; the one of all with `manual`."""
        return [progress.clock for progress in (self.progress[:1] if self.manual else self.progress)]

    @property
    def last_epoch(self) -> int | float:  # an attribute of torch's schedulers
        """The count of the first optimizer, by torch's name."""
        return self.progress[0].clock

    def step(self, metric: Any = None, /, *, at: float | None = None) -> None:
        """Set the clock of a `manual` driver. Any other counts the optimizer's own steps, and this does nothing.

        Parameters
        ----------
        metric:
            What `report` takes, for trainers that give it to a scheduler as to torch's `ReduceLROnPlateau`.
        at:
            The clock, in the unit of the schedules; without it, a `manual` driver counts one step more.

        Raises `OptimizerError`, and changes nothing: for a clock that is no number from 0 on; for a clock where the
        driver is not `manual`; for a metric where no rule takes one; and if the driver was detached.
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
        clock = self.progress[0].clock
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
        self._set(self._counts(), states)

    def _set(self, counts: list[int | float], states: list[PlateauState] | None = None) -> None:
        """Set the clocks, and the states of rules fed by a metric, and write.

        If this fails for one value, nothing changes.
        """
        harnesses, before = self._attached(), self.sources.states()
        clocks = counts * len(self.progress) if self.manual else counts
        try:
            self.sources.restore(before if states is None else states)
            for count in counts:
                self.sources.check(count)
            for harness in harnesses:
                harness.find_groups()
            for harness in harnesses:
                harness.forget_values(self)
            for progress, clock in zip(self.progress, clocks, strict=True):
                progress.clock = clock
            for harness in harnesses:
                harness.write()
        except BaseException:
            self.sources.restore(before)
            raise

    def _attached(self) -> list[Harness]:
        if not self.harnesses:
            raise OptimizerError("This driver was detached or replaced, and writes no more. Drive the optimizer again.")
        harnesses = [harness for ref in self.harnesses if (harness := ref()) is not None]
        return [harness for harness in harnesses if harness.optimizer() is not None]

    # --- values ------------------------------------------------------------------------------------------------------
    def values(self) -> dict[str, list[float | tuple[float, ...] | None]]:
        """The driven hyperparameters as they are now: by name, a list over all groups of all optimizers.

        A value is a float, a tuple of floats where the optimizer has a tuple, and None for a group that has no such
        hyperparameter.
        """
        return {setting.name: [plain(g.get(setting.name)) for g in self._groups()] for setting in self.settings}

    def get_last_lr(self) -> list[float]:
        """The learning rates of all groups now, which are those of the next step."""
        return [float(group["lr"]) for group in self._groups() if "lr" in group]

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
        if self._read_late and any(counts) and not any(progress.clock for progress in self.progress):
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

    def __deepcopy__(self, memo: dict[int, Any]) -> "Driver":
        twin: Driver = type(self).__new__(type(self))
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

    class TorchDriver(Driver, schedulers.LRScheduler):  # type: ignore[misc]  # its base is known when torch is there
        """A driver that is a scheduler of torch."""

    class FedTorchDriver(TorchDriver, schedulers.ReduceLROnPlateau):  # type: ignore[misc]  # as above
        """A driver with an `ms.plateau`."""

    return FedTorchDriver if fed else TorchDriver


def unpickled(parts: dict[str, Any]) -> Driver:
    """The driver of a pickle."""
    kind = driver_class(is_fed(parts["settings"], parts["plateau"]))
    driver: Driver = kind.__new__(kind)
    unpack(driver, **parts)
    driver.kept = [optimizer for optimizer in parts["optimizers"] if optimizer is not None]
    return driver
