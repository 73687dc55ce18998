"""The dialect of timm against the live schedulers of timm, on an optimizer that has nothing to optimize."""

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from helpers_timm import certain, close, live, optimizer, restarts, schedulers
from hypothesis import given
from hypothesis import strategies as st

from multisched.dialects import timm as dialect

# --- arguments -------------------------------------------------------------------------------------------------------
MOST = 160  # steps
rates = st.floats(1e-4, 10)
lows = st.one_of(st.just(0.0), st.floats(1e-4, 1))
factors = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 0.97, 1.0]), st.floats(0.01, 1.05))
ks = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2, 3.0])
lengths = st.integers(1, 25)


def taken(required, **optional):
    """Arguments by name; a warm-up of any kind, and both units of time, besides."""
    warmup = {"warmup_t": st.integers(0, 12), "warmup_lr_init": lows, "t_in_epochs": st.booleans()}
    return st.fixed_dictionaries(required, optional={**warmup, "warmup_prefix": st.booleans(), **optional})


cycled = {
    "lr_min": lows,
    "cycle_mul": st.sampled_from([1, 1.0, 1.25, 1.5, 2, 3.0]),
    "cycle_decay": factors,
    "cycle_limit": st.integers(0, 5),
}
stable = {
    "lr_min": lows,
    "stable_fn": st.sampled_from(["constant", "rsqrt", "power"]),
    "stable_power": st.sampled_from([0.25, 1, 2.0]),
    "decay_fn": st.sampled_from(["linear", "1-sqrt", "cosine", "power", "exp"]),
    "decay_power": st.sampled_from([0.5, 1, 2.0, 3.5]),
    "decay_ratio": st.sampled_from([0.001, 0.1, 0.5]),
}


@st.composite
def phases(draw):
    """The arguments of WSDLRScheduler, which has no `warmup_prefix`, and not always a timescale of its own."""
    t_initial = draw(lengths)
    arguments = draw(taken({"t_initial": st.just(t_initial), "decay_t": st.integers(1, t_initial)}, **stable))
    arguments.pop("warmup_prefix", None)
    if not arguments.get("warmup_t") or draw(st.booleans()):
        arguments["stable_timescale"] = draw(st.sampled_from([0.5, 3, 10]))
    return arguments


ARGUMENTS = {
    "CosineLRScheduler": taken({"t_initial": lengths}, k_decay=ks, **cycled),
    "PolyLRScheduler": taken(
        {"t_initial": lengths}, power=st.sampled_from([0, 0.5, 0.9, 1, 2.0]), k_decay=ks, **cycled
    ),
    "TanhLRScheduler": taken({"t_initial": lengths}, lb=st.floats(-8, 0), ub=st.floats(0.5, 4), **cycled),
    "StepLRScheduler": taken(
        {"decay_t": st.one_of(lengths, st.integers(1, 40).map(lambda n: n / 4))}, decay_rate=factors
    ),
    "MultiStepLRScheduler": taken(
        {"decay_t": st.lists(st.integers(0, 40), max_size=5).map(sorted)}, decay_rate=factors
    ),
    "WSDLRScheduler": phases(),
}


def steps_of(arguments):
    """From 0 to twice the length: of the warm-up, and of all cycles."""
    length = arguments.get("t_initial") or np.max(arguments["decay_t"], initial=5)
    whole = sum(length * arguments.get("cycle_mul", 1) ** i for i in range(arguments.get("cycle_limit", 1)))
    return np.arange(min(MOST, 2 * int(arguments.get("warmup_t", 0) + max(whole, length)) + 2))


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data(), lr=rates)
def test_values(name, data, lr):
    """The value at each t, to twice the length, is the rate that timm has set after its step t."""
    arguments = data.draw(ARGUMENTS[name])
    rule, steps = getattr(dialect, name)(lr, **arguments), steps_of(arguments)
    told = certain(arguments, steps)
    close(np.array([rule(int(t)) for t in steps])[told], live(name, lr, arguments, steps)[told])


@pytest.mark.parametrize("name", ["CosineLRScheduler", "PolyLRScheduler", "TanhLRScheduler"])
@given(data=st.data(), lr=rates)
def test_restarts(name, data, lr):
    """At a restart timm, as it happens to round, is at the end of a cycle or at the next start: here at the start."""
    arguments = {**data.draw(ARGUMENTS[name]), "cycle_mul": data.draw(st.sampled_from([1.25, 1.5, 2, 3.0]))}
    steps = steps_of(arguments)
    steps = steps[~certain(arguments, steps)]
    theirs, rule = live(name, lr, arguments, steps), getattr(dialect, name)(lr, **arguments)
    low, alone = arguments.get("lr_min", 0), {key: arguments[key] for key in ("lb", "ub", "power") if key in arguments}
    for t, over, their in zip(steps, np.round(restarts(arguments, steps)), theirs, strict=True):
        before, peak = (lr * arguments.get("cycle_decay", 1) ** n for n in (over - 1, over))
        start, end = low, end_of(name, before, low, **alone)
        if over < arguments.get("cycle_limit", 1):
            start = live(name, peak, {"t_initial": 1, "lr_min": low, **alone}, [0])[0]
        close(rule(int(t)), start)
        assert np.isclose(their, [start, end], rtol=1e-6, atol=1e-12 * lr).any()


def end_of(name, peak, low, ub=3.0, power=0.5, **others):
    """What a cycle comes to."""
    left = {"TanhLRScheduler": 0.5 - 0.5 * np.tanh(ub), "PolyLRScheduler": float(power == 0)}.get(name, 0)
    return low + (peak - low) * left


@law
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data(), lr=rates)
def test_steps_in_an_array(backend, name, data, lr):
    """An array of integer steps gives float32, within 4 units, at the largest value or operand, of what timm has."""
    arguments = data.draw(ARGUMENTS[name])
    rule, steps = getattr(dialect, name)(lr, **arguments), np.arange(MOST)  # of one shape, which compiles once
    told, expected = certain(arguments, steps), live(name, lr, arguments, steps)
    result = to_numpy(rule(make(steps, backend, "int32")), backend)
    assert (result.dtype, result.shape) == (np.float32, steps.shape)
    operands = (lr, arguments.get("lr_min", 0), arguments.get("warmup_lr_init", 0))
    assert ulps(result[told], expected[told], *operands) <= 4


LATE = {
    "CosineLRScheduler": [
        {"t_initial": 10_000, "cycle_mul": 1.5, "cycle_decay": 0.5, "cycle_limit": 4, "lr_min": 0.1},
        {"t_initial": 4001, "cycle_mul": 1.5, "cycle_decay": 0.5, "cycle_limit": 9, "lr_min": 0.1, "k_decay": 2.0},
        {"t_initial": 300, "cycle_decay": 0.99, "cycle_limit": 100, "lr_min": 0.01, "k_decay": 0.5},
    ],
    "PolyLRScheduler": [
        {"t_initial": 1_000_000, "k_decay": 1.5, "lr_min": 0.1},
        {"t_initial": 1_000_000, "k_decay": 0.5, "warmup_t": 1000, "warmup_prefix": True},
        {"t_initial": 4001, "power": 0.25, "k_decay": 3, "cycle_mul": 1.25, "cycle_limit": 20},
    ],
    "TanhLRScheduler": [
        {"t_initial": 1_000_000, "warmup_t": 1001},
        {"t_initial": 30_001, "cycle_mul": 1.5, "cycle_limit": 5, "cycle_decay": 0.9, "lr_min": 0.1},
    ],
    "StepLRScheduler": [{"decay_t": 100_000, "decay_rate": 0.97, "warmup_t": 1001, "warmup_prefix": False}],
    "MultiStepLRScheduler": [{"decay_t": [1000, 1_000_000, 10_000_000], "decay_rate": 0.5, "warmup_t": 999}],
    "WSDLRScheduler": [
        {"t_initial": 1_000_000, "decay_t": 200_000, "warmup_t": 3000, "decay_fn": "power", "decay_power": 1.5},
        {"t_initial": 999_999, "decay_t": 999_998, "warmup_t": 1000, "stable_fn": "rsqrt", "decay_fn": "exp"},
        {"t_initial": 999_999, "decay_t": 1, "warmup_t": 1000, "stable_fn": "power", "lr_min": 0.01},
    ],
}


MOMENTS = [998, 999, 1000, 1001, 3000, 4000, 9999, 12_345, 29_998, 65_537, 99_999, 299_998, 800_001, 900_000, 999_000]
MOMENTS += [999_990, 999_998, 999_999, 1_000_000, 1_000_998, 1_002_999, 1_003_001, 1_999_998, 20_000_000]


@pytest.mark.parametrize(("name", "arguments"), [(name, given) for name, all_of in LATE.items() for given in all_of])
def test_late_steps_in_an_array(backend, name, arguments):
    """At steps in the thousands and millions, too, an array of them gives float32 within 4 units of timm."""
    rule, steps = getattr(dialect, name)(1.0, **arguments), np.array(MOMENTS)
    told, expected = certain(arguments, steps), live(name, 1.0, arguments, steps)
    close(np.array([rule(int(t)) for t in steps])[told], expected[told])
    result = to_numpy(rule(make(steps, backend, "int32")), backend)
    assert ulps(result[told], expected[told], 1.0) <= 4


# --- the clock -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("t_in_epochs", [True, False])
def test_both_units_of_time(t_in_epochs):
    """The value at t is what `step(t)` sets if t counts epochs, `step_update(t)` if updates; the other sets nothing."""
    driven = optimizer(0.5)
    scheduler = schedulers.CosineLRScheduler(driven, 10, warmup_t=2, warmup_lr_init=0.1, t_in_epochs=t_in_epochs)
    rule = dialect.CosineLRScheduler(0.5, 10, warmup_t=2, warmup_lr_init=0.1, t_in_epochs=t_in_epochs)
    own, other = scheduler.step, scheduler.step_update
    if not t_in_epochs:
        own, other = other, own
    for t in range(20):
        own(t)
        other(7)
        close(driven.param_groups[0]["lr"], rule(t))


@pytest.mark.parametrize(
    ("name", "arguments", "agree"),
    [
        ("CosineLRScheduler", {"t_initial": 5}, True),
        ("CosineLRScheduler", {"t_initial": 5, "warmup_t": 3, "warmup_lr_init": 0.1}, True),
        ("PolyLRScheduler", {"t_initial": 5, "k_decay": 2.0}, True),
        ("StepLRScheduler", {"decay_t": 5, "decay_rate": 0.5}, True),
        ("WSDLRScheduler", {"t_initial": 5, "decay_t": 2, "warmup_t": 3}, True),
        ("TanhLRScheduler", {"t_initial": 5, "lb": -1.0}, False),
        ("MultiStepLRScheduler", {"decay_t": [1], "decay_rate": 0.5}, False),
    ],
)
def test_before_the_first_step(name, arguments, agree):
    """Until its first step timm has the optimizer's rate set, or the start of a warm-up: mostly the value at 0."""
    driven = optimizer(0.5)
    getattr(schedulers, name)(driven, **arguments)
    at_once = driven.param_groups[0]["lr"]
    assert (getattr(dialect, name)(0.5, **arguments)(0) == pytest.approx(at_once, rel=1e-6)) is agree


# --- fractions of steps ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("decay_t", "late"), [(2.4, []), (0.7, []), (1.1, [11, 22])])
def test_decimal_fractions(decay_t, late):
    """Where `decay_t` is a bit more than the decimal that is meant, timm falls a step late: here it falls in time."""
    arguments, steps = {"decay_t": decay_t, "decay_rate": 0.5}, range(26)
    theirs, rule = live("StepLRScheduler", 1.0, arguments, steps), dialect.StepLRScheduler(1.0, **arguments)
    assert [t for t in steps if rule(t) != theirs[t]] == late
    assert [rule(t) for t in late] == [0.5 ** round(t / decay_t) for t in late]
