"""Where the leaves of a model stand, so that leaves that a block has replaced can be put back."""

from collections.abc import Container
from functools import partial
from operator import setitem
from typing import Any

from multisched.errors import MultischedError
from multisched.runtime.protocol import Write
from multisched.trees.structure import Structure


class Places:
    """Some leaves of a tree, by name, each with the dict, the list or the module that it stands in."""

    def __init__(self, structure: Structure, tree: Any, names: Container[str]):
        self._structure, self._tree = structure, tree
        here = structure.of(tree)
        self._leaves = {name: leaf for name, leaf in zip(here.names, here.leaves(tree), strict=True) if name in names}
        self._containers = [(each, [self._leaves.get(name) for name in names]) for each, names in here.containers()]
        self._slots = [slot for name, *slot in here.slots(tree) if name is None or name in names]

    def restoring(self) -> list[Write]:
        """The writes that put leaves back where others stand now, if the place still exists."""
        writes: list[Write] = []
        for holder, key, node in self._slots:
            if (key in holder if isinstance(holder, dict) else key < len(holder)) and holder[key] is not node:
                writes.append(partial(setitem, holder, key, node))
        for container, leaves in self._containers:
            writes += container.restoring(leaves) if hasattr(container, "restoring") else []
        return writes

    def lost(self) -> list[str]:
        """The names of the leaves whose place holds something else now, or is gone."""
        try:
            now_here = Structure(self._tree)
            now = dict(zip(now_here.names, now_here.leaves(self._tree), strict=True))
        except MultischedError:
            now = {}
        return [name for name, leaf in self._leaves.items() if now.get(name) is not leaf]

    @property
    def are_kept(self) -> bool:
        """Whether all leaves still stand in their places; faster than `lost`."""
        here = self._structure.of(self._tree)
        try:
            now = dict(zip(here.names, here.leaves(self._tree), strict=True))
        except MultischedError:
            return False
        return all(now[name] is leaf for name, leaf in self._leaves.items())
