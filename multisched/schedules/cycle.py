"""Schedules that come back: restarts, triangles, one cycle."""

from collections.abc import Sequence
from typing import Any

from multisched.arrays import Array, Namespace, as_real
from multisched.errors import ScheduleOptionError, brief, shown
from multisched.schedules.clock import constant_like, floating, laps, passed, reached, since
from multisched.schedules.curves import CURVES, Way, along, between, half_wave, phase, power, there_and_back, through
from multisched.schedules.parts import above, flag, length, one_of, real
from multisched.schedules.schedule import schedule

MOST_CYCLES, MOST_UNEQUAL_CYCLES = 200, 1000
_LAST_STEP = 2**64  # which no step of any dtype reaches


def _checked_restarts(
    init: Any, steps: Any, period_mul: Any = 1, peak_mul: Any = 1, end: Any = 0, cycles: Any = None
) -> dict[str, Any]:
    count = None if cycles is None else as_real(cycles)
    if cycles is not None and (not isinstance(count, int) or count < 1):
        raise ScheduleOptionError(f"cycles must be an integer of at least 1, or None for no end, got {shown(cycles)}.")
    period, longer = length(steps, "steps", zero=False), above(period_mul, "period_mul", 1)
    if isinstance(count, int) and longer != 1:
        _check_number(count, period, longer)
    return {
        "init": real(init, "init"),
        "steps": period,
        "period_mul": longer,
        "peak_mul": above(peak_mul, "peak_mul", 0),
        "end": real(end, "end"),
        "cycles": count,
    }


def _check_number(cycles: int, steps: float, period_mul: float) -> None:
    """Refuse too many cycles of different lengths, of which each is a part of the formula."""
    if len(starts(steps, period_mul, min(cycles, MOST_UNEQUAL_CYCLES + 1))) > MOST_UNEQUAL_CYCLES:
        raise ScheduleOptionError(
            f"Of cycles of different lengths at most {MOST_UNEQUAL_CYCLES} can be told apart, got cycles="
            f"{brief(cycles)} and period_mul={period_mul}. Cycles of one length, period_mul=1, can be as many as you "
            "like."
        )


def starts(steps: float, period_mul: float, cycles: int | None) -> list[float]:
    """Where the cycles after the first begin, and where the last one ends."""
    starts: list[float] = []
    at, period = steps, steps
    while at < _LAST_STEP and len(starts) < (MOST_CYCLES if cycles is None else cycles):
        starts.append(at)
        period *= period_mul
        at += period
    return starts


@schedule(_checked_restarts)
def cosine_restarts(
    xp: Namespace,
    step: Array,
    init: float,
    steps: int,
    period_mul: float = 1,
    peak_mul: float = 1,
    end: float = 0,
    cycles: int | None = None,
) -> Array:
    """Half waves from `init` to `end`, one after the other.

        f(step) = end + (peak_i - end) * (1 + cos(pi * u)) / 2,  u = (step - start_i) / period_i in cycle i
        period_i = steps * period_mul ** i,  peak_i = end + (init - end) * peak_mul ** i

    Parameters
    ----------
    init:
        The value at the start of the first cycle, and before.
    steps:
        The length of the first cycle, in updates. At `steps` the next one starts, at its peak.
    period_mul:
        How much longer each cycle is than the one before; at least 1. Where it is more than 1, the 200th is the last.
    peak_mul:
        By how much each cycle is lower, measured from `end`.
    end:
        What each cycle goes down to.
    cycles:
        After how many of them it stays at `end`; by default it goes on for ever. With `period_mul` at most 1,000.

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
    """The way of the cycle at hand, and its number, from 0, where all are of one length."""
    index, over = laps(xp, step, steps)
    index, way = floating(xp, index), phase(xp, over, 0, steps)._replace(over=None)
    if cycles is None:
        return way, index
    last = index >= cycles
    return way._replace(begun=lambda: last | passed(xp, over, 0), over=lambda: last), index


def _longer_cycles(
    xp: Namespace, step: Array, steps: float, period_mul: float, cycles: int | None
) -> tuple[Way, Array]:
    """The same where each is longer than the one before."""
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


def _checked_cyclic(
    base: Any, peak: Any, up_steps: Any, down_steps: Any = None, mode: Any = "triangular", gamma: Any = 1
) -> dict[str, Any]:
    return {
        "base": real(base, "base"),
        "peak": real(peak, "peak"),
        "up_steps": length(up_steps, "up_steps", zero=False),
        "down_steps": None if down_steps is None else length(down_steps, "down_steps"),
        "mode": one_of(mode, "mode", "triangular", "triangular2", "exp_range"),
        "gamma": above(gamma, "gamma", 0, allowed=False),
    }


@schedule(_checked_cyclic)
def cyclic(
    xp: Namespace,
    step: Array,
    base: float,
    peak: float,
    up_steps: int,
    down_steps: int | None = None,
    mode: str = "triangular",
    gamma: float = 1,
) -> Array:
    """Up from `base` to `peak` and down again, for ever.

        f(step) = base + (peak - base) * w * scale
        w rises from 0 to 1 in `up_steps`, and falls to 0 in `down_steps`
        scale = 1, or 2 ** -cycle ("triangular2"), or gamma ** step ("exp_range")

    Parameters
    ----------
    base, peak:
        The lowest and the highest value.
    up_steps, down_steps:
        The lengths of the two slopes, in updates; the second as long as the first unless given, and may be 0.
    mode:
        "triangular" for equal triangles, "triangular2" for each half as high as the one before, "exp_range" for a
        height that falls by `gamma` at every step.
    gamma:
        The factor of "exp_range".

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
    if gamma > 1:  # which is infinite at last, also where a period begins
        scale = xp.where(passed(xp, over, 0), scale, 1.0)
    lower = way._replace(gone=lambda: scale * way.gone(), left=lambda: (1 - scale) + scale * way.left(), over=None)
    return between(xp, base, peak, lower, within=gamma <= 1)


def _checked_one_cycle(
    peak: Any,
    steps: Any,
    warmup: Any = 0.3,
    init_div: Any = 25,
    end_div: Any = 1e4,
    anneal: Any = "cosine",
    three_phase: Any = False,
) -> dict[str, Any]:
    part = above(warmup, "warmup", 0)
    if part > (0.5 if flag(three_phase, "three_phase") else 1):
        raise ScheduleOptionError(f"warmup is a part of the whole, at most 1, or 0.5 of three phases, got {part}.")
    return {
        "peak": real(peak, "peak"),
        "steps": length(steps, "steps", zero=False),
        "warmup": part,
        "init_div": above(init_div, "init_div", 0, allowed=False),
        "end_div": above(end_div, "end_div", 0, allowed=False),
        "anneal": one_of(anneal, "anneal", "cosine", "linear"),
        "three_phase": bool(three_phase),
    }


@schedule(_checked_one_cycle)
def one_cycle(
    xp: Namespace,
    step: Array,
    peak: float,
    steps: int,
    warmup: float = 0.3,
    init_div: float = 25,
    end_div: float = 1e4,
    anneal: str = "cosine",
    three_phase: bool = False,
) -> Array:
    """Up to `peak`, then down far below the start.

        init = peak / init_div,  end = init / end_div
        two phases:    init -> peak in the first `warmup * steps`, then peak -> end by `steps`
        three phases:  init -> peak, peak -> init in as long again, then init -> end by `steps`

    Parameters
    ----------
    peak:
        The highest value, at step `warmup * steps`.
    steps:
        The length of the whole, in updates. At `steps` the value is `end`, and stays.
    warmup:
        The part of the whole in which it rises; 0 starts at the peak.
    init_div, end_div:
        How far below the peak it starts, and how far below that it ends.
    anneal:
        "cosine" for half waves, "linear" for lines.
    three_phase:
        Whether it comes down to the start first, as fast as it rose.

    Raises `ScheduleValueError`, `StepCountError` and `ScheduleOptionError`.

    Sources: Smith and Topin, "Super-Convergence", 2018; `torch.optim.lr_scheduler.OneCycleLR`, whose phases end one
    update earlier: `dialects.torch.OneCycleLR`.

    >>> lr = one_cycle(1.0, 10, warmup=0.5, init_div=10, end_div=10)
    >>> [round(lr(step), 4) for step in (0, 5, 10, 11)]
    [0.1, 1.0, 0.01, 0.01]
    """
    init, turn = peak / init_div, warmup * steps
    points = [(0, init), (turn, peak), *([(2 * turn, init)] if three_phase else []), (steps, init / end_div)]
    return through(xp, step, points, CURVES[anneal])


def _checked_stable(
    peak: Any,
    warmup_steps: Any,
    stable_steps: Any,
    decay_steps: Any,
    init: Any = 0,
    end: Any = 0,
    warmup: Any = "linear",
    decay: Any = "linear",
) -> dict[str, Any]:
    return {
        "peak": real(peak, "peak"),
        "warmup_steps": length(warmup_steps, "warmup_steps"),
        "stable_steps": length(stable_steps, "stable_steps"),
        "decay_steps": length(decay_steps, "decay_steps"),
        "init": real(init, "init"),
        "end": real(end, "end"),
        "warmup": one_of(warmup, "warmup", *CURVES),
        "decay": one_of(decay, "decay", *CURVES),
    }


@schedule(_checked_stable)
def warmup_stable_decay(
    xp: Namespace,
    step: Array,
    peak: float,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    init: float = 0,
    end: float = 0,
    warmup: str = "linear",
    decay: str = "linear",
) -> Array:
    """Up to `peak`, level, then down: the trapezoid, which can be prolonged while it runs.

        init -> peak in `warmup_steps`, peak for `stable_steps`, peak -> end in `decay_steps`, then end

    Parameters
    ----------
    peak, init, end:
        The values on the plateau, at step 0, and after everything.
    warmup_steps, stable_steps, decay_steps:
        The lengths of the three phases, in updates; one of 0 is skipped.
    warmup, decay:
        The shape of a phase: "linear"; "cosine", a half wave; "1-sqrt", of which the square root of the time is gone.

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
