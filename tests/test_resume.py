"""Law 10: a run that is saved at any step and restored goes on as if it had never been broken off."""

from functools import cache

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_laws import same_bits, variables
from helpers_rules import SCHEDULES, STATISTICS, bits, moved, state_bits

import multisched as ms

BACKENDS = ("numpy", "jax", "torch", "array_api_strict")
VALUES = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
SPLITS = range(len(VALUES) + 1)
MEMORY = {"ema": 10, "ema of a schedule": 4, "ema of an array": 2, "ema of a half-life": 5, "swa": len(VALUES)}
MEMORY |= {f"ema with {option}": 10 for option in ("init", "decay_min", "debias")}  # 1 / (1 - alpha), elsewhere 1
statistics = pytest.mark.parametrize("rule", STATISTICS.values(), ids=STATISTICS)
rules = pytest.mark.parametrize("rule", (STATISTICS | SCHEDULES).values(), ids=STATISTICS | SCHEDULES)
named = pytest.mark.parametrize("name", STATISTICS)
others = pytest.mark.parametrize("other", BACKENDS)


def run(rule, state, given, backend):
    """The outputs over some values, on the host, and all states from `state` on."""
    outputs, states = [], [state]
    for value in given:
        state, output = rule.step(state, make(value, backend))
        outputs.append(to_numpy(output, backend))
        states.append(state)
    return outputs, states


def needs(other):
    pytest.importorskip(other, reason=f"{other}, the other backend here, is not installed")


# --- the same backend ------------------------------------------------------------------------------------------------
@statistics
def test_a_pure_rule_goes_on_from_any_step(backend, rule):
    """From the state after any update, taken to NumPy and back, every later output and state is the same bits."""
    outputs, states = run(rule, rule.init(make(VALUES[0], backend)), VALUES, backend)
    for split in SPLITS:
        again, later = run(rule, moved(states[split], backend, backend), VALUES[split:], backend)
        assert bits(again) == bits(outputs[split:])
        assert [state_bits(s, backend) for s in later] == [state_bits(s, backend) for s in states[split:]]


def declared(rule):
    """A function of one value, and of none for a schedule: the outputs on the host. It holds what is declared."""
    if isinstance(rule, ms.Schedule):
        outputs = [ms.declare(rule)]
        f = ms.function(outputs=outputs, updates=ms.get_updates())
        return lambda value, held=outputs: f(device_get=True)
    x = ms.Placeholder((2,), name="x")
    outputs = list(ms.declare(rule, x))
    f = ms.function(x, outputs=outputs, updates=ms.get_updates())
    return lambda value, held=outputs: f(value, device_get=True)


def broken_off(rule, folder, backend):
    """The outputs of an unbroken run, the variables at its end, and for each split what was saved there."""
    f, files, outputs = declared(rule), [], []
    for split in SPLITS:
        files.append(folder / f"{split}.safetensors")
        ms.save_variables(files[-1])
        if split < len(VALUES):
            outputs.append(bits(f(VALUES[split])))
    return outputs, variables(backend), files


@rules
def test_a_declared_rule_goes_on_from_any_file(backend, rule, tmp_path):
    """Saved before any update and loaded into a declaration elsewhere, a rule gives the same bits from there on."""
    outputs, end, files = broken_off(rule, tmp_path, backend)
    with ms.Graph("another"):
        g = declared(rule)
        for split, file in zip(SPLITS, files, strict=True):
            ms.load_variables(file)
            assert [bits(g(value)) for value in VALUES[split:]] == outputs[split:]
            assert same_bits(variables(backend), end)


@rules
def test_a_function_goes_on_from_any_state(backend, rule):
    """`f.state`, taken to NumPy and assigned again later, brings a run back to that update, to the bit."""
    f = declared(rule)
    function = ms.function(outputs=None, updates=ms.get_updates()) if isinstance(rule, ms.Schedule) else None
    held = function or ms.function(*ms.get_placeholders(name="x"), outputs=None, updates=ms.get_updates())
    states, outputs = [], []
    for value in VALUES:
        states.append({path: to_numpy(a, backend) for path, a in held.state.items()})
        outputs.append(bits(f(value)))
    end = variables(backend)
    for split, state in enumerate(states):
        held.state = state
        assert [bits(f(value)) for value in VALUES[split:]] == outputs[split:]
        assert same_bits(variables(backend), end)


# --- from one backend to another -------------------------------------------------------------------------------------
def by_dlpack(state, backend, other):
    """A state handed over without a copy, where both frameworks allow it for a part, else through NumPy."""
    return type(state)(*(p if isinstance(p, tuple) else handed_over(p, backend, other)[0] for p in state))


def handed_over(part, backend, other):
    """One array in another framework, and whether DLPack brought it there."""
    try:
        return ms.get_backend(other).xp.from_dlpack(part), True
    except (BufferError, TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError):
        array = to_numpy(part, backend)
        return make(array, other, array.dtype.name), False


def distance(actual, expected, name, at):
    """In units in the last place at the largest operand so far, over how often law 12 lets them add up."""
    largest = np.abs(VALUES[: at + 1]).max()
    unit = np.spacing(np.float32(max(largest, np.abs(expected).max())))
    return float(np.abs(np.float64(actual) - np.float64(expected)).max() / unit) / min(at + 1, MEMORY.get(name, 1))


@cache
def unbroken(backend, name):
    """The outputs and states of a rule that never leaves its backend: one run for all that go on from it elsewhere."""
    rule = STATISTICS[name]
    return run(rule, rule.init(make(VALUES[0], backend)), VALUES, backend)


@named
@others
@pytest.mark.parametrize("way", [by_dlpack, moved], ids=["DLPack", "NumPy"])
def test_a_pure_rule_goes_on_elsewhere(backend, name, other, way):
    """A state handed to another backend at any step goes on there within law 12, and the first is as it was."""
    needs(other)
    rule, (outputs, states) = STATISTICS[name], unbroken(backend, name)
    for split in SPLITS:
        before = state_bits(states[split], backend)
        given = way(states[split], backend, other)
        assert state_bits(given, other) == before
        again, later = run(rule, given, VALUES[split:], other)
        for at, (actual, expected) in enumerate(zip(again, outputs[split:], strict=True), start=split):
            assert actual.dtype == expected.dtype
            assert distance(actual, expected, name, at) <= 4
        for actual, expected in zip(later, states[split:], strict=True):
            assert same_form(actual, other, expected, backend)
        assert state_bits(states[split], backend) == before


def same_form(first, backend, second, other):
    """Whether two states have the same parts, of the same shapes and dtypes; counters and flags are equal."""
    pairs = zip(state_bits(first, backend), state_bits(second, other), strict=True)
    return all((a[:2] == b[:2]) and ("float" in a[0] or a == b) for a, b in pairs)


@others
def test_dlpack_needs_no_way_round(backend, other):
    """All backends hand float32 and int32 to each other by DLPack itself, so the test above does test it."""
    needs(other)
    for dtype in ("float32", "int32"):
        array, direct = handed_over(make([1, 2, 3], backend, dtype), backend, other)
        assert direct
        assert ms.get_backend(other).owns(array)
        assert to_numpy(array, other).tolist() == [1, 2, 3]


@cache
def declared_on(backend, name):
    """A rule that is declared on a backend, and the graph in which it is: one for all files that it goes on from."""
    with ms.use_backend(backend), ms.Graph(name) as graph:
        return declared((STATISTICS | SCHEDULES)[name]), graph


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`saved(backend, name)`: the outputs of a declared rule, the file before each, and the counters at the end."""

    @cache
    def run(backend, name):
        folder, outputs, files = tmp_path_factory.mktemp("saved"), [], []
        with ms.use_backend(backend), ms.Graph("one"):
            f = declared((STATISTICS | SCHEDULES)[name])
            for split, value in enumerate(VALUES):
                files.append(folder / f"{split}.safetensors")
                ms.save_variables(files[-1])
                outputs.append(f(value))
            return outputs, files, counters(backend)

    return run


def counters(backend):
    """The values of the variables that count, by path."""
    return {path: a.tolist() for path, a in variables(backend).items() if a.dtype == np.int32}


@pytest.mark.parametrize("name", STATISTICS | SCHEDULES)
@others
def test_a_declared_rule_goes_on_elsewhere(backend, name, other, saved):
    """A file that one backend saved at any update goes on in another, within law 12, with equal counters at the end."""
    needs(other)
    outputs, files, expected_counters = saved(backend, name)
    g, graph = declared_on(other, name)
    with ms.use_backend(other), graph:
        for split, file in enumerate(files):
            ms.load_variables(file)
            for at, expected in enumerate(outputs[split:], start=split):
                for actual, wanted in zip(g(VALUES[at]), expected, strict=True):
                    if at or not np.isnan(wanted).all():
                        assert distance(actual, wanted, name, at) <= 4
        assert counters(other) == expected_counters
