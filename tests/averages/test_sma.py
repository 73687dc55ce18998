"""The moving average over a window as plain data, and inside the compilers of the frameworks."""

import copy
import pickle

import numpy as np
import pytest
from helpers import make, sma_reference, to_numpy, ulps
from helpers_laws import law, stream, streams
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

VALUES = [1.0, 2.0, 6.0, 3.0, -4.0, 8.0]


@law
@given(given_values=streams, n=st.integers(1, 12))
def test_it_is_the_mean_of_the_last_n(backend, given_values, n):
    """Each output is the direct mean of the last n values, or of all while they are fewer, at their largest."""
    for t, output in enumerate(stream(ms.sma(n), given_values, backend)[0], start=1):
        window = given_values[max(0, t - n) : t]
        assert ulps(output, sma_reference(window, n), max(map(abs, window))) <= 4, f"update {t}"


def test_a_window_of_one_is_the_value(backend):
    """With n = 1 every output is the latest value, to the bit."""
    assert [float(x) for x in stream(ms.sma(1), [0.1, 0.7, -3.3], backend)[0]] == np.float32([0.1, 0.7, -3.3]).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_with_the_window(backend, bad):
    """A NaN or an infinity spoils the n averages that contain it, and no more."""
    outputs = stream(ms.sma(3), [1.0, 2.0, bad, 4.0, 5.0, 6.0, 7.0], backend)[0]
    assert [bool(np.isfinite(x)) for x in outputs] == [True, True, False, False, False, True, True]
    assert [float(x) for x in outputs[5:]] == [5.0, 6.0]


def test_a_large_value_leaves_nothing_behind(backend):
    """The sum is computed afresh: after 2**60 has left the window the averages are exact again."""
    outputs = stream(ms.sma(2), [1.0, 2.0**60, 1.0, 2.0, 3.0], backend)[0]
    assert [float(x) for x in outputs[3:]] == [1.5, 2.5]


def test_the_state_holds_the_window(backend):
    """`state.last` has the values of the window, oldest first, and zeros where none was seen; `count` counts."""
    _, state = stream(ms.sma(4), [[1.0, 2.0], [3.0, 4.0]], backend)
    assert to_numpy(state.last, backend).tolist() == [[0, 0], [0, 0], [1, 2], [3, 4]]
    assert int(state.count) == 2


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 1, 1)])
def test_every_shape(backend, shape):
    """Values of any shape, empty ones too, average element by element."""
    values = [np.arange(float(np.prod(shape))).reshape(shape) + k for k in range(4)]
    output = stream(ms.sma(2), values, backend)[0][-1]
    assert output.shape == shape
    assert output.tolist() == ((values[2] + values[3]) / 2).tolist()


def test_it_is_plain_data():
    """A rule is its expression, equal by value, hashable, and survives copies and pickling."""
    rule = ms.sma(3)
    assert repr(rule) == "sma(3)"
    assert eval(repr(rule), vars(ms)) == rule == ms.sma(np.int64(3)) != ms.sma(4)
    assert len({rule, ms.sma(3), ms.sma(np.int8(3)), ms.ema(0.5), ms.swa()}) == 3
    for copied in (pickle.loads(pickle.dumps(rule)), copy.copy(rule), copy.deepcopy(rule)):
        assert (copied, hash(copied), repr(copied)) == (rule, hash(rule), "sma(3)")


def test_a_rule_cannot_be_changed():
    """Attributes of a rule cannot be set: it is hashed by them."""
    with pytest.raises(AttributeError):
        ms.sma(3).n = 4


# --- inside compilers ------------------------------------------------------------------------------------------------
def expected(n):
    return [sma_reference(VALUES[: t + 1], n) for t in range(len(VALUES))]


def test_it_scans():
    """`jax.lax.scan(rule.step, state, values)` gives the stream, compiled or not."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    rule, values = ms.sma(3), jax.numpy.asarray(VALUES)
    state, outputs = jax.lax.scan(rule.step, rule.init(values[0]), values)
    assert ulps(np.asarray(outputs), expected(3), 8.0) <= 4
    assert (np.asarray(state.last).tolist(), int(state.count)) == (VALUES[-3:], len(VALUES))
    compiled = jax.jit(lambda s, v: jax.lax.scan(rule.step, s, v)[1])(rule.init(values[0]), values)
    assert ulps(np.asarray(compiled), expected(3), 8.0) <= 4


def test_a_rule_is_a_static_argument():
    """An equal rule as a static argument of `jax.jit` does not compile again."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    traces = []

    def step(rule, state, value):
        traces.append(rule)
        return rule.step(state, value)

    compiled, value = jax.jit(step, static_argnums=0), jax.numpy.float32(1)
    state = ms.sma(3).init(value)
    for _ in range(5):
        state, _ = compiled(ms.sma(3), state, value)
    assert len(traces) == 1


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_it_maps(framework):
    """Under `vmap` each row has the average that it would have alone, and a state of its own."""
    module = pytest.importorskip(framework, reason=f"{framework} is not installed")
    vmap = module.vmap if framework == "jax" else module.func.vmap
    rows = np.float32([VALUES, VALUES[::-1]])
    rule, columns = ms.sma(3), [make(column, framework) for column in rows.T]
    state = vmap(rule.init)(columns[0])
    for t, column in enumerate(columns):
        state, outputs = vmap(rule.step)(state, column)
        alone = [sma_reference(row[: t + 1].tolist(), 3) for row in rows]
        assert ulps(to_numpy(outputs, framework), alone, 8.0) <= 4
