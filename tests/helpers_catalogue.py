"""Every schedule of the catalogue in plain Python, from its definition, and arguments to draw for it."""

import math
from itertools import pairwise

from hypothesis import strategies as st

import multisched as ms


def clamp(x, low, high):
    return min(max(x, low), high)


def part(step, begin, steps):
    """The part of a phase that is over."""
    step = max(step, 0)
    if steps == 0:
        return float(step >= begin)
    return clamp(step - begin, 0, steps) / steps


def way(a, b, u):
    return a + (b - a) * u


def linear(step, init, end, steps, begin):
    return way(init, end, part(step, begin, steps))


def polynomial(step, init, end, steps, power, begin, cycle):
    if cycle:
        late = max(step - begin, 0)
        left = 1 - late / (steps * max(1, -(-late // steps)))
    else:
        left = 1 - part(step, begin, steps)
    return way(end, init, left**power)


def exponential(step, init, rate, steps, begin, staircase, end):
    late = max(step - begin, 0)
    value = init * rate ** (late // steps if staircase else late / steps)
    if end is None:
        return value
    return max(value, end) if rate < 1 else min(value, end)


def inverse_time(step, init, rate, steps, staircase):
    late = max(step, 0)
    return init / (1 + rate * (late // steps if staircase else late / steps))


def inverse_sqrt(step, peak, warmup_steps, timescale):
    step = max(step, 0)
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak / math.sqrt((step - warmup_steps) / (timescale or warmup_steps or 10_000) + 1)


def noam(step, d_model, warmup_steps, factor):
    s = max(step, 0) + 1
    return factor / math.sqrt(d_model) * min(1 / math.sqrt(s), s / warmup_steps**1.5)


def cosine(step, init, steps, end, exponent, begin, k):
    return way(end, init, (0.5 * (1 + math.cos(math.pi * part(step, begin, steps) ** k))) ** exponent)


def cosine_restarts(step, init, steps, period_mul, peak_mul, end, cycles):
    step, period, cycle = max(step, 0), steps, 0
    while step >= period and (cycles is None or cycle < cycles - 1):
        step, period, cycle = step - period, period * period_mul, cycle + 1
    return way(end, init, peak_mul**cycle * 0.5 * (1 + math.cos(math.pi * min(step / period, 1))))


def tanh(step, init, steps, end, lower, upper):
    u = part(step, 0, steps)
    return end if u >= 1 else way(end, init, 0.5 * (1 - math.tanh(way(lower, upper, u))))


def decay_warmup(step, inv_gamma, power, low, high):
    return clamp(1 - (1 + max(step, 0) / inv_gamma) ** -power, low, high)


def half_wave(u):
    return 0.5 * (1 - math.cos(math.pi * u))


CURVES = {"linear": lambda u: u, "cosine": half_wave, "1-sqrt": math.sqrt}


def one_cycle(step, peak, steps, warmup, init_div, end_div, anneal, three_phase):
    init, turn, curve = peak / init_div, warmup * steps, CURVES[anneal]
    points = [(0, init), (turn, peak), *([(2 * turn, init)] if three_phase else []), (steps, init / end_div)]
    if step >= steps:
        return points[-1][1]
    for (begin, a), (end, b) in pairwise(points):
        if max(step, 0) < end:
            return way(a, b, curve(part(step, begin, end - begin)))
    raise AssertionError(step)


def cyclic(step, base, peak, up_steps, down_steps, mode, gamma):
    down = up_steps if down_steps is None else down_steps
    step = max(step, 0)
    cycle, at = divmod(step, up_steps + down)
    height = at / up_steps if at <= up_steps else (up_steps + down - at) / down
    scale = {"triangular": 1, "triangular2": 0.5**cycle, "exp_range": gamma**step}[mode]
    return base + (peak - base) * height * scale


def warmup_stable_decay(step, peak, warmup_steps, stable_steps, decay_steps, init, end, warmup, decay):
    if max(step, 0) < warmup_steps:
        return way(init, peak, CURVES[warmup](part(step, 0, warmup_steps)))
    return way(peak, end, CURVES[decay](part(step, warmup_steps + stable_steps, decay_steps)))


def piecewise_scale(step, init, steps_and_scales):
    return init * math.prod(scale for key, scale in steps_and_scales.items() if key <= max(step, 0))


def piecewise_interpolate(step, steps_and_values, kind):
    points = sorted(steps_and_values.items())
    if step <= points[0][0]:
        return points[0][1]
    for (begin, a), (end, b) in pairwise(points):
        if step < end:
            return way(a, b, CURVES[kind]((step - begin) / (end - begin)))
    return points[-1][1]


# --- arguments -------------------------------------------------------------------------------------------------------
numbers = st.floats(-2, 2).map(lambda x: round(x, 3))
positive = st.floats(0.01, 2).map(lambda x: round(x, 3))
lengths = st.integers(0, 40)
some = st.integers(1, 40)
keys = st.dictionaries(st.integers(0, 60), positive, min_size=1, max_size=5)
shapes = st.sampled_from(["linear", "cosine", "1-sqrt"])


def given(**strategies):
    return st.fixed_dictionaries(strategies)


CATALOGUE = {
    "constant": (lambda step, value: value, given(value=numbers)),
    "linear": (linear, given(init=numbers, end=numbers, steps=lengths, begin=lengths)),
    "polynomial": (
        polynomial,
        given(init=numbers, end=numbers, steps=some, power=st.sampled_from([0.5, 1, 2, 3.5]), begin=lengths).flatmap(
            lambda d: st.booleans().map(lambda cycle: {**d, "cycle": cycle})
        ),
    ),
    "exponential": (
        exponential,
        given(
            init=positive,
            rate=st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
            steps=some,
            begin=lengths,
            staircase=st.booleans(),
            end=st.none() | positive,
        ),
    ),
    "inverse_time": (inverse_time, given(init=numbers, rate=positive, steps=some, staircase=st.booleans())),
    "inverse_sqrt": (inverse_sqrt, given(peak=numbers, warmup_steps=lengths, timescale=st.none() | some)),
    "noam": (noam, given(d_model=st.integers(1, 1024), warmup_steps=some, factor=positive)),
    "cosine": (
        cosine,
        given(
            init=numbers,
            steps=lengths,
            end=numbers,
            exponent=st.sampled_from([1, 2, 1.5]),
            begin=lengths,
            k=st.sampled_from([1, 2, 0.5]),
        ),
    ),
    "cosine_restarts": (
        cosine_restarts,
        given(
            init=numbers,
            steps=some,
            period_mul=st.sampled_from([1, 2, 3]),
            peak_mul=st.sampled_from([1, 0.5]),
            end=numbers,
            cycles=st.none() | st.integers(1, 4),
        ),
    ),
    "tanh": (
        tanh,
        given(init=numbers, steps=lengths, end=numbers, lower=st.floats(-8, -1), upper=st.floats(1, 4)),
    ),
    "decay_warmup": (
        decay_warmup,
        given(
            inv_gamma=positive,
            power=st.sampled_from([0.5, 2 / 3, 0.75, 1, 2]),
            low=st.sampled_from([0, 0.25, 0.5]),
            high=st.sampled_from([0.5, 0.9, 0.9999, 1]),
        ),
    ),
    "one_cycle": (
        one_cycle,
        given(
            peak=positive,
            steps=some,
            warmup=st.sampled_from([0, 0.25, 0.3, 0.5]),
            init_div=st.sampled_from([1, 25]),
            end_div=st.sampled_from([1, 10, 1e4]),
            anneal=st.sampled_from(["linear", "cosine"]),
            three_phase=st.booleans(),
        ),
    ),
    "cyclic": (
        cyclic,
        given(
            base=numbers,
            peak=numbers,
            up_steps=some,
            down_steps=st.none() | lengths,
            mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
            gamma=st.sampled_from([0.9, 0.99]),
        ),
    ),
    "warmup_stable_decay": (
        warmup_stable_decay,
        given(
            peak=numbers,
            warmup_steps=lengths,
            stable_steps=lengths,
            decay_steps=lengths,
            init=numbers,
            end=numbers,
            warmup=shapes,
            decay=shapes,
        ),
    ),
    "piecewise_scale": (piecewise_scale, given(init=numbers, steps_and_scales=keys)),
    "piecewise_interpolate": (
        piecewise_interpolate,
        given(steps_and_values=keys, kind=st.sampled_from(["linear", "cosine"])),
    ),
}


def drawn(name):
    """`(arguments, schedule, reference)` of one of the catalogue."""
    reference, arguments = CATALOGUE[name]
    return arguments.map(lambda a: (a, getattr(ms, name)(**a), lambda step: reference(step, **a)))
