"""The dialect of transformers: bad arguments, what there is of transformers, and schedules as plain data."""

import inspect
import json
import pickle
import re
from pathlib import Path

import pytest
from helpers_transformers import drawn, live, one
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import transformers as dialect
from multisched.schedules.catalogue import DIALECTS

DOCS = Path(__file__).parents[2] / "docs" / "dialects-transformers.md"


# --- what there is ---------------------------------------------------------------------------------------------------
def test_every_schedule_of_transformers_is_there_or_in_the_table():
    """Every public name of transformers.optimization that is a schedule is here, or the page says why not."""
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    public = {name for name in vars(live) if "schedul" in name.lower() and not name.startswith("_")}
    public |= {name for name, kind in vars(live).items() if inspect.isclass(kind) and hasattr(kind, "get_last_lr")}
    public -= {"LambdaLR", "ReduceLROnPlateau"}  # of torch, imported
    assert {"GreedyLR", "get_wsd_schedule", "AdafactorSchedule"} <= public <= set(told)
    assert (
        {name for name in told if told[name] == "yes"} == set(DIALECTS.functions("transformers")) - {"ahead"} <= public
    )


@pytest.mark.parametrize("name", [*drawn, "get_scheduler"])
def test_the_arguments_are_those_of_transformers(name):
    """Names, order and defaults are the same, but for `lr` in place of the optimizer, and without `last_epoch`."""
    theirs, ours = (inspect.signature(getattr(module, name)).parameters.values() for module in (live, dialect))
    assert [(p.name, p.default) for p in ours] == [
        ("lr" if p.name == "optimizer" else p.name, p.default) for p in theirs if p.name != "last_epoch"
    ]


BUILT = {
    "get_constant_schedule(0.1)": "constant(0.1)",
    "get_constant_schedule_with_warmup(0.1, 10)": "linear(0.0, 0.1, 10)",
    "get_linear_schedule_with_warmup(0.1, 10, 100)": "warmup(linear(0.1, 0.0, 90), 10)",
    "get_linear_schedule_with_warmup(0.1, 10, 10)": "join([linear(0.0, 0.1, 10), constant(0.0)], [10])",
    "get_polynomial_decay_schedule_with_warmup(0.1, 0, 9, 0, 2)": "polynomial(0.1, 0, 9, power=2)",
    "get_inverse_sqrt_schedule(0.1, 10)": "inverse_sqrt(0.1, 10)",
    "get_cosine_schedule_with_warmup(0.1, 10, 100)": (
        "warmup(repeat(join([cosine(0.1, 90), cosine(0.0, 90, end=0.1)], [90]), 180), 10)"
    ),
    "get_cosine_schedule_with_warmup(0.1, 0, 15, 0.5)": (
        "repeat(join([cosine(0.1, 15), cosine(0.0, 15, end=0.1)], [15]), 30)"
    ),
    "get_cosine_with_hard_restarts_schedule_with_warmup(0.1, 10, 100, num_cycles=3)": (
        "warmup(cosine_restarts(0.1, 30, cycles=3), 10)"
    ),
    "get_cosine_with_hard_restarts_schedule_with_warmup(0.1, 10, 100)": "warmup(cosine(0.1, 90), 10)",
    "get_wsd_schedule(0.1, 10, 20, 100)": "warmup_stable_decay(0.1, 10, 70, 20, decay='cosine')",
}


@pytest.mark.parametrize("text", BUILT)
def test_they_are_built_of_the_catalogue(text):
    """Each prints as an expression of the catalogue, and `parse`, JSON and pickle give it back equal."""
    rule = ms.parse(f"transformers:{text}")
    assert repr(rule) == BUILT[text]
    assert rule == ms.parse(BUILT[text])
    assert ms.from_config(json.loads(json.dumps(rule.to_config()))) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize("name", drawn)
@given(data=st.data())
def test_they_are_plain_data(name, data):
    """With any arguments, each becomes data or a pickle, and comes back equal."""
    rule = getattr(dialect, name)(0.1, **one(data, name))
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert ms.from_config(json.loads(json.dumps(rule.to_config()))) == rule == ms.parse(repr(rule))
