"""The decay in the terms that people think in, and by the time that has passed, against their formulas."""

import math

import numpy as np
import pytest
from helpers import make, ulps
from helpers_laws import law, streams
from helpers_rules import stream
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

FORMULAS = {  # each with the alpha that it means, in plain Python
    "halflife": lambda h: 0.5 ** (1 / h),
    "span": lambda s: 1 - 2 / (s + 1),
    "com": lambda c: 1 - 1 / (1 + c),
    "tau": lambda t: math.e ** (-1 / t),
}
LEAST = {"halflife": 0.01, "span": 1.0, "com": 0.0, "tau": 0.01}
scales = pytest.mark.parametrize("name", FORMULAS)


# --- formulas --------------------------------------------------------------------------------------------------------
@scales
@given(data=st.data())
def test_each_scale_means_its_formula(name, data):
    """A scale is another way to write alpha: the rule is that of the alpha, which its repr shows."""
    value = data.draw(st.floats(LEAST[name], 1e6))
    rule = ms.ema(**{name: value})
    assert type(rule.alpha) is float
    assert abs(rule.alpha - FORMULAS[name](value)) <= 4 * np.spacing(1.0)
    assert rule == ms.ema(rule.alpha)
    assert eval(repr(rule), {"ema": ms.ema}) == rule


def test_what_the_scales_are_for():
    """A half-life halves a weight, tau leaves 1 / e of it, com is the mean age of values, span that of sma(span)."""
    ages = np.arange(5000)
    assert math.isclose(ms.ema(halflife=7).alpha ** 7, 0.5)
    assert math.isclose(ms.ema(tau=7).alpha ** 7, 1 / math.e)
    alpha = ms.ema(com=7).alpha
    assert math.isclose(np.sum((1 - alpha) * alpha**ages * ages), 7)
    assert math.isclose(ms.ema(span=15).alpha, alpha)  # the mean age in a window of 15 is 7


@scales
def test_scales_that_are_arrays(backend, name):
    """An array of scales is one for each element: each column is the average of that scale alone."""
    values = np.random.default_rng(0).normal(size=(6, 3))
    given_scales = [2.0, 5.0, 40.0]
    for kind in (list, np.array):
        rule = ms.ema(**{name: kind(given_scales)}, debias=True)
        assert rule == ms.ema([ms.ema(**{name: s}).alpha for s in given_scales], debias=True)
        together = stream(rule, values, backend)
    for column, scale in enumerate(given_scales):
        alone = stream(ms.ema(**{name: scale}, debias=True), values[:, column], backend)
        assert ulps(np.stack(together)[:, column], alone, 3.0) <= 4


@pytest.mark.parametrize("name", ["alpha", *FORMULAS])
@pytest.mark.parametrize(
    "wrong", [-0.5, math.nan, math.inf, -math.inf, "3", True, None, 1j, [0.5, -1], [[1], [1, 2]]], ids=repr
)
def test_what_is_no_scale(name, wrong):
    """A scale out of range, NaN, infinite or no number is a DecayError that names it."""
    expected = "Exactly one of alpha, halflife, span, com, tau" if wrong is None else name
    with pytest.raises(errors.DecayError, match=expected):
        ms.ema(**{name: wrong})


@pytest.mark.parametrize(
    ("name", "value"), [("halflife", 0), ("tau", 0.0), ("span", 0.999), ("com", -1e-9), ("alpha", 1.001)]
)
def test_the_bounds_of_the_scales(name, value):
    """A half-life or tau of 0, a span under 1 and a com under 0 would be no average."""
    with pytest.raises(errors.DecayError, match=name):
        ms.ema(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("span", 1), ("com", 0), ("alpha", 0), ("alpha", 0.0)])
def test_the_average_that_forgets_at_once(backend, name, value):
    """A span of 1, a com of 0 and an alpha of 0 are allowed: the average is the latest value."""
    for debias in (False, True):
        outputs = stream(ms.ema(**{name: value}, debias=debias), [3.0, 5.0, 4.0], backend)
        assert list(map(float, outputs)) == [3.0, 5.0, 4.0]


@pytest.mark.parametrize(
    "given_scales", [{}, {"span": 3, "com": 1}, {"alpha": 0.5, "tau": 2}, dict.fromkeys(FORMULAS, 3)]
)
def test_exactly_one_scale(given_scales):
    """None of the scales, or several, is an error that lists what was given."""
    with pytest.raises(errors.DecayError, match=", ".join(given_scales) or "none of them"):
        ms.ema(**given_scales)


# --- time ------------------------------------------------------------------------------------------------------------
RULES = {
    "plain": ms.ema(halflife=3.0),
    "debias": ms.ema(halflife=3.0, debias=True),
    "array": ms.ema(halflife=[3.0, 0.5], debias=True),
    "schedule": ms.ema(ms.piecewise_constant(0.5, {2: 0.9, 4: 0.25})),
    "decay_min": ms.ema(0.9, decay_min=True),
}
TIMES = [0.0, 1.0, 0.25, 7.0, 0.0, 2.5]
STREAM = np.random.default_rng(0).normal(size=(len(TIMES), 2))
timed = pytest.mark.parametrize("name", RULES)


def by_hand(name):
    """The averages of STREAM over TIMES, in plain double precision."""
    outputs, mean, weight = [], None, 0.0
    for n, (value, dt) in enumerate(zip(STREAM, TIMES, strict=True)):
        scheduled = 0.5 if n < 2 else 0.9 if n < 4 else 0.25
        decays = {"array": 0.5 ** (1 / np.array([3.0, 0.5])), "schedule": scheduled, "decay_min": (1 + n) / (10 + n)}
        alpha = decays.get(name, 0.5 ** (1 / 3.0))
        if name in ("debias", "array"):
            total = weight * alpha**dt + 1 - alpha
            mean = ((weight * alpha**dt) * (0 if mean is None else mean) + (1 - alpha) * value) / total
            weight = total
        else:
            mean = value if mean is None else mean * alpha**dt + value * (1 - alpha**dt)
        outputs.append(mean)
    return outputs


KINDS = {
    "Python floats": lambda dt, backend: dt,
    "NumPy scalars": lambda dt, backend: np.float64(dt),
    "arrays": lambda dt, backend: make(dt, backend),
}


@timed
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_time_since_the_value_before(backend, name, kind):
    """The old average has the weight `alpha ** dt`, whatever the kind of number that dt is."""
    outputs = stream(RULES[name], STREAM, backend, dt=[kind(dt, backend) for dt in TIMES])
    for output, expected in zip(outputs, by_hand(name), strict=True):
        assert ulps(output, expected, np.abs(STREAM).max()) <= 4 * len(TIMES)


@timed
def test_a_unit_of_time_is_an_update(backend, name):
    """dt=1 is the same as no dt, and an int is as good as a float."""
    plain = stream(RULES[name], STREAM, backend)
    for one in (1, 1.0, make(1, backend, "int32")):
        outputs = stream(RULES[name], STREAM, backend, dt=[one] * len(STREAM))
        assert ulps(np.stack(outputs), np.stack(plain), np.abs(STREAM).max()) <= 4 * len(TIMES)


@timed
def test_no_time_and_all_time(backend, name):
    """In no time an average with no debiasing stays as it is; after an endless time only the latest value is left."""
    rule = RULES[name]
    still = stream(rule, STREAM, backend, dt=[0.0] * len(STREAM))
    if not rule.debias:
        assert all(np.array_equal(output, still[0]) for output in still)
    gone = stream(rule, STREAM, backend, dt=[math.inf] * len(STREAM))
    assert ulps(np.stack(gone), STREAM, np.abs(STREAM).max()) <= 4


@pytest.mark.parametrize("dt", [0.0, 1.0, 1e30, math.inf])
def test_a_decay_of_1_never_fades(backend, dt):
    """At an alpha of 1, which no time wears down, the first value stands."""
    for rule in (ms.ema(1.0), ms.ema([1.0]), ms.ema(1)):
        outputs = stream(rule, [[3.0], [5.0], [4.0]], backend, dt=[dt] * 3)
        assert [output.tolist() for output in outputs] == [[3.0]] * 3


@timed
def test_traced_times_in_jax(name):
    """Scanned over, with times that only the compiler knows, the averages are the same."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    values, times = (jax.numpy.asarray(a, "float32") for a in (STREAM, TIMES))
    rule = RULES[name]
    step = lambda state, given_now: rule.step(state, given_now[0], dt=given_now[1])  # noqa: E731  # for scan
    _, outputs = jax.lax.scan(step, rule.init(values[0]), (values, times))
    assert ulps(np.asarray(outputs), np.stack(by_hand(name)), np.abs(STREAM).max()) <= 4 * len(TIMES)


@pytest.mark.parametrize("name", ["plain", "array"])
def test_traced_times_in_torch(name):
    """Traced by torch as one graph, with times as tensors, the averages are the same; nothing is traced anew."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    traces = []
    torch._dynamo.reset()

    def counting(graph, inputs):
        traces.append(graph)
        return graph.forward

    rule = RULES[name]
    step = torch.compile(rule.step, fullgraph=True, backend=counting)
    state = rule.init(torch.zeros(2))
    for value, dt, expected in zip(STREAM, TIMES, by_hand(name), strict=True):
        state, output = step(state, torch.tensor(value, dtype=torch.float32), dt=torch.tensor(dt))
        assert ulps(output.numpy(), expected, np.abs(STREAM).max()) <= 4 * len(TIMES)
    assert len(traces) == 1


WRONG_TIMES = [
    -1,
    -0.5,
    math.nan,
    np.float32(-1),
    np.float64("nan"),
    "1",
    True,
    [1.0],
    1j,
    np.array([1.0]),
    np.array(True),
]


@pytest.mark.parametrize("wrong", WRONG_TIMES, ids=repr)
@pytest.mark.parametrize("debias", [False, True])
def test_what_is_no_time(wrong, debias):
    """A dt that is negative, NaN or no real scalar is an error that shows it, and the state is as it was."""
    rule = ms.ema(halflife=3, debias=debias)
    state, _ = rule.step(rule.init(np.float32(1)), np.float32(2))
    before = [np.array(part) for part in state if not isinstance(part, tuple)]
    with pytest.raises(errors.TimeStepError, match="dt is the time since the value before"):
        rule.step(state, np.float32(3), dt=wrong)
    assert [np.array(part) for part in state if not isinstance(part, tuple)] == before


@pytest.mark.parametrize("rule", [ms.sma(3), ms.swa(), ms.plateau(1.0)], ids=repr)
def test_only_an_average_that_fades_has_times(rule):
    """Rules whose values do not fade take no dt: it is no argument of theirs."""
    with pytest.raises(TypeError, match="dt"):
        rule.step(rule.init(np.float32(1)), np.float32(2), dt=1.0)


# --- all values, equally ---------------------------------------------------------------------------------------------
@law
@given(values=streams)
def test_swa_is_the_mean_of_all(backend, values):
    """The average of all values is their exact sum over their number, to the rounding of an update at each."""
    for t, output in enumerate(stream(ms.swa(), values, backend), start=1):
        assert ulps(output, math.fsum(values[:t]) / t, max(map(abs, values[:t]))) <= 4 * max(1, t / 2)


def test_swa_of_a_constant_is_that_constant(backend):
    """Over a thousand updates nothing drifts."""
    outputs = stream(ms.swa(), [0.1] * (200 if backend == "jax" else 1000), backend)
    assert {float(output) for output in outputs} == {float(np.float32(0.1))}
