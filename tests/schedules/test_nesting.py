"""Schedules nested and added up by the thousand: no limit of Python's stack shows, and shared parts count once.

Each composition comes with a plain Python loop that gives its value.
"""

import copy
import json
import math
import pickle
import sys

import numpy as np
import pytest
from helpers import make, to_numpy
from hypothesis import settings

import multisched as ms
from multisched import errors
from multisched.schedules.edges import edges

N = 3000 if settings.default is settings.get_profile("thorough") else 1000
STEPS = [0, 1, 5, 7, 40, 2000]


def line(init, end, steps, k):
    return end if k >= steps else init + (end - init) * k / steps


def lines(end):
    """Some schedules to add up."""
    return [ms.linear(1.0, end, 10 + i) for i in range(20)]


def sum_from_the_left(n):
    rule, leaves = ms.constant(0.5), lines(0.0)
    for i in range(n):
        rule = rule + leaves[i % 20]
    return rule, lambda k: 0.5 + math.fsum(line(1.0, 0.0, 10 + i % 20, k) for i in range(n))


def sum_from_the_right(n):
    rule = ms.linear(1.0, 0.0, 7)
    for _ in range(n):
        rule = 0.25 - rule * 0.5
    value = lambda k: line(1.0, 0.0, 7, k)  # noqa: E731

    def model(k):
        x = value(k)
        for _ in range(n):
            x = 0.25 - x * 0.5
        return x

    return rule, model


def balanced(n):
    leaves = lines(0.5)
    rules = [leaves[i % 20] * (1 + i) for i in range(n)]
    while len(rules) > 1:
        rules = [a + b for a, b in zip(rules[::2], rules[1::2], strict=False)] + rules[len(rules) // 2 * 2 :]
    return rules[0], lambda k: math.fsum(line(1.0, 0.5, 10 + i % 20, k) * (1 + i) for i in range(n))


def warm_ups(n):
    rule = ms.linear(1.0, 0.0, 4000)
    for _ in range(n):
        rule = ms.warmup(rule, 2, init=0.5)

    def model(k):  # from the outermost: the i-th begins at 2 * i
        if k >= 2 * n:
            return line(1.0, 0.0, 4000, k - 2 * n)
        after = 1.0 if k >= 2 * (n - 1) else 0.5  # what the next begins with
        return 0.5 + (after - 0.5) * (k % 2) / 2

    return rule, model


def minima(n):
    rule, leaves, low = ms.constant(5.0), lines(0.1), ms.linear(0.1, 0.2, 9)
    for i in range(n):
        rule = ms.minimum(rule, leaves[i % 20]) if i % 2 else ms.maximum(low, rule)

    def model(k):
        x = 5.0
        for i in range(n):
            x = min(x, line(1.0, 0.1, 10 + i % 20, k)) if i % 2 else max(line(0.1, 0.2, 9, k), x)
        return x

    return rule, model


def stretches(n):
    rule = ms.linear(1.0, 0.0, 100)
    for i in range(n):
        rule = ms.stretch(rule, 2.0 if i % 2 else 0.5)
    return rule, lambda k: line(1.0, 0.0, 100, k)


def joins(n):
    levels = [ms.constant(float(i)) for i in range(20)]
    rule = levels[n % 20]
    for i in reversed(range(n)):
        rule = ms.join([levels[i % 20], rule], [3])
    return rule, lambda k: float(min(k // 3, n) % 20)


def one_join(n):
    levels = [ms.constant(float(i)) for i in range(20)]
    rule = ms.join([levels[i % 20] for i in range(n + 1)], [3 * i for i in range(1, n + 1)])
    return rule, lambda k: float(min(k // 3, n) % 20)


def mixed(n):
    rule = ms.linear(1.0, 0.0, 7000)
    layers = [
        lambda r: ms.delay(r, 1),
        lambda r: ms.clip(r, -2.0, 2.0),
        lambda r: ms.repeat(r, 9000),
        lambda r: -r,
        lambda r: abs(r),
        lambda r: ms.join([r, ms.constant(0.5)], [8000]),
        lambda r: 0.5 * r + 0.5,
    ]
    for i in range(n):
        rule = layers[i % len(layers)](rule)

    def model(k):  # at most 2,000 steps: repeat and join leave it alone
        x = line(1.0, 0.0, 7000, max(k - (n - 1) // 7 - 1, 0))
        for i in range(n):
            x = {3: -x, 4: abs(x), 6: 0.5 * x + 0.5}.get(i % 7, x)
        return x

    return rule, model


KINDS = [sum_from_the_left, sum_from_the_right, balanced, warm_ups, minima, stretches, joins, one_join, mixed]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def built(request):
    """A composition of 1,000 schedules, its model, and what is equal to it."""
    return *request.param(N), request.param(N)[0]


def test_at_python_numbers(built):
    """A call at a Python number gives what the loop gives."""
    rule, model, _ = built
    assert [rule(k) for k in STEPS] == pytest.approx([model(k) for k in STEPS], rel=1e-9, abs=1e-12)


def test_at_arrays(built, backend):
    """A call at an array does, in single precision."""
    rule, model, _ = built
    found = to_numpy(rule(make(STEPS, backend, "int32")), backend)
    expected = [model(k) for k in STEPS]
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-4 * (1 + abs(expected[0])), abs=1e-5)


def test_equality_and_hash(built):
    """Equal compositions are equal and hash alike; a difference far inside is one."""
    rule, _, same = built
    assert rule == same
    assert hash(rule) == hash(same)
    assert rule != 2 * same
    assert rule + 1 != rule + 2
    assert sum_from_the_left(N)[0] != sum_from_the_left(N - 1)[0] + ms.linear(1.0, 0.0, 4)


def test_copies(built):
    """Copied, deep-copied and pickled in every protocol it is equal."""
    rule, _, _ = built
    assert copy.copy(rule) == rule == copy.deepcopy(rule)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        assert pickle.loads(pickle.dumps(rule, protocol)) == rule


def test_as_text_and_data(built):
    """What `repr` prints is parsed, and what `to_config` gives, by way of JSON, is built again."""
    rule, _, _ = built
    assert ms.parse(repr(rule)) == rule
    assert ms.from_config(json.loads(json.dumps(rule.to_config()))) == rule


@kinds
def test_a_deep_config_is_a_list_of_nodes(kind):
    """Up to a depth of 100 a config is nested; beyond it is flat, so that no reader meets its own limits."""
    for n in (20, 150):
        document = kind(n)[0].to_config()
        text = json.dumps(document)
        deepest, depth = 0, 0
        for c in text:
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(c, 0)
            deepest = max(deepest, depth)
        assert deepest <= 210
        assert ms.from_config(json.loads(text)) == kind(n)[0]
        if "nodes" in document:
            assert deepest <= 5


@kinds
def test_in_jit(kind):
    """JAX traces a composition deeper than recursion could go, and compiles a smaller one; when thorough, all of it."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    n = N if settings.default is settings.get_profile("thorough") else 60
    rule, model = kind(n)
    traced = jax.make_jaxpr(kind(400)[0])(3)
    assert len(traced.jaxpr.outvars) == 1
    expected = [model(k) for k in STEPS]
    found = np.asarray(jax.jit(rule)(np.asarray(STEPS)))
    assert found.tolist() == pytest.approx(expected, rel=1e-4 * (1 + abs(expected[0])), abs=1e-4)


def test_from_a_deep_stack():
    """Near the end of Python's stack everything works as well, and its limit stays what it was."""
    limit = sys.getrecursionlimit()
    rule, model = KINDS[0](300)

    def deep(left):
        if left:
            return deep(left - 1)
        again = pickle.loads(pickle.dumps(ms.parse(repr(rule))))
        return again == rule, again(3), ms.from_config(rule.to_config()) == rule

    assert deep(limit - 250 - len_of_stack()) == (True, pytest.approx(model(3)), True)
    assert sys.getrecursionlimit() == limit


def len_of_stack():
    frame, n = sys._getframe(), 0
    while frame is not None:
        frame, n = frame.f_back, n + 1
    return n


# --- shared parts ----------------------------------------------------------------------------------------------------
def doubled(n, first=1.0):
    rule = ms.linear(first, 0.0, 4)
    for _ in range(n):
        rule = rule + rule
    return rule


def test_what_is_used_twice_is_visited_once(backend):
    """A schedule of 60 sums of one with itself stands for 2**60: it is called, compared and pickled nonetheless."""
    rule = doubled(60)
    assert rule(2) == 2.0**59
    assert to_numpy(rule(make([0, 2], backend, "int32")), backend).tolist() == [2.0**60, 2.0**59]
    assert rule == doubled(60)
    assert rule != doubled(60, 2.0)
    assert hash(rule) == hash(doubled(60))
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert copy.deepcopy(rule) is rule
    with pytest.raises(errors.ConfigError, match="the 61 schedules in it"):
        rule.to_config()


def test_an_error_shows_the_beginning_of_it():
    """An error that shows a schedule does not write out the rest of it."""
    with pytest.raises(errors.ScheduleValueError, match="schedule must be a schedule, got") as raised:
        ms.warmup([doubled(60)], 3)
    assert len(str(raised.value)) < 400


# --- schedules of one's own ------------------------------------------------------------------------------------------
@ms.schedule(lambda schedule: {"schedule": schedule}, clock=lambda xp, step, schedule: [2 * step])
def faster(xp, step, schedule):
    return schedule


@ms.schedule(lambda schedule: {"schedule": schedule})
def plainly_faster(xp, step, schedule):
    return schedule(2 * step)


@pytest.mark.parametrize("own", [faster, plainly_faster])
def test_of_ones_own(own, backend):
    """A combinator of one's own, with a clock or without, goes with all others."""
    rule = own(ms.warmup(own(ms.linear(1.0, 0.0, 16)), 4)) * 2
    assert [rule(k) for k in range(5)] == [0.0, 1.0, 2.0, 1.5, 1.0]
    assert to_numpy(rule(make([0, 1, 2, 3, 4], backend, "int32")), backend).tolist() == [0.0, 1.0, 2.0, 1.5, 1.0]
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_of_ones_own_and_deep():
    """With a clock they are nested without limit, too."""
    rule = ms.linear(1.0, 0.0, 16)
    for _ in range(N):
        rule = ms.stretch(faster(rule), 2)
    assert rule(4) == 0.75
    assert float(rule(np.int32(4))) == 0.75
    assert pickle.loads(pickle.dumps(rule)) == rule


# --- pictures --------------------------------------------------------------------------------------------------------
@kinds
def test_boundaries_for_pictures(kind):
    """The boundaries that a picture marks are found in compositions of any depth, and in time where they are many."""
    found = edges(kind(N)[0], 500)
    assert found == sorted(set(found))
    assert all(0 < edge <= 500 for edge in found)
    rule = ms.linear(1.0, 0.0, 2)
    for period in (3, 10**3, 10**5, 10**7):
        rule = ms.repeat(rule, period)
    assert edges(rule, 10**9)[:4] == [2, 3, 5, 6]
