"""What callers hand to a driver and take from it: clocks, metrics, and states that pass through JSON."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from multisched.arrays import is_finite, is_integer, is_real
from multisched.averages.plateau import PlateauState
from multisched.errors import OptimizerError, listed, shown
from multisched.integrations.drive.meanings import Fed

Count: TypeAlias = int | float | list[int | float]
"""A clock, or a list with the clock of each optimizer."""


def checked_clock(at: Any) -> int | float:
    if not is_real(at) or not is_finite(at) or at < 0:
        raise OptimizerError(f"The clock of a driver is a finite number from 0 on, got {shown(at)}.")
    return int(at) if is_integer(at) else float(at)


def checked_states(driver: Any, state_dict: Any) -> list[PlateauState]:
    """The states of rules fed by a metric. Raises `OptimizerError` for the state of another kind of driver."""
    expected = {"count", "plateau"} if driver.sources.fed else {"count"}
    if not isinstance(state_dict, Mapping) or set(state_dict) != expected:
        parts = " and ".join(repr(name) for name in sorted(expected))
        torch = ""
        if isinstance(state_dict, Mapping) and "last_epoch" in state_dict:
            torch = " From a scheduler of torch, take the count: load_state_dict({'count': state['last_epoch']})."
        raise OptimizerError(f"The state of this driver is a dict of {parts}, got {shown(state_dict)}.{torch}")
    saved = state_dict.get("plateau", [])
    if not isinstance(saved, list | tuple) or len(saved) != len(driver.sources.fed):
        raise OptimizerError(
            f"'plateau' of this driver's state is a list of {len(driver.sources.fed)} states, got {shown(saved)}."
        )
    return [_loaded_state(fed, state) for fed, state in zip(driver.sources.fed, saved, strict=True)]


def checked_counts(driver: Any, state_dict: Any) -> list[int | float]:
    """The count of each optimizer, or the one clock of a `manual` driver."""
    count, many = state_dict["count"], len(driver.progress)
    single = driver.manual or many == 1
    counts = [count] if single else count
    if not single and (not isinstance(count, list | tuple) or len(count) != many):
        raise OptimizerError(f"The count is a list of {many}, one for each optimizer, got {shown(count)}.")
    if driver.manual:
        return [checked_clock(count)]
    for each in counts:
        if not is_integer(each) or each < 0 or not is_finite(each):
            raise OptimizerError(f"The count of a driver is an integer from 0 on, got {shown(each)}.")
    return [int(each) for each in counts]


def metric_value(metric: Any) -> float:
    """A metric, which may be an array or tensor of one number, as a float."""
    value = metric
    if hasattr(metric, "item") and math.prod(getattr(metric, "shape", ())) == 1:
        value = metric.item()
    if not is_real(value) or (isinstance(value, int) and not is_finite(value)):
        raise OptimizerError(f"A metric is a real number, or an array or tensor of one, got {shown(metric)}.")
    return float(value)


def plain(value: Any) -> float | tuple[float, ...] | None:
    """A value of a group as floats."""
    if value is None:
        return None
    return tuple(float(part) for part in value) if isinstance(value, tuple | list) else float(value)


def saved_state(fed: Fed) -> dict[str, Any]:
    """A state as numbers; an infinite number or NaN, for which JSON has no number, is text."""
    saved = {}
    for name, value in fed.state._asdict().items():
        if not isinstance(value, tuple):  # () stands for a field that this rule does not need
            plain = np.asarray(value).item()
            saved[name] = str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain
    return saved


def _loaded_state(fed: Fed, saved: Any) -> PlateauState:
    now = fed.state._asdict()
    expected = {name for name, value in now.items() if not isinstance(value, tuple)}
    if not isinstance(saved, Mapping) or set(saved) != expected:
        raise OptimizerError(
            f"The state of {fed.rule!r} is a dict of {listed(sorted(expected), 10)}, got {shown(saved)}."
        )
    return type(fed.state)(**{name: _field(name, now[name], saved.get(name)) for name in now})


def _field(name: str, old: Any, saved: Any) -> Any:
    if isinstance(old, tuple):
        return old
    dtype = np.asarray(old).dtype
    if dtype.kind == "f" and isinstance(saved, str) and saved in ("inf", "-inf", "nan"):
        saved = float(saved)
    if not _fits(saved, dtype):
        raise OptimizerError(f"{name!r} in the state of a plateau must be of dtype {dtype}, got {shown(saved)}.")
    return dtype.type(saved)


def _fits(saved: Any, dtype: Any) -> bool:
    """Whether this is a number of the dtype; those that count are at least 0."""
    if dtype.kind == "b":
        return isinstance(saved, bool)
    if dtype.kind == "i":
        return is_integer(saved) and 0 <= saved <= np.iinfo(dtype).max
    return is_real(saved) and (isinstance(saved, float) or is_finite(saved))
