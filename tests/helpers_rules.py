"""Every rule there is, in the forms that keep different states, and moving states from one backend to another."""

import numpy as np
from helpers import make, to_numpy

import multisched as ms

STATISTICS = {
    "ema": ms.ema(0.9),
    "ema with init": ms.ema(0.9, init=2.0),
    "ema with decay_min": ms.ema(0.9, decay_min=True),
    "ema with debias": ms.ema(0.9, debias=True),
    "ema of a schedule": ms.ema(ms.piecewise_constant(0.5, {2: 0.25, 4: 0.75}), debias=True),
    "ema of an array": ms.ema([0.5, 0.25], debias=True, decay_min=True),
    "ema of a half-life": ms.ema(halflife=3.0),
    "sma": ms.sma(3),
    "swa": ms.swa(),
    "power_ema": ms.power_ema(0.1),
    "paced": ms.paced(ms.ema(0.9, debias=True), start=2, every=2),
    "paced swa": ms.paced(ms.swa(), every=3),
    "ema of decay_warmup": ms.ema(ms.decay_warmup()),
    "plateau": ms.plateau(1.0, factor=0.5, patience=1, cooldown=1),
}
SCHEDULES = {
    "piecewise_constant": ms.piecewise_constant(0.5, {1: 1, 3: 2, 6: 0.25}),
    "piecewise_constant of arrays": ms.piecewise_constant([0.5, 1.0], {2: [1, 2]}),
    "cosine": ms.cosine(1.0, 6, end=0.125),
    "cyclic": ms.cyclic(0.125, 1.0, 3),
    "composed": ms.minimum(2 * ms.linear(0.0, 1.0, 4), 1.5) ** 2,
}


def as_part(array, backend):
    """An array of the host as a part of a state."""
    return make(array, backend, array.dtype.name)


def moved(state, backend, to):
    """A state through NumPy, as from a file."""
    return type(state)(*(p if isinstance(p, tuple) else as_part(to_numpy(p, backend), to) for p in state))


def bits(arrays):
    """Dtypes, shapes and bytes of arrays on the host."""
    return [(np.asarray(a).dtype.name, np.shape(a), np.asarray(a).tobytes()) for a in arrays]


def state_bits(state, backend):
    """The same of a state."""
    return bits([to_numpy(part, backend) for part in state if not isinstance(part, tuple)])


def stream(rule, values, backend, dtype="float32", made=None, **options):
    """The outputs of a rule over values, on the host; `options` are lists, one entry for each update.

    `made` are the options of `rule.init`.
    """
    state, outputs = rule.init(make(values[0], backend, dtype), **(made or {})), []
    for n, value in enumerate(values):
        chosen = {name: option[n] for name, option in options.items()}
        state, output = rule.step(state, make(value, backend, dtype), **chosen)
        outputs.append(to_numpy(output, backend))
    return outputs
