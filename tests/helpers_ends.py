"""Schedules that end: each for a length, with the step at which it is over, its last value, and its interval."""

import math
import random

import numpy as np

import multisched as ms
from multisched.dialects import keras, optax, timm, transformers
from multisched.dialects import torch as torch_dialect

# name: (length -> schedule, length -> the step from which on it is over, end, lowest, highest)
ENDING = {
    "linear down": (lambda n: ms.linear(0.1, 0.0, n), lambda n: n, 0.0, 0.0, 0.1),
    "linear to a floor": (lambda n: ms.linear(0.1, 1e-5, n, begin=3), lambda n: n + 3, 1e-5, 1e-5, 0.1),
    "linear up": (lambda n: ms.linear(0.1, 0.3, n), lambda n: n, 0.3, 0.1, 0.3),
    "linear across": (lambda n: ms.linear(0.7, -0.3, n), lambda n: n, -0.3, -0.3, 0.7),
    "linear of a fraction": (lambda n: ms.linear(0.7, 0.1, n - 0.3, begin=0.2), lambda n: n, 0.1, 0.1, 0.7),
    "polynomial": (lambda n: ms.polynomial(0.1, 1e-3, n, 2.5), lambda n: n, 1e-3, 1e-3, 0.1),
    "polynomial up": (lambda n: ms.polynomial(0.0, 0.1, n, 0.5), lambda n: n, 0.1, 0.0, 0.1),
    "exponential to a floor": (
        lambda n: ms.exponential(0.1, 0.01, n, end=1e-3), lambda n: n + 1, 1e-3, 1e-3, 0.1,
    ),
    "cosine": (lambda n: ms.cosine(0.1, n), lambda n: n, 0.0, 0.0, 0.1),
    "cosine to a floor": (lambda n: ms.cosine(0.1, n, 1e-3), lambda n: n, 1e-3, 1e-3, 0.1),
    "cosine up": (lambda n: ms.cosine(0.9, n, 0.999), lambda n: n, 0.999, 0.9, 0.999),
    "cosine, bent": (lambda n: ms.cosine(0.1, n, 0.01, 1.5, k=2), lambda n: n, 0.01, 0.01, 0.1),
    "tanh": (lambda n: ms.tanh(0.1, n, 1e-3), lambda n: n, 1e-3, 1e-3, 0.1),
    "restarts": (lambda n: ms.cosine_restarts(0.1, n, end=1e-3, cycles=3), lambda n: 3 * n, 1e-3, 1e-3, 0.1),
    "restarts, longer and lower": (
        lambda n: ms.cosine_restarts(0.1, n, 2, 0.7, 1e-3, 3), lambda n: 7 * n, 1e-3, 1e-3, 0.1,
    ),
    "one cycle": (lambda n: ms.one_cycle(0.1, n), lambda n: n, 0.1 / 25 / 1e4, 0.1 / 25 / 1e4, 0.1),
    "three phases": (
        lambda n: ms.one_cycle(0.1, n, anneal="linear", three_phase=True),
        lambda n: n, 0.1 / 25 / 1e4, 0.1 / 25 / 1e4, 0.1,
    ),
    "warmup, stable, decay": (
        lambda n: ms.warmup_stable_decay(0.1, 10, 50, n, decay="1-sqrt"), lambda n: n + 60, 0.0, 0.0, 0.1,
    ),
    "warmup, stable, cosine": (
        lambda n: ms.warmup_stable_decay(0.1, n, 5, n, 0.01, 0.02, "1-sqrt", "cosine"),
        lambda n: 2 * n + 5, 0.02, 0.01, 0.1,
    ),
    "through points": (
        lambda n: ms.piecewise_interpolate({0: 0.3, n: 0.7, 3 * n: 0.1}, "cosine"), lambda n: 3 * n, 0.1, 0.1, 0.7,
    ),
    "scaled": (lambda n: ms.piecewise_scale(0.1, {n: 0.1, 2 * n: 0.5}), lambda n: 2 * n, 0.1 * 0.1 * 0.5, 0.005, 0.1),
    "decay of an average": (
        lambda n: ms.decay_warmup(n / 100, 1, 0.1, 0.98), lambda n: n, 0.98, 0.1, 0.98,
    ),
    # --- compositions
    "warmup": (lambda n: ms.warmup(ms.linear(0.1, 1e-5, n), 10), lambda n: n + 10, 1e-5, 0.0, 0.1),
    "warmup from a value": (
        lambda n: ms.warmup(ms.cosine(0.3, n, 0.1), n, init=0.1), lambda n: 2 * n, 0.1, 0.1, 0.3,
    ),
    "warmup to a constant": (lambda n: ms.warmup(ms.constant(0.7), n, init=0.3), lambda n: n, 0.7, 0.3, 0.7),
    "join": (
        lambda n: ms.join([ms.linear(0.1, 0.3, n), ms.cosine(0.3, n, 0.2)], [n]), lambda n: 2 * n, 0.2, 0.1, 0.3,
    ),
    "delay": (lambda n: ms.delay(ms.cosine(0.1, n), 7), lambda n: n + 7, 0.0, 0.0, 0.1),
    "stretch": (lambda n: ms.stretch(ms.linear(0.1, 0.0, n), 3), lambda n: 3 * n, 0.0, 0.0, 0.1),
    "clip": (lambda n: ms.clip(ms.linear(0.1, 0.0, n), 0.03, 0.07), lambda n: n, 0.03, 0.03, 0.07),
    # --- dialects
    "optax": (
        lambda n: optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, n + 3, 1e-3), lambda n: n + 3, 1e-3, 0.0, 0.1,
    ),
    "keras": (lambda n: keras.PolynomialDecay(0.1, n, 1e-4, 2.0), lambda n: n, 1e-4, 1e-4, 0.1),
    "timm": (lambda n: timm.PolyLRScheduler(0.1, n, 0.5, 1e-3, k_decay=2), lambda n: n, 1e-3, 1e-3, 0.1),
    "transformers": (
        lambda n: transformers.get_linear_schedule_with_warmup(0.1, 5, n + 5), lambda n: n + 5, 0.0, 0.0, 0.1,
    ),
    "torch": (lambda n: torch_dialect.OneCycleLR(0.1, n + 1), lambda n: n + 2, 4e-07, 0.0, 0.1),
    "torch, linear": (lambda n: torch_dialect.LinearLR(0.3, 1 / 3, 1, n), lambda n: n, 0.3, 0.3 * (1 / 3), 0.3),
}  # fmt: skip

_SHARED = 12  # schedules in a kernel

BOUNDED_FOR_EVER = {
    "restarts": (lambda n: ms.cosine_restarts(0.1, n, end=1e-3), 1e-3, 0.1),
    "cyclic": (lambda n: ms.cyclic(0.1, 0.3, n), 0.1, 0.3),
    "cyclic down": (lambda n: ms.cyclic(0.95, 0.85, n, 2 * n), 0.85, 0.95),
    "cyclic, lower": (lambda n: ms.cyclic(0.1, 0.3, n, mode="triangular2"), 0.1, 0.3),
    "again": (lambda n: ms.repeat(ms.cosine(0.3, n, 0.1), n + 1), 0.1, 0.3),
    "polynomial cycles": (lambda n: ms.polynomial(0.3, 0.1, n, 0.5, cycle=True), 0.1, 0.3),
    "falling": (lambda n: ms.exponential(0.1, 0.999999, n), 0.0, 0.1),
    "inverse": (lambda n: ms.inverse_time(0.1, 1e-3, n), 0.0, 0.1),
    "inverse root": (lambda n: ms.inverse_sqrt(0.1, n), 0.0, 0.1),
}


def lengths(many):
    """Some lengths of phases, from 1 on: a few that compilers were seen to fail at, and others drawn."""
    draw = random.Random(0)
    fixed = [1, 2, 3, 7, 10, 41, 100, 1000, 10_007]
    return fixed + [int(math.exp(draw.uniform(math.log(4), math.log(10**6)))) for _ in range(many - len(fixed))]


def around(end):
    """Steps at which a schedule is looked at that ends at `end`."""
    before = {int(end * part) for part in (0, 0.001, 0.1, 0.3, 0.5, 0.9, 0.999)} | {1, 2, end - 3, end - 2, end - 1}
    after = [end, end + 1, end + 2, 2 * end, 10**8 + 7, 2**31 - 1]
    return [*sorted(step for step in before if 0 <= step < end)[-10:], *after], len(after)


def of_one_length(steps, width=None):
    """Steps of several schedules as the rows of an array, the first of each as often as needed."""
    width = width or max(map(len, steps))
    return np.asarray([[row[0]] * (width - len(row)) + [*row] for row in steps], np.int32)


def jitted(jax, schedules, rows):
    """The values of each schedule at the steps in its row, computed in one jitted function.

    XLA takes its time for each kernel that it makes, one for an output. So several schedules share one: all of them are
    computed at the steps of all, and each row keeps those of its own.
    """
    rows = jax.numpy.asarray(rows)

    def together(schedules, rows):
        number, values = jax.numpy.arange(len(rows))[:, None], jax.numpy.float32(0)
        for i, schedule in enumerate(schedules):
            values = jax.numpy.where(number == i, schedule(rows), values)
        return values

    function = jax.jit(
        lambda rows: [together(schedules[i : i + _SHARED], rows[i : i + _SHARED]) for i in range(0, len(rows), _SHARED)]
    )
    return np.concatenate(function(rows))
