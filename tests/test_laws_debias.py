"""Law 5: a debiased average divides by the weight accumulated so far, exactly, under any changing alpha."""

import math

import numpy as np
import pytest
from helpers import EmaReference, ulps
from helpers_laws import alphas, declared_stream, law, memory_of, stream, streams, values
from hypothesis import example, given
from hypothesis import strategies as st

import multisched as ms

FORMS = ("pure", "declared")


def averages(form, backend, given_values, alpha, **options):
    if form == "pure":
        return stream(ms.ema(alpha, debias=True, **options), given_values, backend)[0]
    declare = lambda x: ms.ExponentialMovingAverage(x, alpha, debias=True, **options)[0]  # noqa: E731  # one use
    return declared_stream(declare, given_values)


@st.composite
def changing_alphas(draw):
    """A decay for each update, 0 and 1 among them, as a schedule, in float32 as its values are."""
    decays = [float(np.float32(draw(alphas))) for _ in range(draw(st.integers(1, 6)))]
    return ms.piecewise_constant(decays[0], {2 * i: alpha for i, alpha in enumerate(decays) if i})


@pytest.mark.parametrize("form", FORMS)
@law
@given(alpha=alphas | changing_alphas(), constant=values, updates=st.integers(1, 30), decay_min=st.booleans())
@example(alpha=0.0, constant=0.1, updates=5, decay_min=False)
@example(alpha=1.0, constant=0.1, updates=5, decay_min=False)
@example(alpha=1.0, constant=0.1, updates=5, decay_min=True)
@example(alpha=ms.piecewise_constant(1.0, {2: 0.0, 4: 1.0, 6: 0.999}), constant=0.1, updates=10, decay_min=False)
def test_the_average_of_a_constant_is_that_constant(backend, form, alpha, constant, updates, decay_min):
    """At every step, whatever the decays were, the average of a constant is that constant."""
    for output in averages(form, backend, [constant] * updates, alpha, decay_min=decay_min):
        assert ulps(output, constant, dtype="float32") <= 4


@pytest.mark.parametrize("form", FORMS)
@law
@given(alpha=alphas, given_values=streams, decay_min=st.booleans())
@example(alpha=1.0, given_values=[3.0, 5.0, 7.0], decay_min=False)
@example(alpha=0.0, given_values=[3.0, 5.0, 7.0], decay_min=False)
def test_the_average_is_the_weighted_sum_over_the_sum_of_weights(backend, form, alpha, given_values, decay_min):
    """Each average is sum of w(s) * value(s) over sum of w(s), w(s) = (1 - alpha(s)) * alpha(s+1) * ... * alpha(t)."""
    reference = EmaReference(alpha, decay_min=decay_min, debias=True)
    for t, output in enumerate(averages(form, backend, given_values, alpha, decay_min=decay_min), start=1):
        largest = max(map(abs, given_values[:t]))
        expected = reference.step(given_values[t - 1])
        assert ulps(output, expected, largest, dtype="float32") <= 4 * memory_of(t, alpha), f"update {t}"


@pytest.mark.parametrize("form", FORMS)
@law
@given(alpha=changing_alphas(), given_values=streams)
def test_changing_decays(backend, form, alpha, given_values):
    """The same under decays that change from update to update, to and from 0 and 1."""
    reference = EmaReference(lambda n: alpha(n), debias=True)
    for t, output in enumerate(averages(form, backend, given_values, alpha), start=1):
        largest = max(map(abs, given_values[:t]))
        assert ulps(output, reference.step(given_values[t - 1]), largest, dtype="float32") <= 4 * t, f"update {t}"


@pytest.mark.parametrize("alpha", [0.9, 0.99, 0.999, 0.9999])
def test_it_equals_the_textbook_correction(backend, alpha):
    """Under a constant alpha it is the average started from zero, divided by 1 - alpha ** t."""
    given_values = [1.0 + 0.25 * (n % 5) for n in range(40)]
    from_zero, outputs = 0.0, stream(ms.ema(alpha, debias=True), given_values, backend)[0]
    for t, (value, output) in enumerate(zip(given_values, outputs, strict=True), start=1):
        from_zero = from_zero * alpha + value * (1 - alpha)
        expected = from_zero / -math.expm1(t * math.log(alpha))
        assert ulps(output, expected, 2.0, dtype="float32") <= 4 * memory_of(t, alpha)


@pytest.mark.parametrize("form", FORMS)
@law
@given(data=st.data(), alpha=st.lists(alphas, min_size=2, max_size=2))
@example(data=None, alpha=[0.9999, 1 - 1e-9])
def test_an_array_of_decays(backend, form, data, alpha):
    """Each element is debiased by the weight of its own decay."""
    pair = st.lists(values, min_size=2, max_size=2)
    given_values = [[1.0, 2.0], [5.0, 3.0], [2.0, 9.0]] if data is None else data.draw(st.lists(pair, min_size=1))
    outputs = averages(form, backend, [np.array(v) for v in given_values], np.array(alpha))
    for i, own in enumerate(alpha):
        reference = EmaReference(own, debias=True)
        for t, output in enumerate(outputs, start=1):
            largest = max(abs(v[i]) for v in given_values[:t])
            expected = reference.step(given_values[t - 1][i])
            assert ulps(output[i], expected, largest, dtype="float32") <= 4 * memory_of(t, own), f"update {t}"


def test_init_only_stands_before_the_first_update(backend):
    """With `debias`, `init` is what is read before the first value; it has no weight after it."""
    pairs = declared_stream(lambda x: ms.ExponentialMovingAverage(x, 0.5, init=100.0, debias=True), [2.0, 8.0])
    assert pairs[0] == (2.0, 100.0)
    assert ulps(pairs[1][0], (2 * 0.25 + 8 * 0.5) / 0.75, 8.0, dtype="float32") <= 4
    assert pairs[1][1] == 2.0


def test_without_debias_the_first_value_has_all_the_weight(backend):
    """The two differ where they should: without `debias` the first value keeps the weight alpha ** t."""
    plain = stream(ms.ema(0.75), [0.0, 1.0], backend)[0]
    debiased = stream(ms.ema(0.75, debias=True), [0.0, 1.0], backend)[0]
    assert float(plain[1]) == 0.25
    assert ulps(debiased[1], 0.25 / (0.25 + 0.1875), dtype="float32") <= 4
