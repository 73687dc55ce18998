"""Timing side by side: contenders take turns in one run, on warmed-up code, and medians are compared."""

import statistics
import time
from collections.abc import Callable


def medians(
    contenders: dict[str, Callable[[], object]], rounds: int = 31, budget: float = 0.02, warm: int = 50
) -> dict[str, float]:
    """Seconds for one call of each, the median over rounds in which each runs for about `budget` seconds."""
    calls = {name: _warmed_up(call, budget, warm) for name, call in contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            taken[name].append(_time(call, calls[name]))
    return {name: statistics.median(times) for name, times in taken.items()}


def _warmed_up(call: Callable[[], object], budget: float, warm: int) -> int:
    """How many calls fill the budget, found after enough calls to have compiled and cached everything."""
    for _ in range(warm):
        call()
    return max(1, int(budget / _time(call, max(1, warm // 2))))


def _time(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls
