"""How the values of one driver get into the groups of one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

from multisched.integrations.drive.groups import KnownGroup, Tensors
from multisched.integrations.drive.meanings import Meaning
from multisched.integrations.drive.settings import Group


class Progress:
    """How far an optimizer is, or all of a driver: the clock at which schedules are evaluated."""

    def __init__(self, clock: int | float = 0):
        self.clock = clock


class TensorTarget:
    """A value of a group that is held in a tensor, or in a tuple of tensors and numbers."""

    group: Group
    name: str
    index: int
    tensors: Tensors

    def __init__(self, group: Group, name: str, index: int, tensors: Tensors):
        self.group, self.name, self.index, self.tensors = group, name, index, tensors
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
        self._marks = self._current_marks()

    def changed(self) -> bool:
        """Whether someone else has written since. If not, nothing is written: on a GPU it costs a launch."""
        return self.group[self.name] is not self._written or self._current_marks() != self._marks

    def _current_marks(self) -> list[Any]:
        """What changes when a tensor is written: its value on the host, its version on a device."""
        tensors = self.tensors if isinstance(self.tensors, tuple) else (self.tensors,)
        return [t.item() if t.is_cpu else t._version for t in tensors if t is not None]


class Writer:
    """Writes the values of one driver into the groups of one optimizer."""

    driver: Any
    """The driver, which is defined in a file that imports this one."""
    progress: Progress
    counts: bool
    """Whether it counts the steps of the optimizer."""

    def __init__(self, driver: Any, progress: Progress):
        self.driver, self.progress, self.counts = driver, progress, not driver.manual
        self.joined_mid_step = False
        """Whether it came in the middle of a step, which then is not counted."""
        self._numbers: list[tuple[Group, str, int]] = []
        """Where plain numbers go: the group, the hyperparameter, and which of the values it gets."""
        self._tensors: list[TensorTarget] = []
        self._program: Callable[[Any], list[Any]] = lambda clock: []
        self._values: list[Any] | None = None
        """The values at the clock; None if they are to be evaluated."""

    def plan(self, groups: Iterable[KnownGroup]) -> None:
        """Decide what is written where, after groups have come or gone; what groups share is computed once."""
        self._numbers, self._tensors, self._values = [], [], None
        indices: dict[Meaning, int] = {}
        for known in groups:
            for name, meaning in known.settled(self.driver).items():
                index = indices.setdefault(meaning, len(indices))
                tensors = known.tensors.get(name)
                if tensors is None:
                    self._numbers.append((known.group, name, index))
                else:
                    self._tensors.append(TensorTarget(known.group, name, index, tensors))
        self._program = self.driver.sources.program(list(indices))

    def write(self) -> None:
        """Bring the groups to the values at the clock, whatever they hold now."""
        values = self._values
        new = values is None
        if values is None:
            values = self._values = self._program(self.progress.clock)
        for group, name, index in self._numbers:
            group[name] = values[index]
        for target in self._tensors:
            if new or target.changed():
                target.write(values[target.index])

    def count(self) -> None:
        """Count a step, and write the values of the next."""
        self._values = None  # first: whatever comes between, values are never those of another count
        self.progress.clock += 1
        self.write()

    def forget_values(self) -> None:
        """Evaluate the schedules again at the next write."""
        self._values = None

    def overwritten(self) -> str | None:
        """A hyperparameter that someone else has set since it was written."""
        if self._values is None:
            return None
        for group, name, index in self._numbers:
            if group[name] != self._values[index]:
                return name
        return next((target.name for target in self._tensors if target.changed()), None)
