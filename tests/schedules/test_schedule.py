"""What all schedules share: how they are made, called, printed, compared, copied and mapped over steps."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from helpers import make, piecewise_reference, to_numpy
from helpers_laws import law, values
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

LR = ms.piecewise_constant(0.1, {8: 2, 4: 1})


def checked_line(start, slope=1.0, *, bend=None):
    if slope < 0:
        raise errors.ScheduleValueError(f"slope must be at least 0, got {slope!r}.")
    return {"start": float(start), "slope": float(slope), "bend": bend}


@ms.schedule(checked_line)
def line(xp, step, start, slope=1.0, *, bend=None):
    """A line, which may stop rising at `bend`."""
    value = start + slope * xp.astype(step, xp.float32)
    return value if bend is None else xp.minimum(value, xp.full_like(value, bend))


# --- the decorator ---------------------------------------------------------------------------------------------------
def test_a_formula_becomes_a_constructor():
    """The constructor has the formula's name, docstring and parameters but for `xp` and `step`, and gives schedules."""
    assert (line.__name__, line.__doc__) == ("line", "A line, which may stop rising at `bend`.")
    assert str(inspect.signature(line)).startswith("(start, slope=1.0, *, bend=None)")
    assert isinstance(line(1), ms.Schedule)
    assert (line(1).name, line(1).shape) == ("line", ())


@pytest.mark.parametrize(
    ("made", "text", "at_3"),
    [
        (line(1), "line(1.0)", 4.0),
        (line(1, 2), "line(1.0, slope=2.0)", 7.0),
        (line(start=1, slope=2), "line(1.0, slope=2.0)", 7.0),
        (line(1, bend=2), "line(1.0, bend=2)", 2.0),
        (line(1, 1.0, bend=None), "line(1.0)", 4.0),
    ],
)
def test_arguments_are_bound_as_the_formula_has_them(backend, made, text, at_3):
    """By position or name, with defaults, which `repr` leaves out; the values are those of the formula."""
    assert repr(made) == text
    assert eval(text, {"line": line}) == made
    assert made(3) == at_3
    assert to_numpy(made(make([3, 3], backend, "int32")), backend).tolist() == [at_3, at_3]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: line(), r"line\(\) needs 'start'"),
        (lambda: line(1, 2, 3), r"line\(\) was given|line\(\): too many|takes at most"),
        (lambda: line(1, tilt=2), r"line\(\) has no argument 'tilt'"),
        (lambda: line(1, slop=2), r"line\(\) has no argument 'slop'; did you mean 'slope'\?"),
    ],
)
def test_arguments_that_the_formula_does_not_have(call, words):
    """They are a TypeError, as of any function, which names the function and what is wrong."""
    with pytest.raises(TypeError, match=words) as raised:
        call()
    assert type(raised.value) is errors.ArgumentError


def test_arguments_are_checked_when_the_schedule_is_made():
    """What `check` raises comes from the constructor, before there is a schedule."""
    with pytest.raises(errors.ScheduleValueError, match="slope must be at least 0, got -1"):
        line(1, -1)


def test_a_schedule_of_ones_own_does_what_the_others_do(backend):
    """It composes, is declared, and is the decay of an average."""
    composed = 2 * line(1) + LR
    assert [composed(step) for step in (0, 4)] == [2.1, 11.0]
    declared = ms.declare(line(1, 2))
    assert [float(declared.advance()) for _ in range(3)] == [1.0, 3.0, 5.0]
    assert [v.path for v in ms.get_variables()] == ["/Line/step"]
    rule, value = ms.ema(line(0, 0.25, bend=0.5)), make(8.0, backend)
    state, _ = rule.step(rule.init(value), value)
    assert float(rule.step(state, make(0.0, backend))[1]) == 2.0  # the decay is f(1) = 0.25


# --- calling ---------------------------------------------------------------------------------------------------------
@law
@given(init=values, changes=st.dictionaries(st.integers(0, 20), values, max_size=4), step=st.integers(-5, 30))
def test_python_ints_give_floats(init, changes, step):
    """At a Python number, whole or not, the value is a Python float, in double precision."""
    rule, expected = ms.piecewise_constant(init, changes), piecewise_reference(init, changes)(max(step, 0))
    for number in (step, float(step), step + 0.5):
        assert type(rule(number)) is float
        assert rule(number) == expected
    assert type(ms.piecewise_constant(1, {4: 2})(5)) is float  # of ints, too


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4), (2, 1, 3)])
def test_steps_are_mapped_elementwise(backend, shape):
    """An array of steps gives an array of its shape, each element the value at its step, in float32."""
    steps = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    result = LR(make(steps, backend, "int32"))
    assert ms.get_backend(backend).owns(result)
    host = to_numpy(result, backend)
    assert (host.dtype, host.shape) == (np.float32, shape)
    expected = [np.float32(LR(int(step))) for step in steps.ravel()]
    assert host.ravel().tolist() == expected


def test_it_is_traced():
    """`jit`, `vmap` and `scan` of JAX take it as the function of the step that it is."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    steps = jax.numpy.arange(10)
    expected = np.float32([LR(step) for step in range(10)]).tolist()
    scanned = jax.lax.scan(lambda carry, step: (carry, LR(step)), 0, steps)[1]
    for found in (jax.jit(LR)(steps), jax.vmap(LR)(steps), scanned):
        assert np.asarray(found).tolist() == expected


def test_torch_maps_it():
    """So does `torch.func.vmap`."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    expected = np.float32([LR(step) for step in range(10)]).tolist()
    assert torch.func.vmap(LR)(torch.arange(10)).tolist() == expected


def test_a_call_leaves_the_steps_as_they_were(backend):
    """Steps are read, not written."""
    steps = make([1, 5, 9], backend, "int32")
    LR(steps)
    assert to_numpy(steps, backend).tolist() == [1, 5, 9]


@pytest.mark.parametrize("step", [True, "3", None, 1j, np.bool_(True), np.array([True]), np.array("3"), [1, 2], {}])
def test_what_is_no_step(step):
    """A bool, a string, a complex number, a list or None is an error that shows it, for every kind of schedule."""
    for rule in (LR, ms.piecewise_constant([1.0, 2.0], {}), 2 * LR, ms.cosine(1.0, 10)):
        with pytest.raises(errors.ScheduleStepError, match="function of a step"):
            rule(step)


def test_a_declared_step(backend):
    """At a declared tensor the value is declared: the schedule becomes part of the graph."""
    step = ms.Placeholder((3,), "int32")
    value = LR(step)
    assert (value.shape, value.dtype) == ((3,), "float32")
    found = ms.function(step, outputs=value)(make([3, 4, 8], backend, "int32"), device_get=True)
    assert found.tolist() == np.float32([0.1, 1, 2]).tolist()


# --- plain data ------------------------------------------------------------------------------------------------------
def test_it_is_equal_by_value():
    """Equal arguments make equal schedules with equal hashes, whatever the order of keys or the kind of numbers."""
    same = ms.piecewise_constant(np.float64(0.1), {np.int64(4): np.float32(1), 8: 2.0})
    assert same == LR
    assert hash(same) == hash(LR)
    assert {LR: "found"}[same] == "found"
    others = [ms.piecewise_constant(0.1, {4: 1}), ms.piecewise_constant(0.1, {8: 1, 4: 2}), line(0.1), 0.1, None, "LR"]
    assert [other for other in others if other == LR] == []


def test_arrays_as_values_compare_by_value():
    """Schedules of arrays are equal where shapes and elements are, and hash alike."""
    first = ms.piecewise_constant([0.1, 0.2], {4: np.array([1, 2])})
    assert first == ms.piecewise_constant(np.array([0.1, 0.2]), {4: [1.0, 2.0]})
    assert hash(first) == hash(ms.piecewise_constant((0.1, 0.2), {4: (1.0, 2.0)}))
    assert first != ms.piecewise_constant([[0.1, 0.2]], {4: [[1.0, 2.0]]})
    assert repr(first) == "piecewise_constant([0.1, 0.2], {4: [1.0, 2.0]})"


@pytest.mark.parametrize(
    "rule",
    [LR, line(1, bend=2), ms.piecewise_constant([1.0, 2.0], {3: [0.5, 0.25]}), 2 * LR + 1, ms.join([LR, line(3)], [9])],
    ids=repr,
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_copies_are_as_good(rule, protocol):
    """Copied, deep-copied and pickled in any protocol it is equal, prints alike, and gives the same values."""
    for other in (copy.copy(rule), copy.deepcopy(rule), pickle.loads(pickle.dumps(rule, protocol))):
        assert (other, hash(other), repr(other)) == (rule, hash(rule), repr(rule))
        for step in (0, 3, 4, 100):
            assert np.array_equal(other(step), rule(step))


@law
@given(init=values, changes=st.dictionaries(st.integers(0, 2**40), values, max_size=4))
def test_repr_builds_it_again(init, changes):
    """`repr` is the expression that builds an equal schedule, keys in their order, to the last digit."""
    rule = ms.piecewise_constant(init, changes)
    pairs = ", ".join(f"{key}: {changes[key]!r}" for key in sorted(changes))
    assert repr(rule) == f"piecewise_constant({init!r}, {{{pairs}}})"
    assert eval(repr(rule), vars(ms)) == rule


def test_changing_the_arguments_later_changes_nothing():
    """A schedule keeps copies of the dict and the arrays that it was made of."""
    init, changes = np.array([1.0, 2.0]), {4: np.array([3.0, 4.0])}
    rule = ms.piecewise_constant(init, changes)
    init[:] = changes[4][:] = 9.0
    changes[0] = [7.0, 7.0]
    assert (rule(0).tolist(), rule(4).tolist()) == ([1.0, 2.0], [3.0, 4.0])
