"""The groups of an optimizer as its drivers know them, and the tensors in which they hold values."""

import importlib
import weakref
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from multisched.integrations.drive.meanings import Meaning, Own
from multisched.integrations.drive.settings import Group

Tensors: TypeAlias = Any
"""The tensors of one value of a group: a tensor, a tuple of tensors and None, or None for plain numbers."""


@dataclass
class Reading:
    """What one driver has read of a group, and what it has decided that the group means."""

    index: int | None = None
    """The index of the group over all groups when the driver was made; None for a group that was added later."""
    own: dict[str, Own] = field(default_factory=dict)
    """The own values by hyperparameter, read once."""
    meanings: dict[str, Meaning] = field(default_factory=dict)
    """What the group is to have by hyperparameter, decided once; one may be decided while another is unclear."""
    settled: bool = False
    """Whether everything is decided; nothing is written before that."""


class KnownGroup:
    """A group of the optimizer, recognised again when it is loaded, moved, taken out or put back."""

    def __init__(self, group: Group):
        self.group: Any = group
        """The dict of the optimizer; None while the group is taken out."""
        self.params: list[Any] = group["params"]
        self.readings: dict[Any, Reading] = {}
        """By driver."""
        self.tensors: dict[str, Tensors] = {}
        """By hyperparameter, the tensors in which the optimizer wants the value; no other group has the same ones."""
        self._when_left: tuple[list[weakref.ref[Any]], dict[str, Any]] = ([], {})
        """Of a group that was taken out: its parameters, and the values it had."""

    def reading(self, driver: Any) -> Reading:
        """What this driver knows of the group, to be filled in by the caller."""
        return self.readings.setdefault(driver, Reading())

    def own(self, driver: Any) -> dict[str, Own]:
        """The own values by hyperparameter, as far as this driver has read them."""
        reading = self.readings.get(driver)
        return {} if reading is None else reading.own

    def settled(self, driver: Any) -> dict[str, Meaning]:
        """What the group is to have by hyperparameter; nothing while that is not decided."""
        reading = self.readings.get(driver)
        return reading.meanings if reading is not None and reading.settled else {}

    def driven(self) -> set[str]:
        """The hyperparameters that a driver writes."""
        return {name for driver in self.readings for name in self.settled(driver)}

    def forget(self, driver: Any) -> None:
        """Forget what a driver knew of the group."""
        for name in self.settled(driver):
            self.tensors.pop(name, None)
        self.readings.pop(driver, None)

    # --- recognised again --------------------------------------------------------------------------------------------
    def may_return(self) -> bool:
        """Whether a group that was taken out can come back, which it cannot once its parameters are gone.

        What it means is kept; the dict and the parameters are not.
        """
        if self.group is not None:
            values = {name: self.group.get(name) for name in self.driven()}
            self._when_left = [weakref.ref(parameter) for parameter in self.params], values
            self.group, self.params = None, []
        return any(ref() is not None for ref in self._when_left[0])

    def is_again(self, group: Group) -> bool:
        """Whether this is the group in another dict, as some optimizers load it, or put back after it was taken out.

        A group that is put back has the very objects that were its values; a new group of the same parameters has not.
        """
        now = {id(parameter) for parameter in group["params"]}
        if self.group is not None:
            return any(id(parameter) in now for parameter in self.params)
        refs, values = self._when_left
        same = all(group.get(name) is value for name, value in values.items())
        return same and any(id(ref()) in now for ref in refs if ref() is not None)

    # --- tensors -----------------------------------------------------------------------------------------------------
    def own_tensors(self) -> None:
        """Give the group tensors of its own for the driven values that are tensors."""
        for name in self.driven():
            if name not in self.tensors or self._becomes_tensor(name):
                self.tensors[name] = _tensors_for(self.group, name)

    def _becomes_tensor(self, name: str) -> bool:
        """Whether the optimizer has become `capturable` since, by a state that was loaded."""
        return name == "lr" and self.tensors[name] is None and bool(self.group.get("capturable"))


def _tensors_for(group: Group, name: str) -> Tensors:
    """New tensors for the value: the one in the group may also be that of other groups, or of the defaults."""
    torch: Any = importlib.import_module("torch")
    value = group[name]
    with torch.inference_mode(False), torch.no_grad():
        if isinstance(value, tuple | list):
            tensors = tuple(_clone(torch, each) if isinstance(each, torch.Tensor) else None for each in value)
            return tensors if any(each is not None for each in tensors) else None
        if isinstance(value, torch.Tensor):
            return _clone(torch, value)
        if name == "lr" and group.get("capturable") and group["params"]:
            return torch.tensor(float(value), dtype=torch.float32, device=group["params"][0].device)
    return None


def _clone(torch: Any, tensor: Any) -> Any:
    return tensor.detach().clone() if tensor.is_floating_point() else tensor.detach().to(torch.float32)
