"""The dialect of torch against the live schedulers of torch, on an optimizer that has nothing to optimize."""

import warnings

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from hypothesis import given
from hypothesis import strategies as st

from multisched.dialects import torch as dialect

torch = pytest.importorskip("torch", reason="torch is not installed: there is nothing to compare with")


# --- torch, live -----------------------------------------------------------------------------------------------------
def torch_class(name):
    return getattr(torch.optim.lr_scheduler, name, None) or getattr(torch.optim.swa_utils, name)


def live(build, updates, lr=1.0, read=lambda group: group["lr"]):
    """What `build(optimizer)` has set in the optimizer at each of some updates."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr, momentum=0.5)
    scheduler, seen = build(optimizer), []
    for update in range(updates):
        seen.append(float(read(optimizer.param_groups[0])))
        if update + 1 < updates:
            optimizer.step()
            scheduler.step()
    return np.array(seen)


def live_one(name, base_lr, arguments, updates):
    arguments = {key: value for key, value in arguments.items() if name != "MultiplicativeLR" or key != "total_iters"}
    return live(lambda optimizer: torch_class(name)(optimizer, **arguments), updates, base_lr)


def close(actual, expected):
    """To 1e-6 relative; where torch passes through zero, to what its recursion in double precision leaves there."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


# --- arguments -------------------------------------------------------------------------------------------------------
MOST = 100  # updates
rates = st.floats(1e-4, 10)
parts = st.floats(1e-3, 1)
gammas = st.one_of(st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]), st.floats(0.5, 1.05))
counts = st.integers(1, 30)
halves = st.integers(1, 40).map(lambda n: n / 2)


def taken(**strategies):
    return st.fixed_dictionaries(strategies)


def hyperbola(step):
    return 1 / (1 + 0.5 * step)


def falling(step):
    return 0.9 if step % 3 else 0.5


multiplied = {
    "LambdaLR": taken(lr_lambda=st.just(hyperbola)),
    "MultiplicativeLR": taken(lr_lambda=st.just(falling), total_iters=st.just(MOST)),
    "StepLR": taken(step_size=counts, gamma=st.one_of(gammas, st.just(0.0))),
    "MultiStepLR": taken(milestones=st.lists(st.integers(0, 40), max_size=5), gamma=gammas),
    "ConstantLR": taken(factor=parts, total_iters=st.integers(0, 30)),
    "LinearLR": taken(start_factor=parts, end_factor=st.one_of(parts, st.just(0.0)), total_iters=st.integers(0, 30)),
    "ExponentialLR": taken(gamma=st.one_of(gammas, st.just(0.0))),
    "PolynomialLR": taken(total_iters=st.integers(0, 30), power=st.one_of(st.integers(0, 3), st.floats(0.25, 4))),
    "CosineAnnealingLR": taken(T_max=counts, eta_min=st.floats(0, 1)),
    "CosineAnnealingWarmRestarts": taken(T_0=st.integers(1, 12), T_mult=st.integers(1, 3), eta_min=st.floats(0, 1)),
    "SWALR": taken(swa_lr=rates, anneal_epochs=st.integers(0, 30), anneal_strategy=st.sampled_from(["cos", "linear"])),
}
scales = st.one_of(
    taken(mode=st.sampled_from(["triangular", "triangular2"]), gamma=gammas),
    taken(mode=st.just("exp_range"), gamma=st.one_of(gammas, st.just(0.0))),
    taken(scale_fn=st.just(hyperbola), scale_mode=st.sampled_from(["cycle", "iterations"])),
)
slopes = st.fixed_dictionaries(
    {"step_size_up": halves}, optional={"step_size_down": st.one_of(st.none(), st.just(0), halves)}
)
triangles = st.builds(lambda *given: {k: v for part in given for k, v in part.items()}, slopes, scales)


@st.composite
def cycles(draw):
    """The phases of OneCycleLR, of any number and length, some of them negative, that torch does not fail at."""
    three = draw(st.booleans())
    total = draw(st.integers(1, 40))
    part = draw(st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5]), st.floats(0, 0.49 if three else 0.97)))
    anneal = draw(st.sampled_from(["cos", "linear"]))
    ends = [part * total - 1, total - 1] if not three else [part * total - 1, 2 * part * total - 2, total - 1]
    lengths = np.diff([0, *ends])
    if ends[0] >= 0 and lengths[0] < 1e-6:
        part, lengths = 0.0, [1]
    if abs(lengths[-1]) < 1e-6:
        total += 3
    return {"total_steps": total, "pct_start": part, "anneal_strategy": anneal, "three_phase": three}


multiples = taken(div_factor=st.floats(1, 100), final_div_factor=st.floats(1, 1e4))


def updates_of(arguments):
    """Twice the longest phase there and back, and a bit more."""
    names = ("step_size", "total_iters", "T_max", "T_0", "anneal_epochs", "step_size_up", "step_size_down")
    longest = max(arguments.get(name) or 0 for name in names) or 20
    return min(MOST, int(4 * longest) + 3)


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", multiplied)
@given(data=st.data(), base_lr=rates)
def test_rates_that_torch_multiplies(name, data, base_lr):
    """The value at step k is the rate of the optimizer at its update k, to the end of the second round and beyond."""
    arguments = data.draw(multiplied[name])
    updates = updates_of(arguments)
    rule = getattr(dialect, name)(base_lr, **arguments)
    close([rule(k) for k in range(updates)], live_one(name, base_lr, arguments, updates))


@given(low=rates, high=rates, arguments=triangles)
def test_triangles(low, high, arguments):
    """CyclicLR, in all its modes, with slopes of any length: the rate and the momentum at each update."""
    arguments = {"base_lr": low, "max_lr": high, **arguments}
    updates = updates_of(arguments)
    rule = dialect.CyclicLR(**arguments)
    close([rule(k) for k in range(updates)], live_one("CyclicLR", 1.0, arguments, updates))
    momentum = {key: value for key, value in arguments.items() if not key.endswith("_lr")}
    cycled = {**arguments, "base_momentum": 0.6, "max_momentum": 0.95}
    build = lambda optimizer: torch_class("CyclicLR")(optimizer, **cycled)  # noqa: E731
    rule = dialect.CyclicMomentum(0.6, 0.95, **momentum)
    close([rule(k) for k in range(updates)], live(build, updates, read=lambda group: group["momentum"]))


@given(max_lr=rates, phases=cycles(), divided=multiples, by_epochs=st.booleans())
def test_one_cycle(max_lr, phases, divided, by_epochs):
    """OneCycleLR up to the last step that torch allows, one after the cycle: the rate and the momentum."""
    total = phases["total_steps"]
    if by_epochs:
        phases = {**phases, "total_steps": None, "epochs": 1, "steps_per_epoch": total}
    arguments = {"max_lr": max_lr, **phases, **divided}
    rule = dialect.OneCycleLR(**arguments)
    close([rule(k) for k in range(total + 1)], live_one("OneCycleLR", 1.0, arguments, total + 1))
    build = lambda optimizer: torch_class("OneCycleLR")(optimizer, **arguments)  # noqa: E731
    momentum = dialect.OneCycleMomentum(**phases)
    expected = live(build, total + 1, read=lambda group: group["momentum"])
    close([momentum(k) for k in range(total + 1)], expected)
    assert {rule(k) for k in (total + 1, total + 2, 10 * total, 2**40)} == {rule(total - 1)}
    with pytest.raises(ValueError, match="Tried to step"):
        live_one("OneCycleLR", 1.0, arguments, total + 2)


@law
@pytest.mark.parametrize("name", [*multiplied, "CyclicLR", "OneCycleLR"])
@given(data=st.data(), base_lr=rates)
def test_steps_in_an_array(backend, name, data, base_lr):
    """An array of integer steps gives float32, within 4 units, at the largest value or operand, of what torch has."""
    if name == "CyclicLR":
        arguments = {"base_lr": base_lr, "max_lr": data.draw(rates), **data.draw(triangles)}
        rule = dialect.CyclicLR(**arguments)
    elif name == "OneCycleLR":
        arguments = {"max_lr": base_lr, **data.draw(cycles()), **data.draw(multiples)}
        rule = dialect.OneCycleLR(**arguments)
    else:
        arguments = data.draw(multiplied[name])
        rule = getattr(dialect, name)(base_lr, **arguments)
    updates = arguments.get("total_steps", updates_of(arguments) - 1) + 1
    expected = live_one(name, base_lr, arguments, updates)
    result = to_numpy(rule(make(np.arange(MOST), backend, "int32")), backend)  # one shape: jax compiles each once
    assert (result.dtype, result.shape) == (np.float32, (MOST,))
    grown = max(arguments.get("gamma", 1), 1) ** updates if name == "CyclicLR" else 1  # what multiplies the slopes
    largest = max(np.abs(expected).max(), max(base_lr, arguments.get("max_lr", 0)) * grown)
    assert ulps(result[:updates], expected, largest) <= 4


@pytest.mark.parametrize("gamma", [0.1, 0.7, 0.99, 0.9999])
def test_long_decays_in_an_array(backend, gamma):
    """After thousands of factors an array of steps is still within 4 units of each value, not only of the largest."""
    updates = min(5000, int(60 / -np.log(gamma)))
    expected = live_one("ExponentialLR", 0.3, {"gamma": gamma}, updates)
    result = to_numpy(dialect.ExponentialLR(0.3, gamma)(make(np.arange(updates), backend, "int32")), backend)
    assert ulps(result, expected) <= 4


@pytest.mark.parametrize("slopes", [(2, 1.5), (4, 3), (0.5, 7)])
def test_late_triangles_in_an_array(backend, slopes):
    """After a thousand cycles, of whole steps or not, an array of steps is within 4 units of the peak of torch's."""
    arguments = {"base_lr": 1.0, "max_lr": 3.0, "step_size_up": slopes[0], "step_size_down": slopes[1]}
    expected = live_one("CyclicLR", 1.0, arguments, 8000)
    result = to_numpy(dialect.CyclicLR(**arguments)(make(np.arange(8000), backend, "int32")), backend)
    assert ulps(result, expected, 3.0) <= 4


def test_the_annealed_cosine_rises_again(backend):
    """CosineAnnealingLR is at its two ends exactly at the multiples of `T_max`, however late."""
    rule, rounds = dialect.CosineAnnealingLR(0.5, 1000, eta_min=0.125), [0, 1, 2, 3, 1_000_000, 1_000_001]
    ends = to_numpy(rule(make(np.array(rounds) * 1000, backend, "int32")), backend)
    assert ends.tolist() == [rule(n * 1000) for n in rounds] == [0.5, 0.125] * 3


# --- several ---------------------------------------------------------------------------------------------------------
chainable = st.sampled_from(
    [
        ("StepLR", {"step_size": 3, "gamma": 0.5}),
        ("MultiStepLR", {"milestones": [0, 5], "gamma": 0.5}),
        ("ConstantLR", {"factor": 0.25, "total_iters": 7}),
        ("LinearLR", {"start_factor": 0.25, "total_iters": 8}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("PolynomialLR", {"total_iters": 12, "power": 2.0}),
        ("CosineAnnealingLR", {"T_max": 40}),
    ]
)
restarting = st.sampled_from(
    [
        ("LambdaLR", {"lr_lambda": hyperbola}),
        ("CosineAnnealingLR", {"T_max": 4, "eta_min": 0.01}),
        ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ]
)


def both(chosen, base_lr):
    ours = [getattr(dialect, name)(base_lr, **arguments) for name, arguments in chosen]
    return ours, lambda optimizer: [torch_class(name)(optimizer, **arguments) for name, arguments in chosen]


@given(st.data(), rates)
def test_one_after_the_other(data, base_lr):
    """SequentialLR: the new scheduler rules at the milestone, at its own beginning, and the skipped ones never."""
    chosen = data.draw(st.lists(st.one_of(chainable, restarting), min_size=1, max_size=4))
    size = len(chosen) - 1
    milestones = sorted(data.draw(st.lists(st.integers(0, 25), min_size=size, max_size=size)))
    ours, theirs = both(chosen, base_lr)
    rule = dialect.SequentialLR(ours, milestones)
    build = lambda optimizer: torch_class("SequentialLR")(optimizer, theirs(optimizer), milestones)  # noqa: E731
    with warnings.catch_warnings():  # torch warns of its own use of `step(0)`
        warnings.simplefilter("ignore")
        expected = live(build, 60, base_lr)
    close([rule(k) for k in range(60)], expected)


@given(st.lists(chainable, min_size=1, max_size=4), rates)
def test_one_on_top_of_the_other(chosen, base_lr):
    """ChainedScheduler: the product of what each of the schedulers that multiply makes of the base rate."""
    ours, theirs = both(chosen, base_lr)
    rule = dialect.ChainedScheduler(base_lr, ours)
    close(
        [rule(k) for k in range(40)],
        live(lambda optimizer: torch_class("ChainedScheduler")(theirs(optimizer)), 40, base_lr),
    )


@given(
    metrics=st.lists(st.floats(0.125, 8), min_size=1, max_size=60),
    arguments=taken(
        mode=st.sampled_from(["min", "max"]),
        factor=st.sampled_from([0.1, 0.5, 0.9]),
        patience=st.integers(0, 3),
        threshold=st.sampled_from([0.0, 1e-4, 0.1]),
        cooldown=st.integers(0, 3),
        min_lr=st.sampled_from([0, 0.01, 0.25]),
        eps=st.sampled_from([0, 1e-8, 0.03]),
    ),
)
def test_reduced_on_a_plateau(metrics, arguments):
    """ReduceLROnPlateau: after each metric the rule has the rate of the optimizer, `eps` and `min_lr` included."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch_class("ReduceLROnPlateau")(optimizer, **arguments)
    rule = dialect.ReduceLROnPlateau(0.5, **arguments)
    state = rule.init(np.float64(0))
    for metric in metrics:
        scheduler.step(metric)
        state, rate = rule.step(state, np.float64(metric))
        close([float(rate)], np.array([optimizer.param_groups[0]["lr"]]))
