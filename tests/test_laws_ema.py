"""Law 4: the exponential moving average, pure and declared, with `init`, `decay_min` and every kind of `alpha`."""

import math

import numpy as np
import pytest
from helpers import EmaReference, make, to_numpy, ulps
from helpers_laws import alphas, declared_stream, law, memory_of, stream, streams, values
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

FORMS = ("pure", "declared")


def latest(form, backend, given_values, alpha, init=None, decay_min=False):
    """The averages over a stream of scalars, of a pure rule or a declared one."""
    if form == "pure":
        return stream(ms.ema(alpha, init, decay_min), given_values, backend)[0]
    return declared_stream(lambda x: ms.ExponentialMovingAverage(x, alpha, init, decay_min)[0], given_values)


def assert_follows(outputs, reference, given_values, alpha, init=0.0):
    """Each output is within 4 units times law 12's factor of the formula, at the largest value so far."""
    for t, (output, value) in enumerate(zip(outputs, given_values, strict=True), start=1):
        largest = max(abs(x) for x in (*given_values[:t], init))
        assert ulps(output, reference.step(value), largest, dtype="float32") <= 4 * memory_of(t, alpha), f"update {t}"


# --- the formula -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
@law
@given(alpha=alphas, given_values=streams, init=st.none() | values, decay_min=st.booleans())
def test_the_formula(backend, form, alpha, given_values, init, decay_min):
    """v(0) is value(0), or init; v(t) = v(t-1) * alpha + value(t) * (1 - alpha), with the least decay if asked for."""
    outputs = latest(form, backend, given_values, alpha, init, decay_min)
    assert_follows(outputs, EmaReference(alpha, init, decay_min), given_values, alpha, init or 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_init_is_the_average_at_update_0(backend, form):
    """With `init` the average at update 0 is init itself, whatever the first value; from update 1 on values count."""
    assert [float(x) for x in latest(form, backend, [1000.0, 6.0, 6.0], 0.5, init=2.0)] == [2.0, 4.0, 5.0]
    assert [float(x) for x in latest(form, backend, [1000.0, 6.0], 0.0, init=2.0)] == [2.0, 6.0]
    assert [float(x) for x in latest(form, backend, [1000.0, 6.0], 0.5, init=0)] == [0.0, 3.0]


@pytest.mark.parametrize("form", FORMS)
def test_init_may_be_an_array(backend, form):
    """`init` of the value's shape starts each element from its own."""
    init = np.array([1.0, 2.0])
    given_values = [np.array([9.0, 9.0]), np.array([5.0, 4.0])]
    assert np.stack(latest(form, backend, given_values, 0.5, init)).tolist() == [[1, 2], [3, 3]]


def test_init_may_be_a_declared_tensor(backend):
    """A declared average may start from what a variable holds at the first update."""
    start, value = ms.Variable([1.0, 2.0], name="start"), ms.Placeholder((2,))
    average, fixed = ms.ExponentialMovingAverage(value, 0.5, init=start)
    f = ms.function(value, outputs=(fixed, average), updates=ms.get_updates())
    start.update([3.0, 4.0])
    assert [x.tolist() for x in f([9.0, 9.0], device_get=True)] == [[3, 4], [3, 4]]
    start.update([100.0, 100.0])
    assert [x.tolist() for x in f([5.0, 8.0], device_get=True)] == [[3, 4], [4, 6]]


# --- decay_min -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
def test_decay_min_is_the_smaller_of_two_decays(backend, form):
    """At update n the decay is min(alpha, (1 + n) / (10 + n)): by the direct formula, past where alpha takes over."""
    given_values = [float(n % 7) for n in range(40)]
    v, expected = given_values[0], [given_values[0]]
    for n in range(1, 40):
        decay = min(0.7, (1 + n) / (10 + n))  # they meet at n = 20
        v = v * decay + given_values[n] * (1 - decay)
        expected.append(v)
    outputs = latest(form, backend, given_values, 0.7, decay_min=True)
    assert ulps(np.stack(outputs), expected, 6.0) <= 4 * memory_of(40, 0.7)


@pytest.mark.parametrize("form", FORMS)
def test_decay_min_does_nothing_to_a_small_alpha(backend, form):
    """An alpha below 1/10 is always the smaller decay."""
    given_values = [1.0, 5.0, 2.0, 8.0]
    with_it = latest(form, backend, given_values, 0.0625, decay_min=True)
    assert with_it == latest(form, backend, given_values, 0.0625)


# --- alpha -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
@law
@given(data=st.data(), alpha=st.lists(alphas, min_size=2, max_size=2), decay_min=st.booleans())
def test_alpha_as_an_array(backend, form, data, alpha, decay_min):
    """An array of decays gives each element the average that its own decay alone would."""
    given_values = data.draw(st.lists(st.lists(values, min_size=2, max_size=2), min_size=1, max_size=12))
    outputs = latest(form, backend, [np.array(v) for v in given_values], np.array(alpha), decay_min=decay_min)
    for i, own in enumerate(alpha):
        column = [v[i] for v in given_values]
        assert_follows([o[i] for o in outputs], EmaReference(own, decay_min=decay_min), column, own)


@pytest.mark.parametrize("form", FORMS)
@law
@given(data=st.data(), given_values=streams, init=st.none() | values, decay_min=st.booleans())
def test_alpha_as_a_schedule(backend, form, data, given_values, init, decay_min):
    """A schedule is the decay at each update, counted from 0."""
    first, second, third = (float(np.float32(data.draw(alphas))) for _ in range(3))
    changes = {data.draw(st.integers(0, 4)): second, data.draw(st.integers(5, 9)): third}
    alpha = ms.piecewise_constant(first, changes)
    outputs = latest(form, backend, given_values, alpha, init, decay_min)
    reference = EmaReference(lambda n: alpha(n), init, decay_min)
    assert_follows(outputs, reference, given_values, max(first, second, third), init or 0.0)


def test_the_first_decay_of_a_schedule_meets_no_value(backend):
    """At update 0 there is no old value, so the decay of update 1 is the first that matters, and it is f(1)."""
    alpha = ms.piecewise_constant(0.0, {1: 0.5, 2: 0.25})
    assert [float(x) for x in stream(ms.ema(alpha), [8.0, 4.0, 2.0], backend)[0]] == [8.0, 6.0, 3.0]


def test_alpha_as_a_declared_tensor(backend):
    """Alpha may be a variable, an expression, or a declared schedule with a clock of its own."""
    value = ms.Placeholder((2,))
    decay = ms.Variable(0.5, name="decay")
    clock = ms.PiecewiseConstant(0.0, {1: 0.5, 2: 0.25})
    by_variable, _ = ms.ExponentialMovingAverage(value, 1 - decay)
    by_clock, _ = ms.ExponentialMovingAverage(value, clock, decay_min=True)
    f = ms.function(value, outputs=(by_variable, by_clock), updates=ms.get_updates())
    first, second = f([8.0, 16.0], device_get=True), f([4.0, 8.0], device_get=True)
    assert [x.tolist() for x in first] == [[8, 16], [8, 16]]
    assert second[0].tolist() == [6, 12]
    assert ulps(second[1], [8 * 2 / 11 + 4 * 9 / 11, 16 * 2 / 11 + 8 * 9 / 11], [8, 16]) <= 4
    decay.update(1.0)
    assert f([2.0, 4.0], device_get=True)[0].tolist() == [2, 4]


def test_alpha_as_a_placeholder(backend):
    """Alpha may be an input of the function."""
    value, alpha = ms.Placeholder((), name="value"), ms.Placeholder((), name="alpha")
    average, _ = ms.ExponentialMovingAverage(value, alpha)
    f = ms.function(value, alpha, outputs=average, updates=ms.get_updates())
    assert [float(f(8.0, 0.5)), float(f(4.0, 0.5)), float(f(2.0, 0.0))] == [8.0, 6.0, 2.0]


# --- latest and fixed ------------------------------------------------------------------------------------------------
@law
@given(alpha=alphas, given_values=streams, init=st.none() | values)
def test_fixed_is_the_average_before_the_latest(backend, alpha, given_values, init):
    """`fixed` at each update is `latest` of the update before, to the bit; at first `init`, or the value given."""
    pairs = declared_stream(lambda x: ms.ExponentialMovingAverage(x, alpha, init), given_values)
    assert pairs[0][1] == np.float32(given_values[0] if init is None else init)
    assert [p[1] for p in pairs[1:]] == [p[0] for p in pairs[:-1]]


@law
@given(given_values=streams, n=st.integers(1, 9))
def test_fixed_of_a_simple_average(backend, given_values, n):
    """The same holds for `SimpleMovingAverage`, which has no init."""
    pairs = declared_stream(lambda x: ms.SimpleMovingAverage(x, n), given_values)
    assert pairs[0][1] == np.float32(given_values[0])
    assert [p[1] for p in pairs[1:]] == [p[0] for p in pairs[:-1]]


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_fixed_without_the_placeholder(backend, dtype):
    """In a function that is not given the value, `fixed` is NaN before the first update, or init; then the average."""
    value = ms.Placeholder((), dtype)
    _, fixed = ms.ExponentialMovingAverage(value, 0.5)
    _, started = ms.ExponentialMovingAverage(value, 0.5, init=3.0)
    _, simple = ms.SimpleMovingAverage(value, 2)
    look = ms.function(outputs=(fixed, started, simple))
    update = ms.function(value, updates=ms.get_updates())
    before = [float(x) for x in look()]
    assert (math.isnan(before[0]), before[1], math.isnan(before[2])) == (True, 3.0, True)
    update(np.array(4, dtype))
    update(np.array(6, dtype))
    assert [float(x) for x in look()] == [5.0, 4.5, 5.0]


def test_a_value_that_is_a_variable(backend):
    """The average of a variable follows its values, of each call the one before the updates of that call."""
    w = ms.Variable(8.0, name="w")
    average, fixed = ms.ExponentialMovingAverage(w, 0.5)
    f = ms.function(outputs=(w, average, fixed), updates={w: w - 4, **ms.get_updates()})
    assert float(fixed.value) == 8.0  # before the first update, the value now
    assert [tuple(map(float, f())) for _ in range(3)] == [(8.0, 8.0, 8.0), (4.0, 6.0, 8.0), (0.0, 3.0, 6.0)]


def test_an_average_of_an_average(backend):
    """Declared averages compose: the second sees the first one's latest at each update."""
    value = ms.Placeholder(())
    inner, _ = ms.ExponentialMovingAverage(value, 0.5)
    outer, _ = ms.SimpleMovingAverage(inner, 2)
    f = ms.function(value, outputs=(inner, outer), updates=ms.get_updates())
    assert [tuple(map(float, f(x))) for x in (8.0, 4.0, 0.0)] == [(8.0, 8.0), (6.0, 7.0), (3.0, 4.5)]


def test_read_is_the_average_so_far(backend):
    """`rule.read` gives the average that a state holds; before the first update the value, or init."""
    value = make(4.0, backend)
    for rule, first in ((ms.ema(0.5), 4.0), (ms.ema(0.5, init=1.0), 1.0), (ms.sma(3), 4.0)):
        state = rule.init(value)
        assert float(to_numpy(rule.read(state, value), backend)) == first
        state, output = rule.step(state, value)
        assert float(rule.read(state, make(100.0, backend))) == float(output) == first
