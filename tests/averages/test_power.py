"""The power-function average: the weights of its values, its width, and the digits of its decay."""

import math
import pickle
from decimal import Decimal, localcontext

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law, stream
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

WIDEST = 12**-0.5
LARGEST = 2**31 - 1
widths = st.floats(0.001, WIDEST)


def profile(gamma, updates):
    """The weights of values 1 to T in the average of T: the power function, integrated over each update."""
    edges = (np.arange(updates + 1) / updates) ** (gamma + 1)
    return np.diff(edges)


def weights(rule, updates):
    """The weights that the values of a stream have in its average, from the shares alone."""
    found = np.zeros(updates)
    for count in range(updates):
        share = rule.share(count, 0.0)[0]
        found *= 1 - share
        found[count] = share
    return found


# --- weights ---------------------------------------------------------------------------------------------------------
@law
@given(sigma_rel=widths, updates=st.integers(1, 300))
def test_the_weights_of_its_values(sigma_rel, updates):
    """The value of update j has the weight `(j / T) ** (gamma + 1) - ((j - 1) / T) ** (gamma + 1)`, and no other."""
    rule = ms.power_ema(sigma_rel)
    np.testing.assert_allclose(weights(rule, updates), profile(rule.gamma, updates), rtol=0, atol=1e-13)


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 6.94, 100])
def test_stepping_is_the_weighted_sum(backend, gamma):
    """`step` gives the direct sum of the values by these weights, at every update."""
    dtype = "float64" if ms.get_backend(backend).supports("float64") else "float32"
    values = np.random.default_rng(0).normal(size=(30, 3)).tolist()
    outputs, _ = stream(ms.power_ema(gamma=gamma), values, backend, dtype)
    for t, output in enumerate(outputs, start=1):
        expected = profile(gamma, t) @ np.array(values[:t])
        assert ulps(output, expected, 4.0) <= 4 * t


def test_of_exponent_0_it_is_the_mean(backend):
    """`power_ema(12 ** -0.5)`, the widest, has the exponent 0 and is `swa()`."""
    assert ms.power_ema(WIDEST).gamma == 0.0
    values = [1.0, 4.0, -2.0, 8.0, 0.5]
    ours, means = (stream(rule, values, backend)[0] for rule in (ms.power_ema(WIDEST), ms.swa()))
    assert ulps(np.stack(ours), np.stack(means), 8.0) <= 4


@pytest.mark.parametrize("gamma", [1, 6.94, 16.97])
def test_it_is_that_of_ema_pytorch(torch, gamma):
    """`ema_pytorch.KarrasEMA` is the same average to rounding, of a stream that begins with its first value twice.

    Its decay at its n-th update, from 1, is `(1 - 1 / (n + 1)) ** (gamma + 1)`: it is one update late, and at its first
    it blends the first value with itself.
    """
    KarrasEMA = pytest.importorskip("ema_pytorch", reason="ema-pytorch is not installed").KarrasEMA  # noqa: N806
    model = torch.nn.Linear(4, 3)
    peer, rule, mean = KarrasEMA(model, gamma=gamma, update_every=1), ms.power_ema(gamma=gamma), None
    generator = torch.Generator().manual_seed(0)
    for n in range(1, 60):
        with torch.no_grad():
            model.weight += 0.1 * torch.randn(model.weight.shape, generator=generator)
            now = model.weight.detach().numpy().astype(np.float64)
            mean = now if mean is None else mean + rule.share(n, 0.0)[0] * (now - mean)
            peer.update()
        np.testing.assert_allclose(peer.ema_model.weight.numpy(), mean, rtol=0, atol=1e-6)


# --- width -----------------------------------------------------------------------------------------------------------
@law
@given(sigma_rel=widths)
def test_its_width_is_that_asked_for(sigma_rel):
    """The standard deviation of the profile, integrated in closed form, is `sigma_rel`, to rounding."""
    gamma = ms.power_ema(sigma_rel).gamma
    first, second = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)  # moments of t ** gamma
    assert math.isclose(second - first**2, sigma_rel**2, rel_tol=1e-9 + 1e-15 * gamma**2)
    assert math.isclose(ms.power_ema(gamma=gamma).sigma_rel, sigma_rel, rel_tol=1e-14)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2, 0.28])
def test_the_measured_width(sigma_rel):
    """The standard deviation of the weights over 10,000 updates, relative to these, is `sigma_rel`, to a part in 1e6.

    Each weight stands for an interval of the length of an update, whose own variance, 1 / 12, is added.
    """
    found = weights(ms.power_ema(sigma_rel), 10_000)
    at = np.arange(10_000) + 0.5
    mean = found @ at
    measured = math.sqrt(found @ (at - mean) ** 2 + 1 / 12) / 10_000
    assert math.isclose(measured, sigma_rel, rel_tol=1e-6)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.1, 6.94)])
def test_the_published_exponents(sigma_rel, gamma):
    """The widths that the paper recommends have the exponents that it prints, which are the roots of its cubic."""
    found = ms.power_ema(sigma_rel).gamma
    assert round(found, 2) == gamma
    roots = np.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2])
    assert math.isclose(found, roots.real.max(), rel_tol=1e-12)


# --- digits ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gamma", [0, 1, 6.94, 97, 1e6])
@pytest.mark.parametrize("count", [1, 9, 4095, 10**6, 2**24 + 1, LARGEST])
def test_its_share_keeps_its_digits(backend, gamma, count):
    """`1 - (1 - 1 / n) ** (gamma + 1)` in 60 digits, to 1e-15 of it on the host and to 4 units in float32 arrays."""
    with localcontext() as context:
        context.prec = 60
        n = Decimal(count) + 1
        exact = float(1 - (1 - 1 / n) ** (Decimal(gamma) + 1))
    rule = ms.power_ema(gamma=gamma)
    assert math.isclose(rule.share(count, 0.0)[0], exact, rel_tol=1e-15)
    share, _ = rule.share(make(count, backend, "int32"), make(0.0, backend))
    assert to_numpy(share, backend).dtype == np.float32
    assert ulps(to_numpy(share, backend), exact) <= 4


# --- plain data, and what is none ------------------------------------------------------------------------------------
def test_it_is_plain_data():
    """It prints what builds it, by width or by exponent; the two are equal where they are the same average."""
    by_width = ms.power_ema(0.1)
    by_exponent = ms.power_ema(gamma=by_width.gamma)
    assert (repr(by_width), repr(ms.power_ema(gamma=2))) == ("power_ema(0.1)", "power_ema(gamma=2.0)")
    assert by_width == by_exponent == pickle.loads(pickle.dumps(by_width)) == eval(repr(by_exponent), vars(ms).copy())
    assert hash(by_width) == hash(by_exponent)
    assert by_width != ms.power_ema(0.05)


@pytest.mark.parametrize("sigma_rel", [0, -0.1, 0.2887, 1, math.nan, math.inf, 1e-10, "0.1", True, 1j, [0.1]])
def test_a_width_that_is_none(sigma_rel):
    """Beyond that of the mean, below 1e-9, or no number: an error that says the range."""
    with pytest.raises(errors.DecayError, match=r"sigma_rel.*1e-09.*12 \*\* -0\.5"):
        ms.power_ema(sigma_rel)


@pytest.mark.parametrize("gamma", [-0.5, math.nan, math.inf, 1e10, "1", True])
def test_an_exponent_that_is_none(gamma):
    """Below 0, above 1e9, or no number: an error that says the range."""
    with pytest.raises(errors.DecayError, match=r"gamma.*0.*1e9"):
        ms.power_ema(gamma=gamma)


def test_exactly_one_of_the_two():
    """Neither width nor exponent, or both, is an error."""
    with pytest.raises(errors.DecayError, match="none of them"):
        ms.power_ema()
    with pytest.raises(errors.DecayError, match="both"):
        ms.power_ema(0.1, gamma=1.0)
