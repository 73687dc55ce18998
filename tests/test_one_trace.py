"""Law 11: a thousand updates compile once, without a warning, and no update waits for the device."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers_compilers import CASES, SCHEDULES, VALUES, flat

import multisched as ms

CALLS = 1000
cases = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
schedules = pytest.mark.parametrize("lr", list(SCHEDULES.values()), ids=list(SCHEDULES))
HOST = ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "item", "tolist")


@pytest.fixture
def counter(torch):
    """A backend of `torch.compile` that counts the programs that it is given, and runs them as they are."""
    return importlib.import_module("torch._dynamo.testing").CompileCounter()


def forbid(monkeypatch, array_type, *more):
    """Let every way of an array to the host raise."""

    def forbidden(self, *args, **kwargs):
        raise AssertionError("an update read an array on the host")

    for name in (*HOST, *more):
        if hasattr(array_type, name):
            monkeypatch.setattr(array_type, name, forbidden)


def declared(backend):
    """A declared function of a schedule and of averages, with all their updates."""
    value = ms.Placeholder((2,), name="value", backend=backend)
    lr = ms.PiecewiseConstant(0.5, {4: 1.0, 8: 2.0}, backend=backend)
    averages = [ms.declare(case.rule, lr * value)[0] for case in CASES.values()]
    return ms.function(value, outputs=[lr, *averages], updates=ms.get_updates())


# --- JAX -------------------------------------------------------------------------------------------------------------
@cases
def test_a_jitted_update_is_traced_once(jax, case):
    """A thousand calls of `jax.jit(rule.step)`, from the first state on, trace and compile it once."""
    step, traces = case.compiled(jax.jit), []
    counted = jax.jit(lambda state, value: (traces.append(1), case.step(state, value))[1], donate_argnums=0)
    value = jax.numpy.asarray(VALUES[0])
    state, donated = case.init(value), case.init(value)
    for _ in range(CALLS):
        state, _ = step(state, value)
        donated, _ = counted(donated, value)
    assert step._cache_size() == 1
    assert len(traces) == 1


@schedules
def test_a_jitted_schedule_is_traced_once(jax, lr):
    """A thousand calls of a jitted function that calls `lr(count)`, the count being state, trace it once."""
    traces = []

    @jax.jit
    def update(count):
        traces.append(count)
        return count + 1, lr(count)

    count = jax.numpy.asarray(0)
    for _ in range(CALLS):
        count, _ = update(count)
    assert int(count) == CALLS
    assert len(traces) == update._cache_size() == 1


def test_a_declared_function_is_traced_once(jax, monkeypatch):
    """A thousand calls of a declared function trace its program once."""
    runs, adapter = [], type(ms.get_backend("jax"))
    compile = adapter.compile

    def counted(self, run, consumed, jit):
        return compile(self, lambda *arrays: (runs.append(1), run(*arrays))[1], consumed, jit)

    monkeypatch.setattr(adapter, "compile", counted)
    f = declared("jax")
    for k in range(CALLS):
        f(VALUES[k % len(VALUES)])
    assert len(runs) == 1


@pytest.mark.parametrize("kind", ["Python bool", "NumPy bool", "0-d array", "tracer"])
@cases
def test_masks_are_not_traced_again(jax, case, kind):
    """A mask whose value changes from call to call leaves a jitted update as it is."""
    traces = []

    @jax.jit
    def step(state, value, where):
        traces.append(where)
        return case.rule.step(state, value, where=jax.numpy.isfinite(value).all() if kind == "tracer" else where)

    masks = {"Python bool": bool, "NumPy bool": np.bool_, "0-d array": jax.numpy.asarray, "tracer": lambda flag: None}
    good, bad = jax.numpy.asarray(VALUES[0]), jax.numpy.asarray([np.nan, np.nan])
    state = case.init(good)
    for k in range(20):
        state, output = step(state, bad if k % 3 else good, masks[kind](k % 3 == 0))
        assert np.isfinite(np.asarray(output)).all()
    assert len(traces) == 1


@cases
def test_a_jitted_update_does_not_wait(jax, case):
    """Under `transfer_guard("disallow")` a jitted update runs, masked or not: nothing goes to the host, or comes."""
    step = case.compiled(jax.jit)
    masked = jax.jit(lambda state, value, where: case.rule.step(state, value, where=where))
    value, where = jax.device_put(VALUES[0]), jax.device_put(np.bool_(True))
    state = case.init(value)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, _ = step(state, value)
            state, output = masked(state, value, where)
    assert np.isfinite(np.asarray(output)).all()


@schedules
def test_a_jitted_schedule_does_not_wait(jax, lr):
    """Under `transfer_guard("disallow")` a jitted schedule runs."""
    value, count = jax.jit(lr), jax.device_put(np.int32(3))
    with jax.transfer_guard("disallow"):
        value(count)
        output = value(count)
    assert np.isfinite(np.asarray(output)).all()


def test_a_declared_function_does_not_wait(jax, monkeypatch):
    """A declared function of arrays of the device copies none to the host, and brings none from it."""
    f, value = declared("jax"), jax.device_put(VALUES[0])
    with monkeypatch.context() as patch, jax.transfer_guard("disallow"):
        forbid(patch, type(value))
        forbid(patch, type(f.backend), "to_numpy")
        for _ in range(3):
            outputs = f(value)
    assert all(np.isfinite(np.asarray(output)).all() for output in outputs)


@pytest.mark.parametrize("read", [bool, float, int, lambda a: a.item(), lambda a: a.tolist(), np.asarray])
def test_the_host_is_forbidden_in_earnest(jax, torch, monkeypatch, read):
    """What the tests of waiting forbid does raise when an array is read.

    NumPy reads those of JAX past every method, where they are on the host already, which is no transfer.
    """
    arrays = [torch.tensor(1.0)] if read is np.asarray else [torch.tensor(1.0), jax.numpy.asarray(1.0)]
    with monkeypatch.context() as patch:
        for array in arrays:
            forbid(patch, type(array))
            with pytest.raises(AssertionError, match="on the host"):
                read(array)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jax.jit(lambda x: x)(np.ones(2))


# --- torch -----------------------------------------------------------------------------------------------------------
@cases
def test_a_compiled_update_is_compiled_once(torch, counter, case):
    """A thousand calls of `torch.compile(rule.step, fullgraph=True)`, from the first state on, compile it once."""
    step = case.compiled(lambda step: torch.compile(step, fullgraph=True, backend=counter))
    value = torch.tensor(VALUES[0])
    state = case.init(value)
    for _ in range(CALLS):
        state, _ = step(state, value)
    assert counter.frame_count == 1


@schedules
def test_a_compiled_schedule_is_compiled_once(torch, counter, lr):
    """A thousand calls of a compiled function that calls `lr(count)`, the count being state, compile it once."""

    @torch.compile(fullgraph=True, backend=counter)
    def update(count):
        return count + 1, lr(count)

    count = torch.tensor(0)
    for _ in range(CALLS):
        count, _ = update(count)
    assert int(count) == CALLS
    assert counter.frame_count == 1


def test_a_declared_function_is_compiled_once(torch, counter):
    """A thousand calls of `torch.compile(f.pure, fullgraph=True)` of a declared function compile it once."""
    f = declared("torch")
    pure = torch.compile(f.pure, fullgraph=True, backend=counter)
    state, value = f.state, torch.tensor(VALUES[0])
    expected = f(value)
    outputs, state = pure(state, value)
    assert all(map(torch.equal, outputs, expected))
    for _ in range(CALLS - 1):
        outputs, state = pure(state, value)
    assert counter.frame_count == 1


@pytest.mark.parametrize("kind", ["0-d array", "tracer"])
@cases
def test_masks_are_not_compiled_again(torch, counter, case, kind):
    """A mask whose value changes from call to call leaves a compiled update as it is."""

    @torch.compile(fullgraph=True, backend=counter)
    def step(state, value, where):
        return case.rule.step(state, value, where=torch.isfinite(value).all() if kind == "tracer" else where)

    good, bad = torch.tensor(VALUES[0]), torch.tensor([torch.nan, torch.nan])
    state = case.init(good)
    for k in range(20):
        state, output = step(state, bad if k % 3 else good, torch.tensor(k % 3 == 0))
        assert bool(torch.isfinite(output).all())
    assert counter.frame_count == 1


@cases
def test_python_masks_are_compiled_once_each(torch, counter, case):
    """To `torch.compile` a Python bool is a constant: the update is compiled once with and once without."""
    step = torch.compile(case.rule.step, fullgraph=True, backend=counter)
    value = torch.tensor(VALUES[0])
    state = case.init(value)
    for k in range(20):
        state, _ = step(state, value, where=k % 3 == 0)
    assert counter.frame_count == 2


@cases
def test_an_update_needs_no_values(torch, case):
    """On torch's meta device, where tensors have no values to read, an update gives a state of the same form."""
    value, where = torch.tensor(VALUES[0]).to("meta"), torch.tensor(True).to("meta")
    state = case.init(value)
    for after, output in (case.step(state, value), case.rule.step(state, value, where=where)):
        assert (output.device.type, output.shape, output.dtype) == ("meta", value.shape, value.dtype)
        forms = [[(p.device.type, p.shape, p.dtype) for p in flat(s)] for s in (state, after)]
        assert forms[0] == forms[1]


@schedules
def test_a_schedule_needs_no_values(torch, lr):
    """On torch's meta device a schedule gives the shape and dtype of its values."""
    value = lr(torch.zeros((3,), dtype=torch.int64, device="meta"))
    assert (value.device.type, tuple(value.shape), value.dtype) == ("meta", (3, *lr.shape), torch.float32)


@cases
def test_an_update_does_not_wait(torch, monkeypatch, case):
    """With every way of a tensor to the host raising, an update runs, masked or not, and with a time as a tensor."""
    value, where, dt = torch.tensor(VALUES[0]), torch.tensor(True), torch.tensor(0.5)
    with monkeypatch.context() as patch:
        forbid(patch, torch.Tensor, "numpy")
        state, _ = case.step(case.init(value), value)
        state, output = case.rule.step(state, value, where=where)
        if isinstance(state, ms.EmaState):
            state, output = case.rule.step(state, value, dt=dt)
    assert bool(torch.isfinite(output).all())


@schedules
def test_a_schedule_does_not_wait(torch, monkeypatch, lr):
    """With every way of a tensor to the host raising, a schedule runs."""
    step = torch.tensor(3)
    with monkeypatch.context() as patch:
        forbid(patch, torch.Tensor, "numpy")
        value = lr(step)
    assert bool(torch.isfinite(value).all())


def test_a_declared_function_in_torch_does_not_wait(torch, monkeypatch):
    """With every way of a tensor to the host raising, a declared function runs."""
    f, value = declared("torch"), torch.tensor(VALUES[0])
    with monkeypatch.context() as patch:
        forbid(patch, torch.Tensor, "numpy")
        outputs = f(value)
    assert all(bool(torch.isfinite(output).all()) for output in outputs)


# --- in a fresh process ----------------------------------------------------------------------------------------------
FRESH = """
import multisched as ms

lr = 0.5 * ms.piecewise_constant(1.0, {{4: 3.0}})
rules = [ms.ema(0.5), ms.ema([0.5, 0.25], debias=True), ms.ema(lr), ms.ema(halflife=2.0), ms.sma(3), ms.swa()]
scalar = ms.ema(0.5)

import torch
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()

@torch.compile(fullgraph=True, backend=counter)
def update({arguments}):
    {body}

{loop}
assert counter.frame_count == 1, counter.frame_count
"""
FIRST_USES = {
    "a schedule": ("step", "return lr(step)", "values = [update(torch.tensor(k)).item() for k in range(6)]\n"
                   "assert values == [0.5] * 4 + [1.5] * 2, values"),
    "a state made by hand, then the first states of rules": (
        "state, value",
        "return scalar.step(state, value[0]), [rule.step(rule.init(value), value)[1] for rule in rules]",
        "state = ms.EmaState(torch.zeros(()), torch.tensor(True), (), ())\n"
        "for k in (1.0, 3.0, 4.0):\n"
        "    (state, output), firsts = update(state, torch.full((2,), k))\n"
        "    assert all(first.tolist() == [k, k] for first in firsts), firsts\n"
        "assert output.item() == 3.0, output",
    ),
}  # fmt: skip


@pytest.mark.parametrize("use", list(FIRST_USES))
def test_the_first_use_is_compiled(torch, use):
    """In a process that imports multisched before torch, and first uses a rule in a compiled call, nothing is said.

    Neither on the standard error, where torch logs graph breaks and recompilations here, nor as a warning.
    """
    arguments, body, loop = FIRST_USES[use]
    environment = {**os.environ, "TORCH_LOGS": "graph_breaks,recompiles"}
    code = FRESH.format(arguments=arguments, body=body, loop=loop)
    ignored = "ignore::DeprecationWarning:torch"  # torch's own, as it is imported
    command = [sys.executable, "-W", "error", "-W", ignored, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
