"""A schedule as a Keras learning rate, on the JAX, torch and TensorFlow backends of Keras 3."""

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from multisched.arrays import BITS
from multisched.dialects._colon import parse
from multisched.errors import ConfigError, NotARule, ParseError, shown
from multisched.schedules import Schedule
from multisched.schedules.nested import value_of

_NAME = "MultischedSchedule"


def as_keras(schedule: Schedule) -> Any:
    """`schedule` as a `keras.optimizers.schedules.LearningRateSchedule`.

        learning rate of update k = schedule(k), k = optimizer.iterations, from 0

    Computed by the framework that Keras runs on, inside its compiled step, in float32.

        optimizer = keras.optimizers.SGD(learning_rate=as_keras(ms.cosine(0.1, 1000)))

    Keras saves it with the optimizer, and loads it where its class is known: once `as_keras` was called, and from the
    import of this module on if Keras was imported before. In a program that does neither, name the class:

        from multisched.integrations.keras import MultischedSchedule
        keras.models.load_model("model.keras")

    Parameters
    ----------
    schedule:
        A schedule of numbers. The wrapper keeps it as `.schedule`, and its `get_config()` names the expression that
        builds it. One of a function (`ms.from_function`, `@ms.schedule`) is saved, but cannot be built again.

    Raises
    ------
    NotARule:
        What is given is no schedule, or one of arrays.
    ConfigError:
        At `from_config`, and so when a model is loaded: the text is of no schedule that can be built from data.
    """
    schedule = _checked(schedule)  # before Keras is imported
    return _wrapper()(schedule)


def __getattr__(name: str) -> Any:
    """The class of what `as_keras` gives; it is made when it is first asked for, since Keras is imported for it."""
    if name == _NAME:
        return _wrapper()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _checked(schedule: Any) -> Schedule:
    if not isinstance(schedule, Schedule) or schedule.shape != ():
        raise NotARule(f"as_keras takes a schedule of numbers, got {shown(schedule)}.")
    return schedule


@cache
def _wrapper() -> Any:
    keras: Any = importlib.import_module("keras")
    base: Any = keras.optimizers.schedules.LearningRateSchedule

    class MultischedSchedule(base):  # type: ignore[misc]
        """A schedule of multisched; made by `multisched.integrations.keras.as_keras`."""

        def __init__(self, schedule: Schedule):
            self.schedule = _checked(schedule)

        def __call__(self, step: Any) -> Any:
            step = keras.ops.convert_to_tensor(step)
            if keras.backend.backend() == "tensorflow":
                tf: Any = importlib.import_module("tensorflow")
                value: Any = tf.autograph.experimental.do_not_convert(value_of)  # it has no Python branches on tensors
                return value(self.schedule, _KerasNamespace(keras.ops), step)
            return self.schedule(step)

        def get_config(self) -> dict[str, str]:
            """The expression that builds the schedule."""
            return {"schedule": repr(self.schedule)}

        @classmethod
        def from_config(cls, config: Mapping[str, Any]) -> Any:
            """The schedule of a config that `get_config` gave. Raises `ConfigError` where it cannot be built."""
            if (
                not isinstance(config, Mapping)
                or set(config) != {"schedule"}
                or not isinstance(config["schedule"], str)
            ):
                raise ConfigError(
                    f'The config of a schedule of multisched is {{"schedule": an expression}}, got {shown(config)}.'
                )
            try:
                return cls(parse(config["schedule"]))
            except (ParseError, NotARule) as cause:
                raise ConfigError(
                    f"The schedule in this config cannot be built from its text. {cause}\n"
                    "A model is loaded without its optimizer, and compiled again, by\n"
                    "    model = keras.models.load_model(path, compile=False)\n"
                    "    model.compile(keras.optimizers.SGD(as_keras(schedule)), loss)"
                ) from cause

        def __eq__(self, other: object) -> bool:
            return self.schedule == other.schedule if isinstance(other, MultischedSchedule) else NotImplemented

        def __hash__(self) -> int:
            return hash(self.schedule)

        def __repr__(self) -> str:
            return f"as_keras({self.schedule!r})"

    MultischedSchedule.__qualname__ = _NAME  # pickle looks it up in this module
    known: Any = keras.saving.register_keras_serializable(package="multisched")(MultischedSchedule)
    keras.saving.get_custom_objects()[_NAME] = known  # models that 0.1 saved name it so
    return known


class _KerasNamespace:
    """What formulas ask of an array API namespace, by `keras.ops`: tensors of TensorFlow are of no such namespace."""

    def __init__(self, ops: Any):
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        if name in BITS:
            return self._ops.zeros((), dtype=name).dtype
        return getattr(self._ops, "cast" if name == "astype" else name)

    def clip(self, x: Any, low: Any = None, high: Any = None) -> Any:
        x = x if low is None else self._ops.maximum(x, self._ops.cast(low, x.dtype))
        return x if high is None else self._ops.minimum(x, self._ops.cast(high, x.dtype))

    def asarray(self, value: Any, dtype: Any = None, **_: Any) -> Any:
        return self._ops.convert_to_tensor(value, dtype=dtype)


if "keras" in sys.modules:
    _wrapper()
