"""Checks of the whole: what the library declares runs on the backend as documented."""

from typing import Any

import numpy as np

from multisched.averages import ema
from multisched.frontend.declare import ExponentialMovingAverage, PiecewiseConstant
from multisched.frontend.function import function
from multisched.frontend.updates import get_updates
from multisched.frontend.variables import Placeholder, Variable
from multisched.graph.scope import Graph
from multisched.runtime.protocol import Backend
from multisched.schedules import piecewise_constant
from multisched.testing.support import ULPS, clause, distance, require

_VALUES = ([1.5, 0.5], [2.0, -1.0], [0.25, 3.0], [-4.0, 0.125])


def _expect(told: str, got: Any, expected: Any) -> None:
    got, wanted = np.asarray(got), np.asarray(expected, np.float64)
    same = got.dtype.name == "float32" and got.shape == wanted.shape
    require(same and distance(got, wanted) <= ULPS, told, f"float32 {wanted.tolist()}", f"{got.dtype} {got.tolist()}")


def _averages(decay: float) -> list[np.ndarray]:
    found = [np.array(_VALUES[0])]
    for value in _VALUES[1:]:
        found.append(decay * found[-1] + (1 - decay) * np.array(value))
    return found


@clause("Backend")
def declared_schedules_run(backend: Backend) -> None:
    """A declared schedule takes the value of each step in a function with updates, and keeps it in one without."""
    with Graph("conformance"):
        lr = PiecewiseConstant(0.1, {1: 1, 3: 2}, backend=backend)
        advance, look = function(outputs=lr, updates=get_updates()), function(outputs=lr)
        for step, expected in enumerate((0.1, 1.0, 1.0, 2.0, 2.0)):
            told = f"PiecewiseConstant(0.1, {{1: 1, 3: 2}}) at step {step}"
            _expect(f"{told}, without updates", look(device_get=True), np.float32(expected))
            _expect(told, advance(device_get=True), np.float32(expected))


@clause("Backend")
def declared_averages_run(backend: Backend) -> None:
    """A declared average follows its value in a function with updates, and stays put in one without."""
    with Graph("conformance"):
        value = Placeholder((2,), backend=backend)
        latest, fixed = ExponentialMovingAverage(value, 0.5)
        train, test = function(value, outputs=latest, updates=get_updates()), function(outputs=fixed)
        for given, expected in zip(_VALUES, _averages(0.5), strict=True):
            _expect(f"the average with {given}", train(given, device_get=True), expected)
            for _ in range(2):
                _expect(f"the average after {given}", test(device_get=True), expected)


@clause("Backend")
def updates_are_simultaneous(backend: Backend) -> None:
    """All new values are computed from the state before the call, and outputs taken earlier stay as they were."""
    with Graph("conformance"):
        first = Variable(np.array([1.0, 2.0], np.float32), name="first", backend=backend)
        second = Variable(np.array([3.0, 5.0], np.float32), name="second", backend=backend)
        swap = function(outputs=[first, second], updates={first: second, second: first + second})
        outputs, (a, b) = [], (np.array([1.0, 2.0]), np.array([3.0, 5.0]))
        for _ in range(4):
            outputs.append((swap(), a, b))
            a, b = b, a + b
        for call, (pair, *expected) in enumerate(outputs):
            for array, wanted in zip(pair, expected, strict=True):
                _expect(f"an output of call {call}, after the last", backend.to_numpy(array), wanted)


@clause("Backend.xp, Backend.stop_gradient")
def pure_rules_run(backend: Backend) -> None:
    """Schedules and averages run on arrays of the backend without being declared, and schedules compiled too."""
    lr, rule = piecewise_constant(0.1, {1: 1, 3: 2}), ema(0.5)
    compiled = backend.compile(lambda step: (lr(step),), 0, True)
    for step, expected in enumerate((0.1, 1.0, 1.0, 2.0)):
        array = backend.asarray(step, "int32")
        for value in (lr(array), *compiled(array)):
            _expect(f"{lr!r} at step {step}", backend.to_numpy(value), np.float32(expected))
    state = rule.init(backend.asarray(_VALUES[0], "float32"))
    for given, average in zip(_VALUES, _averages(0.5), strict=True):
        state, got = rule.step(state, backend.asarray(given, "float32"))
        _expect(f"{rule!r} with {given}", backend.to_numpy(got), average)


CHECKS = (declared_schedules_run, declared_averages_run, updates_are_simultaneous, pure_rules_run)
