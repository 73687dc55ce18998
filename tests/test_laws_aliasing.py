"""Law 8 for pure rules: nothing shares memory, nothing given is written, and no state carries a gradient."""

from itertools import combinations

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law, parts, same_bits, shares_memory, values
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

RULES = {
    "ema": ms.ema(0.75),
    "ema with init": ms.ema(0.75, init=[2.0, 3.0]),
    "ema with decay_min": ms.ema(0.75, decay_min=True),
    "ema with debias": ms.ema(0.75, debias=True),
    "ema of a schedule": ms.ema(ms.piecewise_constant(0.5, {1: 0.25}), debias=True),
    "ema of an array": ms.ema([0.5, 0.25], debias=True),
    "ema that keeps the first": ms.ema(1.0),
    "ema that keeps the last": ms.ema(0.0),
    "sma": ms.sma(3),
    "sma of one": ms.sma(1),
    "swa": ms.swa(),
    "plateau": ms.plateau(0.5, factor=0.5, patience=0),
}
AVERAGES = {name: rule for name, rule in RULES.items() if name != "plateau"}
WHERE = {
    "no mask": lambda backend: None,
    "False": lambda backend: False,
    "an array": lambda backend: make(True, backend, "bool"),
}
rules = pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
averages = pytest.mark.parametrize("rule", list(AVERAGES.values()), ids=list(AVERAGES))
masks = pytest.mark.parametrize("where", list(WHERE.values()), ids=list(WHERE))


def arrays_of(what, state):
    """The arrays of a state, with names for a message."""
    return {f"{what}.{f}": a for f, a in zip(state._fields, state, strict=True) if not isinstance(a, tuple)}


def shared(arrays):
    """The pairs among named arrays that share memory."""
    return [(a, b) for a, b in combinations(arrays, 2) if shares_memory(arrays[a], arrays[b])]


# --- memory ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("updates", [0, 2])
@rules
@masks
def test_what_a_step_takes_and_gives_is_apart(backend, rule, where, updates, dtype):
    """Value, old state, new state and output of a step share no memory, nor do the parts of a state."""
    if dtype == "int32" and rule == RULES["plateau"]:
        dtype = "float64" if ms.get_backend(backend).supports("float64") else "float32"  # a metric is no integer
    value = make([1, 2], backend, dtype)
    state = rule.init(value)
    for _ in range(updates):
        state, _ = rule.step(state, make([3, 4], backend, dtype))
    new, output = rule.step(state, value, where=where(backend))
    everything = {"value": value, "output": output, **arrays_of("old", state), **arrays_of("new", new)}
    assert shared(everything) == []


@rules
@pytest.mark.parametrize("updates", [0, 2])
def test_what_is_read_is_apart(backend, rule, updates):
    """`read` gives an array of its own: neither the value nor a part of the state."""
    value = make([1.0, 2.0], backend)
    state = rule.init(value)
    for _ in range(updates):
        state, _ = rule.step(state, make([3.0, 4.0], backend))
    assert shared({"value": value, "read": rule.read(state, value), **arrays_of("state", state)}) == []


@rules
def test_a_first_state_is_apart(backend, rule):
    """Two states from one value share memory neither with it nor with each other."""
    value = make([1.0, 2.0], backend)
    first, second = rule.init(value), rule.init(value)
    assert shared({"value": value, **arrays_of("first", first), **arrays_of("second", second)}) == []


@pytest.mark.parametrize(
    "rule",
    [
        ms.piecewise_constant([1.0, 2.0], {2: [3.0, 4.0]}),
        ms.piecewise_constant([1.0, 2.0], {}),
        ms.piecewise_constant(1.0, {}),
        ms.constant(1.0),
        abs(ms.from_function(lambda step: step)),
        ms.from_function(lambda step: step),
        ms.from_function(lambda step: step) + ms.constant(0.0),
    ],
    ids=["arrays", "no keys", "a number", "constant", "abs", "the step itself", "sum"],
)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_the_values_of_a_schedule_are_apart(backend, rule, dtype):
    """A schedule's values share memory neither with the steps, nor with those of another call, nor with its numbers."""
    steps = make([0, 1, 2], backend, dtype)
    named = {"steps": steps, "first": rule(steps), "second": rule(steps)}
    assert shared(named) == []
    frozen = np.array([7.0, 8.0])
    by_array = ms.piecewise_constant(frozen, {})
    frozen[:] = 9.0
    assert by_array(0).tolist() == [7.0, 8.0]


# --- what is given is not written ------------------------------------------------------------------------------------
@rules
@law
@given(batches=st.lists(st.tuples(values, values, st.sampled_from(list(WHERE))), min_size=1, max_size=4))
def test_a_step_writes_into_nothing_that_it_is_given(backend, rule, batches):
    """Value, mask and old state have the same bits after a step as before it."""
    state = rule.init(make(batches[0][:2], backend))
    for *numbers, where in batches:
        value, mask = make(numbers, backend), WHERE[where](backend)
        before, flag = parts(state, backend), None if mask is None else bool(mask)
        new, _ = rule.step(state, value, where=mask)
        rule.read(state, value)
        assert same_bits(parts(state, backend), before)
        assert to_numpy(value, backend).tolist() == numbers
        assert flag is None or bool(mask) == flag
        state = new


@rules
def test_steps_on_read_only_arrays(rule):
    """Values and states that NumPy would not let anyone write are as good as others, and give the same."""
    value = np.array([1.0, 2.0], np.float32)
    plain = frozen = rule.init(value)
    locked = value.copy()
    locked.setflags(write=False)
    for _ in range(3):
        for part in frozen:
            if isinstance(part, np.ndarray):
                part.setflags(write=False)
        plain, expected = rule.step(plain, value)
        frozen, output = rule.step(frozen, locked)
        assert output.tolist() == expected.tolist()
        assert same_bits(parts(frozen, "numpy"), parts(plain, "numpy"))


@rules
def test_an_output_may_be_written(backend, rule):
    """Writing into an output, where arrays can be written, changes neither the state nor what comes after."""
    value = make([1.0, 2.0], backend)
    state, output = rule.step(rule.init(value), value)
    before = parts(state, backend)
    _, expected = rule.step(state, make([5.0, 6.0], backend))
    expected = to_numpy(expected, backend)
    if backend in ("numpy", "torch"):
        output[...] = 99.0
        value[...] = 99.0
    assert same_bits(parts(state, backend), before)
    assert to_numpy(rule.step(state, make([5.0, 6.0], backend))[1], backend).tolist() == expected.tolist()


def test_a_state_may_be_donated():
    """On JAX a caller may give a state away to a compiled step; outputs and values from before stay readable."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    for rule in RULES.values():
        value = jax.numpy.asarray([1.0, 2.0], "float32")
        state, output = rule.step(rule.init(value), value)
        expected = np.array(output).tolist()
        jax.jit(rule.step, donate_argnums=0)(state, value)
        assert np.array(output).tolist() == expected
        assert np.array(value).tolist() == [1.0, 2.0]


# --- gradients -------------------------------------------------------------------------------------------------------
# What the latest value weighs in the average at updates 0, 1 and 2: the derivative of the output by its value.
WEIGHTS = {
    "ema": [1, 0.25, 0.25],
    "ema with init": [0, 0.25, 0.25],
    "ema with decay_min": [1, 9 / 11, 9 / 12],
    "ema with debias": [1, 0.25 / (1 - 0.75**2), 0.25 / (1 - 0.75**3)],
    "ema of a schedule": [1, 0.75 / (1 - 0.5 * 0.25), 0.75 / (1 - 0.5 * 0.25**2)],
    "ema of an array": [1, [0.5 / (1 - 0.5**2), 0.75 / (1 - 0.25**2)], [0.5 / (1 - 0.5**3), 0.75 / (1 - 0.25**3)]],
    "ema that keeps the first": [1, 0, 0],
    "ema that keeps the last": [1, 1, 1],
    "sma": [1, 1 / 2, 1 / 3],
    "sma of one": [1, 1, 1],
    "swa": [1, 1 / 2, 1 / 3],
}
weighed = pytest.mark.parametrize(
    ("rule", "weights"), [(AVERAGES[name], w) for name, w in WEIGHTS.items()], ids=list(WEIGHTS)
)


@pytest.mark.parametrize("mask", [None, True, "traced"])
@weighed
def test_torch_outputs_are_differentiable_in_the_latest_value_alone(rule, weights, mask):
    """Backward from an output reaches the value of its update, with its weight, and no value before."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    given_values = [torch.tensor([1.0, 2.0], requires_grad=True) for _ in weights]
    where = torch.tensor(True) if mask == "traced" else mask
    state = rule.init(given_values[0])
    for t, value in enumerate(given_values):
        state, output = rule.step(state, value, where=where)
        assert not any(part.requires_grad for part in state if not isinstance(part, tuple))
        if output.requires_grad:
            output.sum().backward()
        assert ulps(np.float32(_grad(value)), np.broadcast_to(weights[t], 2), 1.0) <= 4, f"update {t}"
    assert all(np.isfinite(v.grad.numpy()).all() for v in given_values if v.grad is not None)
    assert ulps(np.float32(_grad(given_values[0])), np.broadcast_to(weights[0], 2), 1.0) <= 4  # nothing came later


def _grad(value):
    return np.zeros(2) if value.grad is None else value.grad.numpy()


@pytest.mark.parametrize("jit", [False, True])
@weighed
def test_jax_outputs_are_differentiable_in_the_latest_value_alone(rule, weights, jit):
    """`jax.grad` of the last output gives the weight of the last value, and zero for those before."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")

    def last(given_values):
        state = rule.init(given_values[0])
        for value in given_values:
            state, output = rule.step(state, value, where=jax.numpy.asarray(True))
        return output.sum()

    gradient = jax.jit(jax.grad(last)) if jit else jax.grad(last)
    for t, weight in enumerate(weights):
        got = np.asarray(gradient(jax.numpy.asarray([[1.0, 2.0]] * (t + 1))))
        assert got[:t].tolist() == [[0.0, 0.0]] * t
        assert ulps(got[t], np.broadcast_to(weight, 2), 1.0) <= 4, f"update {t}"


@pytest.mark.parametrize("rule", [AVERAGES["ema"], AVERAGES["sma"], AVERAGES["swa"]], ids=["ema", "sma", "swa"])
def test_no_gradient_comes_of_a_state_that_has_one(rule):
    """A state that a user made of differentiable tensors gives a next state without gradient all the same."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    value = torch.tensor([1.0, 2.0])
    state, _ = rule.step(rule.init(value), value)
    made = [p.clone().requires_grad_() if p.is_floating_point() else p for p in state if not isinstance(p, tuple)]
    parts_of = iter(made)
    state = type(state)(*(p if isinstance(p, tuple) else next(parts_of) for p in state))
    for where in (None, True, False, torch.tensor(True), torch.tensor(False)):
        new, _ = rule.step(state, value, where=where)
        assert not any(p.requires_grad for p in new if not isinstance(p, tuple)), where


@averages
def test_a_masked_value_has_no_gradient(rule):
    """Where the mask is false, after the first update, the output does not depend on the value."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    first = torch.tensor([1.0, 2.0])
    state, _ = rule.step(rule.init(first), first)
    for where in (False, torch.tensor(False)):
        value = torch.tensor([3.0, 4.0], requires_grad=True)
        _, output = rule.step(state, value, where=where)
        if output.requires_grad:
            output.sum().backward()
        assert _grad(value).tolist() == [0.0, 0.0]
