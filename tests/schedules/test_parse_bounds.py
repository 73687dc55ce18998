"""No text, however long, deep or damaged, makes `ms.parse` hang, overflow the stack, or raise anything unforeseen."""

import gc
import random
import time

import pytest

import multisched as ms
from multisched import errors
from multisched.schedules.catalogue import CATALOGUE

MOST = 10
"""Seconds of the processor. Not a test of speed: a text of this size takes a hundredth of it. It is a bound that any
blow-up with the length, the depth or the numbers of a text breaks by far."""


# --- nothing blows up ------------------------------------------------------------------------------------------------
def timed(text):
    """The schedule or `ParseError` that a text gives, within the time; anything else passes through."""
    start = time.process_time()
    try:
        result = ms.parse(text)
    except errors.ParseError as error:
        result = error
    seconds = time.process_time() - start
    assert seconds < MOST, f"{seconds} s for {text[:200]!r}"
    return result


@pytest.fixture
def uncollected():
    """Without the garbage collector, which goes through what other tests have left; frameworks have been noticed."""
    ms.constant(1)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


DEEP = {
    "lists": "join(" + "[" * 10_000,
    "dicts": "piecewise_constant(1, " + "{1: " * 10_000,
    "keywords": "delay(schedule=" * 10_000,
    "parentheses": "(" * 10_000,
    "averages": "paced(" * 10_000 + "swa()" + ")" * 10_000,
    "a tower": f"constant({'**'.join('9' * 100)})",
}
WITHOUT_LIMIT = {
    "parentheses": "(" * 10_000 + "linear(1, 0, 4)" + ")" * 10_000,
    "minus": "-" * 3000 + "linear(1, 0, 4)",
    "calls": "abs(" * 3000 + "linear(1, 0, 4)" + ")" * 3000,
    "warm-ups": "warmup(" * 3000 + "linear(1, 0, 4)" + ", 3)" * 3000,
    "powers": "2 ** " * 3000 + "linear(1, 0, 4)",
    "a sum": "linear(1, 0, 4)" + " + 1" * 3000,
    "a sum from the right": "1 + (" * 3000 + "linear(1, 0, 4)" + ")" * 3000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_what_is_too_deep(uncollected, kind):
    """What Python's containers and averages cannot be is a `ParseError`: no stack overflows, and no time is taken."""
    assert isinstance(timed(DEEP[kind]), errors.ParseError)


@pytest.mark.parametrize("kind", WITHOUT_LIMIT)
def test_schedules_of_any_depth(uncollected, kind):
    """Schedules are nested as deep as one likes."""
    lr = timed(WITHOUT_LIMIT[kind])
    assert isinstance(lr, ms.Schedule)
    assert timed(repr(lr)) == lr


@pytest.mark.parametrize(
    ("before", "after"), [("(", ")"), ("-", ""), ("warmup(", ", 3)"), ("", " + 1"), ("2 ** ", ""), ("abs(", ")")]
)
def test_what_is_deep(uncollected, before, after):
    """Nested 60 deep around a line, and so near to the limit, a text is read in time, and printed in time."""
    lr = timed(before * 60 + "linear(1, 0, 4)" + after * 60)
    assert isinstance(lr, ms.Schedule)
    assert timed(repr(lr)) == lr


LONG = {
    "keys": f"piecewise_interpolate({{{', '.join(f'{i}: {i}.5' for i in range(1000))}}})",
    "restarts": "cosine_restarts(1.0, 10, period_mul=1.001)",
    "joined": f"join([{', '.join(['linear(1.0, 0.0, 10)'] * 200)}], {list(range(199))})",
    "digits": f"constant(0.{'1' * 10_000})",
    "a name": "x" * 100_000,
    "a string": f"cosine('{'x' * 100_000}', 3)",
    "spaces": " " * 100_000 + "linear(1, 0, 4)",
    "numbers": f"constant({'+'.join('1' * 1000)})",
}


@pytest.mark.parametrize("kind", LONG)
def test_what_is_long(uncollected, kind):
    """A long text is read, or refused, in time; so is one of a schedule with many parts."""
    timed(LONG[kind])


# --- mutated texts ---------------------------------------------------------------------------------------------------
ALPHABET = [
    *"0123456789.eE_+-*/()[]{},:= '\"abx\\\t\n@$%\x00é٣\u2028😀",
    "**",
    "None",
    "True",
    "linear",
    "1e9",
    "-1",
    "9**9",
]
SEEDS = [
    "0.5 * warmup(cosine(0.1, 1000), 100, init=0.001)",
    "join([linear(0.0, 1.0, 4), polynomial(1.0, 0.0, 9, power=2, cycle=True)], [4])",
    "abs(-exponential(1.0, 0.5, 10, staircase=True, end=0.01)) ** 2 - tanh(1.0, 10, lower=-6)",
    "piecewise_constant([0.1, 1], {4: [1, 2.5e-05], 8: [2, 3]}) + [1.0, -2.0]",
    "minimum(piecewise_scale(1.0, {4: 0.5, 8: 0.5}), maximum(1, piecewise_interpolate({0: 0, 4: 1}, kind='cosine')))",
    "clip(inverse_sqrt(1.0, 4, timescale=10), 0.25, 0.75) / inverse_time(1.0, 1, 10)",
    "stretch(repeat(delay(noam(512, 4000, factor=2), 10), 3000), 2.5)",
    "cosine_restarts(1.0, 10, period_mul=2, peak_mul=0.5, cycles=3) * cyclic(0, 1, 4, mode='triangular2')",
    "one_cycle(1.0, 100, anneal='linear') + warmup_stable_decay(1.0, 2, 4, 4, decay='1-sqrt') + constant(-0.0)",
    "decay_warmup(inv_gamma=2, power=0.75, low=0.5, high=0.999)",
    "add(1, subtract(constant(1), multiply(2, divide(1, pow(2, negative(constant(3)))))))",
]


def test_the_texts_to_mutate_are_of_everything():
    """The texts that are mutated are valid, and between them name the whole catalogue."""
    assert all(isinstance(ms.parse(text), ms.Schedule) for text in SEEDS)
    assert [name for name in CATALOGUE if not any(f"{name}(" in text for text in SEEDS)] == []


def mutated(text, rng):
    """A text after up to four edits: something left out, put in, put in place of, said twice, or from another text."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 1, 1, 2, 5, 20]))
        other = rng.choice(SEEDS)
        at = rng.randrange(len(other))
        put = rng.choice(["", rng.choice(ALPHABET), rng.choice(ALPHABET), text[start:end] * 2, other[at : at + 15]])
        text = text[:start] + put + text[end:]
    return text


def test_mutated_texts(uncollected):
    """Each of 10,000 mutated texts gives a schedule or a `ParseError` at one of its columns, in time."""
    rng, found = random.Random(20), {"schedule": 0, "grammar": 0, "argument": 0}
    for _ in range(10_000):
        text = mutated(rng.choice(SEEDS), rng)
        result = timed(text)
        if isinstance(result, ms.Schedule):
            found["schedule"] += 1
            continue
        assert 1 <= result.column <= len(text) + 1
        assert "^" in str(result)
        cause = result.__cause__
        assert cause is None or isinstance(cause, (errors.MultischedError, TypeError)), (text, cause)
        found["grammar" if cause is None else "argument"] += 1
    assert min(found.values()) > 300, found
