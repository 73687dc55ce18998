"""The schedules of other libraries by name, `torch:OneCycleLR`, for expressions.

A dialect is imported when the first of its names is looked up. Only these modules can be: no name leads elsewhere.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from multisched import schedules
from multisched.schedules.catalogue import Constructor

DIALECTS = ("keras", "optax", "timm", "torch", "transformers")


class DialectNames(Mapping[str, Constructor]):
    """`{"torch:OneCycleLR": constructor, ...}`: the functions that a dialect has in `__all__`."""

    def __getitem__(self, name: str) -> Constructor:
        dialect, _, function = name.partition(":")
        if dialect not in DIALECTS:
            raise KeyError(name)
        try:
            return _functions(dialect)[function]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (f"{dialect}:{function}" for dialect in DIALECTS for function in _functions(dialect))

    def __len__(self) -> int:
        return sum(len(_functions(dialect)) for dialect in DIALECTS)


def _functions(dialect: str) -> dict[str, Constructor]:
    module = importlib.import_module(f"multisched.dialects.{dialect}")
    public = {name: getattr(module, name) for name in module.__all__}
    return {name: f for name, f in public.items() if inspect.isfunction(f) and f.__module__.startswith(_PACKAGE)}


_PACKAGE = "multisched.dialects."
dialect_names = DialectNames()


def parse(text: str) -> Any:
    """`ms.parse` of expressions that may name the schedules of other libraries, with the name of the library before.

    Raises `ParseError`.

    >>> parse("0.5 * torch:StepLR(0.1, step_size=30, gamma=0.5)")(30)
    0.025
    """
    return schedules.parse(text, names=dialect_names)
