"""Which leaves share one array of the average.

An update of a small array costs its overhead and not its bytes, so small leaves of one dtype on one device lie one
after another in a buffer, which is updated at once. Leaves of one shape lie side by side, and can be stacked at once.
"""

from collections.abc import Hashable, Sequence
from math import prod
from typing import NamedTuple

SMALL = 8 * 1024
"""The most elements that a packed leaf has."""
LARGEST = 32 * 1024 - 1
"""The most elements of a buffer. From 32 Ki on, torch uses all its threads, which takes long on a busy machine."""
LARGEST_EXCHANGED = 1024 * 1024
"""The same where arrays are exchanged, in one compiled call for all of them."""


class Group(NamedTuple):
    """What one array of the state holds: one leaf in its own shape, or several in a flat buffer."""

    runs: tuple[tuple[int, ...], ...]
    """Leaves by number, those of one shape together."""
    packed: bool

    @property
    def leaves(self) -> list[int]:
        """All leaves, in the order of the buffer."""
        return [leaf for run in self.runs for leaf in run]


def grouped(shapes: Sequence[tuple[int, ...]], keys: Sequence[Hashable | None], largest: int = LARGEST) -> list[Group]:
    """Groups of leaves: those small enough and of one key together; a key of None is never packed.

    The order of all elements does not depend on the size of the largest buffer.
    """
    small: dict[Hashable, dict[tuple[int, ...], list[int]]] = {}
    groups = []
    for i, (shape, key) in enumerate(zip(shapes, keys, strict=True)):
        if key is None or prod(shape) > SMALL:
            groups.append(Group(((i,),), False))
        else:
            small.setdefault(key, {}).setdefault(shape, []).append(i)
    for runs in small.values():
        groups += _packs(runs, largest)
    return groups


def _packs(runs: dict[tuple[int, ...], list[int]], largest: int) -> list[Group]:
    packs: list[list[tuple[int, ...]]] = [[]]
    room = largest
    for shape, leaves in runs.items():
        each = max(prod(shape), 1)
        at = 0
        while at < len(leaves):
            if room < each:
                packs.append([])
                room = largest
            taken = leaves[at : at + room // each]
            packs[-1].append(tuple(taken))
            room -= len(taken) * each
            at += len(taken)
    return [Group(tuple(pack), sum(map(len, pack)) > 1) for pack in packs if pack]
