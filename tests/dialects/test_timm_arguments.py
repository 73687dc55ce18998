"""The dialect of timm: signatures, what there is of timm, plain data, functions, metrics, bad arguments."""

import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_timm import close, live, optimizer, schedulers
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import timm as dialect
from multisched.schedules.catalogue import DIALECTS

DOCS = Path(__file__).parents[2] / "docs" / "dialects-timm.md"


NAMES = set(DIALECTS.functions("timm")) - {"k_decay_polynomial"}  # which timm does not have


# --- the same names --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(NAMES))
def test_signatures(name):
    """The arguments have the names, the order and the defaults that they have in timm, `lr` in place of `optimizer`."""
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (dialect, schedulers))
    first, *others = ours.values()
    assert (first.name, first.default) == ("lr", inspect.Parameter.empty)
    as_plain = lambda parameters: [(p.name, p.kind, p.default) for p in parameters if p.name != "optimizer"]  # noqa: E731
    assert as_plain(others) == as_plain(theirs.values())


@pytest.mark.parametrize("listed", [True, False], ids=["public", "in the table"])
def test_every_name_of_timm_is_there_or_in_the_table(listed):
    """Every class and function of `timm.scheduler` is in this dialect, or its page says why not."""
    table = re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if listed:
        public = {name for name, value in vars(schedulers).items() if callable(value) and not name.startswith("_")}
        assert public == {name for name, _ in table}
    else:
        assert set(NAMES) == {name for name, here in table if here == "yes"}


# --- plain data ------------------------------------------------------------------------------------------------------
LINE = {"warmup_t": 5, "warmup_lr_init": 0.01}
THRICE = {"cycle_decay": 0.5, "cycle_limit": 3}
PRINTED = [
    (
        dialect.CosineLRScheduler(1, 300, 0.5, **LINE, warmup_prefix=True),
        "warmup(cosine(1, 300, end=0.5), 5, init=0.01)",
    ),
    (
        dialect.CosineLRScheduler(0.1, 300, **LINE),
        "linear(0.01, 0.1, 5) * piecewise_constant(1, {5: 0}) + cosine(0.1, 300) * piecewise_constant(0, {5: 1})",
    ),
    (dialect.CosineLRScheduler(1, 30, cycle_mul=2, cycle_limit=3), "cosine_restarts(1, 30, period_mul=2, cycles=3)"),
    (
        dialect.CosineLRScheduler(0.1, 30, 0.01, **THRICE),
        "cosine_restarts(0.1, 30, peak_mul=0.5, cycles=3) + cosine_restarts(0, 30, end=0.01, cycles=3)",
    ),
    (
        dialect.TanhLRScheduler(0.1, 10, cycle_mul=2, cycle_limit=2),
        "join([tanh(0.1, 10), tanh(0.1, 20)], [10])",
    ),
    (
        dialect.PolyLRScheduler(0.1, 10, lr_min=0.01, **THRICE),
        "join([exponential(0.1, 0.5, 10, staircase=True) * repeat(polynomial(1, 0, 10, power=0.5), 10)"
        " + 0.01 * (1 - repeat(polynomial(1, 0, 10, power=0.5), 10)), constant(0.01)], [30])",
    ),
    (dialect.StepLRScheduler(1, 2.4, 0.97, **LINE), "warmup(exponential(1, 0.97, 2.4, staircase=True), 5, init=0.01)"),
    (dialect.StepLRScheduler(0.1, 2.5, 0), "piecewise_constant(0.1, {3: 0.0})"),
    (dialect.MultiStepLRScheduler(0.1, [30, 60, 60], 0.5), "piecewise_scale(0.1, {29: 0.5, 59: 0.25})"),
    (dialect.WSDLRScheduler(0.1, 90, 20, **LINE), "warmup_stable_decay(0.1, 5, 70, 20, init=0.01, decay='1-sqrt')"),
    (
        dialect.WSDLRScheduler(0.1, 90, 20, stable_fn="rsqrt", decay_fn="linear", warmup_t=5),
        "warmup(inverse_sqrt(0.1, 0, timescale=5) * warmup_stable_decay(1, 0, 70, 20), 5)",
    ),
]


@pytest.mark.parametrize(("rule", "text"), PRINTED, ids=range(len(PRINTED)))
def test_they_print_as_the_catalogue(rule, text):
    """What a constructor builds is of the catalogue: it prints as it, is read again, becomes data and is pickled."""
    assert repr(rule) == text
    assert ms.parse(text) == rule
    assert ms.from_config(rule.to_config()) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_a_formula_of_its_own(backend):
    """PolyLRScheduler with `k_decay` prints as the formula that it is, and is data all the same, and declared."""
    rule = dialect.PolyLRScheduler(0.1, 12, k_decay=2.0)
    assert repr(rule) == "timm.k_decay_polynomial(0.1, 0.0, 12, 0.5, 2.0)"
    assert pickle.loads(pickle.dumps(rule)) == rule
    tensor = ms.declare(rule)
    values = [to_numpy(tensor.advance(), backend) for _ in range(14)]
    assert ulps(np.array(values), [rule(k) for k in range(14)], 0.1) <= 4
    assert ms.from_config(rule.to_config()) == ms.parse(repr(rule)) == rule


def test_in_expressions():
    """`timm:` names the schedulers in expressions."""
    assert ms.parse("0.5 * timm:StepLRScheduler(0.1, 30, 0.5)") == 0.5 * dialect.StepLRScheduler(0.1, 30, 0.5)
    assert ms.parse("timm:MultiStepLRScheduler(0.1, [3, 6], 0.5)") == dialect.MultiStepLRScheduler(0.1, [3, 6], 0.5)


def test_many_cycles_that_become_longer():
    """The 200th cycle is the last, and a schedule of so many, at fractions of steps, is still read and printed."""
    arguments = {"cycle_mul": 1.0625, "cycle_limit": 10_000}
    rule, steps = dialect.TanhLRScheduler(0.1, 8, **arguments), [1, 8, 20, 999, 12_345, 1_000_003, 20_000_000]
    close([rule(t) for t in steps], live("TanhLRScheduler", 0.1, {"t_initial": 8, **arguments}, steps))
    assert ms.from_config(rule.to_config()) == ms.parse(repr(rule)) == rule
    assert rule(2**33) == dialect.CosineLRScheduler(0.1, 8, **arguments)(2**33) == 0.0


# --- functions -------------------------------------------------------------------------------------------------------
def square(part):
    return 1 - part * part


def shifted(part):
    return 0.75 - 0.25 * part


@pytest.mark.parametrize("decay_fn", [square, shifted, ms.cosine(1.0, 1)], ids=["square", "shifted", "a schedule"])
@pytest.mark.parametrize(
    "arguments", [{}, {"decay_t": 1}, {"lr_min": 0.01}, {"stable_fn": "power", "stable_timescale": 3}]
)
def test_functions(backend, decay_fn, arguments):
    """A `decay_fn` that is a function, or a schedule, of the part that is over, which need not go from 1 to 0."""
    arguments = {"t_initial": 12, "decay_t": 5, "warmup_t": 3, "decay_fn": decay_fn, **arguments}
    rule, expected = dialect.WSDLRScheduler(0.5, **arguments), live("WSDLRScheduler", 0.5, arguments, range(30))
    close([rule(t) for t in range(30)], expected)
    assert ulps(to_numpy(rule(make(np.arange(30), backend, "int32")), backend), expected, 0.5) <= 4


# --- metrics ---------------------------------------------------------------------------------------------------------
@given(
    metrics=st.lists(st.floats(0.125, 8), min_size=1, max_size=60),
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["min", "max"]),
            "decay_rate": st.sampled_from([0.1, 0.5, 0.9]),
            "patience_t": st.integers(0, 3),
            "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
            "cooldown_t": st.integers(0, 3),
            "lr_min": st.sampled_from([0.0, 0.01, 0.25]),
        },
    ),
)
def test_reduced_on_a_plateau(metrics, arguments):
    """PlateauLRScheduler: after the n-th metric the rule has the rate that timm has set after `step(n, metric)`."""
    driven = optimizer(0.5)
    with pytest.warns(FutureWarning, match="deprecated"):
        scheduler = schedulers.PlateauLRScheduler(driven, **arguments)
    rule = dialect.PlateauLRScheduler(0.5, **arguments)
    state = rule.init(np.float64(0))
    for n, metric in enumerate(metrics, 1):
        scheduler.step(n, metric)
        state, rate = rule.step(state, np.float64(metric))
        close(float(rate), driven.param_groups[0]["lr"])
