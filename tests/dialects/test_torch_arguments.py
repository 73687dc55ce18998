"""The dialect of torch: bad arguments, what there is of torch, and schedules as plain data."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import to_numpy, ulps

import multisched as ms
from multisched import errors
from multisched.dialects import torch as dialect

DOCS = Path(__file__).parents[2] / "docs" / "dialects-torch.md"


# --- bad arguments ---------------------------------------------------------------------------------------------------
BAD = {
    "LambdaLR(0.1, [abs, abs])": errors.ScheduleOptionError,
    "LambdaLR([0.1, 0.2], abs)": errors.ScheduleValueError,
    "MultiplicativeLR(0.1, 0.5, total_iters=3)": errors.ScheduleOptionError,
    "MultiplicativeLR(0.1, lambda step: None, total_iters=3)": errors.ScheduleValueError,
    "MultiplicativeLR(0.1, abs, total_iters=-1)": errors.StepCountError,
    "StepLR(0.1, 0)": errors.StepCountError,
    "StepLR(0.1, 2.5)": errors.StepCountError,
    "StepLR(0.1, True)": errors.StepCountError,
    "StepLR(0.1, 5, gamma=-0.5)": errors.ScheduleValueError,
    "StepLR('0.1', 5)": errors.ScheduleValueError,
    "MultiStepLR(0.1, [-1])": errors.StepKeyError,
    "MultiStepLR(0.1, [2.5])": errors.StepKeyTypeError,
    "MultiStepLR(0.1, 5)": errors.ScheduleValueError,
    "ConstantLR(0.1, factor=1.5)": errors.ScheduleValueError,
    "ConstantLR(0.1, factor=-0.5)": errors.ScheduleValueError,
    "LinearLR(0.1, start_factor=0)": errors.ScheduleValueError,
    "LinearLR(0.1, end_factor=1.5)": errors.ScheduleValueError,
    "LinearLR(0.1, total_iters=-1)": errors.StepCountError,
    "ExponentialLR(float('nan'), 0.5)": errors.ScheduleValueError,
    "ExponentialLR(0.1, float('inf'))": errors.ScheduleValueError,
    "PolynomialLR(0.1, power=-1)": errors.ScheduleValueError,
    "CosineAnnealingLR(0.1, 0)": errors.StepCountError,
    "CosineAnnealingWarmRestarts(0.1, 0)": errors.StepCountError,
    "CosineAnnealingWarmRestarts(0.1, 5, T_mult=0)": errors.StepCountError,
    "CosineAnnealingWarmRestarts(0.1, 5, eta_min=None)": errors.ScheduleValueError,
    "SWALR(0.1, 0.05, anneal_epochs=-1)": errors.StepCountError,
    "SWALR(0.1, 0.05, anneal_strategy='cosine')": errors.ScheduleOptionError,
    "CyclicLR(0.1, 1.0, 0)": errors.StepCountError,
    "CyclicLR(0.1, 1.0, mode='square')": errors.ScheduleOptionError,
    "CyclicLR(0.1, 1.0, scale_mode='epoch')": errors.ScheduleOptionError,
    "CyclicLR(0.1, 1.0, scale_fn=2)": errors.ScheduleOptionError,
    "CyclicLR([0.1, 0.2], 1.0)": errors.ScheduleValueError,
    "OneCycleLR(0.1)": errors.ScheduleOptionError,
    "OneCycleLR(0.1, epochs=3)": errors.ScheduleOptionError,
    "OneCycleLR(0.1, 0)": errors.StepCountError,
    "OneCycleLR(0.1, epochs=3, steps_per_epoch=1.5)": errors.StepCountError,
    "OneCycleLR(0.1, 10, pct_start=1.5)": errors.ScheduleOptionError,
    "OneCycleLR(0.1, 10, anneal_strategy='cosine')": errors.ScheduleOptionError,
    "OneCycleLR(0.1, 10, div_factor=0)": errors.ScheduleValueError,
    "OneCycleMomentum(10, base_momentum=None)": errors.ScheduleValueError,
    "SequentialLR([], [])": errors.ScheduleValueError,
    "SequentialLR([StepLR(0.1, 5)], [3])": errors.ScheduleValueError,
    "SequentialLR([StepLR(0.1, 5)] * 3, [5, 3])": errors.StepCountError,
    "ChainedScheduler(0.1, [])": errors.ScheduleValueError,
    "ChainedScheduler(0, [StepLR(0.1, 5)])": errors.ScheduleValueError,
    "ChainedScheduler(0.1, [StepLR(0.1, 5), 0.5])": errors.ScheduleValueError,
    "ReduceLROnPlateau(0.1, threshold_mode='size')": errors.ScheduleOptionError,
    "ReduceLROnPlateau(0.1, mode='least')": errors.RuleError,
    "ReduceLROnPlateau(0.1, factor=1.0)": errors.RuleError,
    "ReduceLROnPlateau(0.1, min_lr=['0.1'])": errors.RuleError,
    "ReduceLROnPlateau([0.1, 0.2, 0.3], min_lr=[0.1, 0.2])": errors.RuleError,
}


@pytest.mark.parametrize("text", BAD)
def test_bad_arguments(text):
    """What defines no schedule raises the class of its kind, when the schedule is made."""
    with pytest.raises(errors.RuleError) as raised:
        eval(text, vars(dialect))
    assert raised.type is BAD[text]


# --- what there is ---------------------------------------------------------------------------------------------------
def test_every_scheduler_of_torch_is_there_or_in_the_table():
    """Every public name of torch's module is in this one, unless the page of the dialect says why not."""
    torch = pytest.importorskip("torch", reason="torch is not installed: its names are not known")
    table = re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = dict(table)
    public = set(torch.optim.lr_scheduler.__all__) | {"SWALR"}
    assert public <= set(told)
    assert {name for name in public if told[name] == "yes"} == public & set(dialect.__all__)
    assert set(dialect.__all__) <= set(told)


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
