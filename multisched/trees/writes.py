"""The writes of averages and models, prepared by the backend, so that `commit` can make all of them as one step.

An adapter may prepare them in methods of its own: `blend_writes`, `blend_by_writes`, `writer` and `committing`; see
`Extras`. For an adapter without them, as much as possible is computed beforehand.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import setitem
from typing import Any

from multisched.runtime.commit import commit, prepared_by
from multisched.runtime.protocol import Backend, Write


def blending(backend: Backend, old: list[Any], new: Any, share: Any, where: Any = None) -> list[Write]:
    """The writes that do what `Backend.blend` does; after them, `old` has the new arrays."""
    return _prepared(backend, "blend", old, (old, new, share, where))


def blending_by(backend: Backend, step: Any, old: list[Any], new: Any, *scalars: Any) -> list[Write]:
    """The writes that do what `Backend.blend_by` does; after them, `old` has the new arrays."""
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
    """The write that does what `Backend.write` does; `TypeError` or `ValueError` if it is known that it cannot."""
    prepare = prepared_by(backend, "writer", "write")
    if prepare is None:
        return partial(backend.write, target, value)
    write: Write = prepare(target, value)
    return write


def perform(backend: Backend, writes: Iterable[Write], targets: Iterable[Any] = ()) -> None:
    """Make all writes, with no interrupt in between. `targets` are the arrays of the user that are written."""
    committing: Callable[..., AbstractContextManager[Any]] = getattr(backend, "committing", nullcontext)
    with committing(targets):
        commit(list(writes))
