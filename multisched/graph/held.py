"""Which declared tensors anybody still holds.

A variable refers to the update that is recorded for it, and the update refers to the variable. Python frees such a
cycle when its garbage collector comes by, at a moment that nobody chooses; but what is listed, and which updates a
function is built with, must not depend on that moment. So this looks for the cycles among the tensors of one graph, by
the rule of Python's collector: a tensor that is referred to more often than the other tensors account for is held from
outside, and so is all that it refers to.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multisched.graph.tensor import Tensor


def unheld(listing: Iterable["Tensor"], kept: Callable[["Tensor"], bool]) -> set[int]:
    """The `id` of each tensor of a weak listing to which no way leads from outside of it, or from those to be kept."""
    if not hasattr(sys, "getrefcount"):  # Python without reference counts
        gc.collect()
        return set()
    nodes: list[Any] = list(listing)
    tensors = set(map(id, nodes))
    _add_containers(nodes, tensors)
    indices = {id(node): i for i, node in enumerate(nodes)}
    inside = Counter(id(part) for node in nodes for part in gc.get_referents(node) if id(part) in indices)
    nodes.append(object())  # shows what the list itself and the call count for
    *counts, own = map(sys.getrefcount, nodes)
    reached: set[int] = set()
    stack = [node for node, count in zip(nodes, counts, strict=False) if count - own > inside[id(node)]]
    stack += [node for node in nodes if id(node) in tensors and kept(node)]
    while stack:
        node = stack.pop()
        if id(node) not in reached:
            reached.add(id(node))
            stack += [nodes[indices[id(part)]] for part in gc.get_referents(node) if id(part) in indices]
    return tensors - reached


def _add_containers(nodes: list[Any], tensors: set[int]) -> None:
    """Add the tuples and the like through which tensors refer to others."""
    known = set(tensors)
    for tensor in nodes[:]:
        for part in gc.get_referents(tensor):
            plain = type(part) in (tuple, list, dict) and id(part) not in known
            if plain and any(id(inner) in tensors for inner in gc.get_referents(part)):
                known.add(id(part))
                nodes.append(part)
