"""A schedule at a Python number: compiled to Python, it gives what its formula gives on arrays in double precision."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import multisched as ms

STEPS = (0, 1, 2, 3, 7, 100, -1, -3, 12345, 2**31, 2**52)


def on_arrays(formula, step):
    """A formula on a NumPy array in double precision, as anybody would run it."""
    with np.errstate(all="ignore"):
        return float(formula(np, np.asarray(step, dtype=np.float64)))


def compiled(formula):
    """A schedule without parameters."""
    rule = lambda xp, step: formula(xp, step)  # noqa: E731  # a new one, that no cache can know
    return ms.schedule(dict)(rule)()


def same(result, expected, ulps=0):
    """Equal, both NaN, or so many units in the last place apart."""
    if math.isnan(expected) or math.isinf(expected) or ulps == 0:
        return math.isnan(result) if math.isnan(expected) else result == expected
    return abs(result - expected) <= ulps * np.spacing(abs(expected))


# --- drawn formulas, of operations that every implementation rounds correctly ----------------------------------------
CONSTANTS = st.one_of(st.integers(-3, 3), st.floats(-4, 4), st.sampled_from([0.0, 1e300, 1e-300, math.inf]))
UNARY = {"-": lambda xp, a: -a, "abs": lambda xp, a: xp.abs(a), "sqrt": lambda xp, a: xp.sqrt(a)}
BINARY = {
    "+": lambda xp, a, b: a + b,
    "-": lambda xp, a, b: a - b,
    "*": lambda xp, a, b: a * b,
    "/": lambda xp, a, b: a / b,
    "minimum": lambda xp, a, b: xp.minimum(a, b),
    "maximum": lambda xp, a, b: xp.maximum(a, b),
}
CONDITIONS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "not >": lambda a, b: ~(a > b),
    "!= and >=": lambda a, b: (a != b) & (a >= b),
    "> or ==": lambda a, b: (a > b) | (a == b),
}


def branches(parts):
    return st.one_of(
        st.tuples(st.sampled_from(list(UNARY)), parts),
        st.tuples(st.sampled_from(list(BINARY)), parts, parts),
        st.tuples(st.sampled_from(list(BINARY)), parts, CONSTANTS.map(lambda c: ("constant", c))),
        st.tuples(st.sampled_from(list(CONDITIONS)), parts, parts, parts, parts),
    )


formulas = st.recursive(st.just(("step",)), branches, max_leaves=12)


def evaluate(tree, xp, step):
    """A drawn formula at a step."""
    name, *parts = tree
    if name == "step":
        return step
    if name == "constant":
        return parts[0]
    values = [evaluate(part, xp, step) for part in parts]
    if len(values) == 4:
        return xp.where(CONDITIONS[name](*values[:2]), *values[2:])
    return (UNARY if len(values) == 1 else BINARY)[name](xp, *values)


ENDLESS = ("*", ("step",), ("constant", math.inf))


@given(tree=formulas)
@example(tree=("/", ("constant", 1.0), ("step",)))
@example(tree=("minimum", ("-", ENDLESS, ENDLESS), ("step",)))
@example(tree=("sqrt", ("-", ("step",))))
@example(tree=("not >", ("sqrt", ("step",)), ("step",), ("/", ("step",), ("step",)), ("-", ("step",))))
def test_drawn_formulas(tree):
    """At Python numbers a formula gives the double, to the last bit, that it gives on arrays, infinite or NaN too."""
    formula = lambda xp, step: evaluate(tree, xp, step)  # noqa: E731  # closes over the tree
    rule = compiled(formula)
    for step in (0, 1, 2, 7, -1, -3, 0.5, -2.25, 1e300):  # whole numbers stay exact in both, with 12 leaves
        result, expected = rule(step), on_arrays(formula, step)
        assert type(result) is float
        assert same(result, expected), f"{result} != {expected} at {step}"


# --- functions -------------------------------------------------------------------------------------------------------
FUNCTIONS = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "floor",
    "ceil",
    "trunc",
)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(step=st.one_of(st.integers(-1000, 1000), st.floats(-10, 10), st.sampled_from([math.inf, -math.inf, math.nan])))
@example(step=0)
@example(step=-1)
@example(step=1000)
def test_functions_in_and_out_of_their_domains(name, step):
    """log(0), sqrt(-1), exp(1000), sin(inf) and the like are what they are on arrays; no number raises."""
    formula = lambda xp, step: getattr(xp, name)(step) * 2  # noqa: E731  # closes over the name
    result = compiled(formula)(step)
    assert type(result) is float
    assert same(result, on_arrays(formula, step), ulps=4)


@pytest.mark.parametrize(
    "formula", [lambda xp, step: step**0.5, lambda xp, step: 2.0**step, lambda xp, step: step**-1.0]
)
@pytest.mark.parametrize("step", [0, 1, 2, 10, -1, -2, 5000, -5000])
def test_powers(formula, step):
    """Powers, too: a root of a negative number is NaN and no complex number, 0 ** -1 and 2 ** 5000 are infinite."""
    result = compiled(formula)(step)
    assert type(result) is float
    assert same(result, on_arrays(formula, step), ulps=4)


@pytest.mark.parametrize("form", ["once", "shared"])
@pytest.mark.parametrize(
    "untaken", [lambda xp, s: 1 / s, lambda xp, s: xp.log(s), lambda xp, s: xp.sqrt(s), lambda xp, s: xp.exp(-1000 * s)]
)
def test_a_branch_that_is_not_taken_does_no_harm(form, untaken):
    """What divides by zero, or is out of a domain, in the branch that is not taken changes nothing in the other."""

    def formula(xp, step):
        value = untaken(xp, step)
        return xp.where(step > 0, value if form == "once" else value + value, step + 4.25)

    rule = compiled(formula)
    for step in (0, -1, -3, 1, 2, 3):
        assert same(rule(step), on_arrays(formula, step), ulps=4)
        assert step > 0 or rule(step) == step + 4.25


# --- what cannot be compiled -----------------------------------------------------------------------------------------
@ms.schedule(lambda rate: {"rate": rate})
def branching(xp, step, rate):
    """A formula that only runs on values: it asks which branch to take."""
    if step < 3:
        return step * rate
    return float(step) - rate


@ms.schedule(lambda rate: {"rate": rate})
def foreign(xp, step, rate):
    """A formula that uses a function which the numbers do not have."""
    return xp.square(step) * rate


def test_formulas_with_an_if_run_as_they_are():
    """A formula with an `if`, or with a function beyond those that schedules use, still gives Python floats."""
    for rule, expected in ((branching(0.5), [0.0, 0.5, 1.0, 2.5]), (foreign(0.5), [0.0, 0.5, 2.0, 4.5])):
        results = [rule(step) for step in range(4)]
        assert (results, {type(r) for r in results}) == (expected, {float})
        composed = 2 * rule + 1
        results = [composed(step) for step in range(4)]
        assert (results, {type(r) for r in results}) == ([2 * e + 1 for e in expected], {float})


def test_an_error_of_the_formula_is_not_hidden():
    """What a formula raises on values of any kind comes out, with its own type and words."""

    @ms.schedule(dict)
    def wrong(xp, step):
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        wrong()(3)


@pytest.mark.parametrize("constant", [np.float64(0.5), np.float32(0.5), np.int64(2), 0.5, 2, True, math.inf, 2**70])
@pytest.mark.parametrize("reflected", [False, True])
def test_constants_of_every_kind(constant, reflected):
    """A formula may hold numbers of Python or NumPy, on either side of an operator."""
    formula = lambda xp, step: constant * step if reflected else step * constant  # noqa: E731  # closes over it
    result = compiled(formula)(3)
    assert (result, type(result)) == (3 * float(constant), float)


@pytest.mark.parametrize("value", [3, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(3)])
def test_a_formula_that_forgets_the_step(value):
    """A formula that returns a bare number gives it as a Python float at every step."""
    rule = compiled(lambda xp, step: value)
    assert [(rule(step), type(rule(step))) for step in (0, 10)] == [(float(value), float)] * 2


# --- long ones -------------------------------------------------------------------------------------------------------
OPERATIONS = (lambda v: v + 1, lambda v: v * 0.5, lambda v: 3 - v, lambda v: abs(v), lambda v: v / 1.5)


def test_a_formula_of_500_operations():
    """A formula may be a chain of 500 operations, each used once or twice."""

    def formula(xp, step):
        for n in range(500):
            step = OPERATIONS[n % 5](step) if n % 7 else step + step * 0.25
        return step

    rule = compiled(formula)
    assert [rule(step) for step in STEPS] == [on_arrays(formula, step) for step in STEPS]


def long_composition():
    """Arithmetic on a schedule, 100 times over, and its value at step 3."""
    rule, value = ms.linear(1.0, 2.0, 4), 1.75
    for n in range(100):
        rule, value = OPERATIONS[n % 5](rule), OPERATIONS[n % 5](value)
    return rule, value


def test_a_long_composition():
    """Arithmetic on a schedule, 100 times over, is a schedule as any other: at numbers, at arrays, equal by value."""
    (rule, value), (again, _) = long_composition(), long_composition()
    assert (rule(3), type(rule(3))) == (value, float)
    assert rule(np.float64([3.0])).tolist() == [value]
    assert (rule, hash(rule)) == (again, hash(again))


def test_a_long_composition_is_printed_in_one_pass(monkeypatch):
    """The repr of a composition visits each part once or twice, not twice as often at each level."""
    rule, _ = long_composition()
    original, calls = ms.Schedule.__repr__, []

    def counted(self):
        calls.append(self)
        if len(calls) > 1000:
            pytest.fail("repr visits its parts over and over")
        return original(self)

    monkeypatch.setattr(ms.Schedule, "__repr__", counted)
    assert repr(rule).count(" / 1.5") == 20


@pytest.mark.parametrize("count", [4, 5, 10_000])
def test_wide_piecewise(count):
    """Of 10,000 keys the value is that of the last key reached, at, before and after each, to the last bit."""
    rng = np.random.default_rng(0)
    keys = np.sort(rng.choice(10**6, count, replace=False)).tolist()
    values = rng.normal(size=count).tolist()
    constant = ms.piecewise_constant(0.5, dict(zip(keys, values, strict=True)))
    for n in range(0, count, max(1, count // 500)):
        before = values[n - 1] if n else 0.5
        assert (constant(keys[n] - 0.5), constant(keys[n]), constant(keys[n] + 0.5)) == (before, values[n], values[n])
    assert (constant(10**9), constant(-1), type(constant(10**9))) == (values[-1], 0.5, float)


def test_wide_interpolation():
    """Through 2,000 points, the values are those of NumPy's own interpolation."""
    rng = np.random.default_rng(1)
    keys = np.sort(rng.choice(10**5, 2_000, replace=False)).tolist()
    values = rng.normal(size=2_000).tolist()
    rule = ms.piecewise_interpolate(dict(zip(keys, values, strict=True)))
    for step in (0, keys[0], keys[77], keys[77] + 1, 50_000, keys[-1], 10**6):
        assert abs(rule(step) - np.interp(step, keys, values)) <= 8 * np.spacing(np.abs(values).max())


@pytest.mark.parametrize(
    "step",
    [2**53 + 1, 2**63, 2**70, 10**30, 10**400, -(10**400)],
    ids=lambda n: f"{n:.0e}" if abs(n) < 2**80 else "huge",
)
def test_any_int_is_a_step(step):
    """Steps may be Python ints of any size: past its end a schedule holds its last value, before 0 its first."""
    ending = [
        (ms.cosine(0.5, 100), 0.5, 0.0),
        (ms.linear(1.0, 3.0, 7), 1.0, 3.0),
        (ms.exponential(1.0, 0.5, 10), 1.0, 0.0),
        (ms.inverse_time(1.0, 1.0, 10), 1.0, 0.0),
        (2 * ms.piecewise_constant(0.5, {4: 1}) + 1, 2.0, 3.0),
    ]
    for rule, first, last in ending:
        result, expected = rule(step), first if step < 0 else last
        assert type(result) is float
        assert abs(result - expected) <= 1e-14
