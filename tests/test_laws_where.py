"""Law 6: where `where` is false, value and counter stay as they were, and no output is spoiled by what was masked."""

import numpy as np
import pytest
from helpers import make, sma_reference, to_numpy, ulps
from helpers_laws import law, parts, same_bits, values
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

RULES = {
    "ema": ms.ema(0.9),
    "ema with init": ms.ema(0.9, init=2.0),
    "ema with decay_min": ms.ema(0.9, decay_min=True),
    "ema with debias": ms.ema(0.9, debias=True),
    "ema of a schedule": ms.ema(ms.piecewise_constant(0.5, {2: 0.25, 4: 0.75}), debias=True),
    "ema of an array": ms.ema([0.5, 0.25], debias=True, decay_min=True),
    "sma": ms.sma(3),
}
KINDS = ("Python bool", "NumPy bool", "0-d array")
rules = pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
kinds = pytest.mark.parametrize("kind", KINDS)


def mask(kind, flag, backend):
    return {
        "Python bool": lambda: bool(flag),
        "NumPy bool": lambda: np.bool_(flag),
        "0-d array": lambda: make(flag, backend, "bool"),
    }[kind]()


@rules
@kinds
@law
@given(batches=st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=12))
def test_masked_batches_are_as_if_they_had_never_been(backend, rule, kind, batches):
    """With NaN in every masked batch, each state equals, bit for bit, that of the stream without those batches."""
    like = make([0.0, 0.0], backend)
    state, plain, average = rule.init(like), rule.init(like), None
    for number, kept in batches:
        value = make([number, -number] if kept else [np.nan, np.nan], backend)
        state, output = rule.step(state, value, where=mask(kind, kept, backend))
        if kept:
            plain, average = rule.step(plain, value)
        assert same_bits(parts(state, backend), parts(plain, backend))
        if average is not None:
            assert to_numpy(output, backend).tolist() == to_numpy(average, backend).tolist()


@rules
@kinds
def test_true_is_the_same_as_no_mask(backend, rule, kind):
    """A mask that is true changes nothing, in no bit of state or output."""
    value = make([1.0, 3.0], backend)
    masked = plain = rule.init(value)
    for _ in range(5):
        masked, output = rule.step(masked, value, where=mask(kind, True, backend))
        plain, expected = rule.step(plain, value)
        assert same_bits(parts(masked, backend), parts(plain, backend))
        assert np.array_equal(to_numpy(output, backend), to_numpy(expected, backend))


@kinds
def test_masked_before_the_first_update(backend, kind):
    """Before the first update a masked step gives the value, or init; the next value is still the first."""
    no, first, second = mask(kind, False, backend), make(4.0, backend), make(8.0, backend)
    for rule, expected in ((ms.ema(0.5), 4.0), (ms.ema(0.5, init=1.0), 1.0), (ms.sma(2), 4.0)):
        state = rule.init(first)
        masked, output = rule.step(state, first, where=no)
        assert float(output) == expected
        assert same_bits(parts(masked, backend), parts(state, backend))
        assert float(rule.step(masked, second)[1]) == (1.0 if expected == 1.0 else 8.0)


@kinds
def test_the_counter_stays(backend, kind):
    """Where false, the counter stays too: the next decay is that of the updates that were made."""
    alpha = ms.piecewise_constant(0.0, {1: 0.5, 2: 1.0})
    rule, counts = ms.ema(alpha), []
    state = rule.init(make(0.0, backend))
    for value, kept in ((8.0, True), (9.0, False), (4.0, True), (9.0, False), (100.0, True)):
        state, output = rule.step(state, make(value, backend), where=mask(kind, kept, backend))
        counts.append(int(state.count))
    assert counts == [1, 1, 2, 2, 3]
    assert float(output) == 6.0  # 8 * 0.5 + 4 * 0.5, then a decay of 1


@kinds
@law
@given(batches=st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=20), n=st.integers(1, 5))
def test_a_masked_window_is_of_the_kept_values(backend, kind, batches, n):
    """The simple average is the mean of the last n values that were not masked, by a direct sum."""
    rule, kept = ms.sma(n), []
    state = rule.init(make(0.0, backend))
    for number, keep in batches:
        state, output = rule.step(state, make(number, backend), where=mask(kind, keep, backend))
        kept += [number] if keep else []
        if kept:
            assert ulps(to_numpy(output, backend), sma_reference(kept, n), max(map(abs, kept[-n:]))) <= 4
        assert int(state.count) == len(kept)


@pytest.mark.parametrize("wrong", [0, 1, 1.0, "yes", np.int64(1), [True], np.array([True, False]), np.array(1)])
@rules
def test_what_is_no_boolean_scalar_is_an_error(rule, wrong):
    """A mask must be a boolean scalar: numbers, lists and arrays of masks are errors, and the state stays."""
    value = np.array([1.0, 2.0], np.float32)
    state, _ = rule.step(rule.init(value), value)
    before = parts(state, "numpy")
    with pytest.raises(ms.errors.MaskError, match="where must be a boolean scalar"):
        rule.step(state, value, where=wrong)
    assert same_bits(parts(state, "numpy"), before)
