"""Where the formula of a schedule changes: boundaries, ends of phases, restarts. For plots, and for finding tests.

Schedules may be nested without limit: what would be recursion is a stack of generators, which yield what is inside.
"""

from collections.abc import Callable, Generator, Iterator
from heapq import nsmallest
from itertools import islice
from typing import Any

from multisched.schedules.catalogue import name_of
from multisched.schedules.cycle import starts
from multisched.schedules.nested import run
from multisched.schedules.schedule import Schedule

_MOST = 10_000  # restarts, and edges, that are told apart

Finding = Generator["Finding", list[float], list[float]]
"""Looks for edges: yields what looks for those of a part, and returns those of the whole."""

Edges = Callable[[dict[str, Any], float], list[float] | Finding]


def edges(schedule: Schedule, until: float) -> list[float]:
    """The steps from 1 to `until` at which another part of the formula begins to rule, in order: the first 10,000."""
    found: list[float] = run(_edges(schedule, until))
    return found


def _edges(schedule: Schedule, until: float) -> Finding:
    arguments = schedule._arguments
    name = name_of(schedule._formula)  # not schedule.name, which one's own schedule may share
    if name in _EDGES:
        looked = _EDGES[name](arguments, until)
        found = looked if isinstance(looked, list) else (yield looked)
    else:
        found = []
        for part in schedule._parts:
            found = [*found, *(yield _edges(part, until))]
    return nsmallest(_MOST, {edge for edge in found if 0 < edge <= until})


def _phases(*names: str) -> Edges:
    """Phases one after the other, of the lengths of these arguments."""

    def found(arguments: dict[str, Any], until: float) -> list[float]:
        ends, at = [], 0.0
        for name in names:
            at += arguments[name]
            ends.append(at)
        return ends

    return found


def _keys(name: str) -> Edges:
    return lambda arguments, until: [key for key, _ in arguments[name]]


def _one_cycle(arguments: dict[str, Any], until: float) -> list[float]:
    turn = arguments["warmup"] * arguments["steps"]
    return [turn, *([2 * turn] if arguments["three_phase"] else []), arguments["steps"]]


def _torch_one_cycle(arguments: dict[str, Any], until: float) -> list[float]:
    turn, total = arguments["pct_start"] * arguments["total_steps"], arguments["total_steps"]
    return [turn - 1, *([2 * turn - 2] if arguments["three_phase"] else []), total - 1]


def _cyclic(arguments: dict[str, Any], until: float) -> list[float]:
    up, down = arguments["up_steps"], arguments["down_steps"]
    period = up + (up if down is None else down)
    return [edge for start in _multiples(period, until) for edge in (start, start + up)] + [up]


def _multiples(period: float, until: float) -> Iterator[float]:
    for i in range(1, min(int(until // period), _MOST) + 1):
        yield i * period


def _restarts(arguments: dict[str, Any], until: float) -> list[float]:
    steps, factor, cycles = arguments["steps"], arguments["period_mul"], arguments["cycles"]
    if factor == 1:
        return list(_multiples(steps, until if cycles is None else min(until, steps * cycles)))
    return starts(steps, factor, cycles)


def _moved(shift: Callable[[dict[str, Any]], tuple[float, float]]) -> Edges:
    """Those of the schedule inside, whose clock runs from a beginning, slower by a factor."""

    def found(arguments: dict[str, Any], until: float) -> Finding:
        begin, factor = shift(arguments)
        inside = yield _edges(arguments["schedule"], (until - begin) / factor)
        return [begin, *(begin + factor * edge for edge in inside)]

    return found


def _join(arguments: dict[str, Any], until: float) -> Finding:
    begins = [0, *arguments["boundaries"]]
    ends = [*arguments["boundaries"], until]
    parts = zip(arguments["schedules"], begins, ends, strict=True)
    found = list(arguments["boundaries"])
    for rule, begin, end in parts:
        inside = yield _edges(rule, end - begin)
        found += [begin + edge for edge in inside if begin + edge < end]
    return found


def _repeat(arguments: dict[str, Any], until: float) -> Finding:
    period = arguments["period"]
    inside = yield _edges(arguments["schedule"], period)
    inside = [0, *(edge for edge in inside if edge < period)]
    every = (start + edge for start in (0, *_multiples(period, until)) for edge in inside)
    return list(islice(every, _MOST))  # in order


_EDGES: dict[str | None, Edges] = {
    "piecewise_constant": _keys("steps_and_values"),
    "piecewise_scale": _keys("steps_and_scales"),
    "piecewise_interpolate": _keys("steps_and_values"),
    "linear": _phases("begin", "steps"),
    "polynomial": _phases("begin", "steps"),
    "cosine": _phases("begin", "steps"),
    "exponential": _phases("begin"),
    "tanh": _phases("steps"),
    "inverse_sqrt": _phases("warmup_steps"),
    "noam": lambda arguments, until: [arguments["warmup_steps"] - 1],
    "cosine_restarts": _restarts,
    "one_cycle": _one_cycle,
    "cyclic": _cyclic,
    "torch.OneCycleLR": _torch_one_cycle,
    "torch.OneCycleMomentum": _torch_one_cycle,
    "warmup_stable_decay": _phases("warmup_steps", "stable_steps", "decay_steps"),
    "transformers.ahead": _moved(lambda arguments: (-arguments["steps"], 1)),
    "join": _join,
    "warmup": _moved(lambda arguments: (arguments["steps"], 1)),
    "delay": _moved(lambda arguments: (arguments["steps"], 1)),
    "stretch": _moved(lambda arguments: (0, arguments["factor"])),
    "repeat": _repeat,
}
