"""Nested outputs: tensors in tuples, lists and dicts, taken apart and put together again."""

from collections.abc import Callable, Sequence
from typing import Any

from multisched.errors import NotATensor, shown
from multisched.graph.tensor import Tensor

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(outputs: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors in `outputs`, and the function that puts as many values in their places."""
    if outputs is None:
        return [], lambda values: None
    if isinstance(outputs, Tensor):
        return [outputs], lambda values: values[0]
    tensors: list[Tensor] = []
    template = _take(outputs, tensors, "outputs")
    return tensors, lambda values: _put(template, values)


class _Index(int):
    """Where in the flat list a value stands."""


def _take(part: Any, tensors: list[Tensor], where: str) -> Any:
    if part is None:
        return None
    if isinstance(part, Tensor):
        tensors.append(part)
        return _Index(len(tensors) - 1)
    if isinstance(part, dict):
        return {key: _take(value, tensors, f"{where}[{key!r}]") for key, value in part.items()}
    if isinstance(part, tuple | list):
        parts = [_take(value, tensors, f"{where}[{i}]") for i, value in enumerate(part)]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    raise NotATensor(f"{where} must be a declared tensor, or a tuple, list or dict of them, got {shown(part)}.")


def _put(part: Any, values: Sequence[Any]) -> Any:
    if isinstance(part, _Index):
        return values[part]
    if isinstance(part, dict):
        return {key: _put(value, values) for key, value in part.items()}
    if isinstance(part, tuple | list):
        parts = [_put(value, values) for value in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    return part
