"""Expressions of version 0.1, in which a colon stands after the name of a dialect: `torch:OneCycleLR(...)`."""

from collections.abc import Iterator, Mapping
from typing import Any

from multisched import schedules
from multisched.schedules.catalogue import DIALECTS as _CONSTRUCTORS
from multisched.schedules.catalogue import Constructor


class DialectNames(Mapping[str, Constructor]):
    """`{"torch:OneCycleLR": constructor, ...}`, of what the catalogue calls `torch.OneCycleLR`."""

    def __getitem__(self, name: str) -> Constructor:
        dialect, colon, function = name.partition(":")
        if not colon:
            raise KeyError(name)
        return _CONSTRUCTORS[f"{dialect}.{function}"]

    def __iter__(self) -> Iterator[str]:
        return (name.replace(".", ":", 1) for name in _CONSTRUCTORS)

    def __len__(self) -> int:
        return len(_CONSTRUCTORS)


dialect_names = DialectNames()


def parse(text: str) -> Any:
    """`ms.parse`, which here also takes a colon after the name of a dialect, as version 0.1 had it.

    Raises `ParseError`.

    >>> parse("0.5 * torch:StepLR(0.1, step_size=30, gamma=0.5)")(30)
    0.025
    """
    return schedules.parse(text, names=dialect_names)
