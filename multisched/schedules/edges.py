"""Where the formula of a schedule changes: boundaries, ends of phases, restarts. For plots, and for finding tests.

Each schedule says its own edges, in its decorator, with the functions at the end of this file or one of its own.
Schedules may be nested to any depth: what would be recursion is a stack of generators, which yield what is inside.
"""

from collections.abc import Callable, Generator, Iterator
from heapq import nsmallest
from typing import Any

from multisched.schedules.nested import run
from multisched.schedules.schedule import Edges, Schedule

MOST = 10_000
"""How many edges of a schedule are told apart."""

Finding = Generator["Finding", list[float], list[float]]
"""Looks for edges: yields what looks for those of a part, and returns those of the whole."""


def edges(schedule: Schedule, until: float) -> list[float]:
    """The steps from 1 to `until` at which another part of the formula begins to rule, in order: the first 10,000."""
    found: list[float] = run(finding(schedule, until))
    return found


def finding(schedule: Schedule, until: float) -> Finding:
    """Looks for the edges of a schedule; for the schedules inside of another one."""
    if schedule._edges is not None:
        looked = schedule._edges(schedule._arguments, until)
        found = looked if isinstance(looked, list) else (yield looked)
    else:
        found = []
        for part in schedule._parts:
            found = [*found, *(yield finding(part, until))]
    return nsmallest(MOST, {edge for edge in found if 0 < edge <= until})


# --- common kinds ----------------------------------------------------------------------------------------------------
def after(*names: str) -> Edges:
    """The ends of phases that follow each other, of the lengths that these arguments have."""

    def found(arguments: dict[str, Any], until: float) -> list[float]:
        ends, at = [], 0.0
        for name in names:
            at += arguments[name]
            ends.append(at)
        return ends

    return found


def keys(name: str) -> Edges:
    """The keys of `{step: value}`, the argument of this name."""
    return lambda arguments, until: [key for key, _ in arguments[name]]


def moved(shift: Callable[[dict[str, Any]], tuple[float, float]]) -> Edges:
    """Those of `schedule`, whose clock begins at a step, and is slower by a factor: `shift(arguments)` gives both."""

    def found(arguments: dict[str, Any], until: float) -> Finding:
        begin, factor = shift(arguments)
        inside = yield finding(arguments["schedule"], (until - begin) / factor)
        return [begin, *(begin + factor * edge for edge in inside)]

    return found


def multiples(period: float, until: float) -> Iterator[float]:
    """The ends of periods of one length, up to a step: the first 10,000."""
    for i in range(1, min(int(until // period), MOST) + 1):
        yield i * period
