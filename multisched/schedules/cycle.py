"""Schedules that go up and down: restarts, triangles, one cycle, the trapezoid."""

from collections.abc import Sequence
from typing import Any

from multisched.arguments import number, optional, reader
from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleOptionError, brief
from multisched.schedules.clock import constant_like, floating, laps, passed, reached, since
from multisched.schedules.curves import CURVES, Way, along, between, half_wave, phase, power, there_and_back, through
from multisched.schedules.edges import after, multiples
from multisched.schedules.readers import at_least, flag, length, non_negative, one_of, positive, real, some_steps
from multisched.schedules.schedule import schedule

__all__ = ["cosine_restarts", "cyclic", "one_cycle", "warmup_stable_decay"]

MOST_CYCLES, MOST_UNEQUAL_CYCLES = 200, 1000
_LAST_STEP = 2**64  # no step of any dtype reaches it


def _few_unequal_cycles(steps: float, period_mul: float, cycles: int | None, **_: Any) -> None:
    """Refuse too many cycles of different lengths, of which each is a part of the formula."""
    if cycles is None or period_mul == 1:
        return
    if len(starts(steps, period_mul, min(cycles, MOST_UNEQUAL_CYCLES + 1))) > MOST_UNEQUAL_CYCLES:
        raise ScheduleOptionError(
            f"With period_mul other than 1 there may be at most {MOST_UNEQUAL_CYCLES} cycles, got cycles="
            f"{brief(cycles)} and period_mul={period_mul}. With period_mul=1 there may be any number."
        )


_COUNT = "an integer of at least 1, or None for no end"


@reader("number")
def _cycle_count(value: Any, name: str) -> int:
    return int(number(value, name, ScheduleOptionError, least=1, whole=True, expected=_COUNT))


def starts(steps: float, period_mul: float, cycles: int | None) -> list[float]:
    """The steps at which the second cycle and all later ones begin, and at which the last one ends."""
    starts: list[float] = []
    at, period = steps, steps
    while at < _LAST_STEP and len(starts) < (MOST_CYCLES if cycles is None else cycles):
        starts.append(at)
        period *= period_mul
        at += period
    return starts


def _restarts(arguments: dict[str, Any], until: float) -> list[float]:
    steps, factor, cycles = arguments["steps"], arguments["period_mul"], arguments["cycles"]
    if factor == 1:
        return list(multiples(steps, until if cycles is None else min(until, steps * cycles)))
    return starts(steps, factor, cycles)


@schedule(
    _few_unequal_cycles,
    init=real,
    steps=some_steps,
    period_mul=at_least(1),
    peak_mul=non_negative,
    end=real,
    cycles=optional(_cycle_count),
    edges=_restarts,
    examples=[
        "cosine_restarts(0.1, 30, period_mul=2, peak_mul=0.5)",
        "cosine_restarts(1, 7)",
        "cosine_restarts(1, 7, peak_mul=1.5, end=0.5, cycles=3)",
    ],
)
def cosine_restarts(
    xp: Namespace,
    step: Array,
    init: float,
    steps: float,
    period_mul: float = 1,
    peak_mul: float = 1,
    end: float = 0,
    cycles: int | None = None,
) -> Array:
    """Cosine half waves from `init` to `end`, one after the other.

        f(step) = end + (peak_i - end) * (1 + cos(pi * u)) / 2,  u = (step - start_i) / period_i in cycle i
        period_i = steps * period_mul ** i,  peak_i = end + (init - end) * peak_mul ** i

    Parameters
    ----------
    init:
        The value at the start of the first cycle, and before.
    steps:
        The length of the first cycle, in updates. At step `steps` the next cycle starts, at its peak.
    period_mul:
        The length of each cycle divided by that of the previous one; at least 1. If it is more than 1, the 200th cycle
        is the last.
    peak_mul:
        The height of each cycle above `end`, divided by that of the previous one.
    end:
        The value that each cycle falls to.
    cycles:
        The number of cycles, after which the value stays at `end`. Default: no limit. At most 1,000
        if `period_mul` is not 1.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: Loshchilov and Hutter, "SGDR", 2017; `keras.optimizers.schedules.CosineDecayRestarts`.

    >>> lr = cosine_restarts(1.0, 10, period_mul=2, peak_mul=0.5)
    >>> [round(lr(step), 4) for step in (0, 5, 9, 10, 20, 29, 30)]
    [1.0, 0.5, 0.0245, 0.5, 0.25, 0.0031, 0.25]
    """
    way, index = (_same_cycles if period_mul == 1 else _longer_cycles)(xp, step, steps, period_mul, cycles)
    way = half_wave(xp, way)
    if peak_mul == 1:
        return between(xp, init, end, way)
    scale = power(xp, peak_mul, index) if peak_mul else xp.where(index > 0, 0.0, constant_like(xp, step, 1.0))
    lower = way._replace(
        gone=lambda: (1 - scale) + scale * way.gone() if peak_mul < 1 else 1 - scale * way.left(),
        left=lambda: scale * way.left(),
        begun=lambda: passed(xp, step, 0),
    )
    return between(xp, init, end, lower, within=peak_mul < 1)


def _same_cycles(xp: Namespace, step: Array, steps: float, period_mul: float, cycles: int | None) -> tuple[Way, Array]:
    """The way of the current cycle, and its number, from 0, if all cycles have one length."""
    index, over = laps(xp, step, steps)
    index, way = floating(xp, index), phase(xp, over, 0, steps)._replace(over=None)
    if cycles is None:
        return way, index
    last = index >= cycles
    return way._replace(begun=lambda: last | passed(xp, over, 0), over=lambda: last), index


def _longer_cycles(
    xp: Namespace, step: Array, steps: float, period_mul: float, cycles: int | None
) -> tuple[Way, Array]:
    """The same if each cycle is longer than the one before."""
    begins = starts(steps, period_mul, cycles)
    begins = [0, *(begins if cycles is None else begins[: cycles - 1])]
    ways = [phase(xp, step, begin, steps * period_mul**i) for i, begin in enumerate(begins)]
    later = [reached(xp, step, begin) for begin in begins[1:]]

    def at_hand(parts: Sequence[Array]) -> Array:
        result = parts[0]
        for is_later, part in zip(later, parts[1:], strict=True):
            result = xp.where(is_later, part, result)
        return result

    numbers = [constant_like(xp, step, 0.0), *map(float, range(1, len(begins)))]
    way = Way(
        lambda factor=1: at_hand([way.gone(factor) for way in ways]),
        lambda factor=1: at_hand([way.left(factor) for way in ways]),
        ways[0].begun,
        ways[-1].over,
    )
    return way, at_hand(numbers)


def _turns(arguments: dict[str, Any], until: float) -> list[float]:
    up, down = arguments["up_steps"], arguments["down_steps"]
    period = up + (up if down is None else down)
    return [up, *(edge for start in multiples(period, until) for edge in (start, start + up))]


@schedule(
    base=real,
    peak=real,
    up_steps=some_steps,
    down_steps=optional(length),
    mode=one_of("triangular", "triangular2", "exp_range"),
    gamma=positive,
    edges=_turns,
    examples=[
        "cyclic(0.01, 0.1, 20, mode='triangular2')",
        "cyclic(0, 1, 4, down_steps=0)",
        "cyclic(0, 1, 4, down_steps=9, mode='exp_range', gamma=0.9)",
    ],
)
def cyclic(
    xp: Namespace,
    step: Array,
    base: float,
    peak: float,
    up_steps: float,
    down_steps: float | None = None,
    mode: str = "triangular",
    gamma: float = 1,
) -> Array:
    """A line up from `base` to `peak` and a line down again, repeated without end.

        f(step) = base + (peak - base) * w * scale
        w rises from 0 to 1 in `up_steps`, and falls to 0 in `down_steps`
        scale = 1, or 2 ** -cycle ("triangular2"), or gamma ** step ("exp_range")

    Parameters
    ----------
    base, peak:
        The lowest and the highest value.
    up_steps, down_steps:
        The lengths of the two slopes, in updates. By default, `down_steps` is `up_steps`; it may be 0.
    mode:
        "triangular": all triangles have the same height. "triangular2": each triangle is half as high as the previous
        one. "exp_range": the height is multiplied by `gamma` at every step.
    gamma:
        The factor for "exp_range".

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: Smith, "Cyclical Learning Rates", 2017; `torch.optim.lr_scheduler.CyclicLR`.

    >>> lr = cyclic(0.0, 1.0, 4, mode="triangular2")
    >>> [lr(step) for step in (0, 2, 4, 6, 8, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """
    down = up_steps if down_steps is None else down_steps
    index, over = laps(xp, step, up_steps + down)
    way = there_and_back(xp, over, up_steps, down)
    if mode == "triangular":
        return between(xp, base, peak, way)
    scale = 0.5 ** floating(xp, index) if mode == "triangular2" else power(xp, gamma, since(xp, step, 0))
    if gamma > 1:  # the scale becomes infinite, and 0 times it, where a period begins, would be NaN
        scale = xp.where(passed(xp, over, 0), scale, 1.0)
    lower = way._replace(gone=lambda: scale * way.gone(), left=lambda: (1 - scale) + scale * way.left(), over=None)
    return between(xp, base, peak, lower, within=gamma <= 1)


def _warmup_fits(warmup: float, three_phase: bool, **_: Any) -> None:
    if warmup > (0.5 if three_phase else 1):
        raise ScheduleOptionError(
            f"warmup is a part of the whole, at most 1, or at most 0.5 with three phases, got {warmup}."
        )


def _one_cycle_edges(arguments: dict[str, Any], until: float) -> list[float]:
    turn = arguments["warmup"] * arguments["steps"]
    return [turn, *([2 * turn] if arguments["three_phase"] else []), arguments["steps"]]


@schedule(
    _warmup_fits,
    peak=real,
    steps=some_steps,
    warmup=non_negative,
    init_div=positive,
    end_div=positive,
    anneal=one_of("cosine", "linear"),
    three_phase=flag,
    edges=_one_cycle_edges,
    examples=["one_cycle(0.1, 90)", "one_cycle(1, 20, warmup=0.25, anneal='linear', three_phase=True)"],
)
def one_cycle(
    xp: Namespace,
    step: Array,
    peak: float,
    steps: float,
    warmup: float = 0.3,
    init_div: float = 25,
    end_div: float = 1e4,
    anneal: str = "cosine",
    three_phase: bool = False,
) -> Array:
    """One rise to `peak`, then a fall to far below the initial value.

        init = peak / init_div,  end = init / end_div
        two phases:    init -> peak in the first `warmup * steps`, then peak -> end by `steps`
        three phases:  init -> peak, peak -> init in as long again, then init -> end by `steps`

    Parameters
    ----------
    peak:
        The highest value, at step `warmup * steps`.
    steps:
        The length of the cycle, in updates. From step `steps` on, the value is `end`.
    warmup:
        The fraction of the cycle in which the value rises. If it is 0, the schedule starts at the peak.
    init_div, end_div:
        The divisors that give the initial value, and from it the final value.
    anneal:
        "cosine": half waves. "linear": lines.
    three_phase:
        Whether the value first falls to the initial value, in as many updates as it took to rise.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: Smith and Topin, "Super-Convergence", 2018; `torch.optim.lr_scheduler.OneCycleLR`. Its phases end one
    update earlier; `dialects.torch.OneCycleLR` has its values.

    >>> lr = one_cycle(1.0, 10, warmup=0.5, init_div=10, end_div=10)
    >>> [round(lr(step), 4) for step in (0, 5, 10, 11)]
    [0.1, 1.0, 0.01, 0.01]
    """
    init, turn = peak / init_div, warmup * steps
    points = [(0, init), (turn, peak), *([(2 * turn, init)] if three_phase else []), (steps, init / end_div)]
    return through(xp, step, points, CURVES[anneal])


@schedule(
    peak=real,
    warmup_steps=length,
    stable_steps=length,
    decay_steps=length,
    init=real,
    end=real,
    warmup=one_of(*CURVES),
    decay=one_of(*CURVES),
    edges=after("warmup_steps", "stable_steps", "decay_steps"),
    examples=[
        "warmup_stable_decay(0.1, 10, 50, 30, decay='1-sqrt')",
        "warmup_stable_decay(1, 3, 0, 5, init=0.1, end=0.01, warmup='cosine')",
    ],
)
def warmup_stable_decay(
    xp: Namespace,
    step: Array,
    peak: float,
    warmup_steps: float,
    stable_steps: float,
    decay_steps: float,
    init: float = 0,
    end: float = 0,
    warmup: str = "linear",
    decay: str = "linear",
) -> Array:
    """A rise to `peak`, a plateau, and a fall: a trapezoid, whose plateau can be prolonged during the training.

        init -> peak in `warmup_steps`, peak for `stable_steps`, peak -> end in `decay_steps`, then end

    Parameters
    ----------
    peak, init, end:
        The values on the plateau, at step 0, and after the fall.
    warmup_steps, stable_steps, decay_steps:
        The lengths of the three phases, in updates. A phase of length 0 is skipped.
    warmup, decay:
        The curve of the rise and of the fall: "linear"; "cosine" for a half wave; "1-sqrt", in which the fraction of
        the way is the square root of the fraction of the time.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", 2024, for "1-sqrt"; `transformers.get_wsd_schedule`.

    >>> lr = warmup_stable_decay(1.0, 2, 4, 4)
    >>> [lr(step) for step in (0, 1, 2, 6, 8, 10, 11)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    level = warmup_steps + stable_steps
    rising = along(xp, step, init, peak, 0, warmup_steps, CURVES[warmup])
    return along(xp, step, peak, end, level, decay_steps, CURVES[decay], before=rising)
