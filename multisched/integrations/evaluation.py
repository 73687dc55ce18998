"""An average in its model while a trainer evaluates, and the model itself again for what happens in between."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any


class Evaluation:
    """Whether an average is in its model now; the callbacks of trainers begin and end it."""

    def __init__(self) -> None:
        self._average: Any = None
        self._swap, self._during = ExitStack(), ExitStack()

    def begin(self, average: Any, during: AbstractContextManager[Any]) -> None:
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
