"""`plateau` against torch's ReduceLROnPlateau, live and in plain Python, on metrics that may be infinite or NaN."""

import inspect
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_laws import law
from hypothesis import assume, given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.dialects import torch as dialect

INF, NAN = math.inf, math.nan


class Reference:
    """The rates of parameter groups, as torch sets them, in plain Python; `threshold_mode` may also be "size"."""

    def __init__(
        self,
        rates,
        mode="min",
        factor=0.1,
        patience=10,
        threshold=1e-4,
        threshold_mode="rel",
        cooldown=0,
        min_lr=0,
        eps=1e-8,
    ):
        self.rates = list(rates)
        self.least = list(min_lr) if isinstance(min_lr, list) else [min_lr] * len(self.rates)
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.best = INF if mode == "min" else -INF
        self.bad = self.rest = 0

    def line(self):
        """What a metric must be beyond."""
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "abs":
            return self.best + sign * self.threshold
        if self.threshold_mode == "size" and math.isinf(self.best):
            return self.best
        if self.threshold_mode == "size" and self.best < 0:
            sign = -sign
        return self.best * (1.0 + sign * self.threshold)

    def step(self, metric):
        if metric < self.line() if self.mode == "min" else metric > self.line():
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.rest > 0:
            self.rest -= 1
            self.bad = 0
        if self.bad > self.patience:
            lower = [max(rate * self.factor, least) for rate, least in zip(self.rates, self.least, strict=True)]
            self.rates = [new if old - new > self.eps else old for old, new in zip(self.rates, lower, strict=True)]
            self.rest, self.bad = self.cooldown, 0
        return self.rates


def drawn(**more):
    """Arguments of torch's class, by name."""
    options = {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        "patience": st.integers(0, 3),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1, 0.125, 1.0, 1.5]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 3),
        "min_lr": st.sampled_from([0, 0.01, 0.25]),
        "eps": st.sampled_from([0, 1e-8, 0.03]),
    }
    return st.fixed_dictionaries({}, optional={**options, **more})


numbers = st.one_of(
    st.sampled_from([INF, -INF, NAN]),
    st.integers(-20, 20).map(lambda k: k / 10),
    st.integers(-64, 64).map(lambda k: k / 16),
)
metrics = st.lists(numbers, min_size=1, max_size=15)
two_groups = {"min_lr": st.sampled_from([0.01, [0.25, 0.001], [0.0, 0.125]])}


def followed(rule, given, backend, dtype):
    """The values of a rule after each metric, on the host."""
    state, found = rule.init(make(0.0, backend, dtype)), []
    for metric in given:
        state, value = rule.step(state, make(metric, backend, dtype))
        found.append(to_numpy(value, backend).astype("float64"))
    return np.array(found)


def exact(backend):
    return backend != "jax"  # which has no double precision, unless it is asked for it


# --- torch's own -----------------------------------------------------------------------------------------------------
@given(metrics=st.lists(st.one_of(numbers, st.floats()), min_size=1, max_size=40), arguments=drawn(**two_groups))
def test_the_reference_is_torch(metrics, arguments):
    """The plain Python above is what the live class does, for any metrics."""
    torch = pytest.importorskip("torch", reason="torch is not installed: there is nothing to compare with")
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.5, 0.75)]
    optimizer = torch.optim.SGD(groups)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    reference = Reference([0.5, 0.75], **arguments)
    for metric in metrics:
        scheduler.step(metric)
        assert [group["lr"] for group in optimizer.param_groups] == reference.step(metric)


def test_the_arguments_are_those_of_torch(torch):
    """Their names, order and defaults."""
    live = inspect.signature(torch.optim.lr_scheduler.ReduceLROnPlateau).parameters
    ours = inspect.signature(dialect.ReduceLROnPlateau).parameters
    told = [[(name, parameter.default) for name, parameter in given.items()][1:] for given in (live, ours)]
    assert told[0] == told[1]


@given(metrics=st.lists(st.one_of(numbers, st.floats()), min_size=1, max_size=40), arguments=drawn(**two_groups))
def test_the_dialect_in_double_precision(metrics, arguments):
    """The rates are those of the class to the bit, also where a metric lies on the line, for one group and for two."""
    with np.errstate(over="ignore"):
        one = arguments | {"min_lr": 0.01}
        expected = [Reference([0.5], **one), Reference([0.5, 0.75], **arguments)]
        for rates, rule in (
            (expected[0], dialect.ReduceLROnPlateau(0.5, **one)),
            (expected[1], dialect.ReduceLROnPlateau([0.5, 0.75], **arguments)),
        ):
            found = followed(rule, metrics, "numpy", "float64")
            assert found.reshape(len(metrics), -1).tolist() == [list(rates.step(metric)) for metric in metrics]


# --- on every backend ------------------------------------------------------------------------------------------------
def near_the_line(reference, metric):
    """Whether single precision may take a metric for one on the other side of the line."""
    best = reference.best
    if not (math.isfinite(best) and math.isfinite(metric)):
        return False
    part = Fraction(reference.threshold) * (1 if reference.threshold_mode == "abs" else abs(Fraction(best)))
    lines = [Fraction(best) - part, Fraction(best) + part]
    return any(0 < abs(Fraction(metric) - line) <= Fraction(abs(best)) / 10**7 for line in lines)


@law
@given(metrics=metrics, arguments=drawn(threshold_mode=st.sampled_from(["rel", "abs", "size"])))
def test_infinite_and_missing_metrics(backend, metrics, arguments):
    """For all margins the values are those of the reference, in double precision to the bit, and in single to 1e-6."""
    arguments = {"threshold_mode": "size", "eps": 0.0, **arguments}
    renamed = {("minimum" if name == "min_lr" else name): value for name, value in arguments.items()}
    rule = ms.plateau(0.5, **renamed)
    if exact(backend):
        reference = Reference([0.5], **arguments)
        found = followed(rule, metrics, backend, "float64")
        assert found.tolist() == [reference.step(metric)[0] for metric in metrics]
    single = [float(np.float32(metric)) for metric in metrics]
    reference, expected = Reference([0.5], **arguments), []
    for metric in single:
        assume(not near_the_line(reference, metric))
        expected += reference.step(metric)
    np.testing.assert_allclose(followed(rule, single, backend, "float32"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "given", "rates"),
    [
        ("min", [INF, 5, 4, 3], [1, 1, 1, 1]),  # bad, then better
        ("min", [INF, INF, INF], [1, 0.5, 0.5]),  # and bad again
        ("min", [NAN, NAN, 5, 4], [1, 0.5, 0.5, 0.5]),
        ("min", [-INF, -5, -6, -7], [1, 1, 0.5, 0.5]),  # nothing is better
        ("min", [3, INF, 2, NAN, 1], [1, 1, 1, 1, 1]),
        ("max", [-INF, 1, 2, 3], [1, 1, 1, 1]),
        ("max", [-INF, -INF, 1], [1, 0.5, 0.5]),
        ("max", [INF, 1, 2, INF], [1, 1, 0.5, 0.5]),
    ],
)
def test_by_hand(backend, mode, given, rates):
    """With a patience of 1: the first metric is compared with the worst of all."""
    for threshold_mode in ("size", "rel", "abs"):
        rule = ms.plateau(1.0, factor=0.5, patience=1, mode=mode, threshold_mode=threshold_mode)
        assert followed(rule, given, backend, "float32").tolist() == rates


@pytest.mark.parametrize(("mode", "worst", "better"), [("min", INF, 3.0), ("max", -INF, -3.0)])
def test_a_state_that_took_the_worst_for_the_best(backend, mode, worst, better):
    """A state in which an infinite first metric stands as the best one, as 0.1 wrote them, goes on as if it did not."""
    rule = ms.plateau(1.0, factor=0.5, patience=0, mode=mode)
    state = rule.init(make(0.0, backend))._replace(best=make(worst, backend), seen=make(True, backend, "bool"))
    state, value = rule.step(state, make(better, backend))
    assert (float(state.best), float(value)) == (better, 1.0)


@pytest.mark.parametrize("low", [1.0, 0.7, -0.3, 12.5])
def test_metrics_close_to_the_line(backend, low):
    """In single precision, neighbours of the line on both sides are told apart as double precision tells them."""
    for part in (1e-4, 0.1, 0.3):
        for mode in ("min", "max"):
            best = float(np.float32(low))
            reference = Reference([1.0], mode, threshold=part)
            reference.step(best)
            line = np.float32(reference.line())
            for metric in (np.nextafter(line, np.float32(-INF)), np.nextafter(line, np.float32(INF))):
                rule = dialect.ReduceLROnPlateau(1.0, mode, 0.5, 0, part)
                reference = Reference([1.0], mode, 0.5, 0, part)
                expected = [reference.step(value)[0] for value in (best, float(metric))]
                assert followed(rule, [best, float(metric)], backend, "float32").tolist() == expected


# --- several values --------------------------------------------------------------------------------------------------
def test_a_value_for_each_group(backend):
    """Lists give an axis of values, which fall together, each to its own minimum; the metric may have a shape, too."""
    rule = ms.plateau([1.0, 0.5], factor=0.5, patience=0, minimum=[0.25, 0.5])
    state = rule.init(make(np.zeros(2), backend))
    assert [tuple(part.shape) for part in state] == [(2, 2), (2,), (2,), (2,), (2,)]
    assert to_numpy(rule.read(state, make(np.zeros(2), backend)), backend).tolist() == [[1.0, 0.5]] * 2
    seen = []
    for metric in ([1.0, 1.0], [2.0, 0.5], [2.0, 0.25], [2.0, 0.5]):
        state, value = rule.step(state, make(metric, backend))
        seen.append(to_numpy(value, backend).tolist())
    assert seen[1] == [[0.5, 0.5], [1.0, 0.5]]
    assert seen[3] == [[0.25, 0.5], [0.5, 0.5]]
    masked, value = rule.step(state, make([3.0, 3.0], backend), where=make(False, backend, "bool"))
    assert to_numpy(value, backend).tolist() == seen[3]
    assert int(masked.bad[0]) == int(state.bad[0])


def test_declared(backend):
    """A declared rule with a value for each group gives what the pure one gives."""
    rule = dialect.ReduceLROnPlateau(0.5, factor=0.5, patience=0, min_lr=[0.125, 0.25])
    metric = ms.Placeholder((), name="metric")
    value = ms.declare(rule, metric)[0]
    f = ms.function(metric, outputs=value, updates=ms.get_updates())
    given = [INF, 3.0, 3.0, NAN, 2.0]
    found = [np.asarray(f(np.float32(x), device_get=True)).tolist() for x in given]
    assert found == followed(rule, given, backend, "float32").tolist()
    assert found[-1] == [0.125, 0.25]


def test_compiled(jax):
    """Under `jax.jit` and `lax.scan` the values are the eager ones, for one and for several."""
    given = jax.numpy.asarray([INF, 3.0, 3.0, NAN, -INF, 2.0])
    for rule in (ms.plateau(1.0, factor=0.5, patience=0), dialect.ReduceLROnPlateau([1.0, 0.5], patience=0)):
        _, found = jax.jit(lambda given, rule=rule: jax.lax.scan(rule.step, rule.init(given[0]), given))(given)
        np.testing.assert_array_equal(found, followed(rule, given.tolist(), "jax", "float32"))


@law
@given(metrics=metrics, arguments=drawn(min_lr=st.sampled_from([[0.25, 0.001], [0.0, 0.125]])))
def test_driving_groups(torch, metrics, arguments):
    """`ms.drive` gives each group the rate that torch gives it, also where a run is saved and resumed."""
    arguments = {"min_lr": [0.125, 0.01], **arguments}
    rule, reference = dialect.ReduceLROnPlateau([0.5, 0.75], **arguments), Reference([0.5, 0.75], **arguments)

    def driven():
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, ms.drive(optimizer, lr=rule)

    first, driver = driven()
    for metric in metrics:
        driver.report(metric)
        assert [group["lr"] for group in first.param_groups] == reference.step(metric)
    second, resumed = driven()
    resumed.load_state_dict(driver.state_dict())
    for metric in metrics:
        resumed.report(metric)
        assert [group["lr"] for group in second.param_groups] == reference.step(metric)


def test_groups_that_do_not_fit(torch):
    """A rule of several values drives as many groups, and multiplies nothing."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    with pytest.raises(errors.OptimizerError, match="a rule of 2 values, one for each group, and there are 1 groups"):
        ms.drive(optimizer, lr=ms.plateau([0.1, 0.2]))
    with pytest.raises(errors.NotARule, match="one value"):
        ms.drive(optimizer, lr=ms.constant(0.1), plateau=ms.plateau([1.0, 1.0]))
    with pytest.raises(errors.NotARule):
        ms.relative(ms.plateau([1.0, 1.0]))
    assert optimizer.param_groups[0]["lr"] == 0.5


# --- as data ---------------------------------------------------------------------------------------------------------
RULES = [
    ms.plateau(1.0),
    ms.plateau([1.0, 0.5], 0.5, 3, 0.01, "max", 2, [0.1, 0.01], "abs", 1e-6),
    dialect.ReduceLROnPlateau(0.1, min_lr=[0.1, 0.01]),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_it_is_plain_data(rule):
    """Equal to its pickle and to what its text and its config build, and hashable."""
    config = json.loads(json.dumps(rule.to_config(), allow_nan=False))
    texts = eval(repr(rule), {"plateau": ms.plateau}), ms.parse(repr(rule))
    for again in (pickle.loads(pickle.dumps(rule)), ms.from_config(config), *texts):
        assert (again, hash(again), repr(again)) == (rule, hash(rule), repr(rule))


def test_by_the_name_of_torch():
    """The command line's form of the dialect builds it, and it is printed as what it is built of."""
    rule = ms.parse("torch:ReduceLROnPlateau(0.1, 'max', min_lr=[0.1, 0.01])")
    assert rule == dialect.ReduceLROnPlateau(0.1, "max", min_lr=[0.1, 0.01])
    assert repr(rule).startswith("plateau(0.1, mode='max', ")


@pytest.mark.parametrize(
    "arguments",
    [
        {"init": "1"},
        {"init": []},
        {"init": [[1.0]]},
        {"init": [1.0, NAN]},
        {"init": NAN},
        {"init": True},
        {"init": None},
        {"init": [0.1, 0.2], "minimum": [0.1]},
        {"minimum": [0.1, "a"]},
        {"minimum": {}},
        {"factor": 1.0},
        {"factor": -0.1},
        {"factor": [0.5]},
        {"patience": -1},
        {"patience": 1.5},
        {"cooldown": True},
        {"threshold": -1e-4},
        {"threshold": NAN},
        {"eps": -1e-8},
        {"eps": "0"},
        {"mode": "most"},
        {"mode": ["min"]},
        {"threshold_mode": "relative"},
        {"threshold_mode": None},
    ],
    ids=str,
)
def test_bad_arguments(arguments):
    """Each is a `RuleError` that names the argument."""
    with pytest.raises(errors.RuleError, match=next(iter(arguments))):
        ms.plateau(**{"init": 1.0, **arguments})
