"""The dialect of optax against the live schedules of optax, which compute in double precision where JAX does."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import optax as dialect
from multisched.schedules.catalogue import DIALECTS

jax = pytest.importorskip("jax", reason="jax is not installed: optax needs it")
optax = pytest.importorskip("optax", reason="optax is not installed: there is nothing to compare with")


# --- optax, live -----------------------------------------------------------------------------------------------------
def live(schedule, updates):
    """What a schedule of optax gives at each of some updates; `schedule` makes it."""
    with jax.enable_x64(True):
        values = np.asarray(jax.vmap(schedule())(jax.numpy.arange(updates)))
    assert values.dtype == np.float64
    return values


def live_one(name, arguments, updates):
    return live(lambda: getattr(optax.schedules, name)(**arguments), updates)


def close(actual, expected):
    """To 1e-6 relative; where optax passes through zero, to what it leaves there in double precision."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


# --- arguments -------------------------------------------------------------------------------------------------------
MOST = 90  # updates
rates = st.floats(1e-4, 10)
some = st.one_of(rates, st.just(0.0), rates.map(lambda rate: -rate))
counts = st.integers(1, 20)
begins = st.integers(-3, 12)
powers = st.sampled_from([0, 0.5, 1, 1.5, 2, 3.0])
parts = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.85, 1.0]), st.floats(0, 1.2))
divisors = st.floats(0.5, 1e3)
scales = st.one_of(st.none(), st.dictionaries(st.integers(0, 40), st.floats(0, 2), max_size=5))
lines = {"init_value": some, "end_value": some, "transition_steps": st.integers(-2, 20)}
falls = {"transition_steps": st.integers(-2, 20), "decay_rate": st.sampled_from([0, 0.05, 0.5, 0.9, 0.99, 1.0, 1.1])}
fall_options = {"transition_begin": begins, "staircase": st.booleans(), "end_value": st.one_of(st.none(), some)}
cycle = {"init_value": some, "peak_value": some, "warmup_steps": st.integers(0, 8), "decay_steps": st.integers(9, 25)}
cycle_options = {"end_value": some, "exponent": powers}


def taken(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


cycles = taken(cycle, **cycle_options)
one_cycle = {"transition_steps": counts, "peak_value": rates}
cycle_parts = {"pct_start": parts, "div_factor": divisors, "final_div_factor": divisors}

ARGUMENTS = {
    "constant_schedule": taken({"value": some}),
    "linear_schedule": taken(lines, transition_begin=begins),
    "polynomial_schedule": taken({**lines, "power": powers}, transition_begin=begins),
    "exponential_decay": taken({"init_value": some, **falls}, **fall_options),
    "cosine_decay_schedule": taken(
        {"init_value": some, "decay_steps": counts}, alpha=st.floats(-0.5, 1.5), exponent=powers
    ),
    "piecewise_constant_schedule": taken({"init_value": some}, boundaries_and_scales=scales),
    "piecewise_interpolate_schedule": taken(
        {"interpolate_type": st.sampled_from(["linear", "cosine"]), "init_value": some}, boundaries_and_scales=scales
    ),
    "linear_onecycle_schedule": taken(one_cycle, **cycle_parts, pct_final=parts),
    "cosine_onecycle_schedule": taken(one_cycle, **cycle_parts),
    "warmup_constant_schedule": taken(
        {"init_value": some, "peak_value": some, "warmup_steps": st.integers(-2, 20)},
    ),
    "warmup_cosine_decay_schedule": cycles,
    "warmup_exponential_decay_schedule": taken(
        {"init_value": some, "peak_value": some, "warmup_steps": st.integers(0, 12), **falls}, **fall_options
    ),
    "sgdr_schedule": taken({"cosine_kwargs": st.lists(cycles, min_size=1, max_size=3)}),
}


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_values(name, data):
    """The value at each step, to twice the longest schedule, is what optax gives in double precision."""
    arguments = data.draw(ARGUMENTS[name])
    rule = getattr(dialect, name)(**arguments)
    close([rule(k) for k in range(MOST)], live_one(name, arguments, MOST))


@law
@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_steps_in_an_array(backend, name, data):
    """An array of integer steps gives float32, within 4 units, at the largest value, of what optax has."""
    arguments = data.draw(ARGUMENTS[name])
    expected = live_one(name, arguments, MOST)
    result = to_numpy(getattr(dialect, name)(**arguments)(make(np.arange(MOST), backend, "int32")), backend)
    assert (result.dtype, result.shape) == (np.float32, (MOST,))
    assert ulps(result, expected, np.abs(expected).max(), *largest(arguments)) <= 4


def largest(arguments):
    """The values among the arguments, which a schedule may come from or go to without reaching them."""
    names = ("value", "init_value", "end_value", "peak_value")
    each = [arguments, *arguments.get("cosine_kwargs", [])]
    return [given[name] for given in each for name in names if given.get(name) is not None]


LONG = {
    "polynomial_schedule": {"init_value": 1.0, "end_value": 0.1, "power": 0.5, "transition_steps": 10_000},
    "cosine_decay_schedule": {"init_value": 1.0, "decay_steps": 10_000, "exponent": 0.5},
    "exponential_decay": {"init_value": 1.0, "transition_steps": 7, "decay_rate": 0.99, "staircase": True},
    "warmup_cosine_decay_schedule": {
        "init_value": 0.0, "peak_value": 1.0, "warmup_steps": 500, "decay_steps": 10_000, "end_value": 0.1
    },
    "linear_onecycle_schedule": {"transition_steps": 10_000, "peak_value": 1.0},
    "cosine_onecycle_schedule": {"transition_steps": 10_000, "peak_value": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_long_schedules_in_an_array(backend, name):
    """Over ten thousand updates, too, an array of steps gives float32 within 4 units of optax, at the largest value."""
    expected = live_one(name, LONG[name], 10_050)
    result = to_numpy(getattr(dialect, name)(**LONG[name])(make(np.arange(10_050), backend, "int32")), backend)
    assert ulps(result, expected, 1.0) <= 4


@pytest.mark.parametrize("length", [12.0, 12.5])
def test_lengths_that_are_no_integers(length):
    """Lengths may be floats, and where optax joins no schedules also fractions of a step."""
    for name, arguments in (
        ("cosine_decay_schedule", {"init_value": 0.5, "decay_steps": length}),
        ("linear_schedule", {"init_value": 0.5, "end_value": 2.0, "transition_steps": length}),
        ("exponential_decay", {"init_value": 0.5, "transition_steps": length, "decay_rate": 0.5, "staircase": True}),
        ("warmup_cosine_decay_schedule", {**ONCE, "warmup_steps": length, "decay_steps": 2 * length}),
    ):
        rule = getattr(dialect, name)(**arguments)
        close([rule(k) for k in range(40)], live_one(name, arguments, 40))


ONCE = {"init_value": 0.25, "peak_value": 1.0, "warmup_steps": 4, "decay_steps": 12}


# --- several ---------------------------------------------------------------------------------------------------------
joinable = st.sampled_from([name for name in ARGUMENTS if name != "sgdr_schedule"]).flatmap(
    lambda name: st.tuples(st.just(name), ARGUMENTS[name])
)


@given(st.lists(joinable, min_size=1, max_size=4), st.data())
def test_one_after_the_other(chosen, data):
    """join_schedules: the next one rules at the boundary, from its own step 0; those between equal ones never do."""
    size = len(chosen) - 1
    boundaries = sorted(data.draw(st.lists(st.integers(0, 40), min_size=size, max_size=size)))
    rule = dialect.join_schedules([getattr(dialect, name)(**arguments) for name, arguments in chosen], boundaries)
    expected = live(
        lambda: optax.join_schedules([getattr(optax, name)(**arguments) for name, arguments in chosen], boundaries),
        MOST,
    )
    close([rule(k) for k in range(MOST)], expected)


def hyperbola(step):
    return 1 / (1 + 0.5 * step)


def test_functions_of_the_step_are_schedules():
    """join_schedules takes functions of the step, as optax does."""
    boundaries = [4, 20.0]
    rule = dialect.join_schedules([dialect.constant_schedule(0.5), hyperbola, hyperbola], boundaries)
    theirs = lambda: optax.join_schedules([optax.constant_schedule(0.5), hyperbola, hyperbola], boundaries)  # noqa: E731
    close([rule(k) for k in range(30)], live(theirs, 30))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("piecewise_constant_schedule", {"init_value": 1.0, "boundaries_and_scales": {3: 0.5, 5: 0.5}}),
        ("warmup_cosine_decay_schedule", ONCE),
        ("sgdr_schedule", {"cosine_kwargs": [ONCE, ONCE]}),
    ],
)
def test_the_clock_of_an_optimizer(name, arguments):
    """The rate that `optax.sgd` uses at its update k, counted from 0, is the value at step k, for either of the two."""
    rule = getattr(dialect, name)(**arguments)
    for learning_rate in (rule, getattr(optax, name)(**arguments)):
        optimizer = optax.sgd(learning_rate)
        state, used = optimizer.init(jax.numpy.zeros(())), []
        for _ in range(26):
            update, state = optimizer.update(jax.numpy.ones(()), state)
            used.append(-float(update))
        assert ulps(np.float32(used), [rule(k) for k in range(26)], 1.0) <= 4


# --- the same names --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DIALECTS.functions("optax"))
def test_signatures(name):
    """The arguments have the names, the order and the defaults that they have in optax."""
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (dialect, optax.schedules))
    as_plain = lambda parameters: [(p.name, p.kind, p.default) for p in parameters.values()]  # noqa: E731
    assert as_plain(ours) == as_plain(theirs)


def test_they_print_as_the_catalogue():
    """What a constructor builds is of the catalogue: it prints as it, is read again, and becomes data."""
    rule = dialect.sgdr_schedule([ONCE, {**ONCE, "end_value": 0.5}])
    assert (
        repr(rule)
        == "join([warmup(cosine(1.0, 8), 4, init=0.25), warmup(cosine(1.0, 8, end=0.5), 4, init=0.25)], [12])"
    )
    assert ms.parse(repr(rule)) == rule
    assert ms.from_config(rule.to_config()) == rule


@pytest.mark.parametrize("listed", [True, False], ids=["public", "in the table"])
def test_every_name_of_optax_is_there_or_in_the_table(listed):
    """Every public name of `optax.schedules` is in this dialect, or the page of the dialect says why not."""
    table = re.findall(r"^\| `(\w+)` \| (\S+)", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    public = {name for name in vars(optax.schedules) if not name.startswith("_")}
    if listed:
        assert public == {name for name, _ in table}
    else:
        assert set(DIALECTS.functions("optax")) == {name for name, here in table if here == "yes"}


DOCS = Path(__file__).parents[2] / "docs" / "dialects-optax.md"
