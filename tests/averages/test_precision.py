"""Long streams of few digits: nothing is lost to rounding, nothing of a graph is kept, and memory does not grow."""

import gc
import math
import tracemalloc
import weakref

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

HALF = ("bfloat16", "float16")
half = pytest.mark.parametrize("dtype", HALF)
UPDATES, ALPHA = 20_000, 0.9999


def needs(backend, dtype):
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")


# --- half precision --------------------------------------------------------------------------------------------------
def moved_by_one(dtype):
    """A value, then `UPDATES` values that are 1 higher on average, in a dtype: those that it holds, in float64."""
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    noise = np.random.default_rng(0).normal(scale=0.1, size=(UPDATES + 1, 3))
    values = np.array([1.0, -0.25, 3.0]) + noise
    values[1:] += 1.0
    return values.astype(kind).astype(np.float64)


def over_all(rule, values, backend, dtype):
    """The state and the output after all values."""
    if backend == "jax":
        import jax

        stream = make(values, backend, dtype)
        state, outputs = jax.lax.scan(rule.step, rule.init(stream[0]), stream)
        return state, outputs[-1]
    arrays = list(make(values, backend, dtype))
    state, output = rule.init(arrays[0]), None
    for array in arrays:
        state, output = rule.step(state, array)
    return state, output


@half
@pytest.mark.parametrize("debias", [False, True])
def test_20_000_updates_of_half_precision(backend, dtype, debias):
    """At a decay of 0.9999 the average of few digits follows that in float64 to a thousandth of the movement."""
    needs(backend, dtype)
    values = moved_by_one(dtype)
    mean, weight = values[0], 1 - ALPHA if debias else 1.0
    for value in values[1:]:
        weight = weight * ALPHA + 1 - ALPHA
        mean = mean + (1 - ALPHA) / weight * (value - mean)
    assert np.all(np.abs(mean - values[0]) > 0.5)  # else nothing moved, and nothing is tested
    state, output = over_all(ms.ema(ALPHA, debias=debias), values, backend, dtype)
    assert np.abs(to_numpy(state.mean, backend) - mean).max() <= 1e-3
    result = to_numpy(output, backend)
    assert result.dtype.name == dtype
    digits = {"bfloat16": 8, "float16": 11}[dtype]
    assert np.all(np.abs(result.astype(np.float64) - mean) <= 1e-3 + np.abs(mean) * 2.0**-digits)


@half
def test_20_000_updates_of_equal_weight(backend, dtype):
    """The average of all values follows the direct mean likewise."""
    needs(backend, dtype)
    values = moved_by_one(dtype)
    state, _ = over_all(ms.swa(), values, backend, dtype)
    assert np.abs(to_numpy(state.mean, backend) - values.mean(axis=0)).max() <= 1e-3


# --- gradients and memory --------------------------------------------------------------------------------------------
RULES = {
    "ema": ms.ema(0.99),
    "ema with debias": ms.ema(0.99, debias=True, decay_min=True),
    "sma": ms.sma(4),
    "swa": ms.swa(),
    "plateau": ms.plateau(1.0, patience=3),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
wheres = pytest.mark.parametrize("where", [None, True, "tensor"], ids=str)


@rules
@wheres
def test_a_thousand_updates_hold_no_graph(rule, where):
    """After updates of a value that requires a gradient, the state requires none and every input is gone."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    mask = torch.tensor(True) if where == "tensor" else where
    weight = torch.ones(3, requires_grad=True)
    state, inputs = rule.init(weight), []
    for n in range(1000):
        value = weight * (n % 7)
        inputs.append(weakref.ref(value))
        state, output = rule.step(state, value, where=mask)
        parts = [part for part in state if not isinstance(part, tuple)]
        assert not any(part.requires_grad for part in parts)
        assert all(part.grad_fn is None and part.is_leaf for part in parts)
    if not isinstance(rule, type(RULES["plateau"])):
        assert output.requires_grad
    del value, output
    gc.collect()
    assert [ref() for ref in inputs] == [None] * 1000


@rules
def test_no_object_is_kept_from_update_to_update(backend, rule):
    """From the 20th to the 120th update neither the objects that Python tracks nor its memory grow."""
    value = make(np.ones(1000), backend)
    state = rule.init(value)

    def updates(state, count):
        for _ in range(count):
            state, output = rule.step(state, value)
        to_numpy(output, backend)  # all of it has been computed
        gc.collect()
        return state

    tracemalloc.start()
    try:
        state = updates(state, 20)
        objects, memory = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        state = updates(state, 100)
        assert len(gc.get_objects()) - objects < 50
        assert tracemalloc.get_traced_memory()[0] - memory < 100_000  # 25 of the 100 values
    finally:
        tracemalloc.stop()


# --- debias in double precision --------------------------------------------------------------------------------------
@ms.schedule(lambda decays: {"decays": tuple(decays)})
def listed(xp, step, decays):
    """The decays one by one; the last stays."""
    return ms.piecewise_constant.__wrapped__(xp, step, decays[0], tuple(enumerate(decays))[1:])


decays = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.9999]), st.floats(0, 1), st.integers(1, 23).map(lambda n: 1 - 0.5**n)
)


@given(sequence=st.lists(decays, min_size=1, max_size=60), seed=st.integers(0, 99))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_debias_against_the_direct_sum(dtype, sequence, seed):
    """Under any decays, the average is the sum of weighted values over the sum of weights, both taken in float64."""
    held = [float(np.float32(decay)) for decay in sequence]  # the decays of a schedule are float32
    values = np.random.default_rng(seed).normal(size=(len(held), 2)).astype(dtype).astype(np.float64)
    rule = ms.ema(listed(held), debias=True)
    state = rule.init(values[0].astype(dtype))
    for t, value in enumerate(values, start=1):
        state, output = rule.step(state, value.astype(dtype))
        weights = [(1 - held[s]) * math.prod(held[s + 1 : t]) for s in range(t)]
        total = math.fsum(weights)
        expected = np.array([math.fsum(w * v for w, v in zip(weights, column, strict=True)) for column in values[:t].T])
        expected = expected / total if total else value
        assert ulps(state.weight, total, 1.0) <= 4 * t
        assert ulps(output, expected, np.abs(values[:t]).max()) <= 4 * t
