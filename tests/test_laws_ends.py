"""Law 17: a schedule that ends at a value has exactly this value from there on, and never leaves its interval."""

import math
from functools import cache

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_ends import BOUNDED_FOR_EVER, ENDING, around, jitted, lengths, of_one_length
from hypothesis import settings

import multisched as ms

THOROUGH = settings.default.max_examples >= 1000
LENGTHS = lengths(600 if THOROUGH else 12)
ending = pytest.mark.parametrize("name", ENDING)
bounded = pytest.mark.parametrize("name", BOUNDED_FOR_EVER)


@cache
def cases(name):
    """Of each length: `(schedule, steps, how many of them are after the end, end, lowest, highest)`."""
    build, over, *values = ENDING[name]
    return [(build(n), *around(over(n)), *values) for n in LENGTHS]


def check(values, after, end, lowest, highest):
    """The law, of the values at steps of which the last `after` are past the end."""
    values = np.asarray(values)
    assert values[-after:].tolist() == [values.dtype.type(end).item()] * after
    assert within(values, lowest, highest)


def within(values, lowest, highest):
    """Whether all values are in the interval, in their own dtype."""
    lowest, highest = np.asarray((lowest, highest), values.dtype)
    return ((values >= lowest) & (values <= highest)).all()


def row(steps, backend):
    """The steps as an array, of one length in all tests, since JAX compiles its operations for each shape."""
    return make(of_one_length([steps], 160)[0], backend, "int32")


def few(skipped=0):
    """Each schedule once, of lengths that differ."""
    return [cases(name)[(i + skipped) % len(LENGTHS)] for i, name in enumerate(ENDING)]


# --- eagerly ---------------------------------------------------------------------------------------------------------
@ending
def test_at_numbers(name):
    """At Python numbers, in double precision."""
    for schedule, steps, *law in cases(name):
        check(np.asarray([schedule(step) for step in steps]), *law)


@ending
def test_in_arrays(backend, name):
    """In arrays of each backend, and so does the square root of it, which no value below 0 turns into NaN."""
    for schedule, steps, *law in cases(name):
        check(to_numpy(schedule(row(steps, backend)), backend), *law)
    if law[2] >= 0:
        assert not np.isnan(to_numpy((schedule**0.5)(row(steps, backend)), backend)).any()


@bounded
def test_what_never_ends_stays_within(backend, name):
    """What goes on for ever stays within its interval as well."""
    build, lowest, highest = BOUNDED_FOR_EVER[name]
    for n in LENGTHS:
        assert within(to_numpy(build(n)(row(inner(n), backend)), backend), lowest, highest)


def inner(n):
    """Steps of several periods of `n` steps."""
    return [*range(60), *(int(n * part / 7) for part in range(60)), 2**31 - 1]


# --- inside compilers ------------------------------------------------------------------------------------------------
@ending
def test_jitted(jax, name):
    """In one jitted function of schedules of all lengths, each at steps that are an array."""
    schedules, steps, *_ = zip(*cases(name), strict=True)
    for found, (_, _, *law) in zip(jitted(jax, schedules, of_one_length(steps)), cases(name), strict=True):
        check(found, *law)


@bounded
def test_jitted_for_ever(jax, name):
    """In one jitted function of what goes on for ever."""
    build, lowest, highest = BOUNDED_FOR_EVER[name]
    assert within(jitted(jax, list(map(build, LENGTHS)), list(map(inner, LENGTHS))), lowest, highest)


@pytest.mark.parametrize("transform", ["scan", "vmap"])
def test_mapped_and_scanned(jax, transform):
    """In one `jax.lax.scan`, and in one jitted `jax.vmap`, of a schedule of each kind."""
    chunk = few()[::3]
    schedules = [schedule for schedule, *_ in chunk]
    columns = jax.numpy.asarray(of_one_length([steps for _, steps, *_ in chunk]).T)
    at = lambda column: [s(step) for s, step in zip(schedules, column, strict=True)]  # noqa: E731
    if transform == "scan":
        values = jax.lax.scan(lambda _, column: ((), at(column)), (), columns)[1]
    else:
        values = jax.jit(jax.vmap(at))(columns)
    for found, (_, _, *law) in zip(values, chunk, strict=True):
        check(found, *law)


def check_compiled_by_torch(torch, chunk, compiler):
    """The law in one function of schedules that `torch.compile` makes with a compiler."""
    schedules = [schedule for schedule, *_ in chunk]
    function = torch.compile(
        lambda rows: [s(row) for s, row in zip(schedules, rows, strict=True)], fullgraph=True, backend=compiler
    )
    values = function(list(torch.as_tensor(of_one_length([steps for _, steps, *_ in chunk]))))
    for found, (_, _, *law) in zip(values, chunk, strict=True):
        check(found, *law)


def test_traced_by_torch(torch):
    """In one function that `torch.compile` only traces."""
    check_compiled_by_torch(torch, few()[::9], "eager")


@pytest.mark.skipif(not THOROUGH, reason="machine code is made for long runs only")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, inside its own compiler
@pytest.mark.parametrize("skipped", range(0, 12, 3))
def test_compiled_by_torch(torch, skipped):
    """In one function of all schedules that `torch.compile` makes machine code of."""
    try:
        check_compiled_by_torch(torch, few(skipped), "inductor")
    except torch._inductor.exc.InvalidCxxCompiler:
        pytest.skip("torch finds no C++ compiler here")


# --- digits ----------------------------------------------------------------------------------------------------------
DIGITS = {
    "linear": lambda n: ms.linear(0.1, 0.0, n),
    "linear to a floor": lambda n: ms.linear(0.1, 1e-5, n),
    "polynomial": lambda n: ms.polynomial(0.1, 0.0, n, 2),
    "polynomial up": lambda n: ms.polynomial(0.0, 0.1, n, 0.5),
    "cosine": lambda n: ms.cosine(0.1, n),
    "cosine up": lambda n: ms.cosine(0.0, n, 0.1),
    "restarts": lambda n: ms.cosine_restarts(0.1, n),
    "one cycle": lambda n: ms.one_cycle(0.1, n),
    "roots": lambda n: ms.warmup_stable_decay(0.1, n, 5, n, warmup="1-sqrt", decay="1-sqrt"),
    "cyclic": lambda n: ms.cyclic(0.0, 0.1, n),
    "exponential": lambda n: ms.exponential(0.1, 0.5, max(1, n // 20)),
    "warmup": lambda n: ms.warmup(ms.cosine(0.1, n), n),
    "points": lambda n: ms.piecewise_interpolate({0: 0.0, n: 0.1, 2 * n: 0.0}, "cosine"),
}


@pytest.mark.parametrize("name", DIGITS)
def test_digits_near_the_low_end(backend, name):
    """Down to a millionth of the peak, float32 is within 4e-7 of double precision, relative to each value itself."""
    for n in (7, 1000, 30_011, 10**6, 3 * 10**7 + 1):
        schedule = DIGITS[name](n)
        steps = sorted(int(abs(k * n / 9 + d)) for k in range(19) for d in (-9, -2, -1, 0, 1, 2, 9, n / 23))
        expected = np.asarray([schedule(step) for step in steps])
        values = to_numpy(schedule(row(steps, backend)), backend)[-len(steps) :].astype(np.float64)
        counted = np.abs(expected) >= 1e-6 * np.abs(expected).max()
        assert (np.abs(values - expected)[counted] <= 4e-7 * np.abs(expected)[counted]).all(), n


# --- steps that are no numbers, and gradients ------------------------------------------------------------------------
ENDLESS = {
    "cyclic": (ms.cyclic(0.25, 1.0, 4), 0.25),
    "cyclic, growing": (ms.cyclic(0.25, 1.0, 4, mode="exp_range", gamma=1.5), 0.25),
    "cyclic, by halves": (ms.cyclic(1.0, 0.25, 3, 1, mode="triangular2"), 1.0),
    "restarts": (ms.cosine_restarts(1.0, 10), 1.0),
    "restarts of a fraction": (ms.cosine_restarts(1.0, math.pi), 1.0),
    "lower restarts": (ms.cosine_restarts(1.0, 10, peak_mul=0.5, end=0.125), 0.125),
    "restarts that end": (ms.cosine_restarts(1.0, 10, cycles=2, end=0.125), 0.125),
    "repeat": (ms.repeat(ms.linear(1.0, 0.0, 4), 3), 1.0),
    "polynomial cycles": (ms.polynomial(1.0, 0.25, 4, cycle=True), 0.25),
    "linear": (ms.linear(1.0, 0.25, 4), 0.25),
    "exponential": (ms.exponential(1.0, 0.5, 4), 0.0),
    "no growth": (ms.exponential(0.5, 1.0, 4), 0.5),
    "tanh": (ms.tanh(1.0, 10, 0.25), 0.25),
    "inverse time": (ms.inverse_time(0.5, 0.0, 3), 0.5),
    "points": (ms.piecewise_constant(0.5, {4: 1.0, 5: 1.5, 6: 2.0, 7: 2.5, 8: 0.25}), 0.25),
    "warmup": (ms.warmup(ms.cosine(1.0, 10), 4), 0.0),
}


@pytest.mark.filterwarnings("ignore:overflow encountered")  # of what grows for ever
@pytest.mark.parametrize("name", ENDLESS)
def test_infinite_steps_and_nan(backend, name):
    """At an infinite step the end, or the beginning of a period; at NaN, NaN: at numbers and in arrays alike."""
    schedule, last = ENDLESS[name]
    assert schedule(math.inf) == last
    assert math.isnan(schedule(math.nan))
    values = to_numpy(schedule(make([math.inf, -math.inf, math.nan, 0.0], backend)), backend)
    assert values[:2].tolist() == [last, values[3]]
    assert np.isnan(values[2])


@pytest.mark.parametrize("name", [*DIGITS, "tanh"])
def test_gradients_by_the_step(jax, torch, name):
    """By a floating step, the gradient is that of the formula, and finite at both ends."""
    schedule = ms.tanh(0.1, 20) if name == "tanh" else DIGITS[name](20)
    steps = np.asarray([0.0, 3.25, 9.5, 20.0, 21.5, 1e6], np.float32)
    tensor = torch.tensor(steps, requires_grad=True)
    schedule(tensor).sum().backward()
    by_torch, by_jax = tensor.grad.numpy(), np.asarray(jax.jit(jax.vmap(jax.grad(schedule)))(steps))
    inside = [1, 2]
    expected = [(schedule(s + 1e-4) - schedule(s - 1e-4)) / 2e-4 for s in (3.25, 9.5)]
    rooted = name in ("polynomial up", "roots")  # whose slope is infinite at an end
    for found in (by_torch, by_jax):
        assert np.isfinite(found).all() or rooted
        assert not np.isnan(found[1:]).any()
        assert np.allclose(found[inside], expected, rtol=1e-3, atol=1e-6)
