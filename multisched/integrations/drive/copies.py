"""Copies of drivers, which go on from the count of the original with a copy of its optimizers."""

import weakref
from typing import Any

from multisched.averages.plateau import Plateau, PlateauState
from multisched.integrations.drive.groups import Reading
from multisched.integrations.drive.harness import Harness, harness_of
from multisched.integrations.drive.settings import Setting
from multisched.integrations.drive.writer import Writer


class _Gone:
    """Stands for an optimizer that was gone when its driver was copied."""


def packed(driver: Any) -> dict[str, Any]:
    """What a driver consists of, its optimizers included; what it has read of groups is in the order of the groups."""
    readings = []
    for ref in driver.harnesses:
        harness = ref()
        if harness is not None and harness.optimizer() is not None:
            harness.find_groups(unclear="later")
        readings.append([] if harness is None else [known.readings.get(driver) for known in harness.groups])
    return {
        "optimizers": [ref() for ref in driver.refs],
        "settings": driver.settings,
        "plateau": driver.plateau,
        "manual": driver.manual,
        "clocks": [progress.clock for progress in driver.progress],
        "fed": [tuple(state) for state in driver.sources.states()],
        "readings": readings,
    }


def unpack(
    driver: Any,
    optimizers: list[Any],
    settings: list[Setting],
    plateau: Plateau | None,
    manual: bool,
    clocks: list[int | float],
    fed: list[tuple[Any, ...]],
    readings: list[list[Reading | None]],
) -> None:
    """Fill a new driver with what `packed` gave, on these optimizers."""
    driver.__init__([_Gone() if o is None else o for o in optimizers], settings, plateau, manual)
    driver.sources.restore(PlateauState(*state) for state in fed)
    for progress, clock in zip(driver.progress, clocks, strict=True):
        progress.clock = clock
    for optimizer, progress, known in zip(optimizers, driver.progress, readings, strict=False):
        if optimizer is not None and known:
            harness = harness_of(optimizer) or Harness(optimizer)
            driver.harnesses.append(weakref.ref(harness))
            harness.take_over(Writer(driver, progress), known)
