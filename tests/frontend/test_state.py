"""`f.state` and `f.pure`: the same function without its memory, and its memory by path."""

import numpy as np
import pytest
from helpers import EmaReference, make, to_numpy
from helpers_frontend import host, overwrite, raises
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

# Sums and halves of these are exact in float32 for as long as the streams here: equality must be to the bit, even
# where one of two programs is compiled and the other is not.
EIGHTHS = st.integers(-64, 64).map(lambda n: n / 8)


def counting_average():
    """A function with a schedule, an average and a variable of the user's; its inputs are of shape (2,)."""
    x = ms.Placeholder((2,), name="x")
    lr = ms.PiecewiseConstant(0.5, {2: 2})
    average, fixed = ms.ExponentialMovingAverage(x, 0.5)
    w = ms.Variable([1.0, -1.0], name="w")
    return ms.function(x, outputs={"lr": lr, "averages": (average, fixed)}, updates={**ms.get_updates(), w: w - lr * x})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(stream=st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=7))
def test_pure_is_the_stateful_function_without_its_memory(backend, stream):
    """Fed the same inputs, both give the same outputs and the same state, and these are right."""
    with ms.Graph("example"):
        f = counting_average()
        state, references = f.state, [EmaReference(0.5), EmaReference(0.5)]
        w = np.asarray([1.0, -1.0])
        for k, value in enumerate(stream):
            pure, state = f.pure(state, value)
            stateful = f(value)
            assert host(pure, backend) == host(stateful, backend)
            assert host(state, backend) == host(f.state, backend)
            rate, expected = (2.0 if k >= 2 else 0.5), [r.step(v) for r, v in zip(references, value, strict=True)]
            w = w - rate * np.asarray(value)
            assert host(stateful["averages"][0], backend) == ["float32", expected]
            assert host(state["/w"], backend) == ["float32", w.tolist()]
            assert host(state["/PiecewiseConstant/step"], backend) == ["int32", k + 1]


def test_state_is_listed_by_path(backend):
    """`f.state` has the variables that the function reads or updates, by path, and no others."""
    f = counting_average()
    ms.Variable(0.0, name="of_no_concern")
    assert sorted(f.state) == [
        *("/ExponentialMovingAverage/EMA", "/ExponentialMovingAverage/first_step", "/PiecewiseConstant/step", "/w")
    ]
    assert all(ms.get_backend(backend).owns(array) for array in f.state.values())


def test_state_brings_back_what_it_was(backend):
    """Assigning an earlier state makes the function go on from there."""
    f = counting_average()
    f([1, 2])
    early = f.state
    first = [host(f(value), backend) for value in ([3, 4], [5, 6])]
    f.state = early
    assert [host(f(value), backend) for value in ([3, 4], [5, 6])] == first


def test_assigned_state_is_copied(backend):
    """State assigned, state read and the variables are three things: a call changes the variables alone."""
    w = ms.Variable([0.0, 0.0], name="w")
    f = ms.function(updates={w: w + 1})
    assigned = {"/w": np.asarray([5.0, 5.0], np.float32)}
    f.state = assigned
    read = f.state
    f()
    assert assigned["/w"].tolist() == [5.0, 5.0]
    assert to_numpy(read["/w"], backend).tolist() == [5.0, 5.0]
    assert to_numpy(w.value, backend).tolist() == [6.0, 6.0]


def pure_call(backend):
    """All that goes into a pure call and comes out of it, and the variables."""
    w, x = ms.Variable([1.0, 1.0], name="w"), ms.Placeholder((2,))
    kept = ms.Variable([3.0, 3.0], name="kept")
    f = ms.function(x, outputs=[w, kept, x], updates={w: x})
    state, value = {"/w": make([5, 5], backend), "/kept": make([7, 7], backend)}, make([2, 2], backend)
    outputs, after = f.pure(state, value)
    return [*outputs, after["/w"], after["/kept"], state["/w"], state["/kept"], value, w.value, kept.value]


PURE_CALL = [5, 7, 2, 2, 7, 5, 7, 2, 1, 3]


def test_pure_changes_nothing_that_it_is_given(backend):
    """The outputs and the new state are right; the variables, the old state and the input are as they were."""
    assert host(pure_call(backend), backend) == [["float32", [n, n]] for n in PURE_CALL]


@pytest.mark.parametrize("written", range(len(PURE_CALL)))
def test_what_a_pure_call_gives_is_apart(backend, written):
    """Outputs, new state, old state, input and variables share no memory: writing into one changes no other."""
    everything = pure_call(backend)
    overwrite(everything[written], 99)
    found = [to_numpy(a, backend).tolist() for i, a in enumerate(everything) if i != written]
    assert found == [[n, n] for i, n in enumerate(PURE_CALL) if i != written]


def test_the_new_state_has_the_form_of_the_old(backend):
    """Keys, their order, shapes and dtypes are a fixed point, so that loops can carry the state."""
    f = counting_average()
    _, state = f.pure(f.state, [1, 2])
    again = f.pure(state, [1, 2])[1]
    forms = [[(k, a.dtype, tuple(a.shape)) for k, a in s.items()] for s in (f.state, state, again)]
    assert forms[0] == forms[1] == forms[2]


def test_a_state_serves_another_declaration_of_the_same(backend):
    """State goes by path: a function declared alike in another graph goes on from it."""
    f = counting_average()
    f([1, 2])
    state, expected = f.state, host(f([3, 4]), backend)
    with ms.Graph("another"):
        g = counting_average()
        assert host(g.pure(state, [3, 4])[0], backend) == expected
        g.state = state
        assert host(g([3, 4]), backend) == expected


WRONG_STATES = {
    "missing": (lambda s: {"/w": s["/w"]}, "missing.*/n"),
    "unexpected": (lambda s: {**s, "/other": s["/w"]}, "unexpected.*/other"),
    "empty": (lambda s: {}, "missing.*/n.*/w"),
    "nothing": (lambda s: None, "None"),
    "a list": (lambda s: list(s.values()), "list"),
}


@pytest.mark.parametrize(("wrong", "words"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_a_state_of_another_form_is_an_error(backend, wrong, words):
    """A state that lacks an entry, has another, or is no mapping is a `StateError`, pure or assigned."""
    w, n = ms.Variable([1.0, 2.0], name="w"), ms.Variable(3, name="n")
    f = ms.function(outputs=w, updates={n: n + 1})
    before = host(f.state, backend)
    with pytest.raises(errors.StateError, match=words):
        f.pure(wrong(f.state))
    with pytest.raises(errors.StateError, match=words):
        f.state = wrong(f.state)
    assert host(f.state, backend) == before


WRONG_ENTRIES = {
    "longer": ("/w", [1.0, 2.0, 3.0], errors.UpdateShapeError, ("name=w", "(2,)", "(3,)")),
    "a scalar": ("/w", 1.0, errors.UpdateShapeError, ("name=w", "(2,)", "()")),
    "of two axes": ("/w", [[1.0, 2.0]], errors.UpdateShapeError, ("name=w", "(2,)", "(1, 2)")),
    "a string": ("/n", "a", errors.UpdateTypeError, ("name=n", "'a'")),
    "None": ("/n", None, errors.UpdateTypeError, ("name=n", "None")),
    "floating": ("/n", 1.5, errors.UpdateTypeError, ("name=n", "int32", "float")),
}


@pytest.mark.parametrize("of_the_backend", [False, True])
@pytest.mark.parametrize(("path", "entry", "error", "words"), WRONG_ENTRIES.values(), ids=WRONG_ENTRIES)
def test_a_wrong_entry_is_an_error(backend, path, entry, error, words, of_the_backend):
    """An entry of another shape or kind names its variable and what was expected; none changes, pure or assigned."""
    n, w = ms.Variable(3, name="n"), ms.Variable([1.0, 2.0], name="w")
    f = ms.function(outputs=w, updates={n: n + 1})
    before = host(f.state, backend)
    if of_the_backend and isinstance(entry, list | float):
        entry = make(entry, backend)
    state = {"/n": make(9, backend, "int32"), "/w": make([9, 9], backend), path: entry}
    with raises(error, *words):
        f.state = state
    with raises(error, *words):
        f.pure(state)
    assert host(f.state, backend) == before


def test_pure_takes_a_state_of_numpy_arrays(backend):
    """A state that came from a file or from another backend, as NumPy arrays, is as good as the backend's own."""
    f = counting_average()
    f([1, 2])
    state = {path: to_numpy(array, backend) for path, array in f.state.items()}
    outputs, after = f.pure(state, [3, 4])
    assert all(ms.get_backend(backend).owns(array) for array in after.values())
    assert host(outputs, backend) == host(f([3, 4]), backend)
    assert host(after, backend) == host(f.state, backend)


def test_pure_checks_its_inputs(backend):
    """The pure form takes and rejects the same inputs as the stateful one."""
    f = counting_average()
    with pytest.raises(errors.MissingInput, match="name=x"):
        f.pure(f.state)
    with pytest.raises(errors.ExtraInput, match="takes 1 input but was given 2"):
        f.pure(f.state, [1, 2], [3, 4])
    with pytest.raises(errors.InputShapeError, match=r"name=x.*\(2,\).*\(3,\)"):
        f.pure(f.state, [1, 2, 3])
    with pytest.raises(errors.InputTypeError, match="complex"):
        f.pure(f.state, [1j, 2])


def test_two_variables_of_one_path_have_no_state_by_path(backend):
    """A function over two graphs runs; only its state by path, where paths collide, is an error that names the path."""
    first = ms.Variable(1.0, name="w")
    with ms.Graph("another"):
        second = ms.Variable(2.0, name="w")
    f = ms.function(outputs=first + second)
    assert float(to_numpy(f(), backend)) == 3.0
    with pytest.raises(errors.DuplicatePath, match="/w"):
        _ = f.state
    with pytest.raises(errors.DuplicatePath, match="/w"):
        f.pure({"/w": make(1, backend)})
