"""Rules that are wrong on purpose: each is caught by the law that it breaks, and the message names this law."""

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import multisched as ms
from multisched.averages import Mean
from multisched.runtime.registry import get_backend, use_backend
from multisched.schedules.edges import after
from multisched.schedules.numbers import python_numbers
from multisched.schedules.readers import length, real
from multisched.testing import SCHEDULE_LAWS, STATISTIC_LAWS, check_schedule, check_statistic


# --- schedules -------------------------------------------------------------------------------------------------------
@ms.schedule(peak=real)
def one_update_late(xp, step, peak):
    """Declared, or in arrays, it is a step ahead of what it is at numbers."""
    return peak / (2.0 + step) if xp is python_numbers else peak / (3.0 + xp.astype(step, xp.float32))


@ms.schedule(peak=real, steps=length, edges=after("steps"))
def jumps_late_in_arrays(xp, step, peak, steps):
    """At numbers the boundary is where the new value rules, in arrays one step later."""
    if xp is python_numbers:
        return xp.where(step >= steps, 0.0, peak)
    return xp.where(step > steps, xp.zeros_like(step, dtype=xp.float32), peak)


@ms.schedule(peak=real)
def both_ways(xp, step, peak):
    """Before 0 it mirrors what comes after."""
    return peak / (2.0 + abs(step))


@ms.schedule(peak=real)
def of_integers(xp, step, peak):
    """It leaves the dtype to chance."""
    return 1.0 * step if xp is python_numbers else step


@ms.schedule(peak=real)
def noisy(xp, step, peak):
    """It gives another value at each call."""
    return peak + random.random() * step


@ms.schedule(lambda peak, salt: {"peak": peak, "salt": random.random()})
def salted(xp, step, peak, salt=0):
    """No two of them are equal."""
    return peak + 0.0 * step


@ms.schedule(peak=real)
def branches(xp, step, peak):
    """It asks for the value of a step, which a compiler does not know."""
    if xp is python_numbers:
        return peak + 0.0 * step
    return peak + 0 * step if (step > 3).all() else peak + 1 + 0 * step


@ms.schedule(peak=real)
def coarse(xp, step, peak):
    """In arrays it has three digits."""
    late = 1.0 + (step if xp is python_numbers else xp.astype(step, xp.float32))
    return peak / late if xp is python_numbers else peak * 1.001 / late


class Lax(ms.Schedule):
    """It takes anything for a step."""

    def __call__(self, step):
        return 0.5 if step in (True, "4", None, 1j) else super().__call__(step)


@ms.schedule(init=real, end=real, steps=length, edges=after("steps"))
def by_a_sum(xp, step, init, end, steps):
    """The usual line, whose end is a sum that rounds."""
    part = step / steps
    part = xp.where(part < 0, 0.0, part)
    return init + (end - init) * xp.where(part > 1, 1.0, part)


def lax():
    lr = ms.constant(0.5)
    return Lax(lr._formula, lr._arguments)


SCHEDULES = {
    "clock": one_update_late(1.0),
    "boundary": jumps_late_in_arrays(1.0, 5),
    "ends": both_ways(1.0),
    "dtypes": of_integers(1.0),
    "no aliasing": noisy(1.0),
    "plain data": salted(1.0),
    "one trace": branches(1.0),
    "agreement": coarse(1.0),
    "failure": lax(),
    "ends under compilers": by_a_sum(0.7, 1e-5, 10),
}


@pytest.mark.parametrize("law", SCHEDULE_LAWS, ids=lambda law: law.name)
def test_a_wrong_schedule_is_caught(law):
    """By the law that it breaks."""
    caught(law, SCHEDULES[law.name], check_schedule)


# --- statistics ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, repr=False)
class Half(Mean):
    """A right one, of which the wrong ones are made: each value has half of the average."""

    title: ClassVar[str] = "Half"

    def share(self, count, weight):
        return (1.0 if count == 0 else 0.5) if isinstance(count, int) else 0.5 + 0.5 * (count == 0), weight


class CountsMasked(Half):
    """It counts what is masked."""

    def step(self, state, value, where=None):
        new, output = super().step(state, value, where)
        return new._replace(count=state.count + 1), output


class Widens(Half):
    """Its state turns into double precision."""

    def step(self, state, value, where=None):
        new, output = super().step(state, value, where)
        return new._replace(mean=new.mean.astype(np.float64)), output


class WritesIntoItsState(Half):
    """It moves the state that it was given, too."""

    def step(self, state, value, where=None):
        new, output = super().step(state, value, where)
        state.mean[...] = new.mean
        return new, output


class CountsByTwo(Half):
    """Its count is no count of updates."""

    def step(self, state, value, where=None):
        new, output = super().step(state, value, where)
        return new._replace(count=new.count + (where is None)), output


SEEN = []


class RemembersElsewhere(Half):
    """A part of its state is not in the state."""

    def step(self, state, value, where=None):
        SEEN.append(value)
        new, output = super().step(state, value, where)
        return new, output + len(SEEN) % 5


class Branches(Half):
    """It asks for the value of a metric, which a compiler does not know."""

    def step(self, state, value, where=None):
        return super().step(state, value if (value > -9).all() else -value, where)


class Noisy(Half):
    """It never gives the same twice."""

    def step(self, state, value, where=None):
        new, output = super().step(state, value, where)
        return new, output + random.random()


class Broadcasts(Half):
    """It takes values of any shape, and averages the first of their elements."""

    def step(self, state, value, where=None):
        return super().step(state, value if value.shape == state.mean.shape else state.mean, where)


class SaysAnotherShare(Half):
    """The share that it tells a model is not the one that it takes."""

    def _advance(self, xp, state, value, dt=None):
        return Half()._advance(xp, state, value)

    def share(self, count, weight):
        return 0.25, weight


STATISTICS = {
    "mask": CountsMasked(),
    "dtypes": Widens(),
    "no aliasing": WritesIntoItsState(),
    "counters": CountsByTwo(),
    "resume": RemembersElsewhere(),
    "one trace": Branches(),
    "agreement": Noisy(),
    "failure": Broadcasts(),
    "one rule, one result": SaysAnotherShare(),
}


@pytest.mark.parametrize("law", STATISTIC_LAWS, ids=lambda law: law.name)
def test_a_wrong_statistic_is_caught(law):
    """By the law that it breaks."""
    caught(law, STATISTICS[law.name], check_statistic)


def test_the_right_one_passes():
    """What the wrong ones are made of keeps all laws: it is what they do wrong that is caught."""
    check_statistic(Half(), backends=["numpy"])


# --- all -------------------------------------------------------------------------------------------------------------
def caught(law, rule, check):
    """The law says its number and its name, and the whole check finds something, too."""
    if law.name == "one trace":
        pytest.importorskip("jax", reason="only JAX is asked how often it traces")
    name = "jax" if law.name == "one trace" else "numpy"
    with use_backend(name), np.errstate(all="ignore"), pytest.raises(AssertionError) as raised:
        law.check(rule, get_backend(name))
    assert f"breaks law {law.number}, {law.name}, on {name!r}: {law.says}" in str(raised.value)
    with pytest.raises(AssertionError, match="breaks law"):
        check(rule, backends=[name])


def test_what_is_no_rule():
    """The checks say what they take."""
    with pytest.raises(TypeError, match="check_schedule takes a schedule, got Ema"):
        check_schedule(ms.ema(0.9))
    with pytest.raises(TypeError, match="check_statistic takes a statistic, such as ema"):
        check_statistic(ms.constant(1))
