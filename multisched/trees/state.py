"""The state of an average as plain data: dicts of names, arrays and ints."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from multisched.arrays import BITS, dtype_name, holds_all, int_max, int_min, kind_of, namespace_of
from multisched.errors import CheckpointMismatch, MultischedError, TracedInputError, listed, shown
from multisched.runtime.files import Later
from multisched.runtime.registry import get_backend
from multisched.trees.clock import Clock
from multisched.trees.leaf import duplicate, is_deleted
from multisched.trees.parts import check_owner
from multisched.trees.told import Whose, decoded, encoded, rule_of, rule_text, weight_after

if TYPE_CHECKING:
    from multisched.trees.average import Average

SECTIONS = ("average", "compensation", "copied")
"""The average of each leaf; what rounding took of it; the latest value of what is copied."""


_RULE = "rule"
"""By which rule the arrays were averaged, in words."""
_SHARD = "shard"
"""Whose part of a model the arrays are, where they do not tell themselves."""


def sections(average: "Average") -> Iterator[tuple[str, list[str], list[Any], tuple[str, ...]]]:
    """What an average holds: a section, the names of its leaves, their arrays as they lie here, and their dtypes."""
    if average._backend.is_traced(average._backend.xp.zeros(())):
        raise TracedInputError("The state of an average is to be read and loaded outside of what a compiler traces.")
    averaged = [average._leaves[i].name for i in average._averaged]
    for section, held in zip(SECTIONS, (average._mean.arrays, *average._mean.rests), strict=False):
        yield section, averaged, average._mean.taken_apart(held), average._mean.dtypes
    copied = [average._leaves[i].name for i in average._copied]
    yield SECTIONS[-1], copied, average._latest.taken_apart(average._latest.arrays), average._latest.dtypes


def state_of(average: "Average") -> dict[str, Any]:
    """Copies of all that an average holds."""
    backend = average._backend
    count, weight = numbers(average)
    # Where the backend has no double precision, or arrays over several processes, the array is NumPy's: one of this
    # process alone would have no place beside them.
    there = backend.supports(weight.dtype.name) and not _spans_processes(average)
    rule = encoded(average.rule)
    if not _spans_processes(average):
        rule = backend.asarray(rule, "uint8")
    weight = backend.asarray(weight, weight.dtype.name) if there else weight
    state: dict[str, Any] = {"count": count, "weight": weight, _RULE: rule}
    for section, names, arrays, _ in sections(average):
        pool = average._latest if section == SECTIONS[-1] else average._mean
        if names:
            copies = pool.spread([backend.copy(array) for array in arrays])
            state[section] = dict(zip(names, copies, strict=True))
    for name, i in objects(average).items():
        state.setdefault(SECTIONS[-1], {})[name] = duplicate(average._objects[i])
    if average._part is not None and average._part.part.owner:
        state[_SHARD] = average._part.part.owner
    return state


def objects(average: "Average") -> dict[str, int]:
    """The leaves that are copied as they are, and are arrays of some kind: sparse, quantised, keys; by name."""
    return {average._leaves[i].name: i for i in average._kept if hasattr(average._objects[i], "dtype")}


def _spans_processes(average: "Average") -> bool:
    held = [*average._mean.arrays, *average._latest.arrays]
    return not all(getattr(array, "is_fully_addressable", True) for array in held)


def numbers(average: "Average") -> tuple[int, np.ndarray]:
    """The count, and the weight in the precision in which it accumulates: double on the host, that of a device else."""
    at = average._clock
    known = at.known(average._backend)
    return known.count, np.asarray(
        known.weight, "float64" if isinstance(at.count, int) else dtype_name(at.weight.dtype)
    )


def load_state(average: "Average", state: Mapping[str, Any], where: str, whose: Whose = "same") -> None:
    """Make an average hold what a state says; `where` opens the errors, `whose` rule it goes on by."""
    if not isinstance(state, Mapping):
        raise CheckpointMismatch(f"{where}it is a dict as state_dict() gives, got {shown(state)}.")
    if unknown := sorted(set(state) - {"count", "weight", _RULE, _SHARD, *SECTIONS}, key=repr):
        raise CheckpointMismatch(f"{where}it has the entries {listed(unknown)}, which no average has.")
    if state.get("compensation") and not average._mean.rests:
        raise CheckpointMismatch(f'{where}it was held with rounding="compensated", and this average is not.')
    if _SHARD in state:
        check_owner(average._part, state[_SHARD], where)
    average._renew()
    clock = _clock(average, state, where)
    rule = rule_of(average, state.get(_RULE), whose, where)
    if whose == "mine" and decoded(state.get(_RULE), where) not in (None, rule_text(rule)):
        known = clock.known(average._backend)  # the weight is that of another rule
        clock = Clock(known.count, weight_after(rule, known.count))
    found: list[list[Any]] = []
    odd = objects(average)
    for section, names, arrays, dtypes in sections(average):
        pool = average._latest if section == SECTIONS[-1] else average._mean
        given = state.get(section, {})
        _check_names(where, section, [*names, *odd] if section == SECTIONS[-1] else names, given)
        found.append(
            [
                _array(average, f"{where}{section}/{name}", given[name], array, dtype, like)
                for name, array, dtype, like in zip(names, arrays, dtypes, pool.like, strict=True)
            ]
        )
    copies = {i: _object(average, f"{where}copied/{name}", state["copied"][name], i) for name, i in odd.items()}
    after = {"_clock": clock, "_pending": None, "_later": None, "_objects": average._objects | copies, "rule": rule}
    writes = [*average._mean.loading(found[:-1]), *average._latest.loading(found[-1:])]
    average._perform([*writes, *(partial(setattr, average, name, value) for name, value in after.items())])


def _clock(average: "Average", state: Mapping[str, Any], where: str) -> Clock:
    count, weight = (_number(average, state, name, where) for name in ("count", "weight"))
    if not (0 <= count <= int_max("int32") and count == int(count) and 0 <= weight < math.inf):
        raise CheckpointMismatch(f"{where}count and weight are not those of an average: {count!r}, {weight!r}.")
    held = [*average._mean.arrays, *average._latest.arrays]
    if dtype_name(getattr(state["weight"], "dtype", "")) != "float32" or not held:
        return Clock(int(count), float(weight))
    backend, device = average._backend, average._backend.device_of(held[0])  # it was a device that counted
    return Clock(backend.asarray(int(count), "int32", device), backend.asarray(float(weight), "float32", device))


def _number(average: "Average", state: Mapping[str, Any], name: str, where: str) -> Any:
    """A real number of a state, which may be in an array."""
    if name not in state:
        raise CheckpointMismatch(f"{where}it lacks the number {name!r}.")
    value = state[name]
    if hasattr(value, "dtype") and not (isinstance(value, Later) and value.shape):  # not read for its bytes alone
        value = _on_host(average, f"{where}{name}", value)
        value = value.item() if value.shape == () else value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise CheckpointMismatch(f"{where}{name} is a number, got {shown(state[name])}.")
    return value


def _check_names(where: str, section: str, names: list[str], given: Any) -> None:
    if not isinstance(given, Mapping):
        raise CheckpointMismatch(f"{where}{section} is a table of arrays by name, got {shown(given)}.")
    missing, extra = sorted(set(names) - set(given)), sorted(map(str, set(given) - set(names)))
    told = [f"there is no {listed(missing)} in its {section}"] if missing else []
    told += [f"{listed(extra)} in its {section} is of no leaf"] if extra else []
    if told:
        raise CheckpointMismatch(f"{where}{' and '.join(told)}.")


def _array(average: "Average", where: str, value: Any, held: Any, dtype: str, like: Any) -> Any:
    """An array of a state, of whichever backend, as one of the average's."""
    backend = average._backend
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise CheckpointMismatch(f"{where} is no array, got {shown(value)}.")
    if is_deleted(value):
        raise CheckpointMismatch(f"{where} has no values any more: it was donated to a compiled function, or deleted.")
    here = backend.local(value) if backend.owns(value) else value
    if (here is not value or like is not None) and (there := _layout(backend, value)) != _layout(backend, like):
        raise CheckpointMismatch(f"{where} is laid out as {there} there, and as {_layout(backend, like)} here.")
    if tuple(here.shape) != tuple(held.shape):
        raise CheckpointMismatch(f"{where} has the shape {tuple(here.shape)} there, and {tuple(held.shape)} here.")
    there, cast = dtype_name(value.dtype), dtype_name(value.dtype) != dtype
    if cast:
        _check_kinds(where, there, dtype)
    if not backend.owns(value) or backend.is_traced(value) or (cast and not holds_all(dtype, there)):
        here = _on_host(average, where, here)
        if cast:
            _check_values(where, here, there, dtype)
    elif here.dtype == held.dtype and backend.device_of(here) == backend.device_of(held) is not None:
        return here  # loading copies it
    try:
        return backend.beside(here, held)
    except (TypeError, ValueError, RuntimeError) as cause:  # on a device without values, say
        raise CheckpointMismatch(f"{where} cannot be brought to the arrays of the average: {cause}.") from cause


def _object(average: "Average", where: str, value: Any, number: int) -> Any:
    """An array of a state that is copied as it is, as one of the average's."""
    held, backend = average._objects[number], average._backend
    forms = [_form(array) for array in (value, held)]
    if forms[0] != forms[1]:
        raise CheckpointMismatch(f"{where} has the dtype and shape {forms[0]} there, and {forms[1]} here.")
    if backend.owns(value) or not backend.owns(held):
        return duplicate(value)
    try:
        return backend.beside(value, held)
    except (MultischedError, TypeError, ValueError, RuntimeError) as cause:
        raise CheckpointMismatch(f"{where} cannot be brought to the backend {backend.name!r}: {cause}.") from cause


def _form(array: Any) -> tuple[str, tuple[int, ...] | None]:
    """The dtype and the shape of an array of any kind; nested ones have none."""
    try:
        shape = tuple(getattr(array, "shape", ()))
    except RuntimeError:
        shape = None
    return dtype_name(getattr(array, "dtype", "")), shape


def _check_kinds(where: str, there: str, here: str) -> None:
    """Refuse to cast to another kind: floats, complex numbers, integers with a sign, those without, bools."""
    if there not in BITS or kind_of(there) != kind_of(here):
        raise CheckpointMismatch(f"{where} has the dtype {there} there, and {here} here, which is of another kind.")


def _check_values(where: str, values: np.ndarray, there: str, here: str) -> None:
    """Refuse values that do not fit: integers out of range, and finite numbers that would become infinite."""
    if values.dtype.kind in "iu":
        lost = values[(values > int_max(here)) | (values < int_min(here))]
    else:
        with np.errstate(over="ignore"):
            lost = values[np.isfinite(values) & ~np.isfinite(values.astype(get_backend("numpy").dtype(here)))]
    if lost.size:
        raise CheckpointMismatch(
            f"{where} has the dtype {there} there, and {here} here, in which {lost.reshape(-1)[0]} does not fit."
        )


def _layout(backend: Any, array: Any) -> Any:
    """How an array is laid out over devices, with the shape of the whole; "one array" if it is none of those."""
    distributed = array is not None and backend.owns(array) and backend.local(array) is not array
    return (tuple(array.shape), backend.placed(array)) if distributed else "one array"


def _on_host(average: "Average", where: str, value: Any) -> np.ndarray:
    """An array of any backend or in a file, as NumPy's."""
    if isinstance(value, Later):
        return value.read()
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    backend = average._backend
    try:
        backend = backend if backend.owns(value) else get_backend(namespace_of(value))
        return backend.to_numpy(value)
    except (MultischedError, TypeError, ValueError, RuntimeError) as cause:
        raise CheckpointMismatch(f"{where} is no array with values, got {shown(value)}.") from cause
