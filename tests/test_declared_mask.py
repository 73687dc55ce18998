"""Law 6 for what is declared: `where=` on every rule, from inputs, variables and Python's own bools."""

import numpy as np
import pytest
from helpers import to_numpy
from helpers_laws import law, same_bits, variables
from helpers_rules import SCHEDULES, STATISTICS, bits
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

STREAM = [([1.0, -2.0], True), ([9.0, 9.0], False), ([0.5, 3.0], True), ([0.25, 4.0], True), ([9.0, 9.0], False)] * 2
statistics = pytest.mark.parametrize("rule", STATISTICS.values(), ids=STATISTICS)
schedules = pytest.mark.parametrize("rule", SCHEDULES.values(), ids=SCHEDULES)


# --- masks, and how a function of them is called: `f(value, kept)` ----------------------------------------------------
def from_placeholder(declare):
    mask = ms.Placeholder((), "bool", name="kept")
    outputs = declare(mask)
    inputs = ms.get_placeholders(name="value")
    f = ms.function(*inputs, mask, outputs=outputs, updates=ms.get_updates())
    return lambda value, kept: f(*([value] if inputs else []), kept)


def from_variable(declare):
    mask = ms.Variable(True, name="kept", trainable=False)
    outputs = declare(mask)
    inputs = ms.get_placeholders(name="value")
    f = ms.function(*inputs, outputs=outputs, updates=ms.get_updates())

    def call(value, kept):
        mask.update(kept)
        return f(*([value] if inputs else []))

    return call


def from_expression(declare):
    number = ms.Placeholder((), "int32", name="number")
    outputs = declare((number > 2) & (number < 5))
    inputs = ms.get_placeholders(name="value")
    f = ms.function(*inputs, number, outputs=outputs, updates=ms.get_updates())
    return lambda value, kept: f(*([value] if inputs else []), 3 if kept else 7)


MASKS = {"placeholder": from_placeholder, "variable": from_variable, "expression": from_expression}
masks = pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)


def of_rule():
    """The variables that rules hold, without a mask's own."""
    return {path: array for path, array in variables_of_rules().items() if not path.endswith("/kept")}


def variables_of_rules():
    return {v.path: v.backend.to_numpy(v.value) for v in ms.get_variables()}


def average_of(rule, size=2):
    """Declares the average of an input with a mask."""
    return lambda mask: ms.declare(rule, ms.Placeholder((size,), name="value"), where=mask)


# --- statistics ------------------------------------------------------------------------------------------------------
@statistics
@masks
def test_masked_batches_are_as_if_they_had_never_been(backend, rule, masked):
    """With NaN in the masked batches, outputs and variables equal, bit for bit, those of the stream without them."""
    with ms.Graph("masked"):
        f, results, states = masked(average_of(rule)), [], []
        for value, kept in STREAM:
            outputs = f(value if kept else [np.nan, np.nan], kept)
            results.append(bits([to_numpy(o, backend) for o in outputs]))
            states.append(of_rule())
    with ms.Graph("plain"):
        g = masked_free(rule)
        for (value, kept), result, state in zip(STREAM, results, states, strict=True):
            if kept:
                expected = bits([to_numpy(o, backend) for o in g(value)])
                assert result == expected
            assert same_bits(state, of_rule())


def masked_free(rule):
    """The same declaration without a mask."""
    value = ms.Placeholder((2,), name="value")
    return ms.function(value, outputs=ms.declare(rule, value), updates=ms.get_updates())


@statistics
@masks
def test_a_masked_update_gives_the_average_so_far(backend, rule, masked):
    """In a masked update both outputs are the average so far, however the batch has been spoiled."""
    f = masked(average_of(rule))
    for value, kept in STREAM:
        if kept:
            latest, _ = f(value, True)
        else:
            before = of_rule()
            outputs = [to_numpy(o, backend) for o in f([np.nan, np.inf], False)]
            assert bits(outputs) == bits([to_numpy(latest, backend)] * 2)
            assert same_bits(of_rule(), before)


@law
@given(
    batches=st.lists(st.tuples(st.floats(-8, 8, width=16), st.booleans()), min_size=1, max_size=12), n=st.integers(1, 4)
)
def test_against_direct_sums(backend, batches, n):
    """Simple, uniform and debiased averages are those of the kept values, summed directly."""
    with ms.Graph("sums"):
        value, mask = ms.Placeholder(()), ms.Placeholder((), "bool")
        rules = (ms.sma(n), ms.swa(), ms.ema(0.5, debias=True))
        latest = [ms.declare(rule, value, where=mask)[0] for rule in rules]
        f = ms.function(value, mask, outputs=latest, updates=ms.get_updates())
        kept = []
        for number, keep in batches:
            outputs = [float(o) for o in f(number if keep else np.nan, keep)]
            kept += [number] if keep else []
            if kept:
                weights = 0.5 ** np.arange(len(kept))[::-1]
                expected = [np.mean(kept[-n:]), np.mean(kept), np.average(kept, weights=weights)]
                assert np.allclose(outputs, expected, rtol=0, atol=len(kept) * 4 * 2.0**-21)


@statistics
@pytest.mark.parametrize("flag", [True, False, np.True_, np.False_], ids=repr)
def test_a_bool_masks_every_update_or_none(backend, rule, flag):
    """`where=True` is no mask; `where=False` declares an average that never moves."""
    with ms.Graph("bool"):
        value = ms.Placeholder((2,), name="value")
        f = ms.function(value, outputs=ms.declare(rule, value, where=flag), updates=ms.get_updates())
        before = of_rule()
        results = [bits([to_numpy(o, backend) for o in f(v)]) for v, _ in STREAM[:4]]
        after = of_rule()
    with ms.Graph("plain"):
        g = masked_free(rule)
        if flag:
            assert results == [bits([to_numpy(o, backend) for o in g(v)]) for v, _ in STREAM[:4]]
            assert same_bits(after, of_rule())
        else:
            assert same_bits(after, before)


def test_the_documented_forms_take_it(backend):
    """`ExponentialMovingAverage`, `SimpleMovingAverage` and `PiecewiseConstant` take the mask that `declare` takes."""
    value, mask = ms.Placeholder(()), ms.Placeholder((), "bool")
    ema, _ = ms.ExponentialMovingAverage(value, 0.5, where=mask)
    sma, _ = ms.SimpleMovingAverage(value, 2, where=mask)
    lr = ms.PiecewiseConstant(1.0, {1: 2.0, 2: 3.0}, where=mask)
    f = ms.function(value, mask, outputs=(ema, sma, lr), updates=ms.get_updates())
    stream = [(4.0, True), (np.nan, False), (8.0, True), (np.nan, False), (2.0, True)]
    results = [tuple(map(float, f(*batch))) for batch in stream]
    assert results == [(4, 4, 1), (4, 4, 2), (6, 6, 2), (6, 6, 3), (4, 5, 3)]


def test_a_mask_from_the_value_itself(backend):
    """The usual case: batches that are not finite are skipped, as the batch itself tells."""
    value = ms.Placeholder((3,))
    xp = value.__array_namespace__()
    latest, fixed = ms.declare(ms.swa(), value, where=xp.all(xp.isfinite(value)))
    f = ms.function(value, outputs=(latest, fixed), updates=ms.get_updates())
    f([1.0, 2.0, 3.0])
    f([1.0, np.nan, 3.0])
    f([np.inf, 2.0, 3.0])
    assert to_numpy(f([3.0, 4.0, 5.0])[0], backend).tolist() == [2.0, 3.0, 4.0]
    assert [int(v.value) for v in ms.get_variables(name="count")] == [2]


# --- schedules -------------------------------------------------------------------------------------------------------
@schedules
@masks
def test_a_masked_schedule_stands_still(backend, rule, masked):
    """A masked update of a schedule gives the value of its step, and leaves its counter where it was."""
    f = masked(lambda mask: ms.declare(rule, where=mask))
    counter, count = ms.get_variables(name="step")[0], 0
    for kept in (True, False, False, True, True, False, True, True, True, False):
        output = to_numpy(f(None, kept), backend)
        assert np.allclose(output, rule(count), rtol=0, atol=2.0**-21)
        count += kept
        assert int(counter.value) == count


@schedules
@pytest.mark.parametrize("flag", [True, False, np.True_, np.False_], ids=repr)
def test_a_bool_lets_a_clock_run_or_stops_it(backend, rule, flag):
    """`where=True` is no mask, `where=False` declares a clock that never moves, for `advance` too."""
    lr = ms.declare(rule, where=flag)
    for _ in range(3):
        lr.advance()
    assert int(lr.counter.value) == (3 if flag else 0)


# --- what is no mask -------------------------------------------------------------------------------------------------
WRONG = {
    "0": lambda: 0,
    "1.0": lambda: 1.0,
    "a string": lambda: "yes",
    "a list": lambda: [True],
    "an array of masks": lambda: np.array([True, False]),
    "an array of an integer": lambda: np.array(1),
    "an integer placeholder": lambda: ms.Placeholder((), "int32", name="wrong"),
    "a float variable": lambda: ms.Variable(1.0, name="wrong"),
    "a placeholder of masks": lambda: ms.Placeholder((2,), "bool", name="wrong"),
}
DECLARE = {
    **{name: lambda wrong, rule=rule: average_of(rule)(wrong) for name, rule in STATISTICS.items()},
    **{name: lambda wrong, rule=rule: ms.declare(rule, where=wrong) for name, rule in SCHEDULES.items()},
    "PiecewiseConstant": lambda wrong: ms.PiecewiseConstant(0.1, {4: 1}, where=wrong),
    "ExponentialMovingAverage": lambda wrong: ms.ExponentialMovingAverage(ms.Placeholder(()), 0.5, where=wrong),
    "SimpleMovingAverage": lambda wrong: ms.SimpleMovingAverage(ms.Placeholder(()), 2, where=wrong),
}


EACH = {"an array of masks", "a placeholder of masks"}  # of the shape of the value
MISTAKES = [  # `plateau` counts for each metric by itself, and takes a mask for each
    pytest.param(declare, wrong, id=f"{rule}-{what}")
    for rule, declare in DECLARE.items()
    for what, wrong in WRONG.items()
    if not (rule == "plateau" and what in EACH)
]


def test_a_mask_for_each_metric():
    """Of several metrics, `plateau` counts those whose own mask is true."""
    metrics, masks = ms.Placeholder((2,), name="metrics"), ms.Placeholder((2,), "bool", name="masks")
    latest = ms.declare(ms.plateau(1.0, factor=0.5, patience=0), metrics, where=masks)[0]
    f = ms.function(metrics, masks, outputs=latest, updates=ms.get_updates())
    seen = [f([1.0, 1.0], mask).tolist() for mask in ([True, True], [True, False], [False, False], [False, True])]
    assert seen == [[1.0, 1.0], [0.5, 1.0], [0.5, 1.0], [0.5, 0.5]]


@pytest.mark.parametrize(("declare", "wrong"), MISTAKES)
def test_what_is_no_boolean_scalar_is_an_error(declare, wrong):
    """A mask that is no boolean scalar raises MaskError; no update is recorded, and every name is free again."""
    lr = ms.PiecewiseConstant(0.5, {1: 1}, backend="numpy")
    with ms.use_backend("numpy"):
        given_mask = wrong()
        before, updates = variables("numpy"), ms.get_updates()
        with pytest.raises(ms.errors.MaskError, match="where must be a boolean scalar"):
            declare(given_mask)
        assert same_bits({path: a for path, a in variables("numpy").items() if path in before}, before)
        assert ms.get_updates() == updates
        assert float(lr.value) == 0.5
        free = ms.Graph("like the one before")
        with free:
            expected = declare_path(declare)
        ms.current_graph().reset()
        with pytest.raises(ms.errors.MaskError):
            declare(wrong())
        assert declare_path(declare) == expected


def declare_path(declare):
    """The paths of the variables that a declaration makes."""
    made = declare(True)
    return [v.path for v in (made[0] if isinstance(made, tuple) else made).variables]
