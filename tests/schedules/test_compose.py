"""Arithmetic of schedules and numbers gives schedules, with the values of the same arithmetic on their values."""

import copy
import operator
import pickle

import numpy as np
import pytest
from helpers import make, piecewise_reference, to_numpy, ulps
from helpers_laws import law
from helpers_trees import BINARY, ON_SCHEDULES, STEPS, superfluous_parentheses, trees
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

LR = ms.piecewise_constant(0.5, {2: 1, 4: 3.0})
OTHER = ms.linear(1.0, 2.0, 4)
NAMES = {name: getattr(ms, name) for name in ("linear", "maximum", "minimum", "piecewise_constant")}
operations = pytest.mark.parametrize("name", list(BINARY))


# --- values ----------------------------------------------------------------------------------------------------------
@given(tree=trees())
def test_at_python_ints_it_is_python_arithmetic(tree):
    """At a Python int the value is a Python float, equal to the last bit to the expression in plain Python."""
    results = [tree.made(step) for step in STEPS]
    assert results == [float(value) for value in tree.values]
    assert {type(result) for result in results} == {float}


@law
@given(tree=trees())
def test_at_arrays_it_is_within_the_rounding_of_float32(backend, tree):
    """At integer steps the values are float32, off by no more than the roundings of the operations add up to."""
    result = to_numpy(tree.made(make(STEPS, backend, "int32")), backend)
    assert (result.dtype, result.shape) == (np.float32, (len(STEPS),))
    distance = np.abs(result.astype(np.float64) - tree.values)
    assert (distance <= tree.errors).all(), f"{tree.made}: {distance} > {tree.errors}"


@law
@given(tree=trees())
def test_at_double_precision_steps_it_is_in_double_precision(backend, tree):
    """At float64 steps nothing is rounded to float32 on the way: the bound is that of float32, times 2**-28."""
    if not ms.get_backend(backend).supports("float64"):
        pytest.skip(f"{backend} has no float64 as it is configured")
    result = to_numpy(tree.made(make(STEPS, backend, "float64")), backend)
    assert result.dtype == np.float64
    assert (np.abs(result - tree.values) <= np.asarray(tree.errors) * 2.0**-28).all()


@law
@given(tree=trees())
def test_a_declared_one_gives_the_same_at_its_updates(backend, tree):
    """Declared, a composed schedule has one counter, and its value at update k is that of step k."""
    with ms.Graph("composed"):
        declared = ms.declare(tree.made)
        assert [v.name for v in ms.get_variables()] == ["step"]
        f = ms.function(outputs=declared, updates=ms.get_updates())
        results = [f(device_get=True) for _ in range(4)]
    for k, result in enumerate(results):
        assert (result.dtype, result.shape) == (np.float32, ())
        assert abs(float(result) - tree.values[k]) <= tree.errors[k]


def test_it_is_traced_like_any_schedule():
    """Inside `jax.jit` a composed schedule takes a traced step, and static arguments may be composed schedules."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    lr = ms.minimum(2 * LR + OTHER**2, 5.5)
    traced = jax.jit(lambda rule, step: rule(step), static_argnums=0)
    assert [float(traced(lr, step)) for step in range(6)] == [lr(step) for step in range(6)]
    assert traced._cache_size() == 1


# --- as plain data ---------------------------------------------------------------------------------------------------
@given(tree=trees())
def test_repr_builds_it_again(tree):
    """`repr` is an expression that builds an equal schedule, and no pair of its parentheses could be left out."""
    text = repr(tree.made)
    assert eval(text, dict(NAMES)) == tree.made
    assert superfluous_parentheses(text) == []


@given(tree=trees())
def test_copies_are_equal(tree):
    """Copied, deep-copied and pickled it is equal, of the same hash and repr, and gives the same values."""
    first = tree.made
    for again in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert (again, hash(again), repr(again)) == (first, hash(first), repr(first))
        assert [again(step) for step in STEPS] == [first(step) for step in STEPS]


def test_equality_is_that_of_the_expression():
    """Equal expressions are equal; another operation, number or order is another schedule, and none equals a number."""
    assert {LR + 1, 1.0 * LR} == {LR + 1.0, 1 * LR}
    different = [LR + 1, 1 + LR, LR - 1, LR * 1, LR / 1, LR**1, -LR, abs(LR), LR + 2, LR + OTHER, LR]
    assert len(set(different)) == len(different)
    assert [a == b for a in different for b in different].count(True) == len(different)
    assert LR * np.array([1.0, 2.0]) == LR * [1.0, 2.0]
    assert LR * [1.0, 2.0] != LR * [1.0, 3.0]
    assert (LR + 1 == 1.5) is False


@pytest.mark.parametrize(
    "text",
    [
        "-LR**2", "(-LR)**2", "(-2)**LR", "LR**-2", "2**-LR", "LR**LR**2", "(LR**LR)**2", "-(LR*2)", "-LR*2", "LR*-2",
        "LR-(LR-1)", "LR-LR-1", "LR-(LR+1)", "LR/(LR*2)", "LR/LR*2", "LR*(LR/2)", "(LR+1)*2", "-(LR+1)", "--LR",
        "LR-(-2)", "abs(-(LR+1))", "ms.minimum(-LR,2)**2", "(2+LR)**(1/(LR+2))", "[1.0,2.0]*LR", "LR+[[1.0],[2.0]]",
    ],
)  # fmt: skip
def test_how_repr_groups(text):
    """The grouping of the expression written is that of its repr, with the parentheses that Python needs."""
    built = eval(text, {"LR": LR, "ms": ms})
    assert eval(repr(built), dict(NAMES)) == built
    assert superfluous_parentheses(repr(built)) == []


# --- arrays as values ------------------------------------------------------------------------------------------------
SHAPES = [((), (2,)), ((2,), ()), ((3, 1), (2,)), ((2,), (3, 2)), ((1,), (2,))]


def shaped(shape, start):
    """A schedule of arrays, and its values in plain Python at steps 0 to 4."""
    size = int(np.prod(shape))
    before, after = ([start + 0.25 * n * sign for n in range(1, size + 1)] for sign in (1, 2))
    at = [piecewise_reference(b, {2: a}) for b, a in zip(before, after, strict=True)]
    values = np.array([[f(step) for f in at] for step in range(5)]).reshape(5, *shape)
    return ms.piecewise_constant(np.reshape(before, shape), {2: np.reshape(after, shape)}), values


def expected_of(name, first, second, ndim):
    """The operation on each element, in double precision; axes of the step first, those of one value last."""
    first, second = (v.reshape(5, *(1,) * (ndim + 1 - v.ndim), *v.shape[1:]) for v in (first, second))
    return np.vectorize(BINARY[name], otypes=[float])(first, second)


@operations
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [(), (5,), (2, 2)], ids=str)
def test_values_that_are_arrays_broadcast(backend, name, shapes, steps):
    """The values of two schedules broadcast with each other, and never with the axes of the step."""
    (first, a), (second, b) = shaped(shapes[0], 1.0), shaped(shapes[1], 0.5)
    both = np.broadcast_shapes(*shapes)
    at = np.array([3, 0, 4, 1, 2])[: int(np.prod(steps))].reshape(steps)
    made = ON_SCHEDULES[name](first, second)
    result = to_numpy(made(make(at, backend, "int32")), backend)
    expected = expected_of(name, a, b, len(both))[at]
    assert made.shape == both
    assert (result.dtype, result.shape) == (np.float32, (*steps, *both))
    assert ulps(result, expected, a.max(), b.max()) <= 4


@operations
@pytest.mark.parametrize("reflected", [False, True])
def test_arrays_as_operands(backend, name, reflected):
    """A list or a NumPy array is an operand on either side; declared, the values keep its shape."""
    array = np.array([[0.5], [2.0], [1.5]])
    schedule, values = shaped((2,), 1.0)
    order = (lambda x, y: (y, x)) if reflected else (lambda x, y: (x, y))
    made = ON_SCHEDULES[name](*order(schedule, array))
    assert ON_SCHEDULES[name](*order(schedule, array.tolist())) == made
    expected = expected_of(name, *order(values, np.broadcast_to(array, (5, 3, 1))), 2)
    declared = ms.declare(made)
    assert declared.shape == (3, 2)
    for k in range(5):
        assert ulps(to_numpy(declared.advance(), backend), expected[k], values.max()) <= 4
        assert ulps(made(k), expected[k], values.max(), dtype="float32") <= 4


@pytest.mark.parametrize("scalar", [np.float32(0.25), np.float64(0.25), np.array(0.25), 0.25])
def test_scalars_of_numpy_are_numbers(scalar):
    """A NumPy scalar on either side is kept as the Python number it is: it makes an equal schedule of numbers."""
    assert (LR * scalar, scalar * LR) == (LR * 0.25, 0.25 * LR)
    assert (LR * scalar).shape == ()
    assert type((scalar * LR)(0)) is float
    assert ms.minimum(LR, scalar)(4) == 0.25


# --- what is no operand ----------------------------------------------------------------------------------------------
def torch_tensor():
    return pytest.importorskip("torch", reason="torch is not installed").tensor(2.0)


def jax_array():
    return pytest.importorskip("jax.numpy", reason="jax is not installed").asarray(2.0)


WRONG = {"a string": lambda: "2", "None": lambda: None, "a complex number": lambda: 2j, "a dict": dict}
FOREIGN = {"torch": torch_tensor, "jax": jax_array, "declared": lambda: ms.Placeholder((), backend="numpy")}
INFIX = {name: call for name, call in BINARY.items() if call not in (min, max)}


@pytest.mark.parametrize("wrong", (WRONG | FOREIGN).values(), ids=WRONG | FOREIGN)
@pytest.mark.parametrize("call", INFIX.values(), ids=INFIX)
def test_operators_with_what_is_no_number(call, wrong):
    """An operator between a schedule and what is no number, or belongs to a framework, is Python's own TypeError."""
    other = wrong()
    for first, second in ((LR, other), (other, LR)):
        with pytest.raises(TypeError) as raised:
            call(first, second)
        assert "Schedule" in str(raised.value)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("call", [ms.minimum, ms.maximum])
def test_minimum_and_maximum_with_what_is_no_number(call, wrong):
    """`ms.minimum` and `ms.maximum` say which operand it is that is no real number."""
    with pytest.raises(errors.ScheduleValueError, match="The second operand must be a real number"):
        call(LR, wrong())
    with pytest.raises(errors.ScheduleValueError, match="The first operand must be a real number"):
        call(wrong(), LR)


@pytest.mark.parametrize("call", [ms.minimum, ms.maximum])
def test_one_operand_must_be_a_schedule(call):
    """Of two numbers there is no schedule to make, and a declared tensor is none."""
    with pytest.raises(errors.ScheduleValueError, match="One of the operands must be a schedule, got 1 "):
        call(1, 2)
    with pytest.raises(errors.ScheduleValueError, match="known now"):
        call(LR, ms.Placeholder((), backend="numpy"))


@pytest.mark.parametrize("wrong", [True, np.True_, [True, False], ["a"], [[1], [2, 3]], np.array([1j])], ids=repr)
@pytest.mark.parametrize("call", ON_SCHEDULES.values(), ids=ON_SCHEDULES)
def test_arrays_of_what_is_no_real_number(call, wrong):
    """A bool, and lists or arrays of anything but real numbers, are errors that show the operand."""
    for first, second in ((LR, wrong), (wrong, LR)):
        with pytest.raises(errors.ScheduleValueError, match=r"operand must be a real number or an array of them"):
            call(first, second)


@pytest.mark.parametrize("call", ON_SCHEDULES.values(), ids=ON_SCHEDULES)
def test_shapes_that_do_not_broadcast(call):
    """Operands whose shapes do not broadcast are an error that names both shapes, when the schedule is made."""
    for second in ([1.0, 2.0, 3.0], ms.piecewise_constant([1.0, 2.0, 3.0], {})):
        with pytest.raises(errors.ScheduleValueError, match=r"do not broadcast: \(2,\) and \(3,\)"):
            call(ms.piecewise_constant([1.0, 2.0], {}), second)


@pytest.mark.parametrize("call", [operator.mod, operator.floordiv, operator.matmul, operator.and_, operator.lt])
def test_there_are_no_other_operators(call):
    """What has no meaning for schedules is not silently something else."""
    with pytest.raises(TypeError):
        call(LR, 2)


@given(st.data())
def test_an_operand_is_copied(data):
    """An array given as an operand may be changed afterwards: the schedule keeps the numbers that it was given."""
    array = np.array([data.draw(st.floats(-4, 4)), 1.0])
    made, kept = LR + array, array.copy()
    array[:] = 7
    assert made == LR + kept
    assert hash(made) == hash(LR + kept)
