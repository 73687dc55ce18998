"""Parity with the averages that people know from pandas: `Series.ewm(...).mean()`."""

import math

import numpy as np
import pytest
from helpers_laws import law
from helpers_rules import stream
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms

pandas = pytest.importorskip("pandas", reason="pandas, which this compares with, is not installed")


def precision(backend):
    """The dtype in which to compare, and its unit roundoff."""
    return ("float64", 2.0**-53) if ms.get_backend(backend).supports("float64") else ("float32", 2.0**-24)


numbers = st.one_of(st.just(math.nan), st.floats(-100, 100), st.integers(-9, 9).map(float))
series = st.lists(numbers, min_size=1, max_size=20)
parameters = st.one_of(
    st.tuples(st.just("halflife"), st.floats(0.25, 50)),
    st.tuples(st.just("span"), st.floats(1.5, 50)),
    st.tuples(st.just("com"), st.floats(0.25, 50)),
)


def compare(outputs, expected, backend):
    """Outputs are those of pandas, NaN included, to what rounding adds up to over 20 numbers of up to 100."""
    _, unit = precision(backend)
    np.testing.assert_allclose(np.array(outputs), expected, rtol=0, atol=100 * 20 * 8 * unit)


def gaps(values, times):
    """The time of each value since the last one that is a number."""
    found, last = [], times[0]
    for value, time in zip(values, times, strict=True):
        found.append(float(time - last))
        last = last if math.isnan(value) else time
    return found


@pytest.mark.parametrize("adjust", [True, False])
@pytest.mark.parametrize("ignore_na", [True, False])
@law
@given(values=series, parameter=parameters)
def test_series_with_gaps_as_pandas_has_them(backend, adjust, ignore_na, values, parameter):
    """`debias` is `adjust`; `where=` ignores NaN, and with `times=True` and `dt=1` a missing value lets time pass."""
    name, scale = parameter
    expected = pandas.Series(values).ewm(**{name: scale}, adjust=adjust, ignore_na=ignore_na).mean()
    rule = ms.ema(**{name: scale}, debias=adjust)
    counts = [not math.isnan(value) for value in values]
    options = {"where": counts}
    if not ignore_na and (adjust or rule.alpha == 0.5):  # for this one decay pandas does not renormalise
        options |= {"dt": [1.0] * len(values), "made": {"times": True}}
    elif not ignore_na:
        passed = [unadjusted(rule.alpha, gap) for gap in gaps(values, range(len(values)))]
        options["dt"] = [gap if known else None for gap, known in zip(passed, counts, strict=True)]
        options["where"] = [None if known else False for known in counts]
    compare(stream(rule, values, backend, precision(backend)[0], **options), expected, backend)


def unadjusted(alpha, gap):
    """The time after which the old average has the share that pandas leaves it, beside 1 - alpha for the new value."""
    return gap - math.log(alpha**gap + 1 - alpha) / math.log(alpha) if gap else 0.0


@pytest.mark.parametrize("adjust", [True, False])
@pytest.mark.parametrize("ignore_na", [True, False])
@law
@given(values=series, halflife=st.integers(1, 50), data=st.data())
def test_times_as_pandas_has_them(backend, adjust, ignore_na, values, halflife, data):
    """With a half-life in units of time, `dt=` is the time since the value before, as pandas takes it from `times=`."""
    waits = data.draw(st.lists(st.integers(0, 40), min_size=len(values), max_size=len(values)))
    times = np.cumsum(waits)
    ewm = pandas.Series(values).ewm(
        halflife=pandas.Timedelta(hours=halflife),
        times=pandas.Timestamp("2020-01-01") + pandas.to_timedelta(times, unit="h"),
        adjust=adjust,
        ignore_na=ignore_na,
    )
    dt = np.diff(times, prepend=times[0]).tolist()
    where = [not math.isnan(value) for value in values]
    rule = ms.ema(halflife=halflife, debias=adjust)
    if ignore_na:  # the time that passes under a mask is lost
        dt = [wait if known else 0.0 for wait, known in zip(dt, where, strict=True)]
    outputs = stream(rule, values, backend, precision(backend)[0], {"times": True}, dt=dt, where=where)
    compare(outputs, ewm.mean(), backend)
