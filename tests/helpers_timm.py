"""The schedulers of timm, live, without the rest of timm: its own `__init__` imports models, and these torchvision."""

import importlib
import importlib.util
import math
import sys
import types

import numpy as np
import pytest


def timm_scheduler():
    """The module `timm.scheduler`, imported under an empty parent package; afterwards nothing of timm is imported."""
    found = importlib.util.find_spec("timm")
    if found is None:
        pytest.skip("timm is not installed: there is nothing to compare with", allow_module_level=True)
    before = _of_timm()
    parent = types.ModuleType("timm")
    parent.__path__ = list(found.submodule_search_locations)
    sys.modules["timm"] = parent
    try:
        return importlib.import_module("timm.scheduler")
    finally:
        for name in _of_timm():
            del sys.modules[name]
        sys.modules.update(before)


def _of_timm():
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "timm"}


torch = pytest.importorskip("torch", reason="torch is not installed: timm has nothing to run on")
schedulers = timm_scheduler()


def optimizer(lr):
    return torch.optim.SGD([torch.zeros(1)], lr=lr)


def live(name, lr, arguments, steps):
    """The rate that timm has set after `step(t)`, or `step_update(t)` where t counts updates, for each of some t."""
    driven = optimizer(lr)
    scheduler = getattr(schedulers, name)(driven, **arguments)
    step = scheduler.step if arguments.get("t_in_epochs", True) else scheduler.step_update
    seen = []
    for t in steps:
        step(int(t))
        seen.append(float(driven.param_groups[0]["lr"]))
    return np.array(seen)


def close(actual, expected):
    """To 1e-6 relative; where timm passes through zero, to what it leaves there in double precision."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


def restarts(arguments, steps):
    """How many cycles are over at each step, as a real number; 0 during the warm-up."""
    longer, warmup = arguments.get("cycle_mul", 1), arguments.get("warmup_t", 0)
    t = np.asarray(steps) - (warmup if arguments.get("warmup_prefix") else 0)
    parts = np.where(np.asarray(steps) < warmup, 0, t) / arguments["t_initial"]
    return parts if longer == 1 else np.log(1 - parts * (1 - longer)) / math.log(longer)


def certain(arguments, steps):
    """Whether it is no matter of rounding in which cycle timm is.

    Where cycles become longer, timm has their number from `floor(log(..., cycle_mul))`. The error of that quotient is a
    few units in the last place of double precision; where it is an integer, it may come out below.
    """
    if arguments.get("cycle_mul", 1) == 1:
        return np.full(len(steps), True)
    over = restarts(arguments, steps)
    return (over == 0) | (np.abs(over - np.round(over)) > 1e-9)
