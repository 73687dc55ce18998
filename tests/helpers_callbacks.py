"""What the tests of `attach` and of the callbacks of trainers share: averages of one weight, as Python numbers."""

import warnings

import multisched as ms

DECAY = 0.75
BATCHES = 8
"""Batches of an epoch."""


def quietly(function, *args, **kwargs):
    """Call a function of a trainer without the trainer's own warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def reference(weights, decay=DECAY):
    """The moving average of weights, in double precision."""
    mean = weights[0]
    for weight in weights[1:]:
        mean = mean * decay + weight * (1 - decay)
    return mean


def value(callback):
    """The average of a callback, whose model has one layer of one weight."""
    return callback.average.value["layer.weight"].item()


def gone_on(mean, weights, share, first):
    """The average after more weights, the first of them that of update `first`, in double precision."""
    for n, weight in enumerate(weights, first):
        mean += share(n) * (weight - mean)
    return mean


RESUMED = {
    "mine": ("mine", ms.swa(), ms.swa(), lambda n: 1 / (n + 1)),
    "mine, debiased": (
        "mine",
        ms.ema(0.9, debias=True),
        ms.ema(0.9, debias=True),
        lambda n: 0.1 / (1 - 0.9 ** (n + 1)),
    ),
    "theirs": ("theirs", ms.swa(), ms.ema(DECAY), lambda n: 1 - DECAY),
}
"""The rules that go on with an average of `ema(DECAY)`: (resume_rule, rule given, rule then, its share)."""
