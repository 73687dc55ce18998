"""Nested outputs: tensors in tuples, lists and dicts of any depth, taken apart and put together again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from multisched.errors import NotATensor, shown
from multisched.graph.tensor import Tensor

Outputs: TypeAlias = Tensor | Sequence[Any] | Mapping[Any, Any] | None
"""What `outputs=` takes: a tensor, or a tuple, list or dict of such, however deeply nested."""

Rebuild = Callable[[Sequence[Any]], Any]
Make = Callable[[list[Any]], Any]


def flatten(outputs: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors in `outputs`, and a function that puts as many values in their places."""
    if outputs is None:
        return [], lambda values: None
    if isinstance(outputs, Tensor):
        return [outputs], lambda values: values[0]
    tensors, steps = _steps(outputs)
    if len(steps) == len(tensors) + 1:  # a flat container
        make = steps[-1][0]
        assert make is not None
        return tensors, lambda values: make(list(values))
    return tensors, partial(_rebuilt, steps)


def _steps(outputs: Any) -> tuple[list[Tensor], list[tuple[Make | None, int]]]:
    """The tensors, and the steps that build the structure again.

    `(None, 0)` stands for the next value; `(make, n)` makes one part out of the last `n`.
    """
    tensors: list[Tensor] = []
    steps: list[tuple[Make | None, int]] = []
    open_parts: dict[int, Any] = {}
    stack: list[tuple[Any, str, bool]] = [(outputs, "outputs", False)]
    while stack:
        part, where, done = stack.pop()
        if done:
            del open_parts[id(part)]
            steps.append((_maker(part), len(part)))
        elif part is None:
            steps.append((_none, 0))
        elif isinstance(part, Tensor):
            tensors.append(part)
            steps.append((None, 0))
        elif isinstance(part, dict | tuple | list):
            if id(part) in open_parts:
                raise NotATensor(f"{_cut(where)} is a {type(part).__name__} that contains itself.")
            open_parts[id(part)] = part
            stack.append((part, where, True))
            items = part.items() if isinstance(part, dict) else enumerate(part)
            stack += [(value, f"{_cut(where)}[{key!r}]", False) for key, value in items][::-1]
        else:
            raise NotATensor(
                f"{_cut(where)} must be a declared tensor, or a tuple, list or dict of them, got {shown(part)}."
            )
    return tensors, steps


def _cut(where: str) -> str:
    """A path for a message: of a long one the middle is left out."""
    return where if len(where) < 100 else f"{where[:40]}...{where[-40:]}"


def _none(parts: list[Any]) -> None:
    return None


def _maker(container: Any) -> Make:
    if isinstance(container, dict):
        keys = list(container)
        return lambda parts: dict(zip(keys, parts, strict=True))
    kind = type(container)
    return (lambda parts: kind(*parts)) if hasattr(container, "_fields") else kind


def _rebuilt(steps: list[tuple[Make | None, int]], values: Sequence[Any]) -> Any:
    built: list[Any] = []
    rest = iter(values)
    for make, count in steps:
        if make is None:
            built.append(next(rest))
        else:
            first = len(built) - count
            parts = built[first:]
            del built[first:]
            built.append(make(parts))
    return built[0]
