"""What the callbacks of trainers share: an average of their model, and its place in the model in an evaluation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from multisched.averages.mean import Mean
from multisched.trees import Average
from multisched.trees.divided import refuse_divided

_DIVIDED = (
    "AverageCallback does not serve a model that is divided among processes, since the trainer saves what one of them "
    "has. Train without it, and attach ms.Average(model, rule) to the optimizer once the model is divided"
)


def average_for(model: Any, rule: Mean, options: dict[str, Any]) -> Average:
    """An average for a callback; raises `CheckpointError` for a model that is divided among processes."""
    average = Average(model, rule, **options)
    refuse_divided(average._contents.divided, _DIVIDED)
    return average


class Evaluation:
    """Whether an average is in its model now; the callbacks of trainers begin and end it."""

    def __init__(self) -> None:
        self._average: Average | None = None
        self._swap, self._during = ExitStack(), ExitStack()

    def begin(self, average: Average, during: AbstractContextManager[Any]) -> None:
        """Put an average into its model; `during` is entered as well, and left at the end."""
        self.end()
        self._swap.enter_context(average.swapped())
        self._average = average
        self._during.enter_context(during)

    def end(self) -> None:
        """Give the model its own weights back; without a beginning nothing happens."""
        self._average = None
        self._swap.close()
        self._during.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside of the block the model has its own weights, in the middle of an evaluation, too."""
        average = self._average
        self._swap.close()
        try:
            yield
        finally:
            if average is not None and self._average is average:
                self._swap.enter_context(average.swapped())
