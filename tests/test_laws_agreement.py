"""Law 12 for statistics: one update, and a stream of them, against plain Python in double precision."""

import math
import random

import numpy as np
import pytest
from helpers import EmaReference, make, sma_reference, to_numpy, ulps
from helpers_laws import EmaOnce, alphas, law, memory_of, parts
from hypothesis import example, given
from hypothesis import strategies as st

import multisched as ms

HELD = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
dtypes = pytest.mark.parametrize("dtype", list(HELD), indirect=True)

# Zero, or what float16 holds, too, with all its digits.
values = st.one_of(st.just(0.0), st.floats(2**-10, 2**14, width=32), st.floats(-(2**14), -(2**-10), width=32))
pairs = st.tuples(values, values)
decays = alphas.map(lambda alpha: float(np.float32(alpha)))


@pytest.fixture
def dtype(request, backend):
    """The name of a floating dtype that the backend has."""
    if not ms.get_backend(backend).supports(request.param):
        pytest.skip(f"{backend} has no {request.param} as it is configured")
    return request.param


def rounded(numbers, dtype, backend):
    """Numbers as a dtype holds them."""
    return to_numpy(make(numbers, backend, dtype), backend)


@st.composite
def once(draw):
    """Any exponential average."""
    alpha = draw(
        st.one_of(
            alphas,
            st.lists(alphas, min_size=2, max_size=2).map(np.array),
            st.tuples(decays, decays, decays).map(lambda d: ms.piecewise_constant(d[0], {1: d[1], 7: d[2]})),
        )
    )
    return EmaOnce(alpha, draw(st.none() | values), draw(st.booleans()), draw(st.booleans()))


@st.composite
def scenes(draw):
    """Where an update starts from: parts of a state, and the value that comes."""
    count = draw(st.one_of(st.integers(0, 40), st.sampled_from([10**6, 2**31 - 2])))
    return draw(pairs), draw(st.floats(2**-10, 1, width=32)), count, draw(pairs), draw(st.booleans())


def placed(rule, scene, dtype, backend):
    """The state of a rule as the scene has it, and the value."""
    mean, weight, count, value, first = scene
    value = make(rounded(value, dtype, backend), backend, dtype)
    state = rule.init(value)
    first = first or (count == 0 and not rule.debias)
    fields = {
        "mean": rounded(mean, HELD[dtype], backend),
        "first_step": first,
        "count": 0 if first else count,
        "weight": np.full(np.shape(to_numpy(state.weight, backend)), 0.0 if first else weight) if rule.debias else (),
    }
    held = {f: p for f, p in zip(state._fields, state, strict=True) if not isinstance(p, tuple)}
    kinds = {f: to_numpy(p, backend).dtype.name for f, p in held.items()}
    return state._replace(**{f: make(fields[f], backend, kind) for f, kind in kinds.items()}), value


# --- one update ------------------------------------------------------------------------------------------------------
@dtypes
@law
@given(reference=once(), scene=scenes())
@example(reference=EmaOnce(1.0, debias=True), scene=((1.0, 2.0), 0.5, 3, (3.0, 4.0), False))
@example(reference=EmaOnce(1.0, debias=True), scene=((0.0, 0.0), 0.0, 0, (3.0, 4.0), True))
@example(reference=EmaOnce(1 - 1e-9), scene=((2.0**14, 1.0), 1.0, 10**6, (2.0**14 - 8, -1.0), False))
def test_one_update_of_ema(backend, dtype, reference, scene):
    """From equal state and value, state and output are within 4 units of the formula at the larger operand."""
    rule = reference.rule()
    state, value = placed(rule, scene, dtype, backend)
    before, given_value = parts(state, backend), np.float64(to_numpy(value, backend))
    expected = reference(before, given_value, int(before.get("count", 0)))
    new, output = rule.step(state, value)
    operands = (np.abs(before["mean"]), np.abs(given_value), abs(reference.init or 0.0))
    mean, output = to_numpy(new.mean, backend), to_numpy(output, backend)
    assert (mean.dtype.name, output.dtype.name) == (HELD[dtype], dtype)
    assert ulps(mean, expected, *operands) <= 4
    assert ulps(output, expected, *operands, dtype=output.dtype) <= 4
    if reference.debias:
        alpha = reference.decay(int(before.get("count", 0)))
        assert ulps(to_numpy(new.weight, backend), np.float64(before["weight"]) * alpha + (1 - alpha), 1.0) <= 4


@dtypes
@law
@given(last=st.lists(pairs, min_size=1, max_size=9), value=pairs, count=st.integers(0, 2**31 - 1))
def test_one_update_of_sma(backend, dtype, last, value, count):
    """From any window, one update is the mean of the window that follows, and holds exactly its values."""
    n = len(last)
    rule, value = ms.sma(n), make(rounded(value, dtype, backend), backend, dtype)
    window = rounded(last, HELD[dtype], backend)
    window[: n - min(count, n)] = 0  # as a window is that was not filled yet
    state = rule.init(value)
    state = state._replace(last=make(window, backend, HELD[dtype]), count=make(count, backend, "int32"))
    new, output = rule.step(state, value)
    after = np.concatenate([np.float64(window)[1:], np.float64(to_numpy(value, backend))[None]])
    output = to_numpy(output, backend)
    assert to_numpy(new.last, backend).tolist() == after.tolist()
    expected = [math.fsum(column) / min(count + 1, n) for column in after.T]
    assert ulps(output, expected, np.abs(after).max(0), dtype=output.dtype) <= 4


@dtypes
@law
@given(mean=pairs, value=pairs, count=st.one_of(st.integers(0, 50), st.integers(0, 2**31 - 2)))
def test_one_update_of_swa(backend, dtype, mean, value, count):
    """From any mean of `count` values, one update is the mean of one more."""
    rule, value = ms.swa(), make(rounded(value, dtype, backend), backend, dtype)
    mean = rounded(mean, HELD[dtype], backend)
    state = rule.init(value)._replace(mean=make(mean, backend, HELD[dtype]), count=make(count, backend, "int32"))
    new, output = rule.step(state, value)
    given_value, output = np.float64(to_numpy(value, backend)), to_numpy(output, backend)
    expected = (count * np.float64(mean) + given_value) / (count + 1)
    assert ulps(to_numpy(new.mean, backend), expected, np.abs(mean), np.abs(given_value)) <= 4
    assert ulps(output, expected, np.abs(mean), np.abs(given_value), dtype=output.dtype) <= 4


# --- a stream --------------------------------------------------------------------------------------------------------
def given_stream(dtype, backend, length=120):
    source = random.Random(7)
    return rounded([source.uniform(-4, 4) for _ in range(length)], dtype, backend)


def run(rule, numbers, dtype, backend):
    """The outputs of a rule over numbers, one by one."""
    arrays = [make(x, backend, dtype) for x in numbers]
    state, outputs = rule.init(arrays[0]), []
    for array in arrays:
        state, output = rule.step(state, array)
        outputs.append(to_numpy(output, backend))
    return outputs


@dtypes
@pytest.mark.parametrize("alpha", [0.5, 0.999, 1.0])
@pytest.mark.parametrize("options", [{}, {"debias": True}, {"decay_min": True}, {"init": 2.5}], ids=str)
def test_a_stream_of_ema(backend, dtype, alpha, options):
    """Over 120 updates the difference stays within 4 units times `min(t, 1 / (1 - alpha))`."""
    numbers, reference, largest = (
        given_stream(dtype, backend),
        EmaReference(alpha, **options),
        abs(options.get("init", 0)),
    )
    outputs = run(ms.ema(alpha, **options), numbers, dtype, backend)
    for t, (output, number) in enumerate(zip(outputs, numbers, strict=True), start=1):
        largest = max(largest, abs(float(number)))
        assert output.dtype.name == dtype
        distance = ulps(output, reference.step(float(number)), largest, dtype=output.dtype)
        assert distance <= 4 * memory_of(t, alpha), f"update {t}"


@dtypes
@pytest.mark.parametrize("n", [1, 7, 64])
def test_a_stream_of_sma(backend, dtype, n):
    """Over 120 updates every average is within 4 units of the mean of the last n: nothing adds up."""
    numbers = given_stream(dtype, backend)
    for t, output in enumerate(run(ms.sma(n), numbers, dtype, backend), start=1):
        window = [float(x) for x in numbers[max(0, t - n) : t]]
        assert ulps(output, sma_reference(window, n), max(map(abs, window)), dtype=output.dtype) <= 4, f"update {t}"


@dtypes
def test_a_stream_of_swa(backend, dtype):
    """Over 120 updates the mean of all stays within 4 units times the updates, its memory, of the direct sum."""
    numbers = [float(x) for x in given_stream(dtype, backend)]
    for t, output in enumerate(run(ms.swa(), numbers, dtype, backend), start=1):
        largest = max(map(abs, numbers[:t]))
        assert ulps(output, math.fsum(numbers[:t]) / t, largest, dtype=output.dtype) <= 4 * t, f"update {t}"


@pytest.mark.parametrize("alpha", [0.9, 0.9999])
def test_a_long_stream(alpha):
    """Over 20,000 updates under `jax.lax.scan` the same bound holds as over few."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    numbers = given_stream("float32", "jax", 20_000)
    rule, reference = ms.ema(alpha), EmaReference(alpha)
    outputs = np.asarray(jax.lax.scan(rule.step, rule.init(jax.numpy.float32(0)), jax.numpy.asarray(numbers))[1])
    v = [reference.step(float(x)) for x in numbers]
    bounds = [4 * memory_of(t, alpha) for t in range(1, len(v) + 1)]
    distances = np.abs(np.float64(outputs) - v) / np.spacing(np.maximum.accumulate(np.abs(numbers)))
    assert (distances <= bounds).all()
