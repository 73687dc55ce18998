"""The dialect of Keras against the live schedules of Keras, which on torch can compute in double precision."""

import importlib.util
import inspect
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from hypothesis import assume, given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import keras as dialect
from multisched.integrations.keras import as_keras
from multisched.schedules.catalogue import DIALECTS

if importlib.util.find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="keras is not installed: there is nothing to compare with")
if keras.backend.backend() != "torch":
    reason = f"Keras runs on {keras.backend.backend()}, and only on torch it computes in double precision, and fast"
    pytest.skip(reason, allow_module_level=True)
schedules = keras.optimizers.schedules


# --- Keras, live -----------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def double():
    """Keras computes in double precision."""
    usual = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(usual)


def live(name, arguments, updates):
    """What Keras gives at each of some updates."""
    rule = getattr(schedules, name)(**arguments)
    values = [rule(k) for k in range(updates)]
    assert {keras.backend.standardize_dtype(value.dtype) for value in values} == {"float64"}
    return np.array([float(value) for value in values])


def close(actual, expected):
    """To 1e-6 relative; where Keras passes through zero, to what it leaves there in double precision."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


# --- arguments -------------------------------------------------------------------------------------------------------
MOST = 70  # updates
rates = st.floats(1e-4, 10)
some = st.one_of(rates, st.just(0.0), rates.map(lambda rate: -rate))
lengths = st.one_of(st.integers(1, 30), st.integers(1, 60).map(lambda n: n / 2))
factors = st.sampled_from([0, 0.05, 0.5, 0.9, 0.99, 1.0, 1.1])
alphas = st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(-0.5, 1.5))


def taken(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def steps(draw):
    """Boundaries in their order, some of them equal or no integers, and one value more."""
    boundaries = sorted(draw(st.lists(st.one_of(st.integers(0, 40), st.just(12.5)), min_size=1, max_size=5)))
    size = len(boundaries) + 1
    return {"boundaries": boundaries, "values": draw(st.lists(some, min_size=size, max_size=size))}


ARGUMENTS = {
    "ExponentialDecay": taken(
        {"initial_learning_rate": some, "decay_steps": lengths, "decay_rate": factors}, staircase=st.booleans()
    ),
    "PiecewiseConstantDecay": steps(),
    "PolynomialDecay": taken(
        {"initial_learning_rate": some, "decay_steps": lengths},
        end_learning_rate=some,
        power=st.sampled_from([0, 0.5, 1, 1.5, 2, 3.0]),
        cycle=st.booleans(),
    ),
    "InverseTimeDecay": taken(
        {"initial_learning_rate": some, "decay_steps": lengths, "decay_rate": st.floats(0, 10)},
        staircase=st.booleans(),
    ),
    "CosineDecay": taken(
        {"initial_learning_rate": some, "decay_steps": lengths},
        alpha=alphas,
        warmup_target=st.one_of(st.none(), some),
        warmup_steps=st.one_of(st.just(0), lengths),
    ),
    "CosineDecayRestarts": taken(
        {"initial_learning_rate": some, "first_decay_steps": lengths},
        t_mul=st.sampled_from([1, 1.25, 1.5, 2, 3.0]),
        m_mul=st.sampled_from([0, 0.5, 0.9, 1, 1.1]),
        alpha=alphas,
    ),
}


def certain(name, arguments, updates):
    """The steps at which it is no matter of rounding in which cycle Keras is.

    Keras has the number of restarts from `floor(log(...) / log(t_mul))`. The error of that quotient is a few units in
    the last place of double precision; where it is an integer, it may come out below.
    """
    t_mul = arguments.get("t_mul", 2.0)
    if name != "CosineDecayRestarts" or t_mul == 1:
        return np.full(updates, True)
    parts = np.arange(updates) / arguments["first_decay_steps"]
    restarts = np.log(1 - parts * (1 - t_mul)) / math.log(t_mul)
    return (parts < 1) | (np.abs(restarts - np.round(restarts)) > 1e-9)


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_values(name, data):
    """The value at each step, to twice the length, is what Keras gives in double precision."""
    arguments = data.draw(ARGUMENTS[name])
    rule, told = getattr(dialect, name)(**arguments), certain(name, arguments, MOST)
    close(np.array([rule(k) for k in range(MOST)])[told], live(name, arguments, MOST)[told])


@given(st.data())
def test_restarts(data):
    """At a restart Keras, as it happens to round, is at the end of a cycle or at the next peak: here at the peak."""
    arguments = data.draw(ARGUMENTS["CosineDecayRestarts"])
    assume(arguments["initial_learning_rate"] != 0)
    told = certain("CosineDecayRestarts", arguments, MOST)
    init, period, t_mul = arguments["initial_learning_rate"], arguments["first_decay_steps"], arguments.get("t_mul", 2)
    alpha, m_mul = arguments.get("alpha", 0.0), arguments.get("m_mul", 1.0)
    rule, theirs = dialect.CosineDecayRestarts(**arguments), live("CosineDecayRestarts", arguments, MOST)
    for k in np.flatnonzero(~told):
        restarts = round(math.log(1 - k / period * (1 - t_mul)) / math.log(t_mul))
        peak = init * ((1 - alpha) * m_mul**restarts + alpha)
        close(rule(int(k)), peak)
        assert min(abs(theirs[k] - peak), abs(theirs[k] - init * alpha)) <= 1e-6 * abs(init) * max(1, m_mul**restarts)


@law
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_steps_in_an_array(backend, name, data):
    """An array of integer steps gives float32, within 4 units, at the largest value or operand, of what Keras has."""
    arguments = data.draw(ARGUMENTS[name])
    rule, told = getattr(dialect, name)(**arguments), certain(name, arguments, MOST)
    expected = live(name, arguments, MOST)
    result = to_numpy(rule(make(np.arange(MOST), backend, "int32")), backend)
    assert (result.dtype, result.shape) == (np.float32, (MOST,))
    operands = [arguments.get(key) or 0 for key in ("initial_learning_rate", "end_learning_rate", "warmup_target")]
    assert ulps(result[told], expected[told], np.abs(expected).max(), *operands) <= 4


LONG = {
    "ExponentialDecay": {"initial_learning_rate": 1.0, "decay_steps": 7, "decay_rate": 0.99, "staircase": True},
    "PolynomialDecay": {"initial_learning_rate": 1.0, "decay_steps": 1000, "power": 0.5, "cycle": True},
    "InverseTimeDecay": {
        "initial_learning_rate": 1.0, "decay_steps": 10_000_000, "decay_rate": 1.0, "staircase": True
    },
    "CosineDecay": {"initial_learning_rate": 1.0, "decay_steps": 10_000},
    "CosineDecayRestarts": {"initial_learning_rate": 1.0, "first_decay_steps": 100, "t_mul": 1.1},
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_late_steps_in_an_array(backend, name):
    """At steps in the thousands and millions, too, an array of them gives float32 within 4 units of Keras."""
    steps = np.array([999, 1500, 2999, 3998, 5000, 9999, 10_000, 12_345, 9_999_999, 19_999_999, 20_000_000])
    theirs, rule = getattr(schedules, name)(**LONG[name]), getattr(dialect, name)(**LONG[name])
    expected = np.array([float(theirs(int(k))) for k in steps])
    close([rule(int(k)) for k in steps], expected)
    result = to_numpy(rule(make(steps, backend, "int32")), backend)
    assert ulps(result, expected, 1.0) <= 4


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "theirs"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ExponentialDecay", {"initial_learning_rate": 0.5, "decay_steps": 3, "decay_rate": 0.5, "staircase": True}),
        ("PiecewiseConstantDecay", {"boundaries": [3, 7], "values": [1.0, 0.5, 0.25]}),
        ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 8, "warmup_target": 0.5, "warmup_steps": 4}),
    ],
)
def test_the_clock_of_an_optimizer(name, arguments, ours):
    """By what SGD of Keras, in single precision, changes a weight in its update k, from 0, is the value at step k."""
    keras.config.set_floatx("float32")
    rule = getattr(dialect, name)(**arguments)
    optimizer = keras.optimizers.SGD(as_keras(rule) if ours else getattr(schedules, name)(**arguments))
    weight, used = keras.Variable(0.0, dtype="float32"), []
    for _ in range(14):
        weight.assign(0.0)
        optimizer.apply([keras.ops.ones(())], [weight])
        used.append(-float(weight.value.detach()))
    assert ulps(np.float32(used), [rule(k) for k in range(14)], 1.0) <= 4


def test_integers_are_no_integers():
    """An integer rate makes Keras compute in integers, where a decay of 0.5 is one of 0; here it is the same as 1.0."""
    assert float(schedules.ExponentialDecay(1, 10, 0.5)(5)) == 0.0
    close(dialect.ExponentialDecay(1, 10, 0.5)(5), live("ExponentialDecay", {**DECAY, "decay_rate": 0.5}, 6)[5])


DECAY = {"initial_learning_rate": 1.0, "decay_steps": 10}


# --- the same names --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DIALECTS.functions("keras"))
def test_signatures(name):
    """The arguments have the names, the order and the defaults that they have in Keras, which has a `name` besides."""
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (dialect, schedules))
    as_plain = lambda parameters: [(p.name, p.kind, p.default) for p in parameters.values() if p.name != "name"]  # noqa: E731
    assert as_plain(ours) == as_plain(theirs)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (dialect.CosineDecay(0.0, 8, 0.5, 2.0, 4), "warmup(cosine(2.0, 8, end=1.0), 4)"),
        (dialect.CosineDecayRestarts(0.5, 8), "cosine_restarts(0.5, 8, period_mul=2.0)"),
        (dialect.ExponentialDecay(0.5, 8, 0.0), "piecewise_constant(0.5, {1: 0.0})"),
        (dialect.PolynomialDecay(0.5, 8, cycle=True), "polynomial(0.5, 0.0001, 8, cycle=True)"),
    ],
)
def test_they_print_as_the_catalogue(rule, text):
    """What a constructor builds is of the catalogue: it prints as it, is read again, and becomes data."""
    assert repr(rule) == text
    assert ms.parse(text) == rule
    assert ms.from_config(rule.to_config()) == rule


@pytest.mark.parametrize("listed", [True, False], ids=["public", "in the table"])
def test_every_name_of_keras_is_there_or_in_the_table(listed):
    """Every public name of `keras.optimizers.schedules` is in this dialect, or its page says why not."""
    table = re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    public = {name for name in vars(schedules) if not name.startswith("_")}
    if listed:
        assert public == {name for name, _ in table}
    else:
        assert set(DIALECTS.functions("keras")) == {name for name, here in table if here == "yes"}


DOCS = Path(__file__).parents[2] / "docs" / "dialects-keras.md"
