"""Law 9: counters are int32, count one by one, and stop at 2**31 - 1 instead of wrapping around."""

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law, variables
from hypothesis import example, given
from hypothesis import strategies as st

import multisched as ms

LARGEST = 2**31 - 1
COUNTING = {
    "ema with decay_min": ms.ema(0.75, decay_min=True),
    "ema of a schedule": ms.ema(ms.piecewise_constant(0.5, {LARGEST - 1: 0.25, LARGEST: 0.75})),
    "ema with debias": ms.ema(ms.piecewise_constant(0.5, {LARGEST: 0.75}), debias=True, decay_min=True),
    "sma": ms.sma(3),
    "swa": ms.swa(),
}
counting = pytest.mark.parametrize("rule", list(COUNTING.values()), ids=list(COUNTING))
starts = st.one_of(st.integers(LARGEST - 4, LARGEST), st.integers(0, LARGEST))


def at_count(rule, count, backend):
    """A state of `rule` after updates, whose counter was set to `count`."""
    value = make([1.0, 2.0], backend)
    state = rule.init(value)
    for _ in range(4):
        state, _ = rule.step(state, value)
    return state._replace(count=make(count, backend, "int32"))


# --- pure ------------------------------------------------------------------------------------------------------------
@counting
@law
@given(start=starts, kept=st.lists(st.sampled_from([None, True, False, "array"]), min_size=1, max_size=6))
@example(start=LARGEST - 1, kept=[None, None, None])
@example(start=LARGEST - 2, kept=["array"] * 4)
def test_a_pure_counter_stops(backend, rule, start, kept):
    """From any count, each update that is not masked adds one, up to the largest int32, where it stays."""
    state, expected = at_count(rule, start, backend), start
    for where in kept:
        mask = make(True, backend, "bool") if where == "array" else where
        state, output = rule.step(state, make([3.0, 4.0], backend), where=mask)
        expected = expected if where is False else min(expected + 1, LARGEST)
        count = to_numpy(state.count, backend)
        assert (count.dtype, count.shape, int(count)) == (np.int32, (), expected)
        assert np.isfinite(to_numpy(output, backend)).all()


def test_averages_at_the_end_of_the_counter(backend):
    """At the largest count each rule goes on by its formula: f(2**31 - 1), a full window, a divisor of 2**31."""
    value = make([5.0, 9.0], backend)
    for name, expected in {
        "ema with decay_min": [1 + 4 * 0.25, 2 + 7 * 0.25],
        "ema of a schedule": [1 + 4 * 0.25, 2 + 7 * 0.25],
        "sma": [(1 + 1 + 5) / 3, (2 + 2 + 9) / 3],
        "swa": [1 + 4 / 2**31, 2 + 7 / 2**31],
    }.items():
        for _ in range(2):  # not only when it arrives there
            _, output = COUNTING[name].step(at_count(COUNTING[name], LARGEST, backend), value)
            assert ulps(to_numpy(output, backend), expected, [5.0, 9.0]) <= 4, name


@pytest.mark.parametrize("start", [0, LARGEST - 2])
def test_a_compiled_counter_stops(start):
    """Under `jax.jit` and `jax.lax.scan` a counter counts and stops just so, and keeps its dtype."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    for rule in COUNTING.values():
        state = at_count(rule, start, "jax")
        state, _ = jax.jit(lambda state, values, rule=rule: jax.lax.scan(rule.step, state, values))(
            state, jax.numpy.ones((5, 2))
        )
        assert (state.count.dtype, int(state.count)) == (np.int32, min(start + 5, LARGEST))


@pytest.mark.parametrize("patience", [2, LARGEST, 2**40])
def test_the_counters_of_a_plateau_stop(backend, patience):
    """Updates without an improvement are counted up to the largest int32, too, and never wrap below zero."""
    rule = ms.plateau(1.0, factor=0.5, patience=patience, cooldown=0 if patience == 2 else 2**40)
    bad = make(1.0, backend)
    state, _ = rule.step(rule.init(bad), make(0.0, backend))
    state = state._replace(bad=make(min(patience, LARGEST) - 1, backend, "int32"))
    counts, rates = [], []
    for _ in range(3):
        state, rate = rule.step(state, bad)
        counts.append(int(state.bad))
        rates.append(float(rate))
    falls = patience < LARGEST  # a patience that the counter cannot exceed is never exhausted
    assert counts == ([patience, 0, 1] if falls else [LARGEST] * 3)
    assert rates == ([1.0, 0.5, 0.5] if falls else [1.0] * 3)


# --- declared --------------------------------------------------------------------------------------------------------
def declare_all():
    """A function whose updates hold every kind of counter there is."""
    value = ms.Placeholder((2,))
    outputs = [ms.PiecewiseConstant(0.0, {LARGEST - 1: 1, LARGEST: 2})]
    outputs += [ms.declare(rule, value)[0] for rule in COUNTING.values()]
    return ms.function(value, outputs=outputs, updates=ms.get_updates())


def test_declared_counters_stop(backend):
    """Variables named "step" and "count" are int32, count the calls, and stop at the largest int32."""
    f = declare_all()
    counters = [v for v in ms.get_variables() if v.name in ("step", "count")]
    assert {v.dtype for v in counters} == {"int32"}
    assert len(counters) == 1 + len(COUNTING)
    for start in (0, 255, 2**16, LARGEST - 3, LARGEST - 1, LARGEST):
        for counter in counters:
            counter.update(start)
        outputs = [f([1.0, 2.0], device_get=True)[0] for _ in range(3)]
        steps = [min(start + k, LARGEST) for k in range(4)]
        found = {p: a for p, a in variables(backend).items() if p.rpartition("/")[2] in ("step", "count")}
        assert {(a.dtype.name, int(a)) for a in found.values()} == {("int32", steps[3])}
        assert outputs == [{LARGEST: 2.0, LARGEST - 1: 1.0}.get(step, 0.0) for step in steps[:3]]


def test_counters_of_a_pure_function_stop(backend):
    """The counters in the state of `f.pure` stop as well."""
    f = declare_all()
    state = f.state
    counters = [p for p in state if p.rpartition("/")[2] in ("step", "count")]
    state |= {p: make(LARGEST - 1, backend, "int32") for p in counters}
    for _ in range(3):
        _, state = f.pure(state, [1.0, 2.0])
    assert {int(state[p]) for p in counters} == {LARGEST}
    assert {to_numpy(state[p], backend).dtype.name for p in counters} == {"int32"}


def test_advance_stops(backend):
    """`advance` of a schedule at the end of its counter gives the last value for ever."""
    lr = ms.declare(ms.piecewise_constant(0.0, {LARGEST: 1, LARGEST + 1: 2}))
    lr.counter.update(LARGEST - 1)
    assert [float(lr.advance()) for _ in range(4)] == [0.0, 1.0, 1.0, 1.0]
    assert int(lr.counter.value) == LARGEST


def test_a_masked_declared_counter_stays(backend):
    """With `where=` false a declared counter stays where it is, at its end and before."""
    go = ms.Placeholder((), "bool")
    lr = ms.PiecewiseConstant(0.0, {LARGEST: 1}, where=go)
    f = ms.function(go, outputs=lr, updates=ms.get_updates())
    lr.counter.update(LARGEST - 1)
    assert [float(f(flag)) for flag in (False, True, False, True, True)] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert int(lr.counter.value) == LARGEST
