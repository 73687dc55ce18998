"""What tests compare with: plain Python in double precision, and distances in units in the last place."""

import math

import numpy as np

import multisched as ms

# The printed outputs of the documented example of ExponentialMovingAverage.
DOCUMENTED_EMA = np.array(
    [
        [1.5292157, 1.1200472],
        [1.5056562, 1.1752692],
        [1.5111173, 1.1284239],
        [1.4885082, 1.1110408],
        [1.4365609, 1.1122546],
        [1.3972261, 1.1446574],
        [1.3803346, 1.1338419],
        [1.355617, 1.1304679],
        [1.3648777, 1.1112664],
        [1.3377819, 1.0745169],
        [1.227414, 1.0866737],
        [1.2306056, 1.0557414],
        [1.2756376, 1.0065362],
        [1.2494465, 1.000267],
        [1.2704852, 1.0443211],
        [1.2480851, 1.0512339],
        [1.196643, 0.9866866],
        [1.1665413, 0.9927084],
        [1.186796, 1.029509],
        [1.1564965, 1.017489],
        [1.1093903, 0.97313946],
        [1.0472631, 1.0343488],
        [1.0272473, 1.0177717],
        [0.9869387, 1.0393193],
        [0.93982786, 1.029005],
    ],
    dtype=np.float32,
)


def documented_inputs():
    """The 25 inputs of the documented example."""
    state = np.random.RandomState(0)
    return [np.ones(2) + state.randn(2) * 0.3 for _ in range(25)]


def to_numpy(array, backend):
    return ms.get_backend(backend).to_numpy(array)


def make(value, backend, dtype="float32"):
    """An array of the backend."""
    return ms.get_backend(backend).asarray(value, dtype)


def ulps(actual, expected, *operands, dtype=None):
    """The largest distance in units in the last place, at the largest of the expected value and the operands."""
    actual = np.asarray(actual)
    dtype = np.dtype(dtype or actual.dtype)
    expected = np.asarray(expected, dtype=np.float64)
    scale = np.maximum.reduce([np.abs(np.broadcast_to(o, expected.shape)) for o in (expected, *operands)])
    unit = np.spacing(scale.astype(dtype)).astype(np.float64)
    distance = np.abs(actual.astype(np.float64) - expected) / unit
    return float(distance.max()) if distance.size else 0.0


def piecewise_reference(init, steps_and_values):
    """`piecewise_constant` in plain Python."""

    def at(step):
        value = init
        for key in sorted(steps_and_values):
            if step >= key:
                value = steps_and_values[key]
        return float(value)

    return at


class EmaReference:
    """`ema` of a scalar stream in plain Python floats, as law 4 and law 5 state it."""

    def __init__(self, alpha, init=None, decay_min=False, debias=False):
        self.alpha, self.init, self.decay_min, self.debias = alpha, init, decay_min, debias
        self.values, self.decays, self.v = [], [], None

    def decay(self, n):
        alpha = self.alpha(n) if callable(self.alpha) else self.alpha
        return min(alpha, (1 + n) / (10 + n)) if self.decay_min else alpha

    def step(self, value):
        alpha = self.decay(len(self.values))
        self.values.append(value)
        self.decays.append(alpha)
        if self.debias:  # the direct weighted sum
            weights = [(1 - a) * math.prod(self.decays[i + 1 :]) for i, a in enumerate(self.decays)]
            total = math.fsum(weights)
            self.v = math.fsum(w * x for w, x in zip(weights, self.values, strict=True)) / total if total else value
        elif self.v is None:
            self.v = value if self.init is None else self.init
        else:
            self.v = self.v * alpha + value * (1 - alpha)
        return self.v


def sma_reference(values, n):
    """The mean of the last n of `values`."""
    last = values[-n:]
    return math.fsum(last) / len(last)
