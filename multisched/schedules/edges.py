"""Where the formula of a schedule changes: boundaries, ends of phases, restarts. For plots, and for finding tests."""

from collections.abc import Callable, Iterator
from typing import Any

from multisched.schedules.catalogue import name_of
from multisched.schedules.cycle import starts
from multisched.schedules.schedule import Schedule

_MOST = 10_000  # restarts that are told apart

Edges = Callable[[dict[str, Any], float], list[float]]


def edges(schedule: Schedule, until: float) -> list[float]:
    """The steps from 1 up to `until` at which another part of the formula begins to rule, in order."""
    return sorted({edge for edge in _edges(schedule, until) if 0 < edge <= until})


def _edges(schedule: Schedule, until: float) -> list[float]:
    arguments = schedule._arguments
    name = name_of(schedule._formula)  # not schedule.name, which one's own schedule may share
    if name in _EDGES:
        return _EDGES[name](arguments, until)
    return [edge for part in arguments.values() if isinstance(part, Schedule) for edge in _edges(part, until)]


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

    def found(arguments: dict[str, Any], until: float) -> list[float]:
        begin, factor = shift(arguments)
        return [begin, *(begin + factor * edge for edge in _edges(arguments["schedule"], (until - begin) / factor))]

    return found


def _join(arguments: dict[str, Any], until: float) -> list[float]:
    begins = [0, *arguments["boundaries"]]
    ends = [*arguments["boundaries"], until]
    parts = zip(arguments["schedules"], begins, ends, strict=True)
    inner = [begin + e for rule, begin, end in parts for e in _edges(rule, end - begin) if begin + e < end]
    return [*arguments["boundaries"], *inner]


def _repeat(arguments: dict[str, Any], until: float) -> list[float]:
    period = arguments["period"]
    inside = [0, *(edge for edge in _edges(arguments["schedule"], period) if edge < period)]
    return [start + edge for start in (0, *_multiples(period, until)) for edge in inside]


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
    "transformers.ahead": lambda arguments, until: [
        edge - arguments["steps"] for edge in _edges(arguments["schedule"], until + arguments["steps"])
    ],
    "join": _join,
    "warmup": _moved(lambda arguments: (arguments["steps"], 1)),
    "delay": _moved(lambda arguments: (arguments["steps"], 1)),
    "stretch": _moved(lambda arguments: (0, arguments["factor"])),
    "repeat": _repeat,
}
