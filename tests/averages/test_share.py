"""The share of the latest value: the one law of averages that whole models, and paced averages, are folded by."""

import math

import numpy as np
import pytest
from helpers import EmaReference, make, to_numpy, ulps

import multisched as ms
from multisched import errors
from multisched.averages import Mean, Paced

LARGEST = 2**31 - 1
VALUES = [1.5, -0.25, 3.0, -1.0, 2.5, 0.5, 8.0, 0.125, -6.0, 1.0, 4.0, -2.0, 0.75]
FALLING = ms.piecewise_constant(0.5, {3: 0.25, 6: 0.75})

EMAS = [
    ms.ema(0.9),
    ms.ema(0.0),
    ms.ema(1.0),
    ms.ema(halflife=3.0),
    ms.ema(0.9, decay_min=True),
    ms.ema(0.9, debias=True),
    ms.ema(1.0, debias=True),
    ms.ema(0.9, decay_min=True, debias=True),
    ms.ema(FALLING),
    ms.ema(FALLING, debias=True),
    ms.ema(ms.decay_warmup(inv_gamma=3, high=0.8), debias=True),
    ms.ema(ms.decay_warmup(), decay_min=True),
]
MEANS = [
    *EMAS,
    ms.swa(),
    ms.power_ema(0.1),
    ms.power_ema(gamma=0),
    ms.paced(ms.ema(0.9), start=2),
    ms.paced(ms.ema(FALLING, debias=True), start=3, every=2),
    ms.paced(ms.swa(), every=3),
    ms.paced(ms.power_ema(0.2), start=4),
    ms.paced(ms.paced(ms.ema(0.5, decay_min=True), every=2), start=3, every=2),
]
means = pytest.mark.parametrize("rule", MEANS, ids=repr)


def precise(backend):
    return "float64" if ms.get_backend(backend).supports("float64") else "float32"


def shares(rule, updates):
    """The shares of a stream, and the weights, worked out on the host."""
    weight, found = 0.0, []
    for count in range(updates):
        share, weight = rule.share(count, weight)
        found.append((share, weight))
    return found


def folded(rule, values):
    """The averages of a stream by the shares alone, in plain Python."""
    mean, means = 0.0, []
    for value, (share, _) in zip(values, shares(rule, len(values)), strict=True):
        mean += share * (value - mean)
        means.append(mean)
    return means


# --- on the host -----------------------------------------------------------------------------------------------------
@means
def test_folding_by_the_share_is_stepping(backend, rule):
    """From equal averages, `mean += share * (value - mean)` in plain Python is `rule.step`, to 4 units; so is a fold.

    In float64, or float32 where the backend has no other.
    """
    dtype = precise(backend)
    state, mean = rule.init(make(0.0, backend, dtype)), 0.0
    outputs = []
    for value, (share, _) in zip(VALUES, shares(rule, len(VALUES)), strict=True):
        state, output = rule.step(state, make(value, backend, dtype))
        outputs.append(to_numpy(output, backend))
        assert ulps(outputs[-1], mean + share * (value - mean), mean, value) <= 4
        mean = float(outputs[-1])
    assert ulps(np.stack(outputs), folded(rule, VALUES), 8.0) <= 4 * len(VALUES)


@pytest.mark.parametrize("rule", EMAS, ids=repr)
def test_it_is_the_documented_average(rule):
    """Folded by its share, an EMA is the average of laws 4 and 5 in plain Python, which knows of no share."""
    reference = EmaReference(rule.alpha, None, rule.decay_min, rule.debias)
    np.testing.assert_allclose(folded(rule, VALUES), [reference.step(value) for value in VALUES], rtol=1e-13)


def test_of_swa_it_is_the_mean():
    """Folded by its share, the average of all values is their sum over their number."""
    means = [math.fsum(VALUES[: n + 1]) / (n + 1) for n in range(len(VALUES))]
    np.testing.assert_allclose(folded(ms.swa(), VALUES), means, rtol=1e-13)


@means
def test_it_is_a_part(rule):
    """Each share is a Python float in [0, 1], and exactly 1 at the first update, which has nothing to average with."""
    found = shares(rule, 200)
    assert all(type(share) is float and 0 <= share <= 1 for share, _ in found)
    assert all(type(weight) is float and 0 <= weight <= 1 for _, weight in found)
    assert found[0][0] == 1.0


@pytest.mark.parametrize("rule", [rule for rule in MEANS if not isinstance(rule, Paced)], ids=repr)
def test_at_the_end_of_the_counter_it_stays(rule):
    """Counts beyond the largest int32 have the share of that one, as the counter of a state stays there."""
    assert rule.share(2**40, 1.0) == rule.share(LARGEST, 1.0)


def test_of_swa_at_the_end_of_the_counter():
    """The divisor of the average of all values ends at 2**31."""
    assert ms.swa().share(LARGEST, 0.0)[0] == ms.swa().share(2**31, 0.0)[0] == 2.0**-31
    assert ms.swa().share(LARGEST - 1, 0.0)[0] == 1 / LARGEST


# --- on the device ---------------------------------------------------------------------------------------------------
def compared(rule, share, backend, dtype, updates=20):
    """A chain of shares in 0-d arrays, each against the host's, within 4 units; returned is the last weight."""
    weight, expected = make(0.0, backend, dtype), 0.0
    for count in range(updates):
        before = float(to_numpy(weight, backend))
        found, weight = share(make(count, backend, "int32"), weight)
        wanted, expected = rule.share(count, before)
        for array, number in ((found, wanted), (weight, expected)):
            array = to_numpy(array, backend)
            assert (array.shape, array.dtype.name) == ((), dtype)
            assert ulps(array, number, 2.0**-20 if number < 2.0**-20 else number) <= 4, count
        assert (float(found) in (0.0, 1.0)) == (wanted in (0.0, 1.0))


@means
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_arrays_it_is_that_of_numbers(backend, dtype, rule):
    """An int32 count and a floating weight, both 0-d arrays, give 0-d arrays of the dtype of the weight."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    compared(rule, rule.share, backend, dtype)


@means
def test_it_is_jitted_once(jax, rule):
    """Under `jax.jit` it is traced once for all counts, and gives the same."""
    traces = []
    share = jax.jit(lambda count, weight: (traces.append(1), rule.share(count, weight))[1])
    compared(rule, share, "jax", "float32")
    assert len(traces) == 1


@means
def test_it_is_compiled_by_torch(torch, rule):
    """`torch.compile(rule.share, fullgraph=True)` gives the same."""
    share = torch.compile(rule.share, fullgraph=True, backend="eager")
    compared(rule, share, "torch", "float64", 6)


@pytest.mark.parametrize("count", [1, 255, 10**6, 2**24 + 1, LARGEST])
@pytest.mark.parametrize("rule", [r for r in MEANS if not isinstance(getattr(r, "alpha", None), ms.Schedule)], ids=repr)
def test_its_digits_at_late_updates(backend, rule, count):
    """In float32 it keeps the digits of double precision, at any count: it is not the difference of two numbers."""
    share, weight = rule.share(make(count, backend, "int32"), make(1.0, backend))
    assert ulps(to_numpy(share, backend), rule.share(count, 1.0)[0]) <= 4
    assert ulps(to_numpy(weight, backend), rule.share(count, 1.0)[1]) <= 4


# --- rules that have none --------------------------------------------------------------------------------------------
def test_a_rule_with_init_has_none():
    """What starts from `init` blends the first value too, and says that no one share can tell of it."""
    with pytest.raises(errors.RuleError, match=r"ema\(0\.9, init=2\.0\).*init"):
        ms.ema(0.9, init=2.0).share(0, 0.0)


@pytest.mark.parametrize("alpha", [[0.5, 0.25], ms.piecewise_constant([0.5, 0.25], {})], ids=repr)
def test_a_decay_for_each_element_has_none(alpha):
    """Several decays are several shares: an error, which names the rule and what to use."""
    with pytest.raises(errors.RuleError, match=r"(?s)ema\(.*array.*one number or Schedule"):
        ms.ema(alpha).share(0, 0.0)


def test_a_declared_decay_has_none(backend):
    """A declared tensor as alpha has no value outside its function."""
    with pytest.raises(errors.RuleError, match="declared"):
        ms.ema(ms.Variable(0.5)).share(0, 0.0)


def test_which_rules_have_one():
    """`sma` keeps its values and `plateau` no average: they are no `Mean`."""
    assert all(isinstance(rule, Mean) for rule in MEANS)
    assert not isinstance(ms.sma(3), Mean)
    assert not isinstance(ms.plateau(1.0), Mean)
