"""What writes averages and models, prepared by the backend for `commit`, which makes all of it one step.

An adapter may say how in methods of its own: `blend_writes`, `blend_by_writes`, `writer` and `committing`; see
`Extras`. For an adapter that does not, what can be computed beforehand is.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import setitem
from typing import Any

from multisched.runtime.commit import commit, prepared_by
from multisched.runtime.protocol import Backend, Write


def blending(backend: Backend, old: list[Any], new: Any, share: Any, where: Any = None) -> list[Write]:
    """What does `Backend.blend`; after it, `old` has the arrays."""
    return _prepared(backend, "blend", old, (old, new, share, where))


def blending_by(backend: Backend, step: Any, old: list[Any], new: Any, *scalars: Any) -> list[Write]:
    """What does `Backend.blend_by`; after it, `old` has the arrays."""
    return _prepared(backend, "blend_by", old, (step, old, new, *scalars))


def _prepared(backend: Backend, method: str, old: list[Any], arguments: Sequence[Any]) -> list[Write]:
    prepare = prepared_by(backend, f"{method}_writes", method)
    if prepare is not None:
        writes: list[Write] = prepare(*arguments)
        return writes
    blend = getattr(backend, method)
    if backend.in_place:
        return [partial(blend, *arguments)]
    return [partial(setitem, old, slice(None), blend(*arguments))]


def overwriting(backend: Backend, target: Any, value: Any) -> Write:
    """What does `Backend.write`; a `TypeError` or a `ValueError` if it is known already that it cannot."""
    prepare = prepared_by(backend, "writer", "write")
    if prepare is None:
        return partial(backend.write, target, value)
    write: Write = prepare(target, value)
    return write


def perform(backend: Backend, writes: Iterable[Write], targets: Iterable[Any] = ()) -> None:
    """Do all of it: no interrupt comes in between. `targets` are arrays of the user's that are written."""
    committing: Callable[..., AbstractContextManager[Any]] = getattr(backend, "committing", nullcontext)
    with committing(targets):
        commit(list(writes))
