"""Rules of averages as text and as data: what `repr` prints and `to_config` gives is read back equal."""

import json

import numpy as np
import pytest
from helpers_schedules import SHAPES, arrays, extreme, schedules
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.schedules.catalogue import RULES

decays = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 0.999]))
positive = st.floats(0.125, 1e6)
scales = st.sampled_from(["halflife", "tau"])


@st.composite
def emas(draw, of_one_share=False):
    """Any `ema`; with a share of one number for all elements, or any."""
    flags = {"decay_min": draw(st.booleans()), "debias": draw(st.booleans())}
    alphas = [decays, schedules(1)]
    if not of_one_share:
        alphas.append(st.sampled_from(SHAPES).flatmap(lambda shape: arrays(st.floats(0, 1), shape)))
        flags["init"] = draw(st.one_of(st.none(), extreme, arrays(extreme, (2,))))
    if draw(st.booleans()):
        return ms.ema(**{draw(scales): draw(positive)}, **flags)
    return ms.ema(draw(st.one_of(*alphas)), **flags)


plain = st.one_of(
    st.just(ms.swa()),
    st.floats(0.001, 0.28).map(ms.power_ema),
    st.floats(0, 100).map(lambda gamma: ms.power_ema(gamma=gamma)),
    emas(of_one_share=True),
)
calls = {"start": st.integers(0, 1000), "every": st.integers(1, 1000)}
paced = st.recursive(plain, lambda rule: st.builds(ms.paced, rule, **calls), max_leaves=3)
plateaus = st.builds(
    ms.plateau,
    st.floats(0, 1),
    factor=st.floats(0.1, 0.9),
    patience=st.integers(0, 10),
    mode=st.sampled_from(["min", "max"]),
    minimum=st.floats(0, 1),
)
rules = st.one_of(plain, paced, plateaus, emas(), st.integers(1, 1000).map(ms.sma))


@settings(max_examples=4 * settings.default.max_examples)
@given(rule=rules)
def test_there_and_back(rule):
    """`repr` is parsed, and the config is plain JSON without null; both give an equal rule that prints alike."""
    text = json.dumps(rule.to_config(), allow_nan=False)
    assert "null" not in text
    for again in (ms.parse(repr(rule)), ms.from_config(json.loads(text))):
        assert (again, hash(again), repr(again)) == (rule, hash(rule), repr(rule))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ema(0.999)", ms.ema(0.999)),
        ("ema(halflife=100)", ms.ema(halflife=100)),
        ("ema(1 - 1/100, debias=True)", ms.ema(0.99, debias=True)),
        ("ema(alpha=minimum(0.999, decay_warmup()))", ms.ema(ms.minimum(0.999, ms.decay_warmup()))),
        ("paced(ema(0.999), every=10)", ms.paced(ms.ema(0.999), every=10)),
        ("paced(rule=paced(swa(), 5), start=2)", ms.paced(ms.paced(ms.swa(), 5), start=2)),
        ("power_ema(0.1)", ms.power_ema(0.1)),
        ("sma(10)", ms.sma(10)),
        ("swa()", ms.swa()),
        ("plateau(0.1, factor=0.5)", ms.plateau(0.1, factor=0.5)),
        ("ema([0.5, 0.25], init=[1, 2])", ms.ema([0.5, 0.25], init=[1, 2])),
    ],
)
def test_what_may_be_written(text, rule):
    """Texts as people write them."""
    assert ms.parse(text) == rule


@pytest.mark.parametrize(
    ("rule", "document"),
    [
        (ms.ema(0.9), {"name": "ema", "alpha": 0.9, "decay_min": False, "debias": False}),
        (ms.power_ema(gamma=2), {"name": "power_ema", "gamma": 2.0}),
        (ms.paced(ms.swa(), 3), {"name": "paced", "rule": {"name": "swa"}, "start": 3, "every": 1}),
        (ms.sma(10), {"name": "sma", "n": 10}),
    ],
    ids=repr,
)
def test_the_form(rule, document):
    """The form of a document, which files may hold for years."""
    assert rule.to_config() == document
    assert ms.from_config(document) == rule


def test_documents_written_by_hand():
    """What has a default may be left out, and an array of NumPy is taken for its list."""
    assert ms.from_config({"name": "ema", "halflife": 100}) == ms.ema(halflife=100)
    assert ms.from_config({"name": "ema", "alpha": {"name": "constant", "value": 0.5}}) == ms.ema(ms.constant(0.5))
    assert ms.from_config({"name": "ema", "alpha": np.array([0.5, 0.25])}) == ms.ema([0.5, 0.25])


def test_a_rule_with_a_deep_schedule():
    """A rule whose schedule is nested deep is the last of a list of nodes."""
    decay = ms.constant(0.5)
    for _ in range(500):
        decay = ms.minimum(decay, 0.75)
    rule = ms.paced(ms.ema(decay), every=2)
    document = json.loads(json.dumps(rule.to_config()))
    assert document["nodes"][-1] == {"name": "paced", "rule": {"node": 501}, "start": 0, "every": 2}
    assert ms.from_config(document) == rule
    assert ms.parse(repr(rule)) == rule


def test_every_rule_is_listed():
    """Each public function that builds a rule of averages is read by name, and drawn above."""
    public = {n for n in ms.averages.__all__ if n.islower()}
    assert public == set(RULES)
    assert all(RULES[name] is getattr(ms, name) for name in public)


# --- what cannot be written, or read ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda: ms.ema(0.5, init=1j), r"^\$\.init: 1j is complex"),
        (lambda: ms.ema(0.5, init=[1j, 2]), r"^\$\.init: .* is complex"),
        (lambda: ms.ema(0.5, init=float("inf")), r"^\$\.init: inf is not finite"),
        (lambda: ms.paced(ms.ema(ms.from_function(abs))), r"^\$\.rule\.alpha: from_function is not"),
        (lambda: ms.ema(ms.Placeholder((), "float32")), r"^\$\.alpha: a declared tensor belongs to its graph"),
        (lambda: Own(), r"^\$: Own is not in the catalogue"),
    ],
)
def test_what_cannot_be_written(rule, message):
    """What JSON has no form for is an error that says which part it is."""
    with pytest.raises(errors.ConfigError, match=message):
        rule().to_config()


class Own(ms.Statistic):
    """A rule of one's own."""


def test_a_rule_of_ones_own():
    """It prints as Python's objects do, and a text can name what makes it."""
    rule = Own()
    assert "Own object" in repr(rule)
    assert ms.parse("own()", {"own": lambda: rule}) is rule


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("2 * ema(0.9)", 3, "Arithmetic is of schedules and numbers, got ema"),
        ("ema(0.9) + linear(1, 0, 4)", 10, "must be a real number"),
        ("warmup(ema(0.9), 3)", 1, "schedule must be a schedule, got ema"),
        ("paced(cosine(0.1, 10))", 1, "can be paced"),
        ("paced(sma(3))", 1, "can be paced"),
        ("ema(2)", 1, "in \\[0, 1\\], got 2"),
        ("emma(0.9)", 1, "Did you mean 'ema'"),
        ("Ema(0.9)", 1, "No schedule or rule is called 'Ema'"),
        ("posthoc(1)", 1, "No schedule or rule"),
    ],
)
def test_errors_are_at_their_columns(text, column, message):
    """Where a schedule is needed a rule is an error, and the other way round."""
    with pytest.raises(errors.ParseError, match=message) as raised:
        ms.parse(text)
    assert raised.value.column == column


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"name": "delay", "schedule": {"name": "swa"}, "steps": 3},
            r"^\$\.schedule: expected a schedule, got swa",
        ),
        ({"name": "paced", "rule": 3}, r"^\$\.rule: expected a schedule or a rule"),
        ({"name": "paced", "rule": {"name": "constant", "value": 1}}, r"^\$: Only averages"),
        ({"name": "ema", "alpha": "0.9"}, r"^\$\.alpha: expected a number"),
        ({"name": "ema", "alpha": 0.9, "beta": 1}, r"^\$\.beta: ema has no such field"),
        ({"name": "ema"}, r"^\$: Exactly one of alpha"),
        ({"name": "sma", "n": 1.5}, r"^\$: n must be the length of a window"),
    ],
)
def test_documents_that_are_wrong(document, message):
    """Whatever is wrong in a document is a `ConfigError` that opens with the path."""
    with pytest.raises(errors.ConfigError, match=message):
        ms.from_config(document)
