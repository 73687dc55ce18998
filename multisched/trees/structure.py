"""The leaves of a model, by name: of nested containers, of modules, of what a framework has registered as a tree.

optree takes apart the containers of Python and classes that are registered with it. What it takes for a leaf may be a
container of a framework, such as a `torch.nn.Module` or an Equinox module, which the backend takes apart.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from multisched.errors import DuplicatePath, TreeMismatch, listed
from multisched.runtime.protocol import Container
from multisched.runtime.registry import available_backends, get_backend

WHOLE = "value"
"""The name of the one leaf of a tree that is an array."""


class Structure:
    """How a tree is made of its leaves, whose `names` are paths: `encoder.layers.0.weight`."""

    names: tuple[str, ...]

    def __init__(self, tree: Any):
        accessors, outer, self._spec = _optree().tree_flatten_with_accessor(tree)
        self._accessors = accessors
        self._containers = [_container(node) for node in outer]
        self._plain = not any(container is not None for container in self._containers)
        paths = [".".join(map(_entry_name, accessor)) for accessor in accessors]
        self.names = tuple(_names(paths, self._containers))
        if len(set(self.names)) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise DuplicatePath(f"Two leaves of the tree have the name {twice[0]!r}; names tell them apart.")
        self._index = {name: i for i, name in enumerate(self.names)}
        self._other: Structure | None = None

    @property
    def is_container(self) -> bool:
        """Whether the whole tree is one container of a framework."""
        return len(self._containers) == 1 and self._containers[0] is not None

    def of(self, tree: Any) -> "Structure":
        """The structure of a tree of these leaves, which may be built otherwise; raises `TreeMismatch` for another."""
        if self._read(tree) is not None:
            return self
        self._by_name(tree)
        assert self._other is not None
        return self._other

    def containers(self) -> Iterator[tuple[Container, list[str]]]:
        """The containers of frameworks, with the names of their leaves."""
        rest = iter(self.names)
        for container in self._containers:
            if container is None:
                next(rest)
            else:
                yield container, [next(rest) for _ in container.names]

    def slots(self, tree: Any) -> Iterator[tuple[str | None, Any, Any, Any]]:
        """What stands in dicts and lists of a tree: (name, dict or list, key, node); no name for a whole container."""
        rest = iter(self.names)
        for accessor, container, node in zip(
            self._accessors, self._containers, self._spec.flatten_up_to(tree), strict=True
        ):
            name = next(rest) if container is None else None
            if container is not None:
                for _ in container.names:
                    next(rest)
            holder = accessor[:-1](tree) if len(accessor) else None
            if isinstance(holder, dict | list):
                yield name, holder, accessor[-1].entry, node

    def leaves(self, tree: Any) -> list[Any]:
        """The leaves of a tree like this one, in the order of `names`; raises `TreeMismatch` for another."""
        found = self._read(tree)
        return self._by_name(tree) if found is None else found

    def _read(self, tree: Any) -> list[Any] | None:
        try:
            outer: list[Any] = self._spec.flatten_up_to(tree)
        except (ValueError, TypeError):
            return None
        if self._plain:
            return outer
        leaves: list[Any] = []
        for node, container in zip(outer, self._containers, strict=True):
            if container is None:
                leaves.append(node)
                continue
            inner = container.read(node)
            if inner is None:
                return None
            leaves += inner
        return leaves

    def _by_name(self, tree: Any) -> list[Any]:
        """The leaves of what is built otherwise and has the same names: the compiled model, its state dict."""
        found = None if self._other is None else self._other._read(tree)
        if found is None:
            other = Structure(tree)
            missing = [name for name in self.names if name not in other._index]
            extra = [name for name in other.names if name not in self._index]
            if missing or extra:
                told = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(extra)} besides"] * bool(extra)
                raise TreeMismatch(f"The tree is not that of the average: it {' and '.join(told)}.")
            found, self._other = other._read(tree), other
        assert found is not None
        assert self._other is not None
        index = self._other._index
        return [found[index[name]] for name in self.names]

    def rebuild(self, leaves: Sequence[Any]) -> Any:
        """The tree of these leaves. A module is given back as a dict of its names."""
        rest = iter(leaves)
        outer = [next(rest) if p is None else p.rebuild([next(rest) for _ in p.names]) for p in self._containers]
        return _optree().tree_unflatten(self._spec, outer)


def _optree() -> Any:
    import optree  # slow to import, and needed only once a tree is

    return optree


def _entry_name(entry: Any) -> str:
    name = getattr(entry, "field", None)
    return str(entry.entry if name is None else name)


def _container(node: Any) -> Container | None:
    for backend in loaded_backends():
        found: Container | None = backend.container(node)
        if found is not None:
            return found
    return None


def loaded_backends() -> Iterator[Any]:
    """The backends whose frameworks are in use, NumPy last."""
    for name in sorted(available_backends(), key="numpy".__eq__):
        if name in sys.modules:
            yield get_backend(name)


def _names(paths: list[str], containers: list[Container | None]) -> Iterator[str]:
    for path, container in zip(paths, containers, strict=True):
        if container is None:
            yield path or WHOLE
        else:
            yield from (".".join(filter(None, (path, name))) or WHOLE for name in container.names)
