"""Masks with times, and masks of the shape of the value: nothing is lost, and each element counts for itself."""

import math
import pickle

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from helpers_rules import stream
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.averages import TimedEmaState

RULES = [
    ms.ema(0.75),
    ms.ema(0.75, init=2.0),
    ms.ema([0.5, 0.75, 0.25]),
    ms.ema(0.75, debias=True),
    ms.ema(0.75, decay_min=True),
    ms.ema(ms.piecewise_constant(0.5, {2: 0.25, 4: 0.75})),
    ms.swa(),
    ms.power_ema(0.1),
    ms.sma(3),
    ms.paced(ms.ema(0.5), start=1, every=2),
]
elements = st.lists(
    st.tuples(*[st.tuples(st.sampled_from([1.0, -2.0, 0.5, math.nan]), st.booleans())] * 3), min_size=1, max_size=6
)


def each(rule, number):
    """The rule of one element."""
    alpha = getattr(rule, "alpha", None)
    return ms.ema(float(alpha.array[number])) if hasattr(alpha, "array") else rule


@pytest.mark.parametrize("rule", RULES, ids=repr)
@law
@given(given=elements)
def test_each_element_is_averaged_by_itself(rule, given):
    """A masked value, and one for all, gives each element what the rule gives a stream of that element alone."""
    values = [np.asarray([value if known else math.nan for value, known in row]) for row in given]
    masks = [np.asarray([known for _, known in row]) for row in given]
    with np.errstate(all="ignore"):
        outputs = stream(rule, values, "numpy", "float64", {"elementwise": True}, where=masks)
        for i in range(3):
            alone = [value[i] for value in values], [bool(mask[i]) for mask in masks]
            expected = stream(each(rule, i), alone[0], "numpy", "float64", where=alone[1])
            np.testing.assert_allclose([output[i] for output in outputs], expected, rtol=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_masks_of_each_backend(backend, rule):
    """The same, on each backend, and jitted where it can be; a mask for all elements is as good."""
    values = [np.asarray([1.0, math.nan, -2.0]), np.asarray([3.0, 4.0, math.nan]), np.asarray([0.5, 1.5, 2.5])]
    masks = [~np.isnan(value) for value in values]
    expected = stream(rule, values, "numpy", "float32", {"elementwise": True}, where=masks)
    on_device = [make(mask, backend, "bool") for mask in masks]
    outputs = stream(rule, values, backend, "float32", {"elementwise": True}, where=on_device)
    np.testing.assert_allclose(np.stack(outputs), np.stack(expected), rtol=1e-5)
    state = rule.init(make(values[2], backend), elementwise=True)
    state, _ = rule.step(state, make(values[2], backend), where=make(True, backend, "bool"))
    kept, output = rule.step(state, make(values[0], backend), where=False)
    np.testing.assert_array_equal(
        to_numpy(output, backend), to_numpy(rule.read(state, make(values[2], backend)), backend)
    )
    assert [np.shape(part) for part in kept] == [np.shape(part) for part in state]


def test_a_mask_for_each_element_needs_a_count_for_each(backend):
    """Of a state with one count it is an error that names the argument; so is a mask of another shape."""
    value, mask = make([1.0, 2.0], backend), make([True, False], backend, "bool")
    rule = ms.ema(0.5)
    with pytest.raises(errors.MaskError, match=r"elementwise=True"):
        rule.step(rule.init(value), value, where=mask)
    with pytest.raises(errors.MaskError, match="boolean scalar"):
        rule.step(rule.init(value, elementwise=True), value, where=make([True] * 3, backend, "bool"))
    with pytest.raises(errors.MaskError):
        rule.step(rule.init(value, elementwise=True), value, where=make([1.0, 0.0], backend))


# --- times -----------------------------------------------------------------------------------------------------------
moments = st.lists(
    st.tuples(st.sampled_from([1.0, -2.0, 0.5]), st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 3.0, math.inf, None])),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("rule", RULES[:6], ids=repr)
@law
@given(moments=moments)
def test_time_under_a_mask_is_not_lost(rule, moments):
    """A masked stream with times is the stream of what counts, each with the time since the value before it."""
    values = [np.asarray([value] * 3) for value, _, _ in moments]
    where = [known for _, known, _ in moments]
    outputs = stream(rule, values, "numpy", "float64", {"times": True}, where=where, dt=[dt for *_, dt in moments])
    state, waited = rule.init(values[0]), 0.0
    for (_, known, dt), value, output in zip(moments, values, outputs, strict=True):
        waited += (1.0 if known else 0.0) if dt is None else dt
        if known:
            state, right = rule.step(state, value, dt=waited)
            waited = 0.0
        else:
            right = rule.read(state, value)
        np.testing.assert_allclose(output, right, rtol=1e-13)


def test_it_is_kept_on_the_device(backend):
    """With masks and times that are arrays, and elements that count for themselves."""
    value, rule = np.asarray([8.0, 4.0]), ms.ema(halflife=1.0)
    state = rule.init(make(value, backend), elementwise=True, times=True)
    state, _ = rule.step(state, make(value, backend), dt=make(1.0, backend))
    state, _ = rule.step(state, make(value, backend), where=make([True, False], backend, "bool"), dt=make(2.0, backend))
    assert to_numpy(state.pending, backend).tolist() == [0.0, 2.0]
    state, output = rule.step(state, make([0.0, 0.0], backend), where=make(True, backend, "bool"), dt=1)
    assert ulps(to_numpy(output, backend), [4.0, 0.5]) <= 4
    assert to_numpy(state.pending, backend).tolist() == [0.0, 0.0]


def test_a_state_without_a_place_for_it_refuses(backend):
    """`dt` with a mask, or `times` of a rule without times, is an error that names the argument."""
    value = make(1.0, backend)
    for where in (True, False, make(True, backend, "bool")):
        with pytest.raises(errors.MaskError, match="times=True"):
            ms.ema(0.5).step(ms.ema(0.5).init(value), value, where=where, dt=1.0)
    for rule in (ms.swa(), ms.sma(2), ms.paced(ms.ema(0.5))):
        with pytest.raises(errors.TimeStepError, match="takes no times"):
            rule.init(value, times=True)


def test_other_states_have_no_place_for_it():
    """A state has the fields that it always had, unless `times=True` asks for one more, in a class of its own."""
    state = ms.ema(0.5).init(np.float32(0))
    assert state._fields == ("mean", "first_step", "count", "weight")
    timed = ms.ema(0.5).init(np.float32(0), times=True)
    assert (type(timed), timed._fields) == (TimedEmaState, (*state._fields, "pending"))
    again = pickle.loads(pickle.dumps(timed))
    assert type(again) is TimedEmaState
    assert ms.ema(0.5).step(again, np.float32(3.0), dt=2.0)[1] == 3.0
