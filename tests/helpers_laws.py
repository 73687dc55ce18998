"""What the tests of the laws share: strategies, a run of a rule over a stream, and one update in double precision."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import make, to_numpy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import multisched as ms

# The fixtures `backend` and `graph` hold for all examples of a test: rules are pure, and each example that declares
# something enters a graph of its own.
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# Zero, or far enough from subnormal numbers that no product is one: XLA flushes those to zero.
values = st.one_of(st.just(0.0), st.floats(2**-20, 2**20, width=32), st.floats(-(2**20), -(2**-20), width=32))
streams = st.lists(values, min_size=1, max_size=30)
alphas = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.9999, 1.0]), st.floats(0, 1))
keys = st.one_of(st.integers(0, 20), st.sampled_from([255, 256, 300, 65536, 2**31 - 1, 2**31, 2**40]))
steps_and_values = st.dictionaries(keys, values, max_size=5)


@st.composite
def shuffled(draw, mapping):
    """A dict with its keys in any order."""
    return dict(draw(st.permutations(list(mapping.items()))))


def parts(state, backend):
    """The arrays of a state on the host, by field; what a rule does not need is left out."""
    return {
        field: to_numpy(part, backend)
        for field, part in zip(state._fields, state, strict=True)
        if not isinstance(part, tuple)
    }


def same_bits(first, second):
    """Whether two dicts of arrays on the host are equal in keys, shapes, dtypes and every bit (NaN included)."""
    return first.keys() == second.keys() and all(
        a.shape == second[key].shape and a.dtype == second[key].dtype and a.tobytes() == second[key].tobytes()
        for key, a in first.items()
    )


def variables(backend):
    """The values of all variables of the current graph, on the host, by path."""
    return {v.path: to_numpy(v.value, backend) for v in ms.get_variables()}


def stream(rule, given, backend, dtype="float32"):
    """The outputs of a pure rule over a stream of values, on the host, and its state after it."""
    arrays = [make(value, backend, dtype) for value in given]
    state, outputs = rule.init(arrays[0]), []
    for array in arrays:
        state, output = rule.step(state, array)
        outputs.append(to_numpy(output, backend))
    return outputs, state


def declared_stream(declare, given, dtype="float32"):
    """The outputs of a declared average over a stream: `[(latest, fixed), ...]`, on the host."""
    with ms.Graph("stream"):
        value = ms.Placeholder(np.shape(given[0]), dtype)
        f = ms.function(value, outputs=declare(value), updates=ms.get_updates())
        return [f(x, device_get=True) for x in given]


@dataclass
class EmaOnce:
    """One update of `ema` in double precision, from a state that may be of any precision."""

    alpha: Any
    init: Any = None
    decay_min: bool = False
    debias: bool = False

    def rule(self):
        return ms.ema(self.alpha, self.init, self.decay_min, self.debias)

    def decay(self, count):
        """The decay at update `count`; that of a schedule is a float32, as its values are."""
        scheduled = isinstance(self.alpha, ms.Schedule)
        alpha = np.float64(np.float32(self.alpha(int(count)))) if scheduled else np.float64(self.alpha)
        return np.minimum(alpha, (1 + count) / (10 + count)) if self.decay_min else alpha

    def __call__(self, state, value, count):
        """The average after `value`, from the parts of a state and the number of updates before."""
        value, mean, alpha = np.float64(value), np.float64(state["mean"]), self.decay(count)
        if not self.debias:
            first = value if self.init is None else np.broadcast_to(np.float64(self.init), value.shape)
            return first if state["first_step"] else mean * alpha + value * (1 - alpha)
        before = np.float64(state["weight"]) * alpha
        total = before + (1 - alpha)
        return np.where(total == 0, value, (before * mean + (1 - alpha) * value) / np.where(total == 0, 1, total))


def memory_of(updates, alpha):
    """By how much the error of one update may grow along a stream: law 12's `min(t, 1 / (1 - alpha))`."""
    return min(updates, math.inf if alpha == 1 else max(1.0, 1 / (1 - alpha)))


def shares_memory(first, second):
    """Whether two arrays of one framework, any of them, share memory."""
    return np.shares_memory(_on_host(first), _on_host(second))


def _on_host(array):
    """A view, not a copy, for NumPy."""
    if isinstance(array, np.ndarray | np.generic):
        return array
    return np.from_dlpack(array.detach() if hasattr(array, "detach") else array)
