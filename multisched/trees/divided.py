"""Models that are divided among processes: what one process alone cannot do is refused, with the way that works."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from multisched.errors import CheckpointError, CheckpointMismatch, LeafError
from multisched.runtime.protocol import Backend, Part


class DividedLeaf(NamedTuple):
    """A leaf of which this process holds a part."""

    name: str
    part: Part


def first_divided(backend: Backend, leaves: Iterable[tuple[str, Any]]) -> DividedLeaf | None:
    """The first of some arrays, given by name, that is a part; None if all are whole.

    Raises `LeafError` for one that is empty here until it is gathered.
    """
    part_of: Any = getattr(backend, "part_of", _whole)  # an adapter may have no such arrays
    found: DividedLeaf | None = None
    for name, array in leaves:
        part = part_of(array)
        if part is not None and not part.held:
            raise LeafError(
                f"The leaf {name!r} is {part.kind}, and has no elements here until it is gathered. {part.way}"
            )
        if part is not None and found is None:
            found = DividedLeaf(name, part)
    return found


def _whole(_: Any) -> None:
    return None


def refuse_divided(found: DividedLeaf | None, what: str) -> None:
    """Refuse what only a whole model allows, on every process alike: each one looks at what it holds itself."""
    if found is not None:
        name, part = found
        raise CheckpointError(f"{what}: the leaf {name!r} is {part.kind}. {part.way}")


def check_owner(found: DividedLeaf | None, given: object, where: str) -> None:
    """Refuse the state of another process, where the arrays themselves do not tell whose parts they are."""
    here = None if found is None or not found.part.owner else found.part.owner
    if given != here:
        whose = [repr(owner) if owner else "no part of a model" for owner in (given, here)]
        raise CheckpointMismatch(f"{where}it is the state of {whose[0]}, and this is {whose[1]}.")
