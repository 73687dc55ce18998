"""Calls that are interrupted: the variables are as before or as after, never between, and no lock stays held."""

import itertools
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import number
from helpers_interrupts import Interrupt, injected, signals

import multisched as ms
from multisched import errors


def scenario(backend, count=3, size=1000):
    """A function of one input that adds to each of several variables, an average and a counter among them."""
    with ms.Graph("interrupted"):
        x = ms.Placeholder((size,))
        variables = [ms.Variable(np.zeros(size), name="v") for _ in range(count)]
        average, _ = ms.ExponentialMovingAverage(x, 0.5, init=0.0)
        clock = ms.PiecewiseConstant(0.0, {1: 1.0})
        updates = {v: v + x for v in variables}
        updates |= ms.get_updates(variables=[*average.variables, clock.counter])
        f = ms.function(x, outputs=(average, clock), updates=updates, jit=False)
    value = make(np.ones(size), backend)
    return SimpleNamespace(f=f, value=value, before=state_of(f, backend), variables=variables, clock=clock)


def state_of(f, backend):
    return {path: to_numpy(value, backend).tolist() for path, value in f.state.items()}


def whole(backend):
    """The check that a scenario is as before the call or as after, and that another thread may go on with it."""
    after = scenario(backend)
    after.f(after.value)
    expected = state_of(after.f, backend)

    def check(s):
        found = []
        thread = threading.Thread(target=lambda: found.append(state_of(s.f, backend)), daemon=True)
        thread.start()
        thread.join(60)
        assert found, "a lock is held"
        assert found[0] in (s.before, expected)
        s.f(s.value)

    return check


def test_an_exception_at_any_line_of_a_call(backend):
    """Wherever in a call an exception is raised, all variables are as before it or as after it."""
    injected(lambda: scenario(backend), lambda s: s.f(s.value), whole(backend))


def test_a_signal_during_a_call(backend):
    """A real signal at any moment leaves all variables as before the call or as after it."""
    signals(
        lambda: scenario(backend), lambda s: s.f(s.value), whole(backend), trials=None if backend == "numpy" else 20
    )


@pytest.mark.parametrize("count", [2, 20], ids=["a with", "nested calls"])
def test_an_exception_at_any_line_with_many_locks(backend, count):
    """Locks of twenty variables are released wherever the call is cut off."""

    def check(s):
        assert not any(v.cell.lock.lock._is_owned() for v in s.variables)
        values = {to_numpy(v.value, backend)[0].item() for v in s.variables}
        assert values in ({0.0}, {1.0})

    injected(lambda: scenario(backend, count, 2), lambda s: s.f(s.value), check)


WRITES = {
    "state": lambda s, new, path: setattr(s.f, "state", new),
    "load": lambda s, new, path: ms.load_variables(path),
    "reset": lambda s, new, path: ms.reset_variables(),
    "update": lambda s, new, path: s.variables[0].update(new["/v"]),
}


@pytest.mark.parametrize("how", WRITES)
def test_an_exception_while_variables_are_set(backend, how, tmp_path, graph):
    """Assigning a state, loading, resetting and updating change all of the variables or none."""
    path = tmp_path / "state.safetensors"
    with ms.Graph("other"):
        variables = [ms.Variable(2.0, name="v") for _ in range(4)]
        new = ms.function(outputs=variables, updates={v: v + 0 for v in variables}, jit=False).state
        ms.save_variables(path)

    def build():
        graph.reset()
        variables = [ms.Variable(0.0, name="v") for _ in range(4)]
        f = ms.function(outputs=variables, updates={v: v + 1 for v in variables}, jit=False)
        if how == "reset":
            f()
        return SimpleNamespace(f=f, variables=variables)

    def check(s):
        values = [number(v.value, backend) for v in s.variables]
        changed = [2.0, 0, 0, 0] if how == "update" else [2.0] * 4
        assert values in ({"reset": [1.0] * 4}.get(how, [0.0] * 4), {"reset": [0.0] * 4}.get(how, changed))
        assert not any(v.cell.lock.lock._is_owned() for v in s.variables)

    injected(build, lambda s: WRITES[how](s, new, path), check)


def test_an_exception_during_a_declaration(graph):
    """Cut off anywhere, a declaration leaves the scope where it was, for all that a `with` of the user's encloses."""
    with ms.Scope("mine") as mine:

        def check(_):
            with mine:
                assert ms.current_scope() == "/mine/"
            value = ms.PiecewiseConstant(0.5, {2: 2.0})
            assert [float(value.advance()) for _ in range(3)] == [0.5, 0.5, 2.0]

        def declare(_):
            with ms.Scope("inner"):
                ms.ExponentialMovingAverage(ms.Placeholder((2,)), 0.5)

        injected(lambda: None, declare, check, every=None)
    assert ms.current_scope() == "/"


# --- the same thread, in the middle of a call ------------------------------------------------------------------------
class Probe:
    """Does something in the middle of a program, as the handler of a signal would."""

    def __init__(self, f):
        self.f, self.work, self.result = f, None, None
        names = f._call.__globals__
        self.inner, names["run"] = names["run"], self._run

    def _run(self, *arrays):
        results = self.inner(*arrays)
        if self.work is not None:
            work, self.work = self.work, None
            try:
                self.result = work()
            except errors.MultischedError as error:
                self.result = error
        return results


def test_writing_in_the_middle_of_a_call_is_refused(backend, tmp_path, graph):
    """In the middle of a call, the same thread can set no variable of it, in whichever way, and nothing is lost."""
    a, b = ms.Variable(0.0, name="a"), ms.Variable(0.0, name="b")
    f = ms.function(outputs=a, updates={a: a + 1, b: b + 1}, jit=False)
    only_b = ms.function(updates={b: b + 10}, jit=False)
    read = ms.function(outputs=(a, b), jit=False)
    state = f.state
    path = tmp_path / "v.safetensors"
    ms.save_variables(path)
    writers = [
        f,
        only_b,
        lambda: a.update(7.0),
        b.reset,
        ms.reset_variables,
        lambda: setattr(f, "state", state),
        lambda: ms.load_variables(path),
    ]
    for outer in (f, read):
        probe = Probe(outer)
        for work in writers:
            expected = [number(v.value, backend) + (outer is f) for v in (a, b)]
            probe.work = work
            outer()
            assert isinstance(probe.result, errors.ReentrantError)
            assert [number(v.value, backend) for v in (a, b)] == expected


def test_reading_in_the_middle_of_a_call_works(backend, tmp_path):
    """In the middle of a call, values, states, files and functions without updates give what was before it."""
    a, b, c = ms.Variable(0.0, name="a"), ms.Variable(0.0, name="b"), ms.Variable(0.0, name="c")
    f = ms.function(outputs=a, updates={a: a + 1, b: b + 1}, jit=False)
    other = ms.function(outputs=c, updates={c: c + 1}, jit=False)
    read = ms.function(outputs=a + b, jit=False)
    path = tmp_path / "v.safetensors"
    probe = Probe(f)
    for work, expected in [
        (lambda: number(a.value, backend), 0),
        (lambda: number(f.state["/b"], backend), 1),
        (lambda: number(read(), backend), 4),
        (lambda: ms.save_variables(path), None),
        (lambda: number(other(), backend), 0),
    ]:
        probe.work = work
        f()
        assert probe.result == expected
    ms.load_variables(path)
    assert number(a.value, backend) == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_a_handler_that_calls_the_same_function(backend):
    """A signal handler that calls the function which it interrupts gets through or is refused; no update is lost."""
    v, w = ms.Variable(np.zeros(1000), name="v"), ms.Variable(np.zeros(1000), name="w")
    f = ms.function(updates={v: v + 1, w: w - 1}, jit=False)
    done, refused = [0], [0]

    def handler(*args):
        try:
            f()
            done[0] += 1
        except errors.ReentrantError:
            refused[0] += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        for _ in range(2000):
            f()
            done[0] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(to_numpy(v.value, backend).tolist()) == {done[0] * 1.0}
    assert set(to_numpy(w.value, backend).tolist()) == {done[0] * -1.0}


# --- errors within a call --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_an_error_after_the_program_ran(backend, error):
    """Whatever is raised once a program has run, all variables are there and as before, compiled programs included."""
    a, b = ms.Variable([1.0, 2.0], name="a"), ms.Variable(0, name="b")
    f = ms.function(outputs=a, updates={a: a * 2, b: b + 1})
    f()
    probe = Probe(f)
    before = state_of(f, backend)

    def fail():
        raise error

    probe.work = fail
    with pytest.raises(error):
        f()
    assert state_of(f, backend) == before
    assert to_numpy(f(), backend).tolist() == [2.0, 4.0]


def test_nans_that_jax_debugs(jax):
    """With `jax_debug_nans`, a call that makes a NaN is JAX's error, and each variable is as it was."""
    with ms.use_backend("jax"):
        x, v, n = ms.Placeholder(()), ms.Variable(1.0, name="v"), ms.Variable(0, name="n")
        f = ms.function(x, outputs=v, updates={n: n + 1, v: v * 0.5 + (x - x)})
        f(1.0)
        with jax.debug_nans(True), pytest.raises(FloatingPointError):
            f(jax.numpy.float32("inf"))
        assert (float(v.value), int(n.value)) == (0.5, 1)
        assert float(f(1.0)) == 0.5


def test_deleted_arrays_of_jax(jax):
    """An array that was deleted or donated is an error that says so, wherever it is given, and nothing changes."""
    with ms.use_backend("jax"):
        x, v = ms.Placeholder((2,)), ms.Variable([1.0, 2.0], name="v")
        f = ms.function(x, outputs=v, updates={v: v + x})
        deleted, donated = jax.numpy.ones(2) + 0, jax.numpy.ones(2) + 0
        deleted.delete()
        jax.jit(lambda a: a + 1, donate_argnums=0)(donated)
        one = jax.numpy.ones(2)
        uses = [
            lambda gone: f(gone),
            lambda gone: f.pure({"/v": one}, gone),
            lambda gone: f.pure({"/v": gone}, one),
            lambda gone: v.update(gone),
            lambda gone: setattr(f, "state", {"/v": gone}),
            lambda gone: ms.Variable(gone),
        ]
        for use, gone in itertools.product(uses, (deleted, donated)):
            with pytest.raises(errors.MultischedError, match="has no values: it has been deleted"):
                use(gone)
        assert v.value.tolist() == [1.0, 2.0]
        assert f([1.0, 1.0]).tolist() == [1.0, 2.0]


def test_torch_tensors_without_values(torch):
    """A tensor on the device "meta", without its storage or sparse is an error, and no variable is written."""
    with ms.use_backend("torch"):
        x, n, v = ms.Placeholder((2,)), ms.Variable(0, name="n"), ms.Variable([1.0, 2.0], name="v")
        f = ms.function(x, updates={n: n + 1, v: x})
        freed = torch.ones(2)
        freed.untyped_storage().resize_(0)
        for gone in (torch.ones(2, device="meta"), torch.ones(2).to_sparse(), freed):
            with pytest.raises(errors.MultischedError):
                v.update(gone)
            if gone is not freed:  # torch itself reads no such tensor
                with pytest.raises(errors.MultischedError):
                    f(gone)
        assert (int(n.value), v.value.tolist()) == (0, [1.0, 2.0])


def test_an_interrupt_is_no_error():
    """Handlers for errors let an interrupt pass."""
    assert not issubclass(Interrupt, Exception)
