"""Law 7: dtypes of states and outputs, and that the form of a state is a fixed point of its update."""

import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import parts

import multisched as ms

# dtype of a value: (dtype of the average that is held, dtype of the output)
FORMS = {
    "float16": ("float32", "float16"),
    "bfloat16": ("float32", "bfloat16"),
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "complex64": ("complex64", "complex64"),
    "complex128": ("complex128", "complex128"),
    **dict.fromkeys(("bool", "int8", "int16", "int32", "int64", "uint8", "uint16"), ("float32", "float32")),
}
RULES = {
    "ema": (ms.ema(0.75), ("mean", "first_step")),
    "ema with decay_min": (ms.ema(0.75, decay_min=True), ("mean", "first_step", "count")),
    "ema with debias": (ms.ema(0.75, init=1.0, debias=True), ("mean", "first_step", "weight")),
    "ema of a schedule": (
        ms.ema(ms.piecewise_constant(0.5, {2: 0.25}), debias=True),
        ("mean", "first_step", "count", "weight"),
    ),
    "ema of an array": (ms.ema([0.5, 0.25], init=[1, 2], debias=True), ("mean", "first_step", "weight")),
    "sma": (ms.sma(3), ("last", "count")),
}
rules = pytest.mark.parametrize(("rule", "fields"), list(RULES.values()), ids=list(RULES))
dtypes = pytest.mark.parametrize("dtype", list(FORMS))
floats = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])


def needs(backend, dtype):
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")


def form(state, backend):
    """Structure, shapes and dtypes."""
    return {field: (part.shape, part.dtype.name) for field, part in parts(state, backend).items()}


def real(dtype):
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


@dtypes
@rules
def test_the_form_of_a_state_never_changes(backend, rule, fields, dtype):
    """Structure, shapes and dtypes of a state are those of the table, at first and after every update."""
    needs(backend, dtype)
    held, given = FORMS[dtype]
    expected = {
        "mean": ((2,), held),
        "last": ((3, 2), held),
        "first_step": ((), "bool"),
        "count": ((), "int32"),
        "weight": ((2,) if "[0.5, 0.25]" in repr(rule) else (), real(held)),
    }
    value = make([1, 0], backend, dtype)
    state = rule.init(value)
    for where in (None, False, True, make(False, backend, "bool"), make(True, backend, "bool")):
        assert form(state, backend) == {field: expected[field] for field in fields}
        assert [part == () for part in state if isinstance(part, tuple)] == [True] * (len(state) - len(fields))
        state, output = rule.step(state, value, where)
        assert to_numpy(output, backend).dtype.name == given
        assert tuple(output.shape) == (2,)
        assert to_numpy(rule.read(state, value), backend).dtype.name == given
    assert form(state, backend) == {field: expected[field] for field in fields}


@dtypes
def test_declared_averages_have_the_same_dtypes(backend, dtype):
    """A declared average of a value of each dtype holds and gives the same dtypes as the pure rule."""
    needs(backend, dtype)
    held, given = FORMS[dtype]
    value = ms.Placeholder((2,), dtype)
    average, fixed = ms.ExponentialMovingAverage(value, 0.75, debias=True)
    simple, before = ms.SimpleMovingAverage(value, 3)
    by_name = {v.name: v.dtype for v in ms.get_variables()}
    assert by_name == {"EMA": held, "first_step": "bool", "weight": real(held), "SMA": held, "count": "int32"}
    assert {t.dtype for t in (average, fixed, simple, before)} == {given}
    f = ms.function(value, outputs=[average, fixed, simple, before], updates=ms.get_updates())
    for _ in range(2):
        outputs = f(make([1, 0], backend, dtype), device_get=True)
        assert {o.dtype.name for o in outputs} == {given}
    assert {v.name: to_numpy(v.value, backend).dtype.name for v in ms.get_variables()} == by_name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_values_are_held_in_float32(backend, dtype):
    """Small movements of half-precision values are not lost: 500 steps of 1/500 arrive, as they do in float64."""
    needs(backend, dtype)
    rule, value, expected = ms.ema(0.998), make(1.0, backend, dtype), 0.0
    state, _ = rule.step(rule.init(value), make(0.0, backend, dtype))
    for _ in range(500):
        state, output = rule.step(state, value)
        expected = expected * 0.998 + 0.002
    assert ulps(to_numpy(state.mean, backend), expected, 1.0, dtype="float32") <= 4 * 500
    assert abs(float(output) - expected) <= 2.0**-8  # one rounding to the value's dtype


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "bool"])
def test_integers_average_in_floating_point(backend, dtype):
    """The mean of integers and of bools is a fraction, and does not wrap at the end of their range."""
    largest = 1 if dtype == "bool" else np.iinfo(dtype).max if dtype != "int32" else 2**24
    low, high = make(0, backend, dtype), make(largest, backend, dtype)
    for rule in (ms.ema(0.5), ms.sma(2)):
        state, _ = rule.step(rule.init(low), low)
        state, average = rule.step(state, high)
        assert float(average) == largest / 2
        state, average = rule.step(state, high)
        assert float(average) == (largest if rule == ms.sma(2) else largest * 0.75)


@pytest.mark.parametrize("number", [3, 2.5, True, -1, 2 + 1j])
def test_python_numbers_become_float32(number):
    """Python's numbers average in float32, complex ones in complex64."""
    for rule in (ms.ema(0.5), ms.sma(2)):
        state = rule.init(number)
        state, first = rule.step(state, number)
        state, second = rule.step(state, 3 * number)
        assert first.dtype == second.dtype == np.dtype("complex64" if isinstance(number, complex) else "float32")
        assert (complex(first), complex(second)) == (number, 2 * number)


def test_python_numbers_beside_arrays(backend):
    """A Python number as the value takes the shape and dtype of the state."""
    rule = ms.ema(0.5)
    state, output = rule.step(rule.init(make([0.0, 0.0], backend)), 4.0)
    state, output = rule.step(state, 2)
    assert to_numpy(output, backend).tolist() == [3.0, 3.0]
    assert to_numpy(output, backend).dtype == np.float32


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_values_average_by_their_parts(backend, dtype):
    """The average of complex values has the averages of real and imaginary parts, under real weights."""
    needs(backend, dtype)
    numbers = [1 + 2j, -3 + 0.5j, 0.25 - 4j, 5 + 5j]
    for rule in (ms.ema(0.9), ms.ema(0.9, debias=True, decay_min=True), ms.ema(0.5, init=1 - 1j), ms.sma(3)):
        as_one = rule.init(make(0, backend, dtype))
        started = rule == ms.ema(0.5, init=1 - 1j)
        by_part = [ms.ema(0.5, init=1.0), ms.ema(0.5, init=-1.0)] if started else [rule, rule]
        states = [r.init(make(0, backend, real(dtype))) for r in by_part]
        for number in numbers:
            as_one, output = rule.step(as_one, make(number, backend, dtype))
            for i, part in enumerate((number.real, number.imag)):
                states[i], expected = by_part[i].step(states[i], make(part, backend, real(dtype)))
                got = to_numpy(output, backend)
                assert ulps((got.real, got.imag)[i], to_numpy(expected, backend), 6.5) <= 4


# --- dtype= of what is declared --------------------------------------------------------------------------------------
@floats
def test_a_declared_dtype_is_that_of_the_result(backend, dtype):
    """`dtype=` is the dtype of both averages; what is held has at least float32."""
    needs(backend, dtype)
    value = ms.Placeholder((2,), "float32")
    average, fixed = ms.ExponentialMovingAverage(value, 0.5, dtype=dtype)
    assert (average.dtype, fixed.dtype) == (dtype, dtype)
    f = ms.function(value, outputs=(average, fixed), updates=ms.get_updates())
    f([1.0, 2.0])
    latest, before = f([4.0, 8.0], device_get=True)
    assert (latest.dtype.name, before.dtype.name) == (dtype, dtype)
    assert (latest.tolist(), before.tolist()) == ([2.5, 5.0], [1.0, 2.0])
    held = {v.name: v.dtype for v in ms.get_variables()}
    assert held == {"EMA": FORMS[dtype][0], "first_step": "bool"}


@floats
def test_a_declared_average_of_integers_with_a_dtype(backend, dtype):
    """Integer values average in the dtype asked for."""
    needs(backend, dtype)
    value = ms.Placeholder((), "int32")
    average, _ = ms.declare(ms.sma(2), value, dtype=dtype)
    f = ms.function(value, outputs=average, updates=ms.get_updates())
    f(1)
    assert f(2, device_get=True) == 1.5
    assert f(2, device_get=True).dtype.name == dtype


def test_floats_given_as_python_numbers_become_float32(backend):
    """Schedules, variables and averages of Python numbers are float32 unless asked otherwise; ints are int32."""
    assert ms.PiecewiseConstant(0.1, {4: 1}).dtype == "float32"
    assert [ms.Variable(x).dtype for x in (1.0, 1, True)] == ["float32", "int32", "bool"]
    assert ms.Placeholder(()).dtype == "float32"
    assert (ms.Variable(1.0) * 2).dtype == (ms.Variable(1) * 0.5).dtype == "float32"
