"""A schedule as a Keras learning rate, on the JAX and torch backends of Keras 3."""

import importlib
from functools import cache
from typing import Any

from multisched.errors import NotARule, shown
from multisched.schedules import Schedule


def as_keras(schedule: Schedule) -> Any:
    """`schedule` as a `keras.optimizers.schedules.LearningRateSchedule`.

        learning rate of update k = schedule(k), k = optimizer.iterations, from 0

    Computed by the framework that Keras runs on, inside its compiled step, in float32. That is JAX or torch: tensors of
    TensorFlow are of no array API namespace.

        optimizer = keras.optimizers.SGD(learning_rate=as_keras(ms.cosine(0.1, 1000)))

    Parameters
    ----------
    schedule:
        A schedule of numbers. The wrapper keeps it as `.schedule`, and its `get_config()` names the expression that
        builds it.

    Raises
    ------
    NotARule:
        What is given is no schedule, or one of arrays.
    """
    if not isinstance(schedule, Schedule) or schedule.shape != ():
        raise NotARule(f"as_keras takes a schedule of numbers, got {shown(schedule)}.")
    return _wrapper()(schedule)


@cache
def _wrapper() -> Any:
    keras: Any = importlib.import_module("keras")
    base: Any = keras.optimizers.schedules.LearningRateSchedule

    class MultischedSchedule(base):  # type: ignore[misc]
        """A schedule of multisched; made by `multisched.integrations.keras.as_keras`."""

        def __init__(self, schedule: Schedule):
            self.schedule = schedule

        def __call__(self, step: Any) -> Any:
            return self.schedule(keras.ops.convert_to_tensor(step))

        def get_config(self) -> dict[str, str]:
            """The expression that builds the schedule."""
            return {"schedule": repr(self.schedule)}

        def __repr__(self) -> str:
            return f"as_keras({self.schedule!r})"

    return MultischedSchedule
