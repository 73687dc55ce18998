"""`attach(average, optimizer)`: the method `Average.attach` as a function, as version 0.1 had it."""

from typing import Any

from multisched.trees import Average
from multisched.trees.attach import Attachment

__all__ = ["Attachment"]


def attach(average: Average, optimizer: Any) -> Attachment:
    """Update an average after every step that a torch optimizer takes; see `Average.attach`."""
    return average.attach(optimizer)
