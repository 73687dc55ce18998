"""The catalogue: each schedule against its definition in plain Python, at numbers, in arrays, and declared."""

import math
import pickle

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_catalogue import CATALOGUE, drawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

STEPS = [-3, -1, *range(0, 60), *range(60, 130, 7), 1000, 2**20]
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
names = pytest.mark.parametrize("name", CATALOGUE)


def largest(reference):
    """The largest value of a schedule: the operand at which the rounding of its formula is measured."""
    return max(abs(reference(step)) for step in STEPS)


@names
@law
@given(data=st.data())
def test_at_numbers_it_is_its_definition(name, data):
    """At a Python int it gives a float, to 1e-12 of its largest value, before 0 and far after the end included."""
    _, schedule, reference = data.draw(drawn(name))
    scale = largest(reference)
    for step in STEPS:
        value = schedule(step)
        assert type(value) is float
        assert math.isclose(value, reference(step), rel_tol=1e-12, abs_tol=1e-12 * scale), step


@names
@law
@given(data=st.data())
def test_in_arrays_it_is_its_definition(backend, name, data):
    """At an array of ints it gives float32, within 4 units in the last place at its largest value, at every step."""
    _, schedule, reference = data.draw(drawn(name))
    array = to_numpy(schedule(make(STEPS, backend, "int32")), backend)
    unit = float(np.spacing(np.float32(largest(reference))))
    assert array.dtype == np.float32
    for step, value in zip(STEPS, array.tolist(), strict=True):
        assert abs(value - reference(step)) <= 4 * unit, step


@names
@law
@given(data=st.data())
def test_before_0_it_holds_its_value_at_0(name, data):
    """Law 3: steps below 0 have the value at 0."""
    _, schedule, _ = data.draw(drawn(name))
    assert {schedule(step) for step in (-1, -7, -(10**6), 0)} == {schedule(0)}


@names
@law
@given(data=st.data())
def test_it_is_plain_data(name, data):
    """Equal by value and hash, pickled and back, and built again by what it prints."""
    arguments, schedule, _ = data.draw(drawn(name))
    again = getattr(ms, name)(**arguments)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), vars(ms).copy()) == schedule


@names
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_declared_it_runs_through_its_values(backend, name, data):
    """A declared one gives f(0), f(1), ... as it advances."""
    _, schedule, reference = data.draw(drawn(name))
    with ms.Graph("catalogue"):
        declared = ms.declare(schedule)
        values = [float(declared.advance()) for _ in range(6)]
    unit = float(np.spacing(np.float32(largest(reference))))
    assert all(abs(value - reference(step)) <= 4 * unit for step, value in enumerate(values))


@pytest.mark.parametrize("rate", [1.05, 1.5, 2.0, 10.0])
def test_growth_keeps_its_digits(backend, rate):
    """A growing exponential, too, is within 4 units of each of its values, up to the largest of float32."""
    steps = [step for step in range(0, 3000, 7) if step / 10 * math.log2(rate) < 120]
    schedule = ms.exponential(0.001, rate, 10)
    array = to_numpy(schedule(make(steps, backend, "int32")), backend).astype(np.float64)
    expected = np.array([0.001 * rate ** (step / 10) for step in steps])
    assert np.all(np.abs(array - expected) <= 4 * np.spacing(expected.astype(np.float32)))


def test_growth_from_0_stays_there(backend):
    """0 times an infinite growth is 0, with bounds and without, at numbers and in arrays."""
    for schedule, value in ((ms.exponential(0.0, 2.0, 1), 0.0), (ms.exponential(0, 2, 1, end=-0.5), -0.5)):
        assert {schedule(step) for step in (0, 1, 10_000, 1e300, math.inf)} == {value}
        assert set(to_numpy(schedule(make([0, 1, 10_000], backend, "int32")), backend).tolist()) == {value}


JUMPS = {
    "linear": (ms.linear(1.0, 0.0, 0, begin=5), 5, 1.0, 0.0),
    "polynomial": (ms.polynomial(1.0, 0.0, 0, begin=5), 5, 1.0, 0.0),
    "cosine": (ms.cosine(1.0, 0, begin=5), 5, 1.0, 0.0),
    "warmup": (ms.warmup(ms.constant(1.0), 0), 0, 1.0, 1.0),
    "inverse_sqrt": (ms.inverse_sqrt(1.0, 0), 0, 1.0, 1.0),
    "one_cycle": (ms.one_cycle(1.0, 10, warmup=0), 0, 1.0, 1.0),
    "join": (ms.join([ms.constant(1.0), ms.constant(9.0), ms.constant(0.0)], [5, 5]), 5, 1.0, 0.0),
}


@pytest.mark.parametrize(("schedule", "step", "before", "at"), JUMPS.values(), ids=JUMPS)
def test_a_phase_of_no_length_is_skipped(schedule, step, before, at):
    """Law 3: it divides by nothing, and the next value rules at its beginning."""
    assert (schedule(step - 1), schedule(step)) == (before, at)
    assert schedule(np.asarray([step - 1, step], np.int32)).tolist() == [before, at]


# --- combinators -----------------------------------------------------------------------------------------------------
A, B = ms.cosine(1.0, 10), ms.linear(0.5, 0.1, 7)
COMBINED = {
    "join": (ms.join([A, B], [6]), lambda k: A(k) if k < 6 else B(k - 6)),
    "join of three": (ms.join([A, B, A], [6, 9]), lambda k: A(k) if k < 6 else B(k - 6) if k < 9 else A(k - 9)),
    "warmup": (ms.warmup(A, 4, init=0.2), lambda k: 0.2 + (1.0 - 0.2) * max(k, 0) / 4 if k < 4 else A(k - 4)),
    "delay": (ms.delay(B, 5), lambda k: B(max(k - 5, 0))),
    "repeat": (ms.repeat(A, 6), lambda k: A(max(k, 0) % 6)),
    "stretch": (ms.stretch(A, 4), lambda k: 0.5 * (1 + math.cos(math.pi * min(max(k / 4, 0) / 10, 1)))),
    "clip": (ms.clip(A, 0.2, 0.7), lambda k: min(max(A(k), 0.2), 0.7)),
    "from_function": (ms.from_function(lambda k: 1 / (1 + k)), lambda k: 1 / (1 + max(k, 0))),
    "nested": (
        0.5 * ms.warmup(ms.join([A, ms.repeat(B, 3)], [5]), 3) + 0.1,
        lambda k: 0.5 * (max(k, 0) / 3 if k < 3 else A(k - 3) if k < 8 else B((k - 8) % 3)) + 0.1,
    ),
}


@pytest.mark.parametrize(("schedule", "expected"), COMBINED.values(), ids=COMBINED)
def test_combinators_are_what_they_say(backend, schedule, expected):
    """At numbers to rounding in double precision, in arrays within 4 units of float32, at every step."""
    steps = list(range(-2, 40))
    for step in steps:
        assert math.isclose(schedule(step), expected(step), rel_tol=1e-12, abs_tol=1e-15), step
    array = to_numpy(schedule(make(steps, backend, "int32")), backend)
    unit = float(np.spacing(np.float32(max(map(expected, steps)))))
    assert all(abs(v - expected(s)) <= 4 * unit for s, v in zip(steps, array.tolist(), strict=True))


# --- bad input -------------------------------------------------------------------------------------------------------
BAD = {
    "a string": (lambda: ms.constant("0.1"), errors.ScheduleValueError, "'0.1'"),
    "a bool": (lambda: ms.linear(True, 0, 5), errors.ScheduleValueError, "True"),
    "NaN": (lambda: ms.cosine(math.nan, 5), errors.ScheduleValueError, "init"),
    "an infinite end": (lambda: ms.linear(1, math.inf, 5), errors.ScheduleValueError, "end"),
    "negative steps": (lambda: ms.linear(1, 0, -5), errors.StepCountError, "-5"),
    "steps of a string": (lambda: ms.cosine(1, "5"), errors.StepCountError, "'5'"),
    "no steps": (lambda: ms.exponential(1, 0.5, 0), errors.StepCountError, "positive"),
    "infinite steps": (lambda: ms.linear(1, 0, math.inf), errors.StepCountError, "inf"),
    "a rate of 0": (lambda: ms.exponential(1, 0, 5), errors.ScheduleValueError, "rate"),
    "a power of 0": (lambda: ms.polynomial(1, 0, 5, power=0), errors.ScheduleValueError, "power"),
    "a cycle of nothing": (lambda: ms.polynomial(1, 0, 0, cycle=True), errors.StepCountError, "steps"),
    "cycle no bool": (lambda: ms.polynomial(1, 0, 5, cycle=1), errors.ScheduleOptionError, "cycle"),
    "shrinking periods": (lambda: ms.cosine_restarts(1, 5, period_mul=0.5), errors.ScheduleValueError, "period_mul"),
    "no cycles": (lambda: ms.cosine_restarts(1, 5, cycles=0), errors.ScheduleOptionError, "cycles"),
    "an unknown curve": (lambda: ms.one_cycle(1, 5, anneal="step"), errors.ScheduleOptionError, "'step'"),
    "a long warm-up": (lambda: ms.one_cycle(1, 5, warmup=1.5), errors.ScheduleOptionError, "1.5"),
    "three long phases": (lambda: ms.one_cycle(1, 5, 0.6, three_phase=True), errors.ScheduleOptionError, "0.6"),
    "an unknown mode": (lambda: ms.cyclic(0, 1, 5, mode="square"), errors.ScheduleOptionError, "'square'"),
    "too few schedules": (lambda: ms.join([A], [5]), errors.ScheduleValueError, "1 schedules"),
    "falling boundaries": (lambda: ms.join([A, B, A], [5, 4]), errors.StepCountError, "[5, 4]"),
    "a boundary no step": (lambda: ms.join([A, B], [1.5]), errors.StepCountError, "1.5"),
    "a number for a schedule": (lambda: ms.warmup(0.1, 5), errors.ScheduleValueError, "0.1"),
    "a schedule of arrays": (lambda: ms.delay(A * [1, 2], 5), errors.ScheduleValueError, "(2,)"),
    "repeat of nothing": (lambda: ms.repeat(A, 0), errors.StepCountError, "0"),
    "stretch by nothing": (lambda: ms.stretch(A, 0), errors.ScheduleValueError, "factor"),
    "bounds the wrong way": (lambda: ms.clip(A, 1, 0), errors.ScheduleValueError, "1 and 0"),
    "no function": (lambda: ms.from_function(3), errors.ScheduleOptionError, "3"),
    "nothing to interpolate": (lambda: ms.piecewise_interpolate({}), errors.ScheduleValueError, "at least one"),
    "a negative key": (lambda: ms.piecewise_scale(1, {-1: 2}), errors.StepKeyError, "-1"),
    "a floating key": (lambda: ms.piecewise_scale(1, {1.0: 2}), errors.StepKeyTypeError, "1.0"),
    "no dict": (lambda: ms.piecewise_interpolate([1, 2]), errors.ScheduleValueError, "[1, 2]"),
}


@pytest.mark.parametrize(("build", "error", "words"), BAD.values(), ids=BAD)
def test_arguments_that_define_no_schedule(build, error, words):
    """Each raises its class, and says what was given."""
    with pytest.raises(error) as raised:
        build()
    assert type(raised.value) is error
    assert words in str(raised.value)
