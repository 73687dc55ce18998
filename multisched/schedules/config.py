"""Schedules as plain JSON, and back.

A schedule is an object: its `name` in the catalogue, beside the arguments of the constructor. `{step: value}` is a list
of pairs, since JSON has only strings for keys; an array is a list of lists. Nothing in a document is run or imported:
a name is looked up in the catalogue, and an argument is what its parameter takes, or an error that says where.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from multisched.arrays import FrozenArray
from multisched.errors import ConfigError, MultischedError, shown
from multisched.schedules.catalogue import CATALOGUE, DEEPEST, DIALECTS, Constructor, by_name, name_of
from multisched.schedules.combine import Boundaries, Schedules
from multisched.schedules.piecewise import Steps
from multisched.schedules.schedule import Schedule, methods


# --- writing ---------------------------------------------------------------------------------------------------------
def to_config(schedule: Schedule) -> dict[str, Any]:
    """`schedule` as plain JSON; see `Schedule.to_config`."""
    return _object(schedule, "$")


def _object(schedule: Schedule, path: str) -> dict[str, Any]:
    listed = name_of(schedule._formula)
    if listed is None:
        raise ConfigError(
            f"{path}: {schedule.name} is not in the catalogue: a function, or a schedule of your own, is code and "
            "cannot be written as data. Build the schedule of those of multisched.schedules and arithmetic."
        )
    arguments = {name: _plain(value, f"{path}.{name}") for name, value in schedule._arguments.items()}
    return {"name": listed, **arguments}


def _plain(value: Any, path: str) -> Any:
    """An argument, as schedules hold it, in the types of JSON."""
    if isinstance(value, Schedule):
        return _object(value, path)
    if isinstance(value, Steps):
        return [[step, _plain(at, f"{path}[{i}][1]")] for i, (step, at) in enumerate(value)]
    if isinstance(value, Schedules | Boundaries):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    finite = np.isfinite(value.array).all() if isinstance(value, FrozenArray) else _is_finite(value)
    if not finite:
        raise ConfigError(f"{path}: {value!r} is not finite, and JSON has no such number.")
    return value.array.tolist() if isinstance(value, FrozenArray) else value


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


methods["to_config"] = to_config


# --- reading ---------------------------------------------------------------------------------------------------------
def from_config(document: Mapping[str, Any]) -> Schedule:
    """The schedule that a document describes: what `lr.to_config()` gave, perhaps by way of a file, or written by hand.

    Parameters
    ----------
    document:
        An object with the `name` of a schedule (`"cosine"`, `"warmup"`; for arithmetic `"add"`, `"subtract"`,
        `"multiply"`, `"divide"`, `"pow"`, `"negative"`, `"abs"`; for one that only a dialect has `"torch.OneCycleLR"`)
        and its arguments by name; those with defaults may be left out. Schedules within are such objects,
        `{step: value}` is a list of pairs `[step, value]`, arrays are nested lists. Schedules may be nested 100 deep.

    Raises `ConfigError`, which opens with the path in the document, for a name that is not in the catalogue, fields
    that are missing, unknown or of the wrong type, and arguments that define no schedule. A document cannot run code.

    >>> import json
    >>> lr = from_config({"name": "linear", "init": 1.0, "end": 0.0, "steps": 4})
    >>> lr
    linear(1.0, 0.0, 4)
    >>> from_config(json.loads(json.dumps(lr.to_config()))) == lr
    True
    >>> from_config({"name": "negative", "x": {"name": "linear", "init": 1.0, "end": "0", "steps": 4}})
    Traceback (most recent call last):
    multisched.errors.ConfigError: $.x.end: expected a number, got '0' of type str.
    """
    _not_too_deep(document)
    return _schedule(document, "$")


def _not_too_deep(document: Any) -> None:
    """Refuse what would overflow Python's stack: the readers, and `repr` in their messages, are recursive."""
    stack = [(document, "$", 0, 0)]
    while stack:
        value, path, objects, lists = stack.pop()
        if isinstance(value, Mapping):
            inside, objects = [(item, f"{path}.{name}") for name, item in value.items()], objects + 1
        elif isinstance(value, list | tuple):
            inside, lists = [(item, f"{path}[{i}]") for i, item in enumerate(value) if _is_container(item)], lists + 1
        else:
            continue
        if max(objects, lists) > DEEPEST:
            raise ConfigError(f"{path[:200]}: nested more than {DEEPEST} deep.")
        stack += [(item, at, objects, lists) for item, at in inside]


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _schedule(value: Any, path: str) -> Schedule:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected a schedule, an object with a name, got {shown(value)}.")
    if "name" not in value:
        raise ConfigError(f"{path}.name: missing; it says which schedule this is, such as 'linear'.")
    constructor = _constructor(value["name"], f"{path}.name")
    parameters = inspect.signature(constructor).parameters
    for field in value:
        if field != "name" and field not in parameters:
            raise ConfigError(f"{path}.{field}: {value['name']} has no such field; it has {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        if name not in value and parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"{path}.{name}: missing; {value['name']} needs it.")
    given = {n: _reader(p)(value[n], f"{path}.{n}") for n, p in parameters.items() if n in value}
    try:
        return constructor(**given)
    except MultischedError as cause:
        raise ConfigError(f"{path}: {cause}") from cause


def _constructor(name: Any, path: str) -> Constructor:
    try:
        return by_name(name)
    except (KeyError, TypeError):  # which is no name, or cannot be one
        near = get_close_matches(name, [*CATALOGUE, *DIALECTS], n=1) if isinstance(name, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{path}: no schedule is called {shown(name)}.{hint}")


def _reader(parameter: inspect.Parameter) -> Callable[[Any, str], Any]:
    """What reads a field: by the type that the formula gives its parameter, or by its name where that says nothing."""
    return _BY_NAME[parameter.name] if parameter.annotation is Any else _BY_TYPE[parameter.annotation]


def _number(value: Any, path: str) -> Any:
    if type(value) not in (int, float):
        raise ConfigError(f"{path}: expected a number, got {shown(value)}.")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ConfigError(f"{path}: expected a finite number, of at most 1.8e308.")
    return value


def _integer(value: Any, path: str) -> Any:
    if type(value) is not int:
        raise ConfigError(f"{path}: expected an integer, got {shown(value)}.")
    return _number(value, path)


def _list(value: Any, path: str) -> list[tuple[Any, str]]:
    """The items of a list, with their paths."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path}: expected a list, got {shown(value)}.")
    return [(item, f"{path}[{i}]") for i, item in enumerate(value)]


def _array(value: Any, path: str) -> Any:
    if isinstance(value, list | tuple):
        return [_array(*item) for item in _list(value, path)]
    return _number(value, path)


def _steps(value: Any, path: str) -> dict[int, Any]:
    """`{step: value}` from a list of pairs."""
    steps: dict[int, Any] = {}
    for pair, at in _list(value, path):
        if len(_list(pair, at)) != 2:
            raise ConfigError(f"{at}: expected a pair [step, value], got {shown(pair)}.")
        step = _integer(pair[0], f"{at}[0]")
        if step in steps:
            raise ConfigError(f"{at}[0]: step {step} is there twice.")
        steps[step] = _array(pair[1], f"{at}[1]")
    return steps


def _of(kind: type, what: str) -> Callable[[Any, str], Any]:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise ConfigError(f"{path}: expected {what}, got {shown(value)}.")
        return value

    return read


def _operand(value: Any, path: str) -> Any:
    return _schedule(value, path) if isinstance(value, Mapping) else _array(value, path)


def _or_none(read: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, path: None if value is None else read(value, path)


_BY_TYPE: dict[Any, Callable[[Any, str], Any]] = {
    bool: _of(bool, "true or false"),
    str: _of(str, "a string"),
    int: _number,  # lengths, which may be fractions
    float: _number,
    int | None: _or_none(_number),
    float | None: _or_none(_number),
    Schedule: _schedule,
}
_BY_NAME: dict[str, Callable[[Any, str], Any]] = {
    "schedule": _schedule,
    "schedules": lambda value, path: [_schedule(*item) for item in _list(value, path)],
    "boundaries": lambda value, path: [_integer(*item) for item in _list(value, path)],
    "steps_and_values": _steps,
    "steps_and_scales": _steps,
    "init": _array,
    **dict.fromkeys(("x", "x1", "x2"), _operand),
}
