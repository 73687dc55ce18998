"""Schedules that a dialect builds are data: written, read and printed, also where a formula is the dialect's own."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import pytest
from helpers_schedules import lengths, moderate, positive, schedules
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import dialects, errors
from multisched.dialects import torch as dialect
from multisched.schedules.catalogue import CATALOGUE, DIALECTS

length = {"total_steps": st.integers(1, 1000)}
phases = {
    "pct_start": st.floats(0, 1),
    "anneal_strategy": st.sampled_from(["cos", "linear"]),
    "three_phase": st.booleans(),
}
falls = {"div_factor": positive, "final_div_factor": positive, "cycle_momentum": st.booleans()}
FORMULAS = {name: made for name, made in DIALECTS.items() if "." in made.__name__}
OWN = {  # the arguments of each formula that only a dialect has
    "timm.k_decay_polynomial": st.fixed_dictionaries(
        {"init": moderate, "end": moderate, "steps": lengths, "power": positive, "k": positive}
    ),
    "torch.OneCycleLR": st.fixed_dictionaries({"max_lr": moderate, **length}, optional={**phases, **falls}),
    "torch.OneCycleMomentum": st.fixed_dictionaries(length, optional={**phases, "base_momentum": moderate}),
    "torch.by_cycle": st.fixed_dictionaries({"schedule": schedules(1), "period": lengths}),
    "transformers.ahead": st.fixed_dictionaries({"schedule": schedules(1), "steps": lengths}),
}


def combined(lr):
    """The schedule alone, and inside others."""
    return st.sampled_from([lr, 2 * lr, -lr, ms.warmup(lr, 10), ms.join([ms.constant(1), lr], [5])])


def own(name):
    return OWN[name].map(lambda arguments: FORMULAS[name](**arguments))


# --- there and back --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OWN)
@given(data=st.data())
def test_through_json_and_back(name, data):
    """What only a dialect has is written as plain JSON, under its name after the dialect's, and read back equal."""
    lr = data.draw(own(name))
    assert lr.to_config()["name"] == name
    nested = data.draw(combined(lr))
    again = ms.from_config(json.loads(json.dumps(nested.to_config(), allow_nan=False)))
    assert (again, hash(again)) == (nested, hash(nested))


@pytest.mark.parametrize("name", OWN)
@given(data=st.data())
def test_through_text_and_back(name, data):
    """`repr` prints what `ms.parse` reads."""
    lr = data.draw(own(name))
    assert repr(lr).startswith(f"{name}(")
    nested = data.draw(combined(lr))
    assert ms.parse(repr(nested)) == nested


@pytest.mark.parametrize(
    "lr",
    [
        dialect.OneCycleLR(0.1, epochs=3, steps_per_epoch=30, anneal_strategy="linear"),
        0.5 * dialect.OneCycleMomentum(100, pct_start=0.5),
    ],
    ids=repr,
)
def test_the_text_is_python(lr):
    """What `repr` prints builds an equal schedule in Python, where the dialect has been imported by its name."""
    assert eval(repr(lr), {"torch": dialect}) == lr


def test_a_scale_that_is_a_schedule():
    """Even torch's `scale_fn` is data, if it is a schedule."""
    lr = dialect.CyclicLR(0.1, 1.0, 5, 10, scale_fn=ms.exponential(1.0, 0.5, 3))
    assert "torch.by_cycle(exponential(1.0, 0.5, 3), 15)" in repr(lr)
    assert ms.from_config(lr.to_config()) == ms.parse(repr(lr)) == lr


def test_a_document_of_hand():
    """The form of a document: the defaults may be left out; torch's other way to say how long it takes counts too."""
    document = {"name": "torch.OneCycleLR", "max_lr": 0.1, "epochs": 3, "steps_per_epoch": 30}
    assert ms.from_config(document) == dialect.OneCycleLR(0.1, total_steps=90)


def test_in_a_fresh_process():
    """A document can be read where no dialect has been imported; the values are those that torch's formula has."""
    script = """
import sys
import multisched as ms
assert not any(name.startswith("multisched.dialects") for name in sys.modules)
document = {"name": "torch.OneCycleLR", "max_lr": 1.0, "total_steps": 11, "pct_start": 0.5, "anneal_strategy": "linear"}
lr = ms.from_config(document)
print(repr(lr), ms.parse(repr(lr)) == lr, round(lr(5), 4), "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shown = "torch.OneCycleLR(1.0, total_steps=11, pct_start=0.5, anneal_strategy='linear')"
    assert result.stdout.strip() == f"{shown} True 0.9091 False"


CONSTANT = {"name": "torch.ConstantLR", "base_lr": 1}
BY_NAME = [
    ({"name": "torch.StepLR", "base_lr": 0.1, "step_size": 30}, "torch.StepLR(0.1, 30)"),
    ({"name": "torch.MultiStepLR", "base_lr": 1, "milestones": [2, 4]}, "torch.MultiStepLR(1, [2, 4])"),
    (
        {"name": "keras.PiecewiseConstantDecay", "boundaries": [2], "values": [1, 0.5]},
        "piecewise_constant(1, {3: 0.5})",
    ),
    (
        {"name": "optax.piecewise_constant_schedule", "init_value": 1, "boundaries_and_scales": [[2, 0.5]]},
        "piecewise_scale(1, {2: 0.5})",
    ),
    (
        {"name": "torch.SequentialLR", "schedulers": [CONSTANT, CONSTANT], "milestones": [3]},
        "join([torch.ConstantLR(1), torch.ConstantLR(1)], [3])",
    ),
    (
        {"name": "torch.LambdaLR", "base_lr": 0.1, "lr_lambda": {"name": "cosine", "init": 1, "steps": 9}},
        "0.1 * cosine(1, 9)",
    ),
]


@pytest.mark.parametrize(("document", "text"), BY_NAME, ids=[document["name"] for document, _ in BY_NAME])
def test_a_document_in_the_names_of_a_library(document, text):
    """A document may name any constructor of a dialect; the schedule is the one that a call builds."""
    assert ms.from_config(document) == ms.parse(text)


# --- the list --------------------------------------------------------------------------------------------------------
def formulas():
    """`{"torch.OneCycleLR": constructor}`: what the files of dialects hold under the name of a dialect."""
    modules = [
        importlib.import_module(f"{dialects.__name__}.{m.name}") for m in pkgutil.iter_modules(dialects.__path__)
    ]
    made = [f for module in modules for f in vars(module).values() if hasattr(f, "__wrapped__")]
    return {f.__wrapped__.__name__: f for f in made if "." in f.__wrapped__.__name__}


def test_the_list_is_whole():
    """Every formula that is marked as that of a dialect is in the list, which leads to its constructor."""
    assert formulas() == FORMULAS
    assert set(OWN) == set(FORMULAS)
    assert not set(FORMULAS) & set(CATALOGUE)


WITHOUT_EXAMPLES = {"optax.sgdr_schedule": "takes a dict with names, which no expression has"}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_constructor_has_examples(name):
    """The examples of a constructor are expressions that call it, and build a rule."""
    made = DIALECTS[name]
    assert bool(made.examples) != (name in WITHOUT_EXAMPLES)
    for example in made.examples:
        assert example.startswith(f"{name}(")
        assert ms.schedules.catalogue.is_rule(ms.parse(example))


def test_wrong_keywords():
    """A keyword that there is not, and one that is missing, are errors that name the constructor and what it takes."""
    with pytest.raises(errors.ArgumentError, match=r"StepLR\(\) has no argument 'step'; did you mean 'step_size'\?"):
        dialect.StepLR(0.1, step=3)
    with pytest.raises(errors.ArgumentError, match=r"StepLR\(\) needs 'step_size': StepLR\(base_lr, step_size"):
        dialect.StepLR(0.1)


def test_no_parameter_is_called_name():
    """The field that says which schedule it is stands beside the arguments, so none of them has its name."""
    written = {name: made for name, made in DIALECTS.items() if hasattr(made, "readers")}
    assert [name for name, made in written.items() if "name" in inspect.signature(made).parameters] == []


# --- what is wrong ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"name": "torch.OneCycleLr"}, r"^\$\.name: no schedule .* Did you mean 'torch\.OneCycleLR'\?$"),
        ({"name": "torch.annotations"}, r"^\$\.name: no schedule or rule is called 'torch\.annotations'"),
        ({"name": "torch.count", "value": 3, "what": "x"}, r"^\$\.name: no schedule or rule is called 'torch\.count'"),
        ({"name": "os.system", "command": "true"}, r"^\$\.name: no schedule or rule is called 'os\.system'"),
        ({"name": ["torch.OneCycleLR"]}, r"^\$\.name: no schedule or rule is called \['torch"),
        ({"name": "torch.OneCycleLR"}, r"^\$\.max_lr: missing; torch\.OneCycleLR needs it"),
        ({"name": "torch.OneCycleLR", "max_lr": "1"}, r"^\$\.max_lr: expected a number, got '1'"),
        ({"name": "torch.OneCycleLR", "max_lr": "1e-3"}, r"got '1e-3' of type str\. .*: write 1\.0e-3 there\.$"),
        ({"name": "torch.OneCycleLR", "max_lr": "2.5E3"}, r"got '2\.5E3' of type str\. .*: write 2\.5e\+3 there\.$"),
        ({"name": "torch.OneCycleLR", "max_lr": "else"}, r"got 'else' of type str\.$"),
        ({"name": "torch.OneCycleLR", "max_lr": 1, "steps": 3}, r"^\$\.steps: torch\.OneCycleLR has no such field"),
        ({"name": "torch.OneCycleLR", "max_lr": 1}, r"^\$: Either total_steps is needed"),
        (
            {"name": "torch.OneCycleLR", "max_lr": 1, "total_steps": 0.5},
            r"^\$\.total_steps: expected an integer, got 0\.5",
        ),
        ({"name": "torch.by_cycle", "schedule": 1, "period": 3}, r"^\$\.schedule: expected a schedule"),
    ],
    ids=lambda part: part["name"] if isinstance(part, dict) and isinstance(part["name"], str) else "",
)
def test_documents_that_are_wrong(document, message):
    """Each is an error that opens with the path; what else a dialect's file holds cannot be named."""
    with pytest.raises(errors.ConfigError, match=message):
        ms.from_config(document)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (
            "torch.OneCycleLr(1)",
            1,
            "No schedule or rule is called 'torch.OneCycleLr'. Did you mean 'torch.OneCycleLR'?",
        ),
        ("2 * torch.StepLRs(0.1, 3)", 5, "No schedule or rule is called 'torch.StepLRs'. Did you mean 'torch.StepLR'?"),
        ("os.system('true')", 1, "No schedule or rule is called 'os.system'."),
        ("torch.count(3, 'x')", 1, "No schedule or rule is called 'torch.count'."),
        ("torch.OneCycleLR.x(1)", 17, "Unexpected '.'."),
        ("torch.(1)", 6, "Unexpected '.'."),
        ("torch.OneCycleLR", 17, "Expected '(' and the arguments of torch.OneCycleLR, but the text ends."),
        ("torch.OneCycleLR(1)", 1, "torch.OneCycleLR: Either total_steps is needed"),
    ],
)
def test_texts_that_are_wrong(text, column, message):
    """Each is a `ParseError` at its column, with a name that is near, if there is one, in the spelling that it has."""
    with pytest.raises(errors.ParseError) as caught:
        ms.parse(text)
    assert caught.value.column == column
    assert message in str(caught.value)


def test_a_formula_of_ones_own_of_that_name():
    """A formula elsewhere that calls itself so is not the dialect's, and is no data."""

    def mine(xp, step, value):
        return value + 0 * step

    mine.__name__ = "torch.OneCycleLR"
    with pytest.raises(errors.ConfigError, match=r"^\$: torch\.OneCycleLR is not in the catalogue"):
        ms.schedule(lambda value: {"value": value})(mine)(0.5).to_config()
