"""What the tests of the dialect of transformers share: its live schedulers, and arguments for them."""

import warnings

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed: there is nothing to compare with")
live = pytest.importorskip("transformers.optimization", reason="transformers is not installed: there is no peer")


# --- transformers, live ----------------------------------------------------------------------------------------------
def live_values(build, lr, updates):
    """The rates that `build(optimizer)` has set in an optimizer at each of some updates."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    with warnings.catch_warnings():  # it warns where both lengths of get_wsd_schedule are given
        warnings.simplefilter("ignore")
        scheduler, seen = build(optimizer), []
    for _ in range(updates):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return np.array(seen)


def live_one(name, lr, arguments, updates):
    return live_values(lambda optimizer: getattr(live, name)(optimizer, **arguments), lr, updates)


def close(actual, expected):
    """To 1e-6 relative; where a wave passes through zero, to what double precision leaves of it there."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


# --- arguments -------------------------------------------------------------------------------------------------------
rates = st.floats(1e-4, 10)
parts = st.one_of(st.sampled_from([0, 0.1, 1, 1.5]), st.floats(0, 2))
warmups = st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 20))
wholes = st.one_of(st.integers(0, 60), st.integers(20, 60).map(float))
curves = st.sampled_from(["linear", "cosine", "1-sqrt"])
cycles = st.one_of(st.sampled_from([0, 0.5, 1, 2, 3]), st.floats(0.01, 6))
quarters = st.integers(0, 40).map(lambda n: n / 4)  # restarts that transformers does not lose to rounding


def taken(**strategies):
    return st.fixed_dictionaries(strategies)


def merged(*strategies):
    return st.builds(lambda *given: {key: value for part in given for key, value in part.items()}, *strategies)


lengths = taken(num_warmup_steps=warmups, num_training_steps=wholes)
lowest = st.one_of(taken(min_lr=st.one_of(st.just(0.0), rates)), taken(min_lr_rate=parts))
levels = st.one_of(
    taken(num_training_steps=wholes),
    taken(num_stable_steps=st.integers(0, 20)),
    taken(num_training_steps=wholes, num_stable_steps=st.integers(0, 20)),
)
drawn = {
    "get_constant_schedule": taken(),
    "get_constant_schedule_with_warmup": taken(num_warmup_steps=warmups),
    "get_linear_schedule_with_warmup": lengths,
    "get_cosine_schedule_with_warmup": merged(lengths, taken(num_cycles=cycles)),
    "get_cosine_with_hard_restarts_schedule_with_warmup": merged(lengths, taken(num_cycles=quarters)),
    "get_polynomial_decay_schedule_with_warmup": merged(
        lengths,
        taken(lr_end=st.sampled_from([0, 1e-7, 9e-5]), power=st.one_of(st.integers(0, 3), st.floats(0.25, 4))),
    ),
    "get_inverse_sqrt_schedule": taken(
        num_warmup_steps=warmups, timescale=st.one_of(st.none(), st.integers(1, 50), st.floats(0.5, 50))
    ),
    "get_cosine_with_min_lr_schedule_with_warmup": merged(lengths, taken(num_cycles=cycles), lowest),
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": merged(
        lengths, taken(num_cycles=cycles, warmup_lr_rate=st.one_of(st.none(), parts)), lowest
    ),
    "get_wsd_schedule": merged(
        taken(num_warmup_steps=warmups, num_decay_steps=st.integers(0, 30), num_cycles=cycles),
        taken(warmup_type=curves, decay_type=curves, min_lr_ratio=parts),
        levels,
    ),
}


def updates_of(arguments):
    """Twice the length of the whole, and a bit more."""
    names = ("num_warmup_steps", "num_decay_steps", "num_stable_steps")
    return int(2 * max(arguments.get("num_training_steps") or 0, sum(arguments.get(name) or 0 for name in names))) + 3


def one(data, name):
    arguments = data.draw(drawn[name])
    if name == "get_polynomial_decay_schedule_with_warmup":  # where transformers divides by zero
        assume(arguments["num_warmup_steps"] != arguments["num_training_steps"])
    return arguments
