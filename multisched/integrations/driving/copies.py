"""Copies of drivers, which go on from the count of the original with a copy of its optimizers."""

import weakref
from typing import Any

from multisched.averages.plateau import Plateau, PlateauState
from multisched.integrations.driving.harness import Harness, harness_of
from multisched.integrations.driving.members import Line
from multisched.integrations.driving.settings import Setting


class _Gone:
    """Stands for an optimizer that was gone when its driver was copied."""


def packed(driver: Any) -> dict[str, Any]:
    """What makes up the driver, with its optimizers; what it says of groups is in the order of the groups."""
    members = []
    for ref in driver.harnesses:
        harness = ref()
        if harness is not None and harness.optimizer() is not None:
            harness.see(unclear="later")
        members.append([] if harness is None else [m.of(driver) for m in harness.members])
    return {
        "optimizers": [ref() for ref in driver.refs],
        "settings": driver.settings,
        "plateau": driver.plateau,
        "manual": driver.manual,
        "clocks": [clock.count for clock in driver.clocks],
        "fed": [tuple(state) for state in driver.sources.states()],
        "members": members,
    }


def unpack(
    driver: Any,
    optimizers: list[Any],
    settings: list[Setting],
    plateau: Plateau | None,
    manual: bool,
    clocks: list[Any],
    fed: list[Any],
    members: list[Any],
) -> None:
    """Make a driver of its parts, on these optimizers."""
    driver.__init__([_Gone() if o is None else o for o in optimizers], settings, plateau, manual)
    driver.sources.go_on_from(PlateauState(*state) for state in fed)
    for clock, count in zip(driver.clocks, clocks, strict=True):
        clock.count = count
    for optimizer, clock, known in zip(optimizers, driver.clocks, members, strict=False):
        if optimizer is not None and known:
            harness = harness_of(optimizer) or Harness(optimizer)
            driver.harnesses.append(weakref.ref(harness))
            harness.take_over(Line(driver, clock), known)
