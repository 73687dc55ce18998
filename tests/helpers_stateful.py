"""What is declared, and beside it the same in plain Python floats: the model of the stateful test."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from helpers import EmaReference, piecewise_reference, ulps
from helpers_laws import memory_of

import multisched as ms


def near(actual, expected, budget=1.0, largest=0.0):
    """Within 4 units of float32, times `budget`, at the largest operand."""
    return actual.dtype == np.float32 and ulps(actual, expected, largest) <= 4 * budget


@dataclass
class Plain:
    """A variable of the user's, to which each update adds the input; all numbers are eighths, and exact."""

    init: float
    value: float = field(init=False)

    def __post_init__(self):
        self.reset()

    def reset(self):
        self.value = self.init

    def declare(self, x):
        w = ms.Variable(self.init, name="w")
        ms.add_updates({w: w + x})
        return (w,), (w,)

    def outputs(self, x):
        return (self.value,)

    def step(self, x):
        self.value += x

    def agrees(self, held):
        return held["w"].dtype == np.float32 and float(held["w"]) == self.value

    def fits(self, outputs, x):
        return [float(o) for o in outputs] == [self.value]


@dataclass
class Clock:
    """A schedule and the number of its updates."""

    init: float
    changes: dict
    count: int = 0

    def reset(self):
        self.count = 0

    def declare(self, x):
        lr = ms.PiecewiseConstant(self.init, self.changes)
        return (lr,), lr.variables

    def step(self, x):
        self.count = min(self.count + 1, 2**31 - 1)

    def agrees(self, held):
        return held["step"].dtype == np.int32 and int(held["step"]) == self.count

    def fits(self, outputs, x):
        expected = piecewise_reference(self.init, self.changes)(self.count)
        return [float(o) for o in outputs] == [float(np.float32(expected))]


@dataclass
class Ema:
    """An exponential average, by the numbers it has seen."""

    options: dict
    seen: tuple = ()

    def reset(self):
        self.seen = ()

    def declare(self, x):
        pair = ms.ExponentialMovingAverage(x, **self.options)
        return pair, pair[0].variables

    def step(self, x):
        self.seen = (*self.seen, x)

    def _after(self, numbers):
        """The average after all of `numbers`, how far off it may be, and the largest operand."""
        reference, mean = EmaReference(**self.options), None
        for x in numbers:
            mean = reference.step(x)
        largest = max(map(abs, (*numbers, self.options["init"] or 0.0)), default=0.0)
        return mean, memory_of(max(len(numbers), 1), self.options["alpha"]), largest

    def agrees(self, held):
        mean, budget, largest = self._after(self.seen)
        right = bool(held["first_step"]) == (not self.seen)
        right &= near(held["EMA"], 0.0 if mean is None else mean, budget, largest)
        if self.options["decay_min"]:
            right &= int(held["count"]) == len(self.seen)
        if self.options["debias"]:
            reference = EmaReference(**self.options)
            left = math.prod(reference.decay(n) for n in range(len(self.seen)))
            right &= near(held["weight"], 1 - left, budget, 1.0)
        return right

    def fits(self, outputs, x):
        latest, fixed = outputs
        before = self._after(self.seen)
        if not self.seen:
            before = (x if self.options["init"] is None else self.options["init"], *before[1:])
        return near(latest, *self._after((*self.seen, x))) and near(fixed, *before)


@dataclass
class Sma:
    """A moving average, by the numbers it has seen."""

    n: int
    seen: tuple = ()

    def reset(self):
        self.seen = ()

    def declare(self, x):
        pair = ms.SimpleMovingAverage(x, self.n)
        return pair, pair[0].variables

    def step(self, x):
        self.seen = (*self.seen, x)

    def _mean(self, numbers):
        window = numbers[-self.n :]
        return math.fsum(window) / len(window), 1.0, max(map(abs, window))

    def agrees(self, held):
        window = (*[0.0] * self.n, *self.seen)[-self.n :]
        return held["SMA"].tolist() == list(window) and int(held["count"]) == len(self.seen)

    def fits(self, outputs, x):
        latest, fixed = outputs
        return near(latest, *self._mean((*self.seen, x))) and near(fixed, *self._mean(self.seen or (x,)))


@dataclass
class Thing:
    """One declaration: its tensors, its variables, and its model."""

    model: Any
    tensors: tuple
    variables: tuple

    def held(self, backend):
        """What its variables hold, on the host, by their names within the declaration."""
        to_numpy = ms.get_backend(backend).to_numpy
        return {"w" if isinstance(self.model, Plain) else v.name: to_numpy(v.value) for v in self.variables}
