"""Laws 1 to 3 and 12 for schedules, pure and declared: the clock, the boundary, the ends, and agreement."""

import numpy as np
import pytest
from helpers import make, piecewise_reference, to_numpy, ulps
from helpers_laws import law, shuffled, steps_and_values, values, variables
from hypothesis import example, given
from hypothesis import strategies as st

import multisched as ms

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
INT32_MAX = 2**31 - 1


# --- law 1: the clock ------------------------------------------------------------------------------------------------
@law
@given(init=values, changes=steps_and_values, updates=st.integers(1, 24))
def test_the_value_at_update_k_is_that_of_step_k(backend, init, changes, updates):
    """A declared schedule gives f(0), f(1), f(2), ... at its updates, from a function and from `advance` alike."""
    expected = [np.float32(piecewise_reference(init, changes)(k)) for k in range(updates)]
    with ms.Graph("clock"):
        first, second = ms.PiecewiseConstant(init, changes), ms.declare(ms.piecewise_constant(init, changes))
        f = ms.function(outputs=first, updates=ms.get_updates(variables=[first.counter]))
        assert [f(device_get=True) for _ in range(updates)] == expected
        assert [to_numpy(second.advance(), backend) for _ in range(updates)] == expected
        assert int(first.counter.value) == int(second.counter.value) == updates


def test_constructing_reading_and_printing_change_nothing(backend):
    """Only an update moves a clock: not declaring, `.value`, `repr`, listing, nor a function without updates."""
    lr = ms.PiecewiseConstant(0.5, {1: 1, 2: 2})
    lr.advance()
    before = variables(backend)
    look = ms.function(outputs=lr)
    for _ in range(3):
        assert float(lr.value) == float(look()) == 1.0
        assert "name=identity" in repr(lr)
        assert lr.rule(7) == 2.0
        ms.get_ops()
        ms.get_updates()
    scaled = 2 * lr  # declared of the same clock
    other = ms.PiecewiseConstant(0.5, {1: 1})
    assert float(ms.function(outputs=scaled)()) == 2.0
    assert {path: int(a) for path, a in variables(backend).items()} == {
        **{path: int(a) for path, a in before.items()},
        other.counter.path: 0,
    }


def test_advance_moves_its_own_clock_alone(backend):
    """`advance` returns the value for this update, then applies the update of this schedule and no other."""
    first, second = ms.PiecewiseConstant(0.0, {1: 1, 2: 2}), ms.PiecewiseConstant(0.0, {1: 1})
    assert [float(first.advance()) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert float(second.value) == 0.0
    assert (int(first.counter.value), int(second.counter.value)) == (3, 0)


def test_a_clock_that_is_reset_starts_again(backend):
    """`reset` brings a schedule back to its value at 0."""
    lr = ms.PiecewiseConstant(0.0, {1: 1})
    lr.advance()
    assert float(lr.value) == 1.0
    ms.reset_variables()
    assert [float(lr.advance()), float(lr.advance())] == [0.0, 1.0]


# --- law 2: the boundary ---------------------------------------------------------------------------------------------
@law
@given(init=values, data=st.data(), changes=steps_and_values)
def test_the_new_value_rules_at_its_key(backend, init, data, changes):
    """Just before a key the old value holds, at it the new one; the order of the keys means nothing."""
    mixed = data.draw(shuffled(changes))
    rule = ms.piecewise_constant(init, mixed)
    assert rule == ms.piecewise_constant(init, changes)
    expected = piecewise_reference(init, changes)
    for key in changes:
        around = [max(key - 1, 0), key, key + 1]
        assert [rule(step) for step in around] == [expected(step) for step in around]
        if 0 < key < INT32_MAX:
            steps = make([key - 1, key, key + 1], backend, "int32")
            wanted = np.float32([expected(key - 1), expected(key), expected(key + 1)])
            assert to_numpy(rule(steps), backend).tolist() == wanted.tolist()


@law
@given(st.data())
def test_the_values_may_be_arrays_of_one_shape(backend, data):
    """The value at steps of shape `s` has the shape `s + value_shape`, each element that of its own schedule."""
    shape = data.draw(st.sampled_from([(2,), (1,), (2, 3), (0,)]))
    array = st.lists(values, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    changes = data.draw(st.dictionaries(st.integers(0, 9), array, max_size=3))
    init = data.draw(array)
    shaped = {key: np.reshape(value, shape) for key, value in changes.items()}
    rule = ms.piecewise_constant(np.reshape(init, shape), shaped)
    at = [piecewise_reference(i, {k: v[n] for k, v in changes.items()}) for n, i in enumerate(init)]
    steps = np.arange(12).reshape(3, 4)
    expected = np.float32([[f(int(s)) for f in at] for s in steps.flat]).reshape(*steps.shape, *shape)
    result = to_numpy(rule(make(steps, backend, "int32")), backend)
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    assert np.array_equal(result, expected)
    assert np.array_equal(rule(3), np.reshape([f(3) for f in at], shape))
    with ms.Graph("arrays"):
        declared = ms.declare(rule)
        got = [to_numpy(declared.advance(), backend) for _ in range(3)]
        assert np.array_equal(got, expected.reshape(12, *shape)[:3])


# --- law 3: the ends -------------------------------------------------------------------------------------------------
@law
@given(init=values, changes=steps_and_values)
@example(init=1.0, changes={0: 2.0})
def test_before_0_and_far_after_the_ends_hold(backend, init, changes):
    """Negative steps have the value at 0; steps past the last key have its value, up to the largest integer."""
    rule, expected = ms.piecewise_constant(init, changes), piecewise_reference(init, changes)
    assert rule(-1) == rule(-(10**30)) == rule(0) == expected(0)
    assert rule(10**30) == rule(2**70) == expected(2**70)
    steps = make([-(2**31), -1, 0, INT32_MAX], backend, "int32")
    wanted = np.float32([expected(0), expected(0), expected(0), expected(INT32_MAX)])
    assert to_numpy(rule(steps), backend).tolist() == wanted.tolist()


def test_array_values_hold_far_after_the_end():
    """A schedule of arrays, too, has a value at any Python int, however large."""
    rule = ms.piecewise_constant([1.0, 2.0], {4: [3.0, 4.0]})
    assert [rule(step).tolist() for step in (-(2**70), 2**63 - 1, 2**63, 2**70)] == [[1, 2], [3, 4], [3, 4], [3, 4]]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_steps_of_every_integer_dtype(backend, dtype):
    """Steps of any integer dtype are exact up to its largest, with keys that it cannot even hold."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    changes = {4: 1.0, 127: 2.0, 128: 3.0, 255: 4.0, 256: 5.0, 65536: 6.0, INT32_MAX: 7.0, 2**31: 8.0, 2**63: 9.0}
    rule, expected = ms.piecewise_constant(0.5, changes), piecewise_reference(0.5, changes)
    largest = np.iinfo(dtype).max
    steps = [s for s in (0, 3, 4, 5, 127, 128, 255, 256, 65535, 65536, INT32_MAX - 1, INT32_MAX) if s <= largest]
    steps.append(largest)
    result = to_numpy(rule(make(np.array(steps, dtype=dtype), backend, dtype)), backend)
    assert (result.dtype, result.tolist()) == (np.float32, [expected(step) for step in steps])


@pytest.mark.parametrize("scalar", [np.int64, np.int8, np.uint8, np.int32, np.uint64, np.float32, np.float64])
def test_steps_that_are_numpy_scalars(scalar):
    """A NumPy scalar counts as a 0-d array; keys beyond its dtype are never reached."""
    rule = ms.piecewise_constant(0.5, {4: 1.0, 300: 2.0, 2**40: 3.0})
    assert [float(rule(scalar(step))) for step in (0, 3, 4, 100)] == [0.5, 0.5, 1.0, 1.0]
    assert np.shape(rule(scalar(3))) == ()
    assert rule(scalar(3)).dtype == (np.float64 if scalar is np.float64 else np.float32)


def test_the_last_value_holds_at_the_end_of_the_counter(backend):
    """At the counter's maximum a declared schedule holds its last value, and stays there."""
    lr = ms.PiecewiseConstant(0.0, {INT32_MAX - 1: 1, INT32_MAX: 2, INT32_MAX + 1: 3})
    lr.counter.update(INT32_MAX - 2)
    assert [float(lr.advance()) for _ in range(5)] == [0.0, 1.0, 2.0, 2.0, 2.0]


# --- law 12: agreement -----------------------------------------------------------------------------------------------
@law
@given(init=values, changes=steps_and_values, steps=st.lists(st.integers(-5, 400), min_size=1, max_size=20))
@example(init=0.1, changes={4: 1, 8: 2}, steps=list(range(10)))
def test_a_schedule_agrees_with_plain_python_at_every_step(backend, init, changes, steps):
    """On arrays of any backend a schedule is within 4 units of float32 of the same formula in double precision."""
    expected = [piecewise_reference(init, changes)(max(step, 0)) for step in steps]
    rule = ms.piecewise_constant(init, changes)
    assert [rule(step) for step in steps] == expected
    result = to_numpy(rule(make(steps, backend, "int32")), backend)
    assert result.dtype == np.float32
    assert ulps(result, expected) <= 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_floating_steps_give_values_in_their_dtype(backend, dtype):
    """Steps in a floating dtype give values in that dtype; between keys a value holds; no key is too large."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    rule = ms.piecewise_constant(0.1, {4: 1, 8: 2, 2**17: 3, 2**40: 4, 2**200: 5})
    result = rule(make([0.0, 3.5, 4.0, 7.75, 8.0, 1000.0], backend, dtype))
    host = to_numpy(result, backend)
    assert host.dtype.name == dtype
    assert host.tolist() == np.array([0.1, 0.1, 1, 1, 2, 2]).astype(host.dtype).tolist()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_declared_schedule_has_the_dtype_asked_for(backend, dtype):
    """`dtype=` is that of the value, at every step; the counter stays int32."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    lr = ms.PiecewiseConstant(0.1, {2: 0.3}, dtype=dtype)
    assert (lr.dtype, lr.counter.dtype) == (dtype, "int32")
    got = [to_numpy(lr.advance(), backend) for _ in range(3)]
    assert {g.dtype.name for g in got} == {dtype}
    assert [float(g) for g in got] == [float(np.array(x).astype(got[0].dtype)) for x in (0.1, 0.1, 0.3)]
