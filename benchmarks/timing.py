"""Timing side by side: ours and another take turns in one run, pair by pair, on warmed-up code."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Timed(NamedTuple):
    """What a contender came to."""

    seconds: float
    """For one call, the median over rounds."""
    low: float
    """The lower quartile, over rounds, of the ratio of the first contender's time to this one's."""
    ratio: float
    """The median of that ratio."""
    high: float
    """The upper quartile."""

    def quartiles(self) -> str:
        """The ratio's quartiles, for a table."""
        return f"{self.low:.3g} to {self.high:.3g}"


def compared(
    contenders: dict[str, Callable[[], object]],
    rounds: int = 31,
    budget: float = 0.02,
    warm: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timed]:
    """The first contender beside each of the others.

    In each round the first and one other run for about `budget` seconds, directly one after the other, and in the next
    round in the other order. So a machine that becomes slower slows both, and the ratio stays what it is.
    """
    first, *others = contenders
    calls = {name: _warmed_up(call, budget, warm, clock) for name, call in contenders.items()}

    def once(name: str) -> float:
        return seconds(contenders[name], calls[name], clock)

    ours: list[float] = [once(first) for _ in range(rounds)] if not others else []
    found = {}
    for other in others:
        pairs = []
        for i in range(rounds):
            taken = {name: once(name) for name in ((first, other) if i % 2 else (other, first))}
            pairs.append((taken[first], taken[other]))
        ours += [one for one, _ in pairs]
        found[other] = Timed(statistics.median(two for _, two in pairs), *ratios(pairs))
    return {first: Timed(statistics.median(ours), 1.0, 1.0, 1.0), **found}


def ratios(pairs: Iterable[tuple[float, float]]) -> tuple[float, float, float]:
    """The quartiles of the ratio of the first time of a pair to the second."""
    low, middle, high = statistics.quantiles((one / two for one, two in pairs), n=4)
    return low, middle, high


def _warmed_up(call: Callable[[], object], budget: float, warm: int, clock: Callable[[], float]) -> int:
    """How many calls fill the budget, found after enough calls to have compiled and cached everything."""
    for _ in range(warm):
        call()
    return max(1, int(budget / max(seconds(call, max(1, warm // 2), clock), 1e-9)))


def seconds(call: Callable[[], object], calls: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds that one of so many calls takes."""
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls
