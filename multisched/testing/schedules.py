"""The laws of schedules, as functions that anyone runs on a schedule of their own."""

import json
import math
import pickle
from functools import partial
from typing import Any

import numpy as np

from multisched.arrays import Array, FrozenArray
from multisched.errors import ScheduleStepError
from multisched.frontend.declare import declare
from multisched.graph.scope import Graph
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import use_backend
from multisched.schedules.catalogue import described
from multisched.schedules.config import from_config, parts_of
from multisched.schedules.edges import edges
from multisched.schedules.parse import parse
from multisched.schedules.schedule import Schedule
from multisched.testing.law import Law, adapters, can_be_pickled, law, on_host, within
from multisched.testing.support import refused, require

_FAR = 2**31 - 1
_UNTIL = 100_000  # steps within which edges are looked for
_MOST = 24  # edges that are looked at
_WIDTH = 96  # at most so many steps are looked at in one array


def check_schedule(lr: Schedule, *, backends: Any = None) -> None:
    """Check a schedule against all laws of schedules, on each backend.

    Parameters
    ----------
    lr:
        The schedule.
    backends:
        Names of backends; by default all whose frameworks are installed.

    Raises `AssertionError`, which names the law, the backend, the step, and what was expected and found. Raises
    `TypeError` for what is no schedule.

    >>> import multisched as ms
    >>> check_schedule(ms.cosine(0.1, 100), backends=["numpy"])

    >>> @ms.schedule(lambda peak: {"peak": peak})
    ... def backwards(xp, step, peak):
    ...     return peak / (2 + abs(step))
    >>> check_schedule(backwards(1.0), backends=["numpy"])
    Traceback (most recent call last):
    AssertionError: backwards(1.0) breaks law 3, ends, on 'numpy': Every step below 0 has the value at 0.
    given step -1
      expected 0.5
      got      0.3333333333333333
    """
    if not isinstance(lr, Schedule):
        raise TypeError(f"check_schedule takes a schedule, got {type(lr).__name__}.")
    for backend in adapters(backends):
        with use_backend(backend), np.errstate(all="ignore"):
            for each in SCHEDULE_LAWS:
                each.check(lr, backend)


def _at(lr: Schedule, backend: Backend, steps: list[int]) -> np.ndarray:
    """The values in an array, of one length for all laws, since JAX compiles its operations for each shape."""
    padded = steps + [steps[0]] * (_WIDTH - len(steps))
    return on_host(backend, lr(backend.asarray(np.asarray(padded), "int32")))[: len(steps)]


def steps_of(lr: Schedule) -> list[int]:
    """Steps at which a schedule is looked at: the first ones, both sides of each edge, and some far away."""
    looked = {0, 1, 2, 3, 5, 8, 13, 100, 1000}
    for edge in edges(lr, _UNTIL)[:_MOST]:
        looked.update(step for step in range(math.ceil(edge) - 1, math.ceil(edge) + 2) if step >= 0)
    return sorted(looked)


def _values(lr: Schedule, steps: list[int]) -> np.ndarray:
    """The values at Python numbers, in double precision."""
    return np.asarray([lr(step) for step in steps], np.float64)


def _largest(lr: Schedule, steps: list[int], values: np.ndarray) -> float:
    """The largest number that goes into a value, at which its rounding is measured."""
    known = [float(np.max(np.abs(values), initial=0, where=np.isfinite(values)))]
    for node in [lr, *parts_of(lr)]:
        for argument in node._arguments.values():
            array = argument.array if isinstance(argument, FrozenArray) else argument
            if isinstance(array, float | np.ndarray) and np.size(array):
                known.append(float(np.max(np.abs(array))))
        if node is not lr:
            known.append(_largest(node, steps, _values(node, steps)))
    return max(known)


# --- the laws --------------------------------------------------------------------------------------------------------
@law(1, "clock")
def clock(lr: Schedule, backend: Backend) -> None:
    """A declared schedule gives `lr(0)`, `lr(1)`, `lr(2)`, ... as it advances, and reading it moves nothing."""
    steps = list(range(6))
    expected = _values(lr, steps)
    with Graph("clock"):
        declared = declare(lr, backend=backend)
        got = []
        for _ in steps:
            on_host(backend, declared.value)
            got.append(on_host(backend, declared.advance()))
    within(f"updates 0 to {steps[-1]}", np.stack(got), expected, 4, _largest(lr, steps, expected))


@law(2, "boundary")
def boundary(lr: Schedule, backend: Backend) -> None:
    """Whatever happens at a boundary happens at the same step for numbers and for arrays."""
    found = [math.ceil(edge) for edge in edges(lr, _UNTIL)[:_MOST]]
    around = [max(step + aside, 0) for step in found for aside in (-1, 0, 1)] or [0]
    expected = _values(lr, around)
    largest = _largest(lr, around, expected)
    for step, value, wanted in zip(around, _at(lr, backend, around), expected, strict=True):
        within(f"step {step}", value, wanted, 4, largest)


@law(3, "ends")
def ends(lr: Schedule, backend: Backend) -> None:
    """Every step below 0 has the value at 0."""
    first = lr(0)
    for step in (-1, -1000, -(2**40)):
        require(np.array_equal(lr(step), first, equal_nan=True), f"step {step}", first, lr(step))
    steps = [0, -1, -1000, -(2**31)]
    got = _at(lr, backend, steps)
    for step, value in zip(steps, got, strict=True):
        require(np.array_equal(value, got[0], equal_nan=True), f"step {step} in an array", got[0], value)


@law(7, "dtypes")
def dtypes(lr: Schedule, backend: Backend) -> None:
    """A number gives a float; integer steps give float32, floating steps their own dtype; the shape is the steps'."""
    value = lr(3)
    plain = np.ndarray if lr.shape else float
    require(type(value) is plain, "step 3", f"a {plain.__name__}", f"{value!r} of type {type(value).__name__}")
    kinds = [("int32", "float32", shape) for shape in ((), (_WIDTH,), (2, _WIDTH // 2))]
    kinds += [(given, given.replace("uint8", "float32"), (_WIDTH,)) for given in ("uint8", "float32", "float64")]
    for given, result, shape in kinds:
        if backend.supports(given):
            steps = np.arange(np.prod(shape, dtype=int)).reshape(shape)
            got = on_host(backend, lr(backend.asarray(steps, given)))
            name = f"steps of {given} and shape {shape}"
            require(got.dtype.name == result, name, result, got.dtype.name)
            require(got.shape == shape + lr.shape, name, f"the shape {shape + lr.shape}", f"the shape {got.shape}")


@law(8, "no aliasing")
def no_aliasing(lr: Schedule, backend: Backend) -> None:
    """A call changes neither its steps nor the schedule, and gives the same again."""
    steps = backend.asarray(np.arange(_WIDTH), "int32")
    before = on_host(backend, steps)
    first = on_host(backend, lr(steps))
    again = on_host(backend, lr(steps))
    require(np.array_equal(before, on_host(backend, steps)), "an array of steps", before, on_host(backend, steps))
    require(np.array_equal(first, again, equal_nan=True), f"steps 0 to {_WIDTH - 1} twice", first, again)


@law(10, "plain data")
def plain_data(lr: Schedule, backend: Backend) -> None:
    """A schedule is equal to what its pickle, and if its name is listed its config and its text build."""
    copies = {"its pickle": pickle.loads(pickle.dumps(lr))} if can_be_pickled(lr._formula) else {}
    if _is_listed(lr):
        copies["its config"] = from_config(json.loads(json.dumps(lr.to_config())))
        copies["its text"] = parse(repr(lr))
    for what, copy in copies.items():
        require((copy, hash(copy), repr(copy)) == (lr, hash(lr), repr(lr)), what, lr, copy)


def _is_listed(rule: Any) -> bool:
    called = described(rule)
    return called is not None and called[0] is not None and all(_is_listed(part) for part in parts_of(rule))


@law(11, "one trace")
def one_trace(lr: Schedule, backend: Backend) -> None:
    """A compiler traces a call once, however the step changes."""
    if backend.name != "jax":
        return  # torch.compile takes seconds for each; tests/test_one_trace.py has it
    traces: list[int] = []

    def traced(step: Array) -> tuple[Array]:
        traces.append(1)
        return (lr(step),)

    compiled = backend.compile(traced, 0, True)
    for step in (0, 1, 7, 1000):
        compiled(backend.asarray(np.asarray(step), "int32"))
    require(len(traces) == 1, "4 steps", "1 trace", f"{len(traces)} traces")


@law(12, "agreement")
def agreement(lr: Schedule, backend: Backend) -> None:
    """Arrays on a backend have the values that Python numbers have, to 4 units in the last place of float32."""
    steps = steps_of(lr)
    expected = _values(lr, steps)
    largest = _largest(lr, steps, expected)
    for step, value, wanted in zip(steps, _at(lr, backend, steps), expected, strict=True):
        within(f"step {step}", value, wanted, 4, largest)


@law(13, "failure")
def failure(lr: Schedule, backend: Backend) -> None:
    """What is no step is an error: a bool, a string, None, an array of bools."""
    for wrong in (True, "4", None, 1j):
        refused(ScheduleStepError, f"the step {wrong!r}", partial(lr, wrong))
    refused(ScheduleStepError, "an array of bools", lambda: lr(backend.asarray(np.asarray([True]), "bool")))


@law(17, "ends under compilers")
def ends_under_compilers(lr: Schedule, backend: Backend) -> None:
    """A schedule that ends at a value has exactly this value from there on, inside compilers too."""
    found = edges(lr, _UNTIL)
    last = math.ceil(found[-1]) if found else 0
    after = [last, last + 1, last + 7, 2 * last + 100, _FAR - 1, *[_FAR] * (_WIDTH - 5)]
    values = _values(lr, after)
    if not all(np.array_equal(value, values[0]) for value in values):
        return  # it goes on
    expected = np.float32(values)
    steps = backend.asarray(np.asarray(after), "int32")
    compiled = backend.compile(lambda steps: (lr(steps),), 0, True)
    for what, found_values in (("", lr(steps)), (", compiled", compiled(steps)[0])):
        got = on_host(backend, found_values)
        require(np.array_equal(got, expected), f"steps from {last} on{what}", expected, got)


SCHEDULE_LAWS: tuple[Law, ...] = (
    clock,
    boundary,
    ends,
    dtypes,
    no_aliasing,
    plain_data,
    one_trace,
    agreement,
    failure,
    ends_under_compilers,
)
"""The laws that `check_schedule` runs, in this order."""
