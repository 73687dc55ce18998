"""The laws of statistics, as functions that anyone runs on a rule of their own."""

import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from multisched.arrays import Array, dtype_name
from multisched.averages.mean import Mean
from multisched.averages.statistic import Statistic
from multisched.errors import MaskError, MultischedError, RuleError, ShapeError
from multisched.frontend.declare import declare
from multisched.frontend.function import function
from multisched.frontend.updates import get_updates
from multisched.frontend.variables import Placeholder
from multisched.graph.scope import Graph
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import use_backend
from multisched.schedules.config import from_config
from multisched.schedules.parse import parse
from multisched.testing.law import Law, adapters, can_be_pickled, law, on_host, within
from multisched.testing.schedules import _is_listed
from multisched.testing.support import refused, require

_UPDATES = 9


def check_statistic(rule: Statistic, *, backends: Any = None) -> None:
    """Check a rule of averages, or any other statistic, against all laws of statistics, on each backend.

    Parameters
    ----------
    rule:
        The rule.
    backends:
        Names of backends; by default all whose frameworks are installed.

    Raises `AssertionError`, which names the law, the backend, and what was expected and found. Raises `TypeError` for
    what is no statistic.

    >>> import multisched as ms
    >>> check_statistic(ms.ema(0.9, debias=True), backends=["numpy"])
    """
    if not isinstance(rule, Statistic):
        raise TypeError(f"check_statistic takes a statistic, such as ema(0.9), got {type(rule).__name__}.")
    for backend in adapters(backends):
        with use_backend(backend), np.errstate(all="ignore"):
            for each in STATISTIC_LAWS:
                each.check(rule, backend)


# --- streams ---------------------------------------------------------------------------------------------------------
def _shapes(rule: Statistic) -> list[tuple[int, ...]]:
    """The shapes of values that the rule takes, of a scalar and two elements."""
    fitting: list[tuple[int, ...]] = []
    for shape in ((), (2,)):
        try:
            rule.step(rule.init(np.zeros(shape, np.float32)), np.zeros(shape, np.float32))
        except MultischedError:
            continue
        fitting.append(shape)
    require(fitting, "values of shape () and (2,)", "a rule that takes one of them", "an error for each")
    return fitting


def _given(shape: tuple[int, ...], updates: int = _UPDATES) -> list[np.ndarray]:
    """The values of a stream: the same at each call, of one size, neither sorted nor even."""
    draw = np.random.default_rng(7)
    return [np.asarray(draw.uniform(-1, 2, shape), np.float32) for _ in range(updates)]


def _like(backend: Backend, value: np.ndarray, dtype: str = "float32") -> Array:
    return backend.asarray(value, dtype)


def _outputs(rule: Statistic, backend: Backend, values: Sequence[np.ndarray], **options: Any) -> tuple[Any, np.ndarray]:
    """The last state and the outputs over a stream; `options` has a list for each keyword of `step`."""
    state, outputs = rule.init(_like(backend, values[0])), []
    for n, value in enumerate(values):
        chosen = {name: each[n] for name, each in options.items()}
        state, output = rule.step(state, _like(backend, value), **chosen)
        outputs.append(on_host(backend, output))
    return state, np.stack(outputs)


def _parts(backend: Backend, state: Any) -> list[np.ndarray]:
    """The arrays of a state, on the host."""
    return [on_host(backend, part) for part in state if not isinstance(part, tuple)]


def _form(backend: Backend, state: Any) -> tuple[Any, ...]:
    return type(state), *(() if isinstance(p, tuple) else (dtype_name(p.dtype), tuple(p.shape)) for p in state)


def _bits(arrays: Sequence[np.ndarray]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


# --- the laws --------------------------------------------------------------------------------------------------------
@law(6, "mask")
def mask(rule: Statistic, backend: Backend) -> None:
    """A stream with masked values has, bit for bit, the state of the stream without them, even if they are NaN."""
    for shape in _shapes(rule):
        values = _given(shape)
        kept = [n % 3 != 1 for n in range(len(values))]
        spoilt = [
            value if keep else np.full(shape, np.nan, np.float32) for value, keep in zip(values, kept, strict=True)
        ]
        without, _ = _outputs(rule, backend, [value for value, keep in zip(values, kept, strict=True) if keep])
        expected = _parts(backend, without)
        masks = [backend.asarray(np.asarray(keep), "bool") for keep in kept]
        for kind, where in (("Python bools", kept), ("arrays", masks)):
            state, _ = _outputs(rule, backend, spoilt, where=where)
            got = _parts(backend, state)
            require(_bits(got) == _bits(expected), f"masks that are {kind}, shape {shape}", expected, got)


@law(7, "dtypes")
def dtypes(rule: Statistic, backend: Backend) -> None:
    """A state keeps its structure, shapes and dtypes; averages are held at least in float32; the output is as given."""
    for dtype in ("float32", "float64", "float16"):
        if not backend.supports(dtype):
            continue
        for shape in _shapes(rule):
            value = _like(backend, _given(shape)[0], dtype)
            state = rule.init(value)
            form = _form(backend, state)
            held = dtype_name(rule._template(state).dtype)
            require(held == max(dtype, "float32", key=_bits_of), f"a value of {dtype}", "at least float32", held)
            for n in range(3):
                state, output = rule.step(state, value)
                given = f"update {n} of a value of {dtype} and shape {shape}"
                require(_form(backend, state) == form, given, form, _form(backend, state))
                name = dtype_name(output.dtype)
                require(name == dtype, given, f"an output of {dtype}", f"an output of {name}")


def _bits_of(dtype: str) -> int:
    return int(dtype.removeprefix("float"))


@law(8, "no aliasing")
def no_aliasing(rule: Statistic, backend: Backend) -> None:
    """A step changes neither the state nor the value that it is given, and shares no memory with them."""
    for shape in _shapes(rule):
        first, second, *_ = _given(shape)
        state, _ = rule.step(rule.init(_like(backend, first)), _like(backend, first))
        value, before = _like(backend, second), _parts(backend, state)
        new, output = rule.step(state, value)
        require(_bits(_parts(backend, state)) == _bits(before), "a state", before, _parts(backend, state))
        require(np.array_equal(on_host(backend, value), second), "a value", second, on_host(backend, value))
        arrays = [part for part in new if not isinstance(part, tuple)]
        if all(isinstance(each, np.ndarray) for each in (*arrays, output, value)):
            for given in (value, *(part for part in state if not isinstance(part, tuple))):
                shared = any(np.shares_memory(given, each) for each in (*arrays, output))
                require(not shared, "a state and a value of NumPy", "results of their own memory", "shared memory")


@law(9, "counters")
def counters(rule: Statistic, backend: Backend) -> None:
    """A state's `count` is an int32 that each update raises by one at most, and a masked update by nothing."""
    shape = _shapes(rule)[0]
    state = rule.init(_like(backend, _given(shape)[0]))
    if "count" not in state._fields or isinstance(state.count, tuple):
        return
    dtype = dtype_name(state.count.dtype)
    require(dtype == "int32", "the count", "int32", dtype)
    for n, value in enumerate(_given(shape)):
        before = int(on_host(backend, state.count))
        masked, _ = rule.step(state, _like(backend, value), where=False)
        still = int(on_host(backend, masked.count))
        require(still == before, f"update {n}, masked", f"the count {before}", f"the count {still}")
        state, _ = rule.step(state, _like(backend, value))
        after = int(on_host(backend, state.count))
        require(after - before in (0, 1), f"update {n}", f"the count {before} or {before + 1}", f"the count {after}")


@law(10, "resume")
def resume(rule: Statistic, backend: Backend) -> None:
    """A state that was copied through the host in the middle, and a rule built again, go on to the same bits."""
    copies = {"its pickle": pickle.loads(pickle.dumps(rule))} if can_be_pickled(type(rule)) else {}
    if _is_listed(rule):
        copies["its config"] = from_config(json.loads(json.dumps(rule.to_config())))
        copies["its text"] = parse(repr(rule))
    for what, copy in copies.items():
        require(copy == rule, what, rule, copy)
    shape = _shapes(rule)[0]
    values = _given(shape)
    state, outputs = _outputs(rule, backend, values)
    half, _ = _outputs(rule, backend, values[:4])
    moved = type(half)(
        *(p if isinstance(p, tuple) else backend.asarray(on_host(backend, p), dtype_name(p.dtype)) for p in half)
    )
    for n, value in enumerate(values[4:], 4):
        moved, output = copies.get("its pickle", rule).step(moved, _like(backend, value))
        got = on_host(backend, output)
        require(np.array_equal(got, outputs[n], equal_nan=True), f"update {n}, resumed at 4", outputs[n], got)
    require(_bits(_parts(backend, moved)) == _bits(_parts(backend, state)), "the last state", state, moved)


@law(11, "one trace")
def one_trace(rule: Statistic, backend: Backend) -> None:
    """A compiler traces an update once, and gives what the rule gives eagerly."""
    if backend.name != "jax":
        return  # torch.compile takes seconds for each; tests/test_one_trace.py has it
    values, traces = _given(_shapes(rule)[0]), []
    template = rule.init(_like(backend, values[0]))

    def run(*arrays: Array) -> tuple[Array, ...]:
        traces.append(1)
        new, output = rule.step(_filled(template, arrays[:-1]), arrays[-1])
        return (*_arrays(new), output)

    compiled = backend.compile(run, 0, True)
    _, expected = _outputs(rule, backend, values)
    parts = _arrays(template)
    for n, value in enumerate(values):
        *parts, output = compiled(*parts, _like(backend, value))
        within(f"update {n}, compiled", on_host(backend, output), expected[n], 4 * (n + 1), _size(values, expected))
    require(len(traces) == 1, f"{len(values)} updates", "1 trace", f"{len(traces)} traces")


@law(12, "agreement")
def agreement(rule: Statistic, backend: Backend) -> None:
    """A stream has the averages on a backend that it has on NumPy, to 4 units in the last place an update."""
    for shape in _shapes(rule):
        values = _given(shape)
        _, expected = _outputs(rule, next(adapters(["numpy"])), values)
        _, got = _outputs(rule, backend, values)
        for n in range(len(values)):
            within(f"update {n} of shape {shape}", got[n], expected[n], 4 * (n + 1), _size(values, expected))


@law(13, "failure")
def failure(rule: Statistic, backend: Backend) -> None:
    """A value of another shape and a mask that is no boolean are errors, after which the state goes on as before."""
    shape = _shapes(rule)[0]
    values = _given(shape)
    state, _ = rule.step(rule.init(_like(backend, values[0])), _like(backend, values[0]))
    before = _parts(backend, state)
    wrong = _like(backend, np.zeros((5, 3)))
    refused(ShapeError, "a value of shape (5, 3)", lambda: rule.step(state, wrong))
    refused(MaskError, "the mask 1", lambda: rule.step(state, _like(backend, values[1]), where=1))
    require(_bits(_parts(backend, state)) == _bits(before), "a state after errors", before, _parts(backend, state))


@law(16, "one rule, one result")
def one_result(rule: Statistic, backend: Backend) -> None:
    """Declared, a rule gives what `step` gives; a rule that says its share gives what its shares alone give."""
    shape = _shapes(rule)[-1]
    values = _given(shape)
    _, expected = _outputs(rule, backend, values)
    with Graph("one result"):
        x = Placeholder(shape, name="x", backend=backend)
        latest, _ = declare(rule, x)
        f = function(x, outputs=latest, updates=get_updates())
        got = [f(value, device_get=True) for value in values]
    for n in range(len(values)):
        within(f"update {n}, declared", got[n], expected[n], 4 * (n + 1), _size(values, expected))
    if isinstance(rule, Mean) and _has_shares(rule):
        for n, (average, output) in enumerate(zip(_by_share(rule, values), expected, strict=True)):
            within(f"update {n}, by rule.share", output, average, 4 * (n + 1), _size(values, expected))


STATISTIC_LAWS: tuple[Law, ...] = (
    mask,
    dtypes,
    no_aliasing,
    counters,
    resume,
    one_trace,
    agreement,
    failure,
    one_result,
)
"""The laws that `check_statistic` runs, in this order."""


# --- what they compare with ------------------------------------------------------------------------------------------
def _arrays(state: Any) -> list[Array]:
    return [part for part in state if not isinstance(part, tuple)]


def _filled(template: Any, arrays: Sequence[Array]) -> Any:
    """A state like the template, of these arrays."""
    left = iter(arrays)
    return type(template)(*(part if isinstance(part, tuple) else next(left) for part in template))


def _size(values: list[np.ndarray], outputs: np.ndarray) -> float:
    """The largest number of a stream."""
    return max(float(np.max(np.abs(each), initial=1)) for each in (*values, outputs))


def _has_shares(rule: Mean) -> bool:
    """Whether one share holds for all elements; an average that starts from `init`, say, refuses."""
    try:
        rule.share(0, 0.0)
    except RuleError:
        return False
    return True


def _by_share(rule: Mean, values: list[np.ndarray]) -> list[np.ndarray]:
    """The averages of a stream in double precision, by nothing but the shares; a share of 1 copies, one of 0 keeps."""
    mean, weight, averages = np.zeros_like(values[0], np.float64), 0.0, []
    for count, value in enumerate(values):
        share, weight = rule.share(count, weight)
        mean = np.where(share == 1, value, mean + share * (value - mean))
        averages.append(mean)
    return averages
