"""Law 18 for steps: of any integer dtype, up to its largest value, they give what the same Python number gives."""

import warnings

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_ends import jitted
from helpers_laws import law
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.dialects import transformers

DTYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FAR, ODD = 2**40, 2**32 + 7

# Where a schedule changes, and the schedule.
SCHEDULES = {
    "cosine over tokens": (ms.cosine(1.0, 4 * 10**9), [4 * 10**9]),
    "warmup": (ms.warmup(ms.cosine(1.0, FAR), FAR // 5), [FAR // 5, FAR // 5 + FAR]),
    "delay": (ms.delay(ms.linear(1.0, 0.0, FAR), 2**33 + 5), [2**33 + 5, 2**33 + 5 + FAR]),
    "late and short": (ms.linear(1.0, 0.0, 1000, begin=2**63), [2**63, 2**63 + 1000]),
    "longer than all": (ms.linear(1.0, 0.0, 2**64), []),
    "join": (ms.join([ms.linear(0, 1, 2**33), ms.cosine(1, 100), ms.constant(0.5)], [2**33, 2**33 + 70]), [2**33]),
    "ahead": (transformers.get_wsd_schedule(1.0, 0, 2**32, 2**31), [2**31]),
    "restarts": (ms.cosine_restarts(1.0, 2**31 + 11, end=0.25), [2**31 + 11, 3 * (2**31 + 11)]),
    "longer restarts": (ms.cosine_restarts(1.0, 2**33, 2, 0.5), [2**33, 3 * 2**33]),
    "short restarts": (ms.cosine_restarts(1.0, 7), [7, 7 * 2**60]),
    "cyclic": (ms.cyclic(0.0, 1.0, ODD, 5), [ODD, ODD + 5, 9 * (ODD + 5)]),
    "short cycles": (ms.cyclic(0.25, 1.0, 3), [3, 6 * 2**28]),
    "lower at each step": (ms.cyclic(0.0, 1.0, 3, mode="exp_range", gamma=1 - 2e-9), []),
    "repeat": (ms.repeat(ms.linear(1.0, 0.0, 2**32), 2**32 - 5), [2**32 - 5, 2 * (2**32 - 5)]),
    "repeat of one": (ms.repeat(ms.linear(1.0, 0.0, 2**32), 1), []),
    "period beyond the half": (ms.repeat(ms.linear(1.0, 0.0, 2**63 + 9), 2**63 + 9), [2**63 + 9]),
    "constants": (ms.piecewise_constant(0.1, {127: 5, 2**31: 1, 2**32 - 1: 2, FAR + 1: 3, 2**63 + 5: 4}), [127, FAR]),
    "points": (ms.piecewise_interpolate({2**31: 1.0, 2**33: 2.0, 2**62: 0.5}), [2**31, 2**33, 2**62]),
    "polynomial": (ms.polynomial(1.0, 0.0, 2**34, 2), [2**34]),
    "polynomial cycles": (ms.polynomial(1.0, 0.25, 2**31 + 3, cycle=True), [2**31 + 3, 5 * (2**31 + 3)]),
    "exponential": (ms.exponential(1.0, 0.5, 2**35), []),
    "staircase": (ms.exponential(1.0, 0.5, 2**31 + 3, staircase=True), [2**31 + 3, 4 * (2**31 + 3)]),
    "trapezoid": (ms.warmup_stable_decay(1.0, 2**31, 2**32, 2**33), [2**31, 2**31 + 2**32, 2**31 + 2**32 + 2**33]),
    "one cycle": (ms.one_cycle(1.0, 2**33 + 1), [2**33 + 1]),
    "tanh": (ms.tanh(1.0, 2**36), [2**36]),
    "inverse root": (ms.inverse_sqrt(1.0, 2**33), [2**33]),
    "inverse time": (ms.inverse_time(1.0, 1.0, 2**33), []),
    "noam": (ms.noam(4, 2**31), [2**31 - 1]),
    "decay of an average": (ms.decay_warmup(2**20), []),
}
names = st.sampled_from(list(SCHEDULES))


@st.composite
def steps_of(draw, name, dtype):
    """Steps of a dtype: near where the schedule changes, near powers of 2, and anywhere."""
    most, least = np.iinfo(dtype).max, max(np.iinfo(dtype).min, -3)
    near = st.sampled_from([0, most, 2**24, 2**31, 2**32, 2**63, *SCHEDULES[name][1]])
    one = st.one_of(
        st.tuples(near, st.integers(-3, 3)).map(sum),
        st.tuples(near, st.floats(0, 2)).map(lambda p: int(p[0] * p[1])),
        st.integers(0, most),
    )
    return draw(st.lists(one.map(lambda step: min(max(step, least), most)), min_size=16, max_size=16))


def check(values, schedule, steps):
    """Within 4 units of float32 at the largest value of what Python numbers give."""
    expected = np.asarray([schedule(step) for step in steps])
    unit = np.spacing(np.float32(max(1.0, np.abs(expected).max())))
    assert values.dtype == np.float32
    assert (np.abs(values - expected) <= 4 * unit).all(), (schedule, steps)


@pytest.mark.parametrize("dtype", DTYPES)
@law
@given(data=st.data(), name=names)
def test_steps_of_every_dtype(backend, dtype, data, name):
    """In arrays of each backend, wherever the phases lie, up to the largest step of the dtype."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} as it is configured")
    schedule, steps = SCHEDULES[name][0], data.draw(steps_of(name, dtype))
    check(to_numpy(schedule(make(np.asarray(steps, dtype), backend, dtype)), backend), schedule, steps)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_jitted_steps(jax, dtype):
    """In one jitted function of all of them, of 64 bits too where JAX has these."""
    most = np.iinfo(dtype).max
    rows = []
    for _, changes in SCHEDULES.values():
        near = [most, most - 1, most // 2 + 1, most // 3, 2**24 + 1, 0, *changes]
        rows.append([min(e + d, most) for e in near for d in (-1, 0, 1) if e + d >= 0])
    rows = [row + [0] * (max(map(len, rows)) - len(row)) for row in rows]
    schedules = [schedule for schedule, _ in SCHEDULES.values()]
    with jax.enable_x64(dtype.endswith("64")):
        values = jitted(jax, schedules, np.asarray(rows, dtype))
    for found, schedule, row in zip(values, schedules, rows, strict=True):
        check(found, schedule, row)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_steps_in_torch_compiled(torch, dtype):
    """Unsigned steps, for which torch has few kernels, are compiled in one piece, too."""
    schedule = ms.warmup(ms.repeat(ms.cosine(1.0, 50_000), 50_000), 100)
    steps = np.asarray([0, 50, 100, 101, 50_100, 65_535, np.iinfo(dtype).max], dtype)
    compiled = torch.compile(schedule, fullgraph=True, backend="eager")
    check(compiled(torch.as_tensor(steps)).numpy(), schedule, steps.tolist())


@pytest.mark.parametrize("scalar", [np.uint16, np.uint32, np.uint64, np.int64])
def test_numpy_scalars_do_not_overflow(scalar):
    """A NumPy scalar at the largest step gives the value there, and no warning of an overflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for schedule, _ in SCHEDULES.values():
            for step in (0, 5, np.iinfo(scalar).max // 2 + 1, np.iinfo(scalar).max):
                check(np.asarray(schedule(scalar(step))), schedule, [int(step)])


def test_phases_that_begin_and_last_beyond_what_the_dtype_holds(backend):
    """Of int8, a phase that ends at 300 is on its way at 127, and one that begins at 300 has not begun."""
    steps = make([0, 100, 127] + [0] * 13, backend, "int8")  # as many as above, for which JAX has its operations
    for schedule, expected in (
        (ms.linear(3.0, 0.0, 300), [3.0, 2.0, 1.73]),
        (ms.linear(3.0, 0.0, 10, begin=300), [3.0, 3.0, 3.0]),
        (ms.warmup(ms.constant(2.0), 200), [0.0, 1.0, 1.27]),
    ):
        assert to_numpy(schedule(steps), backend)[:3].tolist() == np.float32(expected).tolist()


def test_lengths_beyond_int32_at_floating_steps(backend):
    """No length or period is handed over as an integer that the framework has no dtype for."""
    for schedule in (ms.repeat(ms.linear(1.0, 0.0, FAR), FAR), ms.exponential(1.0, 0.5, 1e18), ms.cosine(1.0, 10**18)):
        assert to_numpy(schedule(make([0.0, 1000.0], backend, "float32")), backend).tolist() == [1.0, 1.0]
    late = to_numpy(ms.repeat(ms.linear(1.0, 0.0, FAR), FAR)(make([1.5 * FAR], backend, "float32")), backend)
    assert late.tolist() == [0.5]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ends", [(-7, 0), (-7, -3), (-1, 0), (0, 3), (1, 3), (-7, 3)])
def test_long_tangents_at_floating_steps(dtype, ends):
    """`tanh` measures a long time from its middle, which may lie at either of its ends."""
    schedule = ms.tanh(1.0, 2**25, 0.25, *ends)
    steps = np.array([0, 1, 2**23, 2**24, 2**25 - 2, 2**25], dtype)
    assert np.allclose(schedule(steps), [schedule(float(step)) for step in steps], rtol=4e-7, atol=0)


def test_stairs_that_begin_within_a_step(backend):
    """A fractional beginning moves no stair: a part of a step completes none, however far away it is."""
    schedule = ms.exponential(1.0, 0.5, 2**24, begin=0.5, staircase=True)
    steps = [2**24, 2**24 + 1, 2**25, 2**25 + 1]
    assert [schedule(step) for step in steps] == [1.0, 0.5, 0.5, 0.25]
    assert to_numpy(schedule(make(steps, backend, "int32")), backend).tolist() == [1.0, 0.5, 0.5, 0.25]
