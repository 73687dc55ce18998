"""The exponential moving average as a pure rule: the documented numbers, plain data, and inside compilers."""

import copy
import pickle

import numpy as np
import pytest
from helpers import DOCUMENTED_EMA, EmaReference, documented_inputs, make, to_numpy, ulps
from helpers_laws import stream

import multisched as ms
from multisched import errors

VALUES = [1.0, 2.0, 6.0, 3.0, -4.0, 8.0]
RULES = {
    "ema(0.9)": ms.ema(0.9),
    "ema(0.9, init=2.0)": ms.ema(0.9, init=2.0),
    "ema(0.9, decay_min=True)": ms.ema(0.9, None, True),
    "ema(0.9, init=1, decay_min=True, debias=True)": ms.ema(0.9, 1, True, True),
    "ema([0.5, 0.25])": ms.ema(np.array([0.5, 0.25])),
    "ema(0.5, init=[1.0, 2.0])": ms.ema(0.5, init=np.float32([1, 2])),
    "ema(piecewise_constant(0.5, {2: 0.25}), debias=True)": ms.ema(ms.piecewise_constant(0.5, {2: 0.25}), debias=True),
}
rules = pytest.mark.parametrize(("text", "rule"), list(RULES.items()), ids=list(RULES))


# --- numbers ---------------------------------------------------------------------------------------------------------
def test_the_documented_numbers(backend):
    """The pure rule gives the 25 documented outputs, each within 4 units in the last place of float32."""
    inputs = documented_inputs()
    outputs = stream(ms.ema(0.9), inputs, backend)[0]
    assert ulps(np.stack(outputs), DOCUMENTED_EMA, np.abs(inputs)) <= 4


@pytest.mark.parametrize("given", [np.float64([0.5, 0.25]), np.float32([0.5, 0.25]), [0.5, 0.25], (0.5, 0.25)])
def test_alpha_in_any_form_of_an_array(backend, given):
    """NumPy arrays, lists and tuples of decays make equal rules, each element with its own decay."""
    assert ms.ema(given) == ms.ema([0.5, 0.25])
    outputs = stream(ms.ema(given), [[8.0, 8.0], [4.0, 4.0], [0.0, 16.0]], backend)[0]
    assert [o.tolist() for o in outputs] == [[8.0, 8.0], [6.0, 5.0], [3.0, 13.25]]


def test_alpha_of_the_backend(backend):
    """An array of the backend as alpha or init is taken as the plain data it holds."""
    by_array = ms.ema(make([0.5, 0.25], backend), init=make([1.0, 2.0], backend))
    assert by_array == ms.ema([0.5, 0.25], init=[1.0, 2.0])


def test_alpha_broadcasts_to_the_value_and_no_further(backend):
    """A row of decays serves a matrix of values; one that is larger than the value is an error at `init`."""
    outputs = stream(ms.ema([0.5, 0.25]), [np.full((2, 2), 8.0), np.full((2, 2), 4.0)], backend)[0]
    assert outputs[1].tolist() == [[6.0, 5.0], [6.0, 5.0]]
    with pytest.raises(errors.DecayError, match=r"\(\).*shape \(2,\)"):
        ms.ema([0.5, 0.25]).init(make(1.0, backend))
    with pytest.raises(errors.DecayError, match=r"\(3,\).*shape \(2,\)"):
        ms.ema([0.5, 0.25]).init(make([1.0, 2.0, 3.0], backend))


def test_an_array_that_is_changed_later_changes_no_rule():
    """A rule keeps a copy of the array that it was given."""
    alpha, init = np.array([0.5, 0.25]), np.array([1.0, 2.0])
    rule = ms.ema(alpha, init=init)
    alpha[:] = init[:] = 0.0
    assert rule == ms.ema([0.5, 0.25], init=[1.0, 2.0])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, np.nan, np.inf, "half", None, 1j, [0.5, 2.0], [0.5, np.nan]])
def test_an_alpha_that_is_none(alpha):
    """A decay outside [0, 1], in any element, or of no real number, is an error when the rule is made."""
    with pytest.raises(errors.DecayError):
        ms.ema(alpha)


@pytest.mark.parametrize("constant", [0.1, 1 / 3, -7.7, 1e-3, 12345.678])
@pytest.mark.parametrize("alpha", [0.1, 0.9, 0.999])
def test_the_average_of_a_constant_is_that_constant(backend, alpha, constant):
    """To the bit, at every step, without debias as well as with it: nothing drifts."""
    for rule in (ms.ema(alpha), ms.ema(alpha, debias=True), ms.ema(alpha, decay_min=True)):
        outputs = stream(rule, [constant] * 20, backend)[0]
        assert {float(o) for o in outputs} == {float(np.float32(constant))}


# --- plain data ------------------------------------------------------------------------------------------------------
@rules
def test_it_is_plain_data(text, rule):
    """`repr` is the expression that builds it; it is equal by value and hash, copied, and pickled."""
    assert repr(rule) == text
    for same in (eval(text, vars(ms)), pickle.loads(pickle.dumps(rule)), copy.copy(rule), copy.deepcopy(rule)):
        assert (same, hash(same), repr(same)) == (rule, hash(rule), text)
    assert [other for other in RULES.values() if other == rule] == [rule]


def test_rules_cannot_be_changed():
    """Neither an attribute of a rule nor an array in it can be written: it is hashed by them."""
    rule = ms.ema([0.5, 0.25])
    with pytest.raises(AttributeError):
        rule.debias = True
    with pytest.raises(ValueError, match="read-only"):
        rule.alpha.array[0] = 1.0


# --- inside compilers ------------------------------------------------------------------------------------------------
def expected(rule, values=VALUES):
    """The outputs of a rule of scalar decays in double precision."""
    reference = EmaReference(rule.alpha, rule.start, rule.decay_min, rule.debias)
    return [reference.step(value) for value in values]


SCALAR = [rule for text, rule in RULES.items() if "[" not in text]


@pytest.mark.parametrize("rule", SCALAR, ids=repr)
def test_it_scans(rule):
    """`jax.lax.scan(rule.step, state, values)` gives the stream; inside `jax.jit` too, with the same state."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    values = jax.numpy.asarray(VALUES)
    for scan in (jax.lax.scan, jax.jit(jax.lax.scan, static_argnums=0)):
        state, outputs = scan(rule.step, rule.init(values[0]), values)
        assert ulps(np.asarray(outputs), expected(rule), 8.0) <= 4 * len(VALUES)
        assert np.asarray(state.mean) == np.asarray(outputs)[-1]


@pytest.mark.parametrize("rule", SCALAR, ids=repr)
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_it_maps(framework, rule):
    """Under `vmap` each row has the average that it would have alone."""
    module = pytest.importorskip(framework, reason=f"{framework} is not installed")
    vmap = module.vmap if framework == "jax" else module.func.vmap
    rows = np.float32([VALUES, VALUES[::-1], np.negative(VALUES)])
    columns = [make(column, framework) for column in rows.T]
    alone = [expected(rule, row.tolist()) for row in rows]
    state = vmap(rule.init)(columns[0])
    for t, column in enumerate(columns):
        state, outputs = vmap(rule.step)(state, column)
        wanted = [row[t] for row in alone]
        assert ulps(to_numpy(outputs, framework), wanted, 8.0) <= 4 * (t + 1), f"update {t}"


def test_a_mask_that_is_mapped():
    """Under `vmap` each row may have a mask of its own."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    rule, first = ms.ema(0.5), jax.numpy.asarray([8.0, 8.0])
    state, _ = jax.vmap(rule.step)(jax.vmap(rule.init)(first), first)
    _, outputs = jax.vmap(rule.step)(state, jax.numpy.asarray([4.0, 4.0]), jax.numpy.asarray([True, False]))
    assert np.asarray(outputs).tolist() == [6.0, 8.0]


@pytest.mark.parametrize("rule", SCALAR, ids=repr)
def test_its_gradient_through_a_scan(rule):
    """`jax.grad` of the sum of a scan is the weight of each value in the average of its own update alone."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    values = jax.numpy.asarray(VALUES)
    gradient = jax.grad(lambda v: jax.lax.scan(rule.step, rule.init(v[0]), v)[1].sum())(values)
    weights = []
    for t in range(len(VALUES)):  # by the difference that one unit of the latest value makes
        more = [*VALUES[:t], VALUES[t] + 1]
        weights.append(expected(rule, more)[-1] - expected(rule, VALUES[: t + 1])[-1])
    assert ulps(np.asarray(gradient), weights, 1.0) <= 4


@pytest.mark.parametrize("rule", SCALAR, ids=repr)
def test_it_is_traced_once(rule):
    """Twenty updates under `jax.jit` trace the step once: the state has the form that it came in."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    traces = []

    @jax.jit
    def step(state, value):
        traces.append(1)
        return rule.step(state, value)

    state, found = rule.init(jax.numpy.float32(0)), []
    for value in VALUES * 3:
        state, output = step(state, jax.numpy.float32(value))
        found.append(float(output))
    assert ulps(np.float32(found), expected(rule, VALUES * 3), 8.0) <= 4 * 10
    assert len(traces) == 1
