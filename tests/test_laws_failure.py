"""Law 13: whatever fails, every variable is as it was, and everything goes on as if it had not been tried."""

import warnings
from functools import cache

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_laws import law, same_bits, variables
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors


class World:
    """Some declarations of every kind, and a function of them that updates all."""

    def __init__(self, path):
        self.x, self.y = ms.Placeholder((2,), name="x"), ms.Placeholder((), "int32", name="y")
        self.lr = ms.PiecewiseConstant(0.5, {1: 1, 2: 2})
        self.average, self.fixed = ms.ExponentialMovingAverage(self.x, 0.5, decay_min=True)
        self.simple, _ = ms.SimpleMovingAverage(self.x, 2)
        self.w, self.n = ms.Variable([1.0, -1.0], name="w"), ms.Variable(3, name="n")
        ms.add_updates({self.w: self.w - self.lr * self.x, self.n: self.n + self.y})
        outputs = [self.lr, self.average, self.fixed, self.simple, self.w]
        self.f = ms.function(self.x, self.y, outputs=outputs, updates=ms.get_updates())
        self.path = str(path)

    def run(self, xs, first=0):
        """The outputs of calls, on the host."""
        return [[o.tolist() for o in self.f(x, i, device_get=True)] for i, x in enumerate(xs, start=first)]

    def state_with(self, path, entry):
        """Another state of the function, all of it good but for one entry."""
        state = {p: a * 0 if "first" not in p else a for p, a in self.f.state.items()}
        return {**state, path: entry}

    def assign(self, state):
        self.f.state = state

    def file_with(self, backend, change):
        """The path of a file of other values, changed in one respect."""
        from safetensors.numpy import load_file, save_file

        ms.save_variables(self.path)
        entries = {p: np.zeros_like(a) for p, a in load_file(self.path).items()}
        change(entries)
        save_file(entries, self.path)
        return self.path


GOOD = [1.0, 2.0]
CALLS = {
    "a missing input": (lambda t, b: t.f(GOOD), errors.MissingInput),
    "an extra input": (lambda t, b: t.f(GOOD, 1, 2), errors.ExtraInput),
    "a bad first input": (lambda t, b: t.f([1.0], 1), errors.InputShapeError),
    "a bad last input": (lambda t, b: t.f(GOOD, [1]), errors.InputShapeError),
    "an input of another kind": (lambda t, b: t.f(make(GOOD, b), 0.5), errors.InputTypeError),
    "an input out of range": (lambda t, b: t.f(make(GOOD, b), 2**40), errors.InputTypeError),
    "a declared input": (lambda t, b: t.f(t.x, 1), errors.InputTypeError),
    "a pure call of a bad input": (lambda t, b: t.f.pure(t.f.state, GOOD, [1]), errors.InputShapeError),
    "a pure call of no state": (lambda t, b: t.f.pure({}, GOOD, 1), errors.StateError),
    "reading what has no value": (lambda t, b: t.average.value, errors.MissingInput),
    "advancing what has no value": (lambda t, b: t.average.advance(), errors.MissingInput),
}
WRITES = {
    "an update of another shape": (lambda t, b: t.w.update([1.0]), errors.UpdateShapeError),
    "an update of another kind": (lambda t, b: t.n.update(0.5), errors.UpdateTypeError),
    "an update out of range": (lambda t, b: t.n.update(2**31), errors.UpdateTypeError),
    "an update of a counter": (lambda t, b: t.lr.counter.update([1]), errors.UpdateShapeError),
    "a state that lacks an entry": (lambda t, b: t.assign({"/w": GOOD}), errors.StateError),
    "a state of a wrong last entry": (lambda t, b: t.assign(t.state_with("/n", [1])), errors.UpdateShapeError),
    "a state of a wrong first entry": (
        lambda t, b: t.assign(t.state_with("/PiecewiseConstant/step", 0.5)),
        errors.UpdateTypeError,
    ),
    "recorded updates, the last wrong": (
        lambda t, b: ms.add_updates({t.w: t.w * 0, t.n: t.w}),
        errors.UpdateShapeError,
    ),
    "recorded updates of no variable": (lambda t, b: ms.add_updates({t.w: t.w * 0, t.x: t.w}), errors.NotAVariable),
    "a function of wrong updates": (
        lambda t, b: ms.function(outputs=t.w, updates={t.w: t.w * 0, t.n: t.w}),
        errors.UpdateShapeError,
    ),
}
FILES = {
    "a missing entry": (lambda e: e.pop("/n"), errors.CheckpointMismatch),
    "an entry too many": (lambda e: e.update({"/m": np.zeros(1, np.float32)}), errors.CheckpointMismatch),
    "an entry of another shape": (lambda e: e.update({"/w": np.zeros(3, np.float32)}), errors.CheckpointMismatch),
    "an entry of another dtype": (lambda e: e.update({"/w": np.zeros(2, np.float64)}), errors.CheckpointMismatch),
}


def load(change):
    return lambda t, b: ms.load_variables(t.file_with(b, change))


ATTEMPTS = CALLS | WRITES | {f"a file with {name}": (load(change), error) for name, (change, error) in FILES.items()}


INPUTS = [[1.0, 2.0], [3.0, 5.0], [-2.0, 0.5], [4.0, -8.0]]


@cache
def undisturbed(backend):
    """What the calls give where nothing fails."""
    with ms.use_backend(backend), ms.Graph("undisturbed"):
        return World("unused").run(INPUTS)


@pytest.mark.parametrize(("attempt", "error"), list(ATTEMPTS.values()), ids=list(ATTEMPTS))
def test_a_failure_changes_nothing(backend, tmp_path, attempt, error):
    """All variables keep every bit, and the calls after the failure give what they give without it."""
    world = World(tmp_path / "file")
    found = world.run(INPUTS[:2])
    before, recorded = variables(backend), ms.get_updates()
    with pytest.raises(error):
        attempt(world, backend)
    assert same_bits(variables(backend), before)
    assert ms.get_updates() == recorded
    found += world.run(INPUTS[2:], first=2)
    assert found == undisturbed(backend)


@law
@given(
    names=st.lists(st.sampled_from(sorted(ATTEMPTS)), min_size=2, max_size=6),
    xs=st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=3),
)
def test_many_failures_change_nothing(tmp_path_factory, names, xs):
    """Failures of every kind, between calls, in any order, leave no trace in the outputs."""
    folder = tmp_path_factory.mktemp("files")
    with ms.use_backend("numpy"), ms.Graph("without"):
        expected = World(folder / "expected").run(xs)
    with ms.use_backend("numpy"), ms.Graph("with"):
        world, found = World(folder / "file"), []
        for i, x in enumerate(xs):
            for name in names:
                attempt, error = ATTEMPTS[name]
                with pytest.raises(error):
                    attempt(world, "numpy")
            found += world.run([x], first=i)
        assert found == expected


# --- failures while a program runs -----------------------------------------------------------------------------------
def dividing():
    """A function whose update of `w` divides by its input, after that of `n` was computed."""
    x, w, n = ms.Placeholder((2,)), ms.Variable([1.0, 2.0], name="w"), ms.Variable(0, name="n")
    return ms.function(x, outputs=w, updates={n: n + 1, w: w / x})


@pytest.mark.parametrize("how", ["errstate", "warnings"])
def test_a_program_that_stops_halfway_on_numpy(how):
    """Where NumPy raises in the middle of an update, no variable is written, not even those computed before."""
    with ms.use_backend("numpy"):
        f = dividing()
        f([2.0, 2.0])
        before = variables("numpy")
        with warnings.catch_warnings(), np.errstate(all="raise" if how == "errstate" else "warn"):
            warnings.simplefilter("error")
            with pytest.raises((FloatingPointError, RuntimeWarning)):
                f([0.0, 1.0])
        assert same_bits(variables("numpy"), before)
        f([0.5, 0.25])
        assert {p: a.tolist() for p, a in variables("numpy").items()} == {"/w": [1.0, 4.0], "/n": 2}


def test_a_program_that_stops_halfway_on_jax():
    """Where JAX's debugging of NaNs raises after a call, no variable is written, and none is lost to donation."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with ms.use_backend("jax"), jax.debug_nans(True):
        x, w = ms.Placeholder((2,)), ms.Variable([0.0, 2.0], name="w")
        f = ms.function(x, outputs=w, updates={w: w / x})
        f([2.0, 2.0])
        before = variables("jax")
        with pytest.raises(FloatingPointError):
            f([0.0, 1.0])
        assert same_bits(variables("jax"), before)
        f([1.0, 0.25])
        assert to_numpy(w.value, "jax").tolist() == [0.0, 4.0]


def test_a_traced_call_is_an_error_that_changes_nothing():
    """A stateful call inside `jax.jit`, `grad` or `vmap` says so, and leaves no traced value behind."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with ms.use_backend("jax"):
        x, w = ms.Placeholder(()), ms.Variable(1.0, name="w")
        f = ms.function(x, outputs=w * x, updates={w: w + x})
        f(1.0)
        for call in (lambda: jax.jit(f)(1.0), lambda: jax.grad(f)(1.0), lambda: jax.vmap(f)(jax.numpy.ones(3))):
            with pytest.raises(errors.TracedInputError):
                call()
        with pytest.raises(errors.TracedInputError):
            jax.jit(w.update)(2.0)
        assert float(w.value) == 2.0
        assert float(f(3.0)) == 6.0


@pytest.mark.parametrize("rule", [ms.ema(0.5), ms.ema(0.5, decay_min=True, debias=True), ms.sma(2), ms.swa()], ids=repr)
def test_a_pure_step_that_fails_leaves_its_state(backend, rule):
    """After a value of another shape or a mask that is none, the same state goes on as if nothing had been."""
    value = make([1.0, 2.0], backend)
    state, _ = rule.step(rule.init(value), value)
    _, expected = rule.step(state, make([3.0, 5.0], backend))
    expected = to_numpy(expected, backend).tolist()
    with pytest.raises(errors.ShapeError):
        rule.step(state, make([1.0, 2.0, 3.0], backend))
    with pytest.raises(errors.MaskError):
        rule.step(state, value, where=make([True, False], backend, "bool"))
    assert to_numpy(rule.step(state, make([3.0, 5.0], backend))[1], backend).tolist() == expected
