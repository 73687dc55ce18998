"""Schedules as plain JSON: what is written is read back equal; what is wrong is an error with its path."""

import inspect
import json

import numpy as np
import pytest
from helpers_schedules import SHAPES, combinators, extreme, leaves, operations, schedules
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.schedules import compose
from multisched.schedules.catalogue import CATALOGUE

LINE = {"name": "linear", "init": 1.0, "end": 0.0, "steps": 4}
CODE = {"Schedule", "from_config", "from_function", "parse", "schedule"}
ARITHMETIC = {"add", "subtract", "multiply", "divide", "pow", "negative", "abs"}


# --- there and back --------------------------------------------------------------------------------------------------
def is_plain(value):
    """Whether this is what `json` gives back as it is."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return type(value) in (int, float, str, bool, type(None))


@settings(max_examples=4 * settings.default.max_examples)  # there is much to draw, and drawing is quick
@given(lr=schedules(numbers=extreme, shapes=SHAPES))
def test_through_json_and_back(lr):
    """The document is plain JSON without NaN or infinity; read back it is equal, ints as ints and floats as floats."""
    document = lr.to_config()
    assert is_plain(document)
    text = json.dumps(document, allow_nan=False)
    again = ms.from_config(json.loads(text))
    assert (again, hash(again)) == (lr, hash(lr))
    assert json.dumps(again.to_config()) == text
    assert ms.from_config(document) == lr


@pytest.mark.parametrize(
    ("lr", "document"),
    [
        (ms.linear(1, 0.5, 4), {"name": "linear", "init": 1, "end": 0.5, "steps": 4, "begin": 0}),
        (-ms.constant(2), {"name": "negative", "x": {"name": "constant", "value": 2}}),
        (abs(ms.constant(2)), {"name": "abs", "x": {"name": "constant", "value": 2}}),
        (
            ms.piecewise_constant([1, 2], {8: [5, 6], 4: [3, 4]}),
            {"name": "piecewise_constant", "init": [1.0, 2.0], "steps_and_values": [[4, [3.0, 4.0]], [8, [5.0, 6.0]]]},
        ),
        (
            ms.join([ms.constant(1), ms.constant(2)], [3]),
            {
                "name": "join",
                "schedules": [{"name": "constant", "value": 1}, {"name": "constant", "value": 2}],
                "boundaries": [3],
            },
        ),
        (
            ms.constant(2) ** np.array([[0.5], [2.0]]),
            {"name": "pow", "x1": {"name": "constant", "value": 2}, "x2": [[0.5], [2.0]]},
        ),
    ],
    ids=["defaults", "negative", "abs", "steps", "join", "array"],
)
def test_the_form(lr, document):
    """The form of a document, which files may hold for years."""
    assert lr.to_config() == document
    assert ms.from_config(document) == lr


def test_what_has_a_default_may_be_left_out():
    """A document written by hand has only what a call would have; its order does not matter."""
    assert ms.from_config({"steps": 4, "end": 0.0, "init": 1.0, "name": "linear"}) == ms.linear(1.0, 0.0, 4)
    assert ms.from_config({"name": "cyclic", "base": 0, "peak": 1, "up_steps": 4}) == ms.cyclic(0, 1, 4)


# --- the catalogue ---------------------------------------------------------------------------------------------------
def test_the_catalogue_is_whole():
    """Every public constructor but those that take code is in the catalogue; so is arithmetic, and nothing else."""
    public = set(ms.schedules.__all__) - CODE
    assert set(CATALOGUE) == public | ARITHMETIC
    assert all(CATALOGUE[name] is getattr(ms.schedules, name) for name in public)
    assert all(CATALOGUE[name] is getattr(compose, "absolute" if name == "abs" else name) for name in ARITHMETIC)


def test_the_strategy_is_whole():
    """The drawn schedules are of all constructors, with all their parameters."""
    number = st.just(1)
    drawn = leaves(number) | combinators(schedules(0), number) | operations(schedules(0), number, [()])
    assert set(drawn) == set(CATALOGUE)


def test_no_parameter_is_called_name():
    """The field that says which schedule it is stands beside the arguments, so none of them has its name."""
    assert [n for n, made in CATALOGUE.items() if "name" in inspect.signature(made).parameters] == []


# --- what cannot be written ------------------------------------------------------------------------------------------
@ms.schedule(lambda value: {"value": value})
def mine(xp, step, value):
    return value + 0 * step


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (ms.from_function(abs), r"^\$: from_function is not in the catalogue: a function"),
        (2 * ms.warmup(ms.from_function(abs), 3), r"^\$\.x2\.schedule: from_function is not"),
        (ms.join([ms.constant(1), ms.from_function(abs)], [3]), r"^\$\.schedules\[1\]: from_function is not"),
        (-mine(0.5), r"^\$\.x: mine is not in the catalogue"),
        (ms.constant(1) * float("inf"), r"^\$\.x2: inf is not finite"),
        (ms.piecewise_constant(1.0, {4: 2.0, 8: float("nan")}), r"^\$\.steps_and_values\[1\]\[1\]: nan is not finite"),
        (ms.constant(1) + np.array([1.0, float("-inf")]), r"^\$\.x2: \[1\.0, -inf\] is not finite"),
    ],
    ids=["function", "function within", "function in a list", "one's own", "infinity", "NaN", "array"],
)
def test_what_cannot_be_written(lr, message):
    """A function, a schedule of one's own and a number that JSON lacks are errors that say which part it is."""
    with pytest.raises(errors.ConfigError, match=message):
        lr.to_config()


# --- documents that are wrong ----------------------------------------------------------------------------------------
def within(**changes):
    """A document with a changed line in the second place of a join."""
    line = {key: value for key, value in {**LINE, **changes}.items() if value != "left out"}
    return {"name": "join", "schedules": [LINE, line], "boundaries": [4]}


def steps(pairs, **more):
    return {"name": "piecewise_constant", "init": 1.0, "steps_and_values": pairs, **more}


def cosine(**more):
    return {"name": "cosine", "init": 1.0, "steps": 4, **more}


BAD = {
    "no object": ([LINE], "$"),
    "a string": ("linear(1, 0, 4)", "$"),
    "None": (None, "$"),
    "no name": ({"init": 1.0}, "$.name"),
    "a name within": (within(name="linaer"), "$.schedules[1].name"),
    "a name that is a module": ({"name": "os.system"}, "$.name"),
    "a name that is code": ({"name": "from_function", "f": "abs"}, "$.name"),
    "a name that is no string": ({"name": ["linear"]}, "$.name"),
    "missing": (within(steps="left out"), "$.schedules[1].steps"),
    "extra": (within(stpes=3), "$.schedules[1].stpes"),
    "extra, not a string": ({**LINE, 3: 4}, "$.3"),
    "a string for a number": (within(init="1.0"), "$.schedules[1].init"),
    "a bool for a number": (within(init=True), "$.schedules[1].init"),
    "null for a number": (within(end=None), "$.schedules[1].end"),
    "a schedule for a number": (within(end=LINE), "$.schedules[1].end"),
    "a list for a number": (within(init=[1.0]), "$.schedules[1].init"),
    "infinity": (within(init=float("inf")), "$.schedules[1].init"),
    "NaN": (within(init=float("nan")), "$.schedules[1].init"),
    "an int beyond all floats": (within(init=10**400), "$.schedules[1].init"),
    "a number for a schedule": ({"name": "delay", "schedule": 1, "steps": 2}, "$.schedule"),
    "a number for an operand's part": ({"name": "add", "x1": LINE, "x2": [1, [2, "3"]]}, "$.x2[1][1]"),
    "a string for an operand": ({"name": "add", "x1": LINE, "x2": "2"}, "$.x2"),
    "a list for schedules within": ({"name": "join", "schedules": [LINE, [LINE]], "boundaries": [1]}, "$.schedules[1]"),
    "an object for schedules": ({"name": "join", "schedules": LINE, "boundaries": []}, "$.schedules"),
    "a float for a boundary": ({"name": "join", "schedules": [LINE] * 2, "boundaries": [1.0]}, "$.boundaries[0]"),
    "an object for steps, of no steps": (steps({"four": 2.0}), "$"),
    "a step twice, as a string too": (steps({"4": 2.0, 4: 3.0}), "$"),
    "a value in an object for steps": (steps({"4": "2"}), "$.steps_and_values.4"),
    "no pair": (steps([[4, 2.0], [5]]), "$.steps_and_values[1]"),
    "a number for a pair": (steps([4, 2.0]), "$.steps_and_values[0]"),
    "a string for a step": (steps([["4", 2.0]]), "$.steps_and_values[0][0]"),
    "a bool for a step": (steps([[True, 2.0]]), "$.steps_and_values[0][0]"),
    "a step twice": (steps([[4, 2.0], [4, 3.0]]), "$.steps_and_values[1][0]"),
    "a string for a value": (steps([[4, "2"]]), "$.steps_and_values[0][1]"),
    "a value of arrays": (steps([[4, [2.0, None]]]), "$.steps_and_values[0][1][1]"),
    "a number for a string": ({"name": "cyclic", "base": 0, "peak": 1, "up_steps": 4, "mode": 2}, "$.mode"),
    "a number for a bool": (cosine(name="polynomial", end=0, cycle=1), "$.cycle"),
    "a string for an optional": ({"name": "exponential", "init": 1, "rate": 0.5, "steps": 4, "end": ""}, "$.end"),
    # from the constructors: the path is that of the schedule, and the message names the argument
    "a negative length": (within(steps=-4), "$.schedules[1]"),
    "a negative step": (steps([[-4, 2.0]]), "$"),
    "shapes": (steps([[4, [2.0]]]), "$"),
    "ragged": (steps([], init=[[1.0], [2.0, 3.0]]), "$"),
    "an option": ({"name": "cyclic", "base": 0, "peak": 1, "up_steps": 4, "mode": "up"}, "$"),
    "operands without a schedule": ({"name": "negative", "x": {"name": "add", "x1": 1, "x2": 2}}, "$.x"),
    "a bound above another": ({"name": "clip", "schedule": LINE, "low": 2, "high": 1}, "$"),
}


@pytest.mark.parametrize(("document", "path"), BAD.values(), ids=BAD)
def test_documents_that_are_wrong(document, path):
    """Whatever is wrong in a document is a `ConfigError` that opens with the path of what is wrong."""
    with pytest.raises(errors.ConfigError) as raised:
        ms.from_config(document)
    assert str(raised.value).partition(": ")[0] == path


def nested(levels, around):
    document = LINE
    for _ in range(levels):
        document = around(document)
    return document


DEEP = {
    "objects": nested(10_000, lambda inner: {"name": "negative", "x": inner}),
    "lists": {"name": "constant", "value": nested(10_000, lambda inner: [inner])},
    "both": nested(10_000, lambda inner: {"name": "join", "schedules": [inner], "boundaries": []}),
    "of no schedule": nested(10_000, lambda inner: {"a": inner}),
}
DEEP["endless"] = {"name": "negative"}
DEEP["endless"]["x"] = DEEP["endless"]


@pytest.mark.parametrize("kind", DEEP)
def test_documents_that_are_too_deep(kind):
    """A document nested without measure is a `ConfigError`, and never overflows Python's stack."""
    with pytest.raises(errors.ConfigError, match=r"^\$\..*: nested more than 100 deep"):
        ms.from_config(DEEP[kind])


def test_documents_that_are_deep():
    """Nested 99 deep around a line, a document is read."""
    lr = ms.from_config(nested(99, lambda inner: {"name": "join", "schedules": [inner, LINE], "boundaries": [1000]}))
    assert lr.to_config()["schedules"][0]["schedules"][0]["name"] == "join"
    assert lr(1) == 0.75


def test_the_constructors_error_is_the_cause():
    """The error of a constructor is kept as the cause of the error with the path."""
    with pytest.raises(errors.ConfigError, match="steps must be a non-negative number of steps, got -4") as raised:
        ms.from_config(within(steps=-4))
    assert type(raised.value.__cause__) is errors.StepCountError


def test_a_typo_gets_a_hint():
    """A name that is almost one of the catalogue is answered with that one, an unknown field with those there are."""
    with pytest.raises(errors.ConfigError, match="Did you mean 'linear'"):
        ms.from_config({**LINE, "name": "linaer"})
    with pytest.raises(errors.ConfigError, match="it has init, end, steps, begin"):
        ms.from_config({**LINE, "stesp": 3})
