"""The state of an average as plain data: dicts of names, arrays and ints."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multisched.arrays import dtype_name, int_max
from multisched.errors import CheckpointMismatch, TracedInputError, listed, shown
from multisched.runtime.files import Later
from multisched.trees.clock import Clock
from multisched.trees.contents import SECTIONS, Contents, Section
from multisched.trees.divided import check_owner
from multisched.trees.fitting import fitted, fitted_object, on_host
from multisched.trees.leaf import duplicate
from multisched.trees.saved_rule import ResumeRule, decoded, encoded, resumed_rule, rule_text, weight_after

_COPIED = SECTIONS[-1]
_RULE = "rule"
"""By which rule the arrays were averaged, in words."""
_SHARD = "shard"
"""Whose part of a model the arrays are, where they do not tell themselves."""


def state_of(contents: Contents) -> dict[str, Any]:
    """Copies of all that an average holds."""
    backend = contents.backend
    count, weight = count_and_weight(contents)
    state: dict[str, Any] = {"count": count, "weight": weight, _RULE: encoded(contents.rule)}
    if not _spans_processes(contents):  # where it does, arrays of this process alone would have no place beside others
        state[_RULE] = backend.asarray(state[_RULE], "uint8")
        if backend.supports(weight.dtype.name):
            state["weight"] = backend.asarray(weight, weight.dtype.name)
    for section in sections(contents):
        if section.leaves:
            copies = section.pool.spread([backend.copy(array) for array in section.arrays])
            state[section.name] = dict(zip(section.leaves, copies, strict=True))
    for name, i in contents.object_arrays().items():
        state.setdefault(_COPIED, {})[name] = duplicate(contents.objects.held[i])
    if contents.divided is not None and contents.divided.part.owner:
        state[_SHARD] = contents.divided.part.owner
    return state


def sections(contents: Contents) -> list[Section]:
    """The tables of arrays of a state; raises `TracedInputError` inside of what a compiler traces."""
    if contents.backend.is_traced(contents.backend.xp.zeros(())):
        raise TracedInputError("The state of an average is to be read and loaded outside of what a compiler traces.")
    return contents.sections()


def count_and_weight(contents: Contents) -> tuple[int, np.ndarray]:
    """The count, and the weight in the precision in which it accumulates: double on the host, else the device's."""
    at = contents.clock
    known = at.known(contents.backend)
    return known.count, np.asarray(
        known.weight, "float64" if isinstance(at.count, int) else dtype_name(at.weight.dtype)
    )


def _spans_processes(contents: Contents) -> bool:
    return not all(getattr(array, "is_fully_addressable", True) for array in contents.arrays)


def load_state(contents: Contents, state: Mapping[str, Any], where: str, whose: ResumeRule = "same") -> None:
    """Make an average hold what a state says; `where` opens the errors, `whose` tells by which rule it goes on."""
    _check_entries(contents, state, where)
    contents.renew()
    clock, rule = _clock_and_rule(contents, state, where, whose)
    objects = contents.object_arrays()
    found: list[list[Any]] = []
    for section in sections(contents):
        names = [*section.leaves, *objects] if section.name == _COPIED else section.leaves
        given = state.get(section.name, {})
        _check_names(where, section.name, names, given)
        found.append(_fitted_section(contents, section, given, f"{where}{section.name}/"))
    copies = {
        i: fitted_object(contents.backend, f"{where}{_COPIED}/{name}", state[_COPIED][name], contents.objects.held[i])
        for name, i in objects.items()
    }
    contents.load(found, copies, clock, rule)


def _check_entries(contents: Contents, state: Any, where: str) -> None:
    if not isinstance(state, Mapping):
        raise CheckpointMismatch(f"{where}it is a dict as state_dict() gives, got {shown(state)}.")
    if unknown := sorted(set(state) - {"count", "weight", _RULE, _SHARD, *SECTIONS}, key=repr):
        raise CheckpointMismatch(f"{where}it has the entries {listed(unknown)}, which no average has.")
    if state.get("compensation") and not contents.mean.rests:
        raise CheckpointMismatch(f'{where}it was held with rounding="compensated", and this average is not.')
    if _SHARD in state:
        check_owner(contents.divided, state[_SHARD], where)


def _fitted_section(contents: Contents, section: Section, given: Mapping[str, Any], where: str) -> list[Any]:
    pool = section.pool
    each = zip(section.leaves, section.arrays, pool.dtypes, pool.like, strict=True)
    return [
        fitted(contents.backend, f"{where}{name}", given[name], held, dtype, like) for name, held, dtype, like in each
    ]


def _clock_and_rule(contents: Contents, state: Mapping[str, Any], where: str, whose: ResumeRule) -> tuple[Clock, Any]:
    clock = _clock(contents, state, where)
    rule = resumed_rule(contents.rule, state.get(_RULE), whose, where)
    if whose == "mine" and decoded(state.get(_RULE), where) not in (None, rule_text(rule)):
        count = clock.known(contents.backend).count  # the weight in the state is that of another rule
        clock = Clock(count, weight_after(rule, count))
    return clock, rule


def _clock(contents: Contents, state: Mapping[str, Any], where: str) -> Clock:
    count, weight = (_number(contents, state, name, where) for name in ("count", "weight"))
    if not (0 <= count <= int_max("int32") and count == int(count) and 0 <= weight < math.inf):
        raise CheckpointMismatch(f"{where}count and weight are not those of an average: {count!r}, {weight!r}.")
    if dtype_name(getattr(state["weight"], "dtype", "")) != "float32" or not contents.arrays:
        return Clock(int(count), float(weight))
    backend = contents.backend
    device = backend.device_of(contents.arrays[0])  # it was a device that counted
    return Clock(backend.asarray(int(count), "int32", device), backend.asarray(float(weight), "float32", device))


def _number(contents: Contents, state: Mapping[str, Any], name: str, where: str) -> Any:
    """A real number of a state, which may be in an array."""
    if name not in state:
        raise CheckpointMismatch(f"{where}it lacks the number {name!r}.")
    value = state[name]
    if hasattr(value, "dtype") and not (isinstance(value, Later) and value.shape):  # not read for its bytes alone
        value = on_host(contents.backend, f"{where}{name}", value)
        value = value.item() if value.shape == () else value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise CheckpointMismatch(f"{where}{name} is a number, got {shown(state[name])}.")
    return value


def _check_names(where: str, section: str, names: Sequence[str], given: Any) -> None:
    if not isinstance(given, Mapping):
        raise CheckpointMismatch(f"{where}{section} is a table of arrays by name, got {shown(given)}.")
    missing, extra = sorted(set(names) - set(given)), sorted(map(str, set(given) - set(names)))
    wrong = [f"there is no {listed(missing)} in its {section}"] if missing else []
    wrong += [f"{listed(extra)} in its {section} is of no leaf"] if extra else []
    if wrong:
        raise CheckpointMismatch(f"{where}{' and '.join(wrong)}.")
