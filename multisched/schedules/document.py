"""Reads documents of any tool into plain dicts and lists, and measures them before anything is built.

The readers of JSON, YAML, TOML and OmegaConf each have containers of their own. An anchor of YAML can be used many
times, so forty lines can stand for a billion rules, or for an endless document. This file reads each container once,
and counts it as often as it is used.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from multisched.errors import ConfigError
from multisched.schedules.catalogue import DEEPEST

MOST_SHARED = 100_000
"""A document may use its parts again, up to twice the number of its own values and so many more."""


class _Read(NamedTuple):
    """A container that was read."""

    original: Any  # kept alive, so that its id stays its own
    plain: Any
    objects: int  # how deep mappings are nested in it, itself included
    lists: int
    size: int  # how many values it stands for


class _Open(NamedTuple):
    """A container that is being read."""

    container: Any
    path: str
    objects: int  # how deep in mappings it lies, itself included
    lists: int
    items: list[tuple[Any, Any]] | None  # what is in it, once that was looked at


def plain(document: Any) -> Any:
    """`document` with dicts in place of mappings and lists in place of sequences; shared parts stay shared.

    Raises `ConfigError` for a document that is nested too deep, is endless, cannot be read, or stands for too much.
    """
    read: dict[int, _Read] = {}
    inside: set[int] = set()
    values = 0
    stack = [_opened(document, "$", 0, 0)] if _is_container(document) else []
    while stack:
        top = stack.pop()
        key = id(top.container)
        if top.items is None:
            known = read.get(key)
            deepest = max(top.objects, top.lists)
            if known is not None:
                is_list = isinstance(known.plain, list)
                deepest = max(top.objects + known.objects - (not is_list), top.lists + known.lists - is_list)
            if deepest > DEEPEST or key in inside:
                raise ConfigError(
                    f"{top.path[:200]}: nested more than {DEEPEST} deep. What is deeper is written as a list, "
                    '{"nodes": [...]}; see to_config.'
                )
            if known is None:
                inside.add(key)
                items = _items(top.container, top.path)
                values += 1 + len(items)
                stack.append(top._replace(items=items))
                stack += [
                    _opened(item, f"{top.path}{_step(top.container, name)}", top.objects, top.lists)
                    for name, item in reversed(items)
                    if _is_container(item)
                ]
            continue
        inside.discard(key)
        read[key] = _closed(top, read)
        if read[key].size > MOST_SHARED + 2 * values:
            raise ConfigError(f"{top.path[:200]}: its parts are used so often that it stands for {read[key].size:.3g}.")
    return read[id(document)].plain if _is_container(document) else document


def _is_container(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | range)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _opened(container: Any, path: str, objects: int, lists: int) -> _Open:
    mapping = _is_mapping(container)
    return _Open(container, path, objects + mapping, lists + (not mapping), None)


def _items(container: Any, path: str) -> list[tuple[Any, Any]]:
    """The keys or places of a container, and what is there."""
    try:
        if _is_mapping(container):
            return [(name, container[name]) for name in container]
        return list(enumerate(container.tolist() if isinstance(container, np.ndarray) else container))
    except Exception as cause:  # of a container of another library: a value that is missing, say
        raise ConfigError(f"{path}: this {type(container).__name__} cannot be read: {cause}") from cause


def _step(container: Any, name: Any) -> str:
    return f".{str(name)[:100]}" if _is_mapping(container) else f"[{name}]"


def _closed(top: _Open, read: dict[int, _Read]) -> _Read:
    """A container whose parts were read."""
    parts = [read.get(id(item)) if _is_container(item) else None for _, item in top.items or ()]
    values = [item if part is None else part.plain for (_, item), part in zip(top.items or (), parts, strict=True)]
    mapping = _is_mapping(top.container)
    deep = [part for part in parts if part is not None]
    return _Read(
        top.container,
        dict(zip([name for name, _ in top.items or ()], values, strict=True)) if mapping else values,
        mapping + max((part.objects for part in deep), default=0),
        (not mapping) + max((part.lists for part in deep), default=0),
        1 + sum(1 if part is None else part.size for part in parts),
    )
