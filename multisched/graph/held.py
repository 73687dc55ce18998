"""Finds the declared tensors that the user's program still refers to.

A variable refers to its recorded update, and the update refers to the variable. Python frees such a cycle whenever its
garbage collector happens to run. But which tensors a graph lists, and which updates a function is built with, must not
depend on that. So this file searches the tensors of one graph for cycles that nobody holds, as Python's collector does:
a tensor with more references than the other tensors account for is held from outside, and so is all it refers to.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def unheld(listing: Iterable[T], kept: Callable[[T], bool]) -> set[int]:
    """The `id` of each tensor of a weak listing that nothing outside of the listing refers to, nor one to be kept.

    That is meant through any number of other tensors.
    """
    if not hasattr(sys, "getrefcount"):  # Python without reference counts
        gc.collect()
        return set()
    nodes: list[Any] = list(listing)
    tensors = set(map(id, nodes))
    _add_containers(nodes, tensors)
    indices = {id(node): i for i, node in enumerate(nodes)}
    inside = Counter(id(part) for node in nodes for part in gc.get_referents(node) if id(part) in indices)
    nodes.append(object())  # its count shows how many references come from the list and the call
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
    """Add the tuples, lists and dicts through which tensors refer to other tensors."""
    known = set(tensors)
    for tensor in nodes[:]:
        for part in gc.get_referents(tensor):
            plain = type(part) in (tuple, list, dict) and id(part) not in known
            if plain and any(id(inner) in tensors for inner in gc.get_referents(part)):
                known.add(id(part))
                nodes.append(part)
