"""The dialect of transformers against its live schedulers, on an optimizer that has nothing to optimize."""

from fractions import Fraction

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from helpers_transformers import close, drawn, live, live_one, live_values, one, rates, torch, updates_of
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import transformers as dialect
from multisched.dialects.transformers import ahead

MOST = 130  # updates


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", drawn)
@given(data=st.data(), lr=rates)
def test_rates(name, data, lr):
    """The value at step k is the rate of the optimizer at its update k, to twice the length of the training."""
    arguments = one(data, name)
    updates, rule = updates_of(arguments), getattr(dialect, name)(lr, **arguments)
    close([rule(k) for k in range(updates)], live_one(name, lr, arguments, updates))


@pytest.mark.parametrize("length", [10, 11, 97, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 21])
def test_every_restart(length, count):
    """Hard restarts come at the very steps at which transformers has them, of waves of any length."""
    name, arguments = "get_cosine_with_hard_restarts_schedule_with_warmup", {"num_warmup_steps": 3}
    arguments |= {"num_training_steps": 3 + length, "num_cycles": count}
    rule = getattr(dialect, name)(1.0, **arguments)
    close([rule(k) for k in range(2 * length)], live_one(name, 1.0, arguments, 2 * length))


@pytest.mark.parametrize("training", [30, 12, 8, 3])
@pytest.mark.parametrize("decay_type", ["linear", "cosine", "1-sqrt"])
def test_phases_longer_than_the_whole(training, decay_type, backend):
    """Where warm-up and decay are longer than the training, get_wsd_schedule begins in the middle of its decay."""
    arguments = {"num_warmup_steps": 10, "num_decay_steps": 25, "num_training_steps": training, "min_lr_ratio": 0.25}
    rule = dialect.get_wsd_schedule(0.5, **arguments, decay_type=decay_type)
    expected = live_one("get_wsd_schedule", 0.5, {**arguments, "decay_type": decay_type}, 60)
    close([rule(k) for k in range(60)], expected)
    late = make(np.array([*range(60), 2**31 - 1]), backend, "int32")
    assert ulps(to_numpy(rule(late), backend), [*expected, 0.125], 0.5) <= 4


def test_a_warmup_as_long_as_the_training():
    """The one division by zero of transformers that has a value here: the polynomial decay is over at once."""
    rule = dialect.get_polynomial_decay_schedule_with_warmup(0.5, 4, 4, lr_end=0.125)
    assert [rule(k) for k in range(6)] == [0.0, 0.125, 0.25, 0.375, 0.125, 0.125]
    arguments = {"num_warmup_steps": 4, "num_training_steps": 4}
    with pytest.raises(ZeroDivisionError):
        live_one("get_polynomial_decay_schedule_with_warmup", 0.5, arguments, 6)


RATIOS = ("min_lr_rate", "min_lr_ratio", "warmup_lr_rate")


def half_waves(arguments):
    """Where a phase is largest: the half waves in the fewest steps that hold a whole number of waves."""
    if "num_cycles" not in arguments or arguments.get("decay_type", "cosine") != "cosine":
        return 1
    rest = arguments.get("num_decay_steps", arguments.get("num_training_steps", 0) - arguments["num_warmup_steps"])
    per_step = Fraction(str(arguments["num_cycles"])) / max(1, int(rest))
    return max(1, 2 * per_step * min(per_step.denominator, MOST))


@law
@pytest.mark.parametrize("name", drawn)
@given(data=st.data(), lr=rates)
def test_steps_in_an_array(backend, name, data, lr):
    """An array of integer steps gives float32, within 4 units, at the largest value or operand, of transformers."""
    arguments = one(data, name)
    rule = getattr(dialect, name)(lr, **arguments)
    expected = live_one(name, lr, arguments, MOST)
    result = to_numpy(rule(make(np.arange(MOST), backend, "int32")), backend)  # one shape: jax compiles each once
    assert (result.dtype, result.shape) == (np.float32, (MOST,))
    ends = [lr, arguments.get("min_lr", 0), *(lr * arguments[name] for name in RATIOS if arguments.get(name))]
    assert ulps(result, expected, max(ends) * float(half_waves(arguments))) <= 4


@pytest.mark.parametrize("count", [0.5, 1, 5])
def test_waves_of_whole_steps_in_an_array(backend, count):
    """Half waves of a whole number of steps lose no digits: after a thousand of them they are within 4 units."""
    arguments = {"num_warmup_steps": 7, "num_training_steps": 47, "num_cycles": count}
    expected = live_one("get_cosine_schedule_with_warmup", 0.3, arguments, 8000)
    rule = dialect.get_cosine_schedule_with_warmup(0.3, **arguments)
    assert ulps(to_numpy(rule(make(np.arange(8000), backend, "int32")), backend), expected, 0.3) <= 4


@given(metrics=st.lists(st.floats(0.125, 8), min_size=1, max_size=40), patience=st.integers(0, 3))
def test_reduced_on_a_plateau(metrics, patience):
    """After each metric the rule of get_reduce_on_plateau_schedule has the rate of the optimizer."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = live.get_reduce_on_plateau_schedule(optimizer, factor=0.5, patience=patience, min_lr=0.01)
    rule = dialect.get_reduce_on_plateau_schedule(0.5, factor=0.5, patience=patience, min_lr=0.01)
    state = rule.init(np.float64(0))
    for metric in metrics:
        scheduler.step(metric)
        state, rate = rule.step(state, np.float64(metric))
        close([float(rate)], np.array([optimizer.param_groups[0]["lr"]]))


# --- by name ---------------------------------------------------------------------------------------------------------
SPECIFIC = {
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"power": 2.0, "lr_end": 0.01},
    "inverse_sqrt": {"timescale": 7},
    "cosine_with_min_lr": {"min_lr": 0.01},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
    "warmup_stable_decay": {"num_decay_steps": 10, "decay_type": "1-sqrt"},
    "constant": {"num_cycles": 3},
}


@pytest.mark.parametrize("kind", [kind for kind in live.SchedulerType if kind.value != "greedy"])
def test_schedules_by_name(kind):
    """get_scheduler takes each name of transformers, but "greedy", and as a member of its enumeration, too."""
    specific = SPECIFIC.get(kind.value)
    rule = dialect.get_scheduler(kind, 0.5, 5, 40, specific)
    assert rule == dialect.get_scheduler(kind.value, 0.5, 5, 40, specific)
    if kind.value == "reduce_lr_on_plateau":
        assert rule == ms.plateau(0.5, threshold_mode="rel", eps=1e-8)
        return
    expected = live_values(lambda optimizer: live.get_scheduler(kind, optimizer, 5, 40, specific), 0.5, 80)
    close([rule(k) for k in range(80)], expected)


# --- of its own ------------------------------------------------------------------------------------------------------
def test_without_a_warmup_the_peak_is_left_out(backend):
    """The formula of its own, declared, has the values of the pure rule, and at the last step it goes on, not wraps."""
    rule = dialect.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(0.5, 0, 10, min_lr=0.125)
    tensor = ms.declare(rule)
    values = [to_numpy(tensor.advance(), backend) for _ in range(20)]
    assert ulps(np.array(values), [rule(k) for k in range(20)], 0.5) <= 4
    last = to_numpy(rule(make(np.array([2**31 - 1]), backend, "int32")), backend)
    assert ulps(last, [rule(2**31 - 1)], 0.5) <= 4


@pytest.mark.parametrize("steps", [3, 3.0, 2.5])
def test_ahead(backend, steps):
    """It leaves out the first steps of any schedule, also a part of one, in float32 on integer steps."""
    rule = ahead(ms.linear(1.0, 0.0, 16), steps)
    assert [rule(k) for k in (-1, 0, 4, 20)] == [1 - steps / 16, 1 - steps / 16, 1 - (4 + steps) / 16, 0.0]
    result = to_numpy(rule(make(np.arange(20), backend, "int32")), backend)
    assert (result.dtype, result.tolist()) == (np.float32, [rule(k) for k in range(20)])
