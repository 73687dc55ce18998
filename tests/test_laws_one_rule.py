"""Law 16: one rule gives one result, whichever way it is run: by steps, declared, paced, and for a whole model."""

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_laws import law
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched.arrays import exact_share
from multisched.averages import Mean

SPECIAL = [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e-3, 1e4]
FALLING = ms.piecewise_constant(0.5, {1: 0.0, 2: 1.0, 3: 0.25, 4: 0.0})
RULES = [
    ms.ema(0.0),
    ms.ema(1.0),
    ms.ema(0.9),
    ms.ema(0.25),
    ms.ema(1e-10),
    ms.ema(1e-10, debias=True),
    ms.ema(0.5, decay_min=True),
    ms.ema(0.75, debias=True),
    ms.ema(0.0, debias=True),
    ms.ema(1.0, debias=True),
    ms.ema(ms.constant(0.0)),
    ms.ema(FALLING),
    ms.ema(FALLING, debias=True),
    ms.swa(),
    ms.power_ema(0.1),
    ms.power_ema(gamma=60.0),
    ms.paced(ms.ema(0.5), start=2, every=2),
]
streams = st.lists(st.lists(st.sampled_from(SPECIAL), min_size=3, max_size=3), min_size=2, max_size=6)


def expected(rule, values, dtype):
    """The averages of a stream by the share alone, in plain Python; a share of 1 copies, one of 0 leaves alone."""
    weight, mean, found = 0.0, np.zeros_like(values[0]), []
    for count, value in enumerate(values):
        share, weight = rule.share(count, weight)
        share = exact_share(share, dtype)
        if share not in (0.0, 1.0):
            mean = mean + share * (value - mean)
        elif share:
            mean = value
        found.append(mean)
    return found


def compare(how, outputs, values, wanted):
    """Where no number is finite, and the sign of zeros that are copied, are the same; else to 4 units an update."""
    largest = np.max(np.abs(np.where(np.isfinite(values), values, 0)), axis=0)
    for n, (output, right) in enumerate(zip(outputs, wanted, strict=True)):
        output = np.asarray(output, np.float64)
        finite = np.isfinite(right)
        np.testing.assert_array_equal(output[~finite], right[~finite], err_msg=f"{how}, update {n}")
        unit = np.spacing(np.maximum(largest, 1e-30).astype(np.float32)).astype(np.float64)
        assert np.all((np.abs(output - right) <= 4 * (n + 1) * unit)[finite]), (how, n, output, right)


def stepped(rule, values, backend):
    state = rule.init(make(values[0], backend))
    for value in values:
        state, output = rule.step(state, make(value, backend))
        yield to_numpy(output, backend)


def declared(rule, values, backend):
    with ms.Graph("one rule"):
        x = ms.Placeholder(values[0].shape)
        average, _ = ms.declare(rule, x)
        f = ms.function(x, outputs=average, updates=ms.get_updates())
        for value in values:
            yield to_numpy(f(value.astype(np.float32)), backend)


def averaged(rule, values, backend, where=None, **options):
    avg = ms.Average({"w": make(values[0], backend), "b": make(values[0][:1], backend)}, rule, **options)
    for value in values:
        tree = {"w": make(value, backend), "b": make(value[:1], backend)}
        avg.update(tree, where=None if where is None else make(where, backend, "bool"))
        yield to_numpy(avg.value["w"], backend)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the difference of infinite values
@settings(law, max_examples=10)
@given(rule=st.sampled_from(RULES), values=streams)
def test_one_rule_has_one_result(backend, rule, values):
    """From `rule.step`, paced, declared, in a model, and there with a mask that the device alone knows."""
    values = [np.asarray(value) for value in values]
    wanted = expected(rule, values, "float32")
    ways = {
        "step": stepped(rule, values, backend),
        "paced": stepped(ms.paced(rule), values, backend),
        "declared": declared(rule, values, backend),
        "Average": averaged(rule, values, backend),
        "Average on the device": averaged(rule, values, backend, where=True),
    }
    for how, outputs in ways.items():
        compare(f"{rule!r}, {how}", outputs, values, wanted)


def kept_by_optax(rule, values, jit):
    """The averages in the state of an optimizer, of parameters that are -0 before each update: x + -0 is x, for all."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax", reason="optax is not installed")
    optimizer = optax.chain(optax.identity(), ms.as_optax(rule))
    before = {"w": jax.numpy.full(values[0].shape, -0.0), "n": jax.numpy.asarray(0)}

    def step(state, value):
        updates = {"w": value, "n": jax.numpy.asarray(1)}
        updates, state = optimizer.update(updates, state, before)
        return state, ms.average_of(rule, state, optax.apply_updates(before, updates))

    step, state = jax.jit(step) if jit else step, optimizer.init(before)
    for value in values:
        state, average = step(state, jax.numpy.asarray(value, "float32"))
        yield np.asarray(average["w"])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the difference of infinite values
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@settings(law, max_examples=6)
@given(rule=st.sampled_from([*RULES, ms.sma(2)]), values=streams)
def test_optimizers_of_optax_keep_the_same_result(jax, jit, rule, values):
    """`average_of` finds in the state of `as_optax` what `rule.step` gives, at shares of 0 and 1, and infinities."""
    values = [np.asarray(value) for value in values]
    if isinstance(rule, Mean):
        wanted = expected(rule, values, "float32")
    else:
        wanted = [np.asarray(output, np.float64) for output in stepped(rule, values, "jax")]
    compare(f"{rule!r} in optax", kept_by_optax(rule, values, jit), values, wanted)


@pytest.mark.parametrize("share", [0.0, 1e-40, 0.1, 0.5, 0.75, 1 - 2.0**-26, 1.0])
@pytest.mark.parametrize("held", ["float32", "float64", "float16", "bfloat16", "complex64"])
def test_blending_is_the_one_operation(backend, held, share):
    """`Backend.blend` of each adapter, for shares of the host and the device, over all pairs of special values."""
    adapter = ms.get_backend(backend)
    if not adapter.supports(held):
        pytest.skip(f"{backend} has no {held}")
    numbers = [x for x in SPECIAL if held != "complex64" or np.isfinite(x)]
    old, new = map(np.ravel, np.meshgrid(numbers, numbers))
    wide = np.complex128 if held == "complex64" else np.float64
    exact = exact_share(share, held)
    with np.errstate(all="ignore"):
        right = np.where(exact == 1, new, old) if exact in (0, 1) else old + exact * (new - old)
    on_device = make(exact, backend, "float64" if held == "float64" else "float32")
    for scalar in (exact, on_device):
        for runs in ([[new]], [[new[:40], new[40:80]], [new[80:]]]):
            if len(new) == 81 or runs == [[new]]:
                leaves = [[[make(leaf, backend, held) for leaf in run] for run in runs]]
                (result,) = adapter.blend([make(old, backend, held)], leaves, scalar)
                result = to_numpy(result, backend).astype(wide)
                bad = ~np.isfinite(right)
                np.testing.assert_array_equal(result[bad], right[bad])
                unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}.get(held, 2.0**-23)
                finite = [np.where(np.isfinite(x), np.abs(x), 0) for x in (old, new)]
                assert np.all(np.abs(result[~bad] - right[~bad]) <= 4 * unit * np.maximum(*finite)[~bad])
                if exact in (0, 1):
                    np.testing.assert_array_equal(np.signbit(result.real[~bad]), np.signbit(right[~bad]))


def test_a_rule_is_its_share(backend):
    """A rule of one's own says its share alone, and can be stepped, declared and paced, and average a model."""

    class Halves(Mean):
        title = "Halves"

        def share(self, count, weight):
            return 1.0 / (1 + weight), 0 * weight + 1

    values = [np.asarray([x, 2 * x, -x]) for x in (1.0, 2.0, 4.0)]
    wanted = expected(Halves(), values, "float32")
    np.testing.assert_array_equal(wanted[-1], (values[0] / 2 + values[1] / 2) / 2 + values[2] / 2)
    for way in (stepped, declared, averaged):
        compare(way.__name__, way(Halves(), values, backend), values, wanted)
