"""Rules for the tests inside compilers: each with the weight that its latest value has, from its formula alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import ulps

import multisched as ms

UPDATES = 6
VALUES = np.array([[1.5, -0.5], [0.25, 2.0], [3.0, 1.0], [-1.0, 0.75], [2.5, 2.0], [0.5, -3.0]], np.float32)
DT = 0.5
RISING = ms.linear(0.5, 0.9, 10)


@dataclass(frozen=True)
class Case:
    """A rule, how it is stepped, and the weight of its latest value at update n, in plain Python."""

    rule: Any
    weight: Callable[[int], Any]
    dt: float | None = None

    def init(self, value):
        return self.rule.init(value)

    def step(self, state, value):
        return self.rule.step(state, value) if self.dt is None else self.rule.step(state, value, dt=self.dt)

    def compiled(self, compiler):
        """`rule.step` itself through the compiler, wherever it has the two arguments that are needed."""
        return compiler(self.rule.step if self.dt is None else self.step)


def _debiased(decay):
    """(1 - a(n)) over the sum of all weights (1 - a(i)) * a(i + 1) * ... * a(n)."""

    def weight(n):
        decays = [decay(i) for i in range(n + 1)]
        return (1 - decays[n]) / math.fsum((1 - a) * math.prod(decays[i + 1 :]) for i, a in enumerate(decays))

    return weight


def _warm(alpha):
    return lambda n: min(alpha, (1 + n) / (10 + n))


def _each(weight, *parameters):
    return lambda n: [weight(parameter)(n) for parameter in parameters]


def _paced(n):
    return 1.0 if n < 2 else 0.0 if n % 2 else _debiased(lambda i: 0.9)((n - 2) // 2)


CASES = {
    "ema": Case(ms.ema(0.9), lambda n: 0.1),
    "ema with init": Case(ms.ema(0.9, init=2.0), lambda n: 0.1),
    "ema with decay_min": Case(ms.ema(0.9, decay_min=True), lambda n: 1 - _warm(0.9)(n)),
    "ema with debias": Case(ms.ema(0.9, debias=True), _debiased(lambda n: 0.9)),
    "ema of an array": Case(ms.ema([0.5, 0.25]), lambda n: [0.5, 0.75]),
    "ema of an array, all options": Case(
        ms.ema([0.5, 0.25], init=[1.0, 2.0], decay_min=True, debias=True),
        _each(lambda alpha: _debiased(_warm(alpha)), 0.5, 0.25),
    ),
    "ema of a schedule": Case(ms.ema(RISING), lambda n: 0.5 - 0.04 * n),
    "ema of arithmetic": Case(ms.ema(0.5 * RISING + 0.125, debias=True), _debiased(lambda n: 0.375 + 0.02 * n)),
    "ema of a half-life": Case(ms.ema(halflife=3.0), lambda n: 1 - 2 ** (-1 / 3)),
    "ema of half-lives": Case(ms.ema(halflife=[3.0, 1.0]), lambda n: [1 - 2 ** (-1 / 3), 0.5]),
    "ema with dt": Case(ms.ema(halflife=3.0), lambda n: 1 - 2 ** (-DT / 3), DT),
    "sma": Case(ms.sma(3), lambda n: 1 / min(n + 1, 3)),
    "swa": Case(ms.swa(), lambda n: 1 / (n + 1)),
    "power_ema": Case(ms.power_ema(gamma=2), lambda n: 1 - (1 - 1 / (n + 1)) ** 3),
    "paced": Case(ms.paced(ms.ema(0.9, debias=True), start=2, every=2), _paced),
}

SCHEDULES = {
    repr(schedule): schedule
    for schedule in (
        ms.constant(0.25),
        ms.piecewise_constant(0.5, {1: 1, 3: 2, 6: 0.25}),
        ms.piecewise_constant([0.5, 1.0], {2: [1, 2]}),
        ms.piecewise_scale(1.0, {2: 0.5, 4: 0.5}),
        ms.piecewise_interpolate({0: 0.0, 4: 1.0, 6: 0.5}, "cosine"),
        RISING,
        ms.polynomial(1.0, 0.25, 4, power=2, cycle=True),
        ms.exponential(1.0, 0.5, 3, staircase=True, end=0.25),
        ms.cosine(1.0, 6, end=0.125, exponent=2),
        ms.tanh(1.0, 6),
        ms.inverse_time(1.0, 1.0, 4),
        ms.inverse_sqrt(1.0, 3),
        ms.noam(4, 3),
        ms.cosine_restarts(1.0, 3, cycles=2),
        ms.cosine_restarts(1.0, 2, period_mul=2, peak_mul=0.5),
        ms.cyclic(0.125, 1.0, 3, mode="triangular2"),
        ms.one_cycle(1.0, 8),
        ms.warmup_stable_decay(1.0, 2, 2, 2, decay="1-sqrt"),
        ms.join([RISING, ms.constant(2.0)], [4]),
        ms.warmup(RISING, 2),
        ms.delay(RISING, 2),
        ms.repeat(RISING, 3),
        ms.stretch(RISING, 2.0),
        ms.clip(RISING, 0.55, 0.65),
        2 * RISING + 1,
        RISING / ms.cosine(1.0, 20) - 0.25,
        abs(-(RISING**2)),
        ms.minimum(RISING, ms.maximum(2**RISING, 0.625)),
        RISING * np.array([1.0, 2.0]),
    )
}
STEPS = np.arange(10)


def flat(state):
    """The arrays of a state; what a rule does not need is left out."""
    return [part for part in state if not isinstance(part, tuple)]


def close(actual, expected):
    """Whether each update agrees within law 12: 4 units in the last place, at the larger of the values averaged."""
    return ulps(np.asarray(actual), np.asarray(expected), np.abs(VALUES).max()) <= 4
