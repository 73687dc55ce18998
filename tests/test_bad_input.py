"""Bad input (law 13): each raises a class of its own, says what was given, expected and where, and changes nothing."""

import gc
import inspect
from importlib.metadata import EntryPoint

import pytest
from helpers_bad_averages import AVERAGES
from helpers_bad_declared import DECLARED
from helpers_bad_input import RULES, World
from helpers_frontend import raises

import multisched as ms
from multisched import errors
from multisched.runtime import registry

ROWS = RULES | DECLARED | AVERAGES

# Classes that no row raises, and why.
ELSEWHERE = {
    "MultischedError": "the root, never raised itself",
    "SymbolicUseError": "the family of TensorTruthError, TensorConversionError and TensorIterationError",
    "CheckpointError": "the family of CheckpointCorrupt and CheckpointMismatch; distributed arrays have a test",
    "CheckpointDenied": "needs a user whom the system may refuse something, in a test of its own",
    "BackendNotInstalled": "needs a registered backend that is missing, which a test of its own makes up",
    "TracedInputError": "needs a compiler, in a test of its own",
}


@pytest.fixture
def world(backend, tmp_path):
    pytest.importorskip("array_api_strict", reason="array-api-strict, the other backend here, is not installed")
    return World(backend, tmp_path)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_bad_input_raises_its_error_and_changes_nothing(world, row):
    """Exactly the class of the row is raised, which is a builtin's too, with all that the user needs to know."""
    before = world.snapshot()
    words = [word.replace("$here", world.backend).replace("$other", world.other) for word in row.words]
    with raises(row.error, *words) as raised:
        row.act(world)
    message = str(raised.value)
    del raised
    if world.snapshot() != before:
        gc.collect()  # half-made declarations may wait for the collector, and are listed until then
    assert world.snapshot() == before
    assert issubclass(row.error, row.builtin)
    assert len(message) < 1000
    assert max(map(len, message.splitlines())) < 400


def classes():
    public = {name: c for name, c in vars(errors).items() if not name.startswith("_")}
    return {name: c for name, c in public.items() if inspect.isclass(c) and issubclass(c, Exception)}


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_class_is_raised_by_some_row(name):
    """No error exists that nothing raises: each class is in the table, or is named with the reason why it is not."""
    raised = {row.error.__name__ for row in ROWS.values()}
    assert (name in raised) != (name in ELSEWHERE)


@pytest.mark.parametrize("name", sorted(set(classes()) - {"MultischedError"}))
def test_every_class_is_of_the_library_and_of_python(name):
    """Each class can be caught as the library's and as a builtin of Python, and says in a sentence what it is for."""
    error = classes()[name]
    builtins = [c for c in error.__mro__ if c.__module__ == "builtins" and c not in (Exception, BaseException, object)]
    assert issubclass(error, errors.MultischedError)
    assert builtins
    assert error.__doc__.endswith(".")


def test_a_backend_that_is_not_installed(world, monkeypatch):
    """A registered backend whose framework is missing says which package to install, and the old one stays in use."""
    absent = EntryPoint("absent", "no_such_framework.adapter:Backend", registry.GROUP)
    points = {**registry._entry_points(), "absent": absent}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    before = world.snapshot()
    with raises(errors.BackendNotInstalled, "'absent'", "no_such_framework", 'pip install "multisched[absent]"'):
        ms.use_backend("absent")
    with pytest.raises(ImportError):
        ms.Variable(1.0, backend="absent")
    assert world.snapshot() == before


def test_an_unknown_backend_in_the_environment(monkeypatch, tmp_path):
    """A misspelt MULTISCHED_BACKEND is an error when a backend is first needed, which names it."""
    monkeypatch.setenv("MULTISCHED_BACKEND", "nunpy")
    with raises(errors.UnknownBackend, "'nunpy'", "'numpy'"):
        ms.Placeholder((2,))
    assert ms.get_placeholders() == []


def test_a_call_inside_a_compiler(tmp_path):
    """A stateful call on traced values says how to write it, and changes nothing, so no tracer can leak."""
    jax = pytest.importorskip("jax", reason="only JAX traces Python functions here")
    with ms.use_backend("jax"):
        world = World("jax", tmp_path)
        before = world.snapshot()
        with raises(errors.TracedInputError, "name=x", "f.pure(state, *arrays)"):
            jax.jit(world.f)(jax.numpy.ones(2))
        with raises(errors.TracedInputError, "name=w", "f.pure"):
            jax.jit(world.w.update)(jax.numpy.ones(2))
        assert world.snapshot() == before


NAMES = {
    "PiecewiseConstant": lambda x: ms.PiecewiseConstant(0.1, {}, device="toaster"),
    "ExponentialMovingAverage": lambda x: ms.ExponentialMovingAverage(x, 0.9, init=[1, 2, 3]),
    "SimpleMovingAverage": lambda x: ms.SimpleMovingAverage(x, 10**30),
}


@pytest.mark.parametrize(("name", "fail"), NAMES.items(), ids=NAMES)
def test_a_failed_declaration_takes_no_name(backend, name, fail):
    """After a failed declaration the next one is named as if it had been the first, so that saved paths still fit."""
    x = ms.Placeholder((2,))
    with pytest.raises(Exception, match=r"."):
        fail(x)
    rule = {"P": ms.piecewise_constant(0.1, {}), "E": ms.ema(0.9), "S": ms.sma(2)}[name[0]]
    declared = ms.declare(rule, None if name[0] == "P" else x)
    tensor = declared if name[0] == "P" else declared[0]
    assert {v.scope for v in tensor.variables} == {f"/{name}/"}


def test_a_bad_update_records_none_of_them(backend):
    """Of several updates the good ones are not recorded where one is bad."""
    w, n = ms.Variable(1.0), ms.Variable(1)
    with pytest.raises(errors.UpdateTypeError):
        ms.add_updates({w: w + 1, n: n * 0.5})
    assert ms.get_updates() == {}
