"""The groups of an optimizer as its drivers know them, and how values get into them."""

import importlib
import weakref
from collections.abc import Callable
from typing import Any

from multisched.integrations.driving.meaning import Own, Parts
from multisched.integrations.driving.settings import Group


class Clock:
    """How many steps there were, or whatever the schedules are measured in; of one optimizer, or of all."""

    def __init__(self, count: Any = 0):
        self.count = count


class Member:
    """A group of the optimizer, recognised again when it is loaded, moved, taken out or put back."""

    def __init__(self, group: Group):
        self.group: Any = group
        self.params: list[Any] = group["params"]
        self.index_of: dict[Any, int] = {}
        """By driver, its index over all groups when the driver was made; none for a group that was added later."""
        self.left: tuple[list[weakref.ref[Any]], dict[str, Any]] = ([], {})
        """Of a group that was taken out: its parameters, and the values it had."""
        self.own: dict[Any, dict[str, Own]] = {}
        """By driver and hyperparameter, the own values, read once."""
        self.decided: dict[Any, dict[str, Parts]] = {}
        """By driver and hyperparameter, what is decided while something else may be unclear."""
        self.parts: dict[Any, dict[str, Parts]] = {}
        """By driver and hyperparameter, what the group means, decided once."""
        self.tensors: dict[str, Any] = {}
        """The tensors in which the optimizer wants a value, which are this group's alone."""

    def of(self, driver: Any) -> tuple[int | None, dict[str, Own], dict[str, Parts], bool]:
        """What a driver knows of the group, for a copy of both; and whether that is all there is to know."""
        return self.index_of.get(driver), self.own.get(driver, {}), self.decided.get(driver, {}), driver in self.parts

    def forget(self, driver: Any) -> None:
        """Forget what a driver knew of the group."""
        self.index_of.pop(driver, None)
        self.own.pop(driver, None)
        self.decided.pop(driver, None)
        for name in self.parts.pop(driver, {}):
            self.tensors.pop(name, None)

    def may_return(self) -> bool:
        """Keep of a group that was taken out what it means, and neither it nor its parameters.

        False once the parameters are gone.
        """
        if self.group is not None:
            self._leave()
        return any(ref() is not None for ref in self.left[0])

    def _leave(self) -> None:
        values = {name: self.group.get(name) for parts in self.parts.values() for name in parts}
        self.left = [weakref.ref(parameter) for parameter in self.params], values
        self.group, self.params = None, []

    def is_again(self, group: Group) -> bool:
        """Whether this is the group in another dict, as some optimizers load it, or put back after it was taken out.

        A group put back has the very objects that were its values; a new group of the same parameters has not.
        """
        now = {id(parameter) for parameter in group["params"]}
        if self.group is not None:
            return any(id(parameter) in now for parameter in self.params)
        refs, values = self.left
        same = all(group.get(name) is value for name, value in values.items())
        return same and any(id(ref()) in now for ref in refs if ref() is not None)


class InTensors:
    """A value of a group that is held in a tensor, or a tuple of tensors and numbers."""

    def __init__(self, group: Group, name: str, place: int, tensors: Any):
        self.group, self.name, self.place, self.tensors = group, name, place, tensors
        self._written: Any = None
        self._marks: list[Any] = []

    def write(self, value: Any) -> None:
        """Write into the tensors, and put them into the group, where something else may stand."""
        tensors = self.tensors
        if isinstance(tensors, tuple):
            pairs = zip(value, tensors, strict=True)
            self._written = tuple(new if tensor is None else tensor.fill_(new) for new, tensor in pairs)
        else:
            self._written = tensors.fill_(value)
        self.group[self.name] = self._written
        self._marks = self._marked()

    def changed(self) -> bool:
        """Whether someone else has written since; on a GPU, to write again would cost a launch in every step."""
        return self.group[self.name] is not self._written or self._marked() != self._marks

    def _marked(self) -> list[Any]:
        tensors = self.tensors if isinstance(self.tensors, tuple) else (self.tensors,)
        return [t.item() if t.is_cpu else t._version for t in tensors if t is not None]


class Line:
    """One driver on one optimizer: the clock that it follows, and what it writes where."""

    def __init__(self, driver: Any, clock: Clock):
        self.driver, self.clock, self.counts = driver, clock, not driver.manual
        self.plan: list[tuple[Group, str, int]] = []
        """Where values go, and their places among the values of the program."""
        self.in_tensors: list[InTensors] = []
        self._program: Callable[[Any], list[Any]] = lambda clock: []
        self.late = False
        """Whether it joined in the middle of a step, which began without it."""
        self.values: list[Any] | None = None
        """The values of the clock; None while they are to be evaluated."""

    def build(self, members: list[Member]) -> None:
        """Plan what is written where, after groups have come or gone; what groups share is computed once."""
        self.plan, self.in_tensors, self.values = [], [], None
        places: dict[Parts, int] = {}
        for member in members:
            for name, parts in member.parts.get(self.driver, {}).items():
                place = places.setdefault(parts, len(places))
                tensors = member.tensors.get(name)
                if tensors is None:
                    self.plan.append((member.group, name, place))
                else:
                    self.in_tensors.append(InTensors(member.group, name, place, tensors))
        self._program = self.driver.sources.program(list(places))

    def overwritten(self) -> str | None:
        """A hyperparameter that someone else has set since it was written."""
        if self.values is None:
            return None
        for group, name, place in self.plan:
            if group[name] != self.values[place]:
                return name
        return next((held.name for held in self.in_tensors if held.changed()), None)

    def write(self) -> None:
        """Bring the groups to the values of the clock, whatever they hold."""
        values = self.values
        new = values is None
        if values is None:
            values = self.values = self._program(self.clock.count)
        for group, name, place in self.plan:
            group[name] = values[place]
        for held in self.in_tensors:
            if new or held.changed():
                held.write(values[held.place])


def becomes_tensor(member: Member, name: str) -> bool:
    """Whether the optimizer has become `capturable`, by a state that was loaded."""
    return name == "lr" and member.tensors[name] is None and bool(member.group.get("capturable"))


def tensors_for(group: Any, name: str) -> Any:
    """New tensors for a value that is held in tensors, or a tuple of tensors and None; None for numbers.

    The tensor in the group may be that of other groups and of the optimizer's defaults.
    """
    torch: Any = importlib.import_module("torch")
    value = group[name]
    with torch.inference_mode(False), torch.no_grad():
        if isinstance(value, tuple | list):
            parts = tuple(_clone(torch, part) if isinstance(part, torch.Tensor) else None for part in value)
            return parts if any(part is not None for part in parts) else None
        if isinstance(value, torch.Tensor):
            return _clone(torch, value)
        if name == "lr" and group.get("capturable") and group["params"]:
            return torch.tensor(float(value), dtype=torch.float32, device=group["params"][0].device)
    return None


def _clone(torch: Any, tensor: Any) -> Any:
    return tensor.detach().clone() if tensor.is_floating_point() else tensor.detach().to(torch.float32)
