"""Where the leaves of a model stand, so that those which a block exchanges can be put back."""

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
        self._parts = [(part, [self._leaves.get(name) for name in of_part]) for part, of_part in here.containers()]
        self._slots = [slot for name, *slot in here.slots(tree) if name is None or name in names]

    def restoring(self) -> list[Write]:
        """What puts leaves back where others stand now, as far as there is such a place."""
        writes: list[Write] = []
        for holder, key, node in self._slots:
            if (key in holder if isinstance(holder, dict) else key < len(holder)) and holder[key] is not node:
                writes.append(partial(setitem, holder, key, node))
        for part, leaves in self._parts:
            writes += part.restoring(leaves) if hasattr(part, "restoring") else []
        return writes

    def lost(self) -> list[str]:
        """The names of leaves in whose place there is something else now, or nothing."""
        try:
            now_here = Structure(self._tree)
            now = dict(zip(now_here.names, now_here.leaves(self._tree), strict=True))
        except MultischedError:
            now = {}
        return [name for name, leaf in self._leaves.items() if now.get(name) is not leaf]

    @property
    def are_kept(self) -> bool:
        """Whether all leaves stand where they stood; quicker than `lost`."""
        here = self._structure.of(self._tree)
        try:
            now = dict(zip(here.names, here.leaves(self._tree), strict=True))
        except MultischedError:
            return False
        return all(now[name] is leaf for name, leaf in self._leaves.items())
