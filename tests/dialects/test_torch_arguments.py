"""The dialect of torch: bad arguments, what there is of torch, and schedules as plain data."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import to_numpy, ulps

import multisched as ms
from multisched.dialects import torch as dialect
from multisched.schedules.catalogue import DIALECTS

DOCS = Path(__file__).parents[2] / "docs" / "dialects-torch.md"


# --- what there is ---------------------------------------------------------------------------------------------------
def test_every_scheduler_of_torch_is_there_or_in_the_table():
    """Every public name of torch's module is in this one, unless the page of the dialect says why not."""
    torch = pytest.importorskip("torch", reason="torch is not installed: its names are not known")
    table = re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = dict(table)
    public = set(torch.optim.lr_scheduler.__all__) | {"SWALR"}
    assert public <= set(told)
    assert {name for name in public if told[name] == "yes"} == public & set(DIALECTS.functions("torch"))
    assert set(DIALECTS.functions("torch")) - {"by_cycle"} <= set(told)


def hyperbola(step):
    """A function that can be pickled."""
    return 1 / (1 + 0.5 * step)


PLAIN = [
    dialect.StepLR(0.1, 5),
    dialect.CosineAnnealingLR(0.1, 10, eta_min=0.01),
    dialect.CyclicLR(0.1, 1.0, 5, scale_fn=hyperbola),
    dialect.OneCycleLR(0.1, epochs=2, steps_per_epoch=5, three_phase=True),
    dialect.OneCycleMomentum(10),
]


@pytest.mark.parametrize("rule", PLAIN, ids=lambda rule: rule.name)
def test_they_are_plain_data(rule, backend):
    """Each is equal to its pickle, and declared it has the values of the pure rule."""
    again = pickle.loads(pickle.dumps(rule))
    assert (again, hash(again), repr(again)) == (rule, hash(rule), repr(rule))
    tensor = ms.declare(rule)
    values = [to_numpy(tensor.advance(), backend) for _ in range(13)]
    assert ulps(np.array(values), [rule(k) for k in range(13)], 1.0) <= 4


def test_what_builds_one_cycle_is_what_is_printed():
    """The repr of OneCycleLR is the expression that builds it, in the names of torch, with epochs multiplied out."""
    rule = dialect.OneCycleLR(0.1, epochs=2, steps_per_epoch=5, anneal_strategy="linear")
    assert repr(rule) == "torch.OneCycleLR(0.1, total_steps=10, anneal_strategy='linear')"
    assert eval(repr(rule), {"torch": dialect}) == rule
