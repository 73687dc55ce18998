"""Paced averages: a copy before some call, and an update at each of so many, wherever the rule runs."""

import pickle

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import stream
from helpers_rules import state_bits

import multisched as ms
from multisched import errors

VALUES = [1.5, -0.25, 3.0, -1.0, 2.5, 0.5, 8.0, 0.125, -6.0, 1.0, 4.0, -2.0, 0.75]
INNER = {
    "ema": ms.ema(0.75),
    "debias": ms.ema(0.75, debias=True),
    "decay_min": ms.ema(0.9, decay_min=True),
    "schedule": ms.ema(ms.piecewise_constant(0.5, {2: 0.25}), debias=True),
    "swa": ms.swa(),
    "power_ema": ms.power_ema(gamma=2),
}
PACES = [(0, 1), (0, 3), (4, 1), (3, 2), (100, 5)]
inner = pytest.mark.parametrize("rule", INNER.values(), ids=INNER)
paces = pytest.mark.parametrize(("start", "every"), PACES)
RULE = ms.paced(ms.ema(0.75, debias=True), start=2, every=3)


def expected(rule, start, every, values, backend):
    """The averages, by a loop around the rule's own `step`, which knows of no pace."""
    arrays = [make(value, backend) for value in values]
    state, average, found = rule.init(arrays[0]), None, []
    for call, array in enumerate(arrays):
        if call < start:
            average = array
        elif (call - start) % every == 0:
            state, average = rule.step(state, array)
        found.append(to_numpy(average, backend))
    return np.stack(found)


# --- the law ---------------------------------------------------------------------------------------------------------
@inner
@paces
def test_it_is_the_loop(backend, rule, start, every):
    """A copy before `start`; then the rule, by itself, over each `every`-th value, and nothing between."""
    outputs, state = stream(ms.paced(rule, start=start, every=every), VALUES, backend)
    assert ulps(np.stack(outputs), expected(rule, start, every, VALUES, backend), 8.0) <= 4 * len(VALUES)
    assert int(to_numpy(state.count, backend)) == len(VALUES)


def test_copies_are_exact_and_pauses_leave_all_alone(backend):
    """To the bit, the average is the value before `start`, and what it was between updates, at infinite values too."""
    values = [0.1, np.inf, 1 / 3, 7.7, np.inf, np.nan, 0.3]
    outputs, _ = stream(ms.paced(ms.ema(0.9), start=3, every=3), values, backend)
    found = [float(output) for output in outputs]
    single = [float(np.float32(value)) for value in values]
    assert found[:6] == [*single[:4], single[3], single[3]]
    assert np.isfinite(found[6])


def test_a_pace_of_a_pace(backend):
    """The calls of the one inside are the updates of the one outside."""
    nested = ms.paced(ms.paced(ms.swa(), start=1, every=2), start=1, every=2)
    outputs, _ = stream(nested, VALUES, backend)
    inside, _ = stream(ms.paced(ms.swa(), start=1, every=2), VALUES[1::2], backend)
    assert [float(o) for o in outputs[1::2]] == [float(o) for o in inside]


def test_a_masked_call_does_not_count(backend):
    """Where the mask is false, a boolean or an array, the state stays to the bit, and the next call takes its turn."""
    kept = [True, True, False, True, False, False, True, True, True, False, True, True, True]
    plain, _ = stream(RULE, [value for value, keep in zip(VALUES, kept, strict=True) if keep], backend)
    for masked in (list, lambda masks: [make(mask, backend, "bool") for mask in masks]):
        state, outputs = RULE.init(make(0.0, backend)), []
        for value, keep, mask in zip(VALUES, kept, masked(kept), strict=True):
            before = state_bits(state, backend)
            state, output = RULE.step(state, make(value, backend), where=mask)
            if keep:
                outputs.append(float(output))
            else:
                assert state_bits(state, backend) == before
                assert float(output) == outputs[-1]
        assert outputs == [float(o) for o in plain]


def test_reading_before_the_first_call(backend):
    """Before the first call the average read is the value given; after it, the average."""
    state = RULE.init(make(0.0, backend))
    assert float(RULE.read(state, make(5.0, backend))) == 5.0
    state, _ = RULE.step(state, make(2.0, backend))
    assert float(RULE.read(state, make(5.0, backend))) == 2.0


@pytest.mark.parametrize("dtype", ["int32", "bfloat16", "float32", "float64", "complex64"])
def test_dtypes(backend, dtype):
    """The state is at least float32, the weight real, and its form a fixed point of the update; outputs as values."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    value = make([1, 2], backend, dtype)
    state = RULE.init(value)
    form = [(d, s) for d, s, _ in state_bits(state, backend)]
    for _ in range(4):
        state, output = RULE.step(state, value)
        assert [(d, s) for d, s, _ in state_bits(state, backend)] == form
    held = {"int32": "float32", "bfloat16": "float32"}.get(dtype, dtype)
    assert form == [(held, (2,)), ("int32", ()), ("float64" if held == "float64" else "float32", ())]
    assert to_numpy(output, backend).dtype.name == ("float32" if dtype == "int32" else dtype)
    assert to_numpy(output, backend).tolist() == [1, 2]


def test_the_counter_stops(backend):
    """At the largest int32 the count of calls stays, and the average goes on or waits as it falls."""
    rule, largest = ms.paced(ms.swa(), start=1, every=2), 2**31 - 1
    value = make([5.0, 9.0], backend)
    state = rule.init(value)._replace(mean=make([1.0, 2.0], backend), count=make(largest - 1, backend, "int32"))
    for _ in range(3):
        state, output = rule.step(state, value)
    assert int(to_numpy(state.count, backend)) == largest
    assert ulps(to_numpy(output, backend), [1 + 8 / 2**30, 2 + 14 / 2**30], 9.0) <= 4


# --- declared --------------------------------------------------------------------------------------------------------
@inner
def test_declared_it_is_the_rule(backend, rule):
    """Declared, it gives the averages of the pure rule, and `fixed` the one before each."""
    paced = ms.paced(rule, start=3, every=2)
    pure = [float(o) for o in stream(paced, VALUES, backend)[0]]
    x = ms.Placeholder(())
    latest, fixed = ms.declare(paced, x)
    assert [v.name for v in latest.variables] == ["average", "count", "weight"]
    f = ms.function(x, outputs=(latest, fixed), updates=ms.get_updates())
    found = np.array([[float(o) for o in f(value, device_get=True)] for value in VALUES])
    assert ulps(np.float32(found[:, 0]), pure, 8.0) <= 4 * len(VALUES)
    assert found[1:, 1].tolist() == found[:-1, 0].tolist()


def test_declared_it_is_saved_and_loaded(backend, tmp_path):
    """Saved between two updates and loaded, it goes on as if nothing had been, to the bit."""
    x = ms.Placeholder(())
    average, _ = ms.declare(RULE, x)
    f = ms.function(x, outputs=average, updates=ms.get_updates())
    for value in VALUES[:6]:
        f(value)
    ms.save_variables(tmp_path / "state")
    unbroken = [float(f(value)) for value in VALUES[6:]]
    ms.reset_variables()
    ms.load_variables(tmp_path / "state")
    assert [float(f(value)) for value in VALUES[6:]] == unbroken


# --- inside compilers ------------------------------------------------------------------------------------------------
def test_in_a_scan_and_jitted_once(jax):
    """`jax.lax.scan(rule.step, ...)` gives the loop's averages; `jax.jit` traces it once."""
    jnp, traces = jax.numpy, []
    alone = np.stack(stream(RULE, VALUES, "jax")[0])
    _, scanned = jax.lax.scan(RULE.step, RULE.init(jnp.float32(0)), jnp.asarray(VALUES, jnp.float32))
    step = jax.jit(lambda state, value: (traces.append(1), RULE.step(state, value))[1])
    state, found = RULE.init(jnp.float32(0)), []
    for value in VALUES:
        state, output = step(state, jnp.float32(value))
        found.append(output)
    assert ulps(np.asarray(scanned), alone, 8.0) <= 4
    assert ulps(np.stack(found), alone, 8.0) <= 4
    assert len(traces) == 1


def test_compiled_by_torch(torch):
    """`torch.compile(rule.step, fullgraph=True)` gives the averages of the loop."""
    step = torch.compile(RULE.step, fullgraph=True, backend="eager")
    state, found = RULE.init(torch.tensor(0.0)), []
    for value in VALUES:
        state, output = step(state, torch.tensor(value))
        found.append(float(output))
    assert found == [float(o) for o in stream(RULE, VALUES, "torch")[0]]


def test_the_gradient_is_the_share(jax):
    """An output depends on its value by its share, also where that is 0, and through the state not at all."""
    state = RULE.init(jax.numpy.float32(0))
    weight = 0.0
    for count, value in enumerate(VALUES):
        share, weight = RULE.share(count, weight)
        gradient = jax.grad(lambda v, state=state: RULE.step(state, v)[1])(jax.numpy.float32(value))
        assert ulps(np.asarray(gradient), share, 1.0) <= 4
        state, _ = RULE.step(state, jax.numpy.float32(value))


# --- plain data, and what is none ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ms.paced(ms.ema(0.999), start=100, every=10), "paced(ema(0.999), start=100, every=10)"),
        (ms.paced(ms.swa(), every=np.int64(4)), "paced(swa(), every=4)"),
        (ms.paced(ms.power_ema(0.1), 7), "paced(power_ema(0.1), start=7)"),
        (ms.paced(ms.paced(ms.swa())), "paced(paced(swa()))"),
    ],
)
def test_it_is_plain_data(rule, text):
    """It prints what builds it, equal by value and hash, pickled and back."""
    assert repr(rule) == text
    for same in (eval(text, vars(ms).copy()), pickle.loads(pickle.dumps(rule))):
        assert (same, hash(same)) == (rule, hash(rule))
    assert rule != ms.paced(ms.swa(), start=1)


@pytest.mark.parametrize("rule", [ms.sma(3), ms.plateau(1.0), ms.constant(0.1), 0.9, None, ms.ema])
def test_a_rule_that_cannot_be_paced(rule):
    """A rule that is no mean of one share, or no rule, is an error that says which can be."""
    with pytest.raises(errors.NotARule, match=r"ema\(0\.9\), got"):
        ms.paced(rule)


@pytest.mark.parametrize("rule", [ms.ema(0.9, init=1.0), ms.ema([0.5, 0.25])])
def test_a_rule_that_has_no_share(rule):
    """`init`, or a decay for each element, is found when the rule is made, not at its first update."""
    with pytest.raises(errors.RuleError, match="paced"):
        ms.paced(rule)


@pytest.mark.parametrize("start", [-1, 1.0, "1", True, None, 2**31])
def test_a_start_that_is_none(start):
    """Negative, no integer, or beyond the counter."""
    with pytest.raises(errors.StepCountError, match="start must be a whole number of calls, from 0"):
        ms.paced(ms.swa(), start=start)


@pytest.mark.parametrize("every", [0, -1, 2.0, "2", True, None, 2**31])
def test_an_every_that_is_none(every):
    """Zero, negative, no integer, or beyond the counter."""
    with pytest.raises(errors.StepCountError, match="every must be a whole number of calls, from 1"):
        ms.paced(ms.swa(), every=every)
