"""A schedule as a Keras learning rate, on the JAX, torch and TensorFlow backends of Keras 3."""

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from multisched.arrays import BITS
from multisched.errors import ConfigError, NotARule, ParseError, shown
from multisched.schedules import Schedule, parse
from multisched.schedules.nested import value_of

_NAME = "MultischedSchedule"


def as_keras(schedule: Schedule) -> Any:
    """`schedule` as a `keras.optimizers.schedules.LearningRateSchedule`.

        learning rate of update k = schedule(k), k = optimizer.iterations, from 0

    The framework that Keras runs on computes it, inside the compiled step, in float32.

        optimizer = keras.optimizers.SGD(learning_rate=as_keras(ms.cosine(0.1, 1000)))

    Keras saves it with the optimizer, and loads it once it knows the class. `as_keras` registers the class. A program
    that only loads a model imports it, which registers it, too:

        from multisched.integrations.keras import MultischedSchedule
        keras.models.load_model("model.keras")

    Parameters
    ----------
    schedule:
        A schedule of numbers. The result keeps it as `.schedule`, and its `get_config()` has the expression that builds
        it. A schedule of a function (`ms.from_function`, `@ms.schedule`) is saved, but cannot be built again.

    Raises
    ------
    NotARule:
        `schedule` is not a schedule, or it is a schedule of arrays.
    ConfigError:
        By `from_config`, and so when a model is loaded: the expression builds no schedule.
    """
    schedule = _checked(schedule)  # before Keras is imported
    return _registered_class()(schedule)


def __getattr__(name: str) -> Any:
    """`MultischedSchedule`, the class of what `as_keras` returns, made and registered when it is first asked for."""
    if name == _NAME:
        return _registered_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _checked(schedule: Any) -> Schedule:
    if not isinstance(schedule, Schedule) or schedule.shape != ():
        raise NotARule(f"as_keras takes a schedule of numbers, got {shown(schedule)}.")
    return schedule


@cache
def _registered_class() -> Any:
    """`MultischedSchedule`, which Keras can load from now on. It derives from a class of Keras, which is imported."""
    keras: Any = importlib.import_module("keras")
    base: Any = keras.optimizers.schedules.LearningRateSchedule

    class MultischedSchedule(base):  # type: ignore[misc]  # the base is imported late
        """A schedule of multisched; made by `multisched.integrations.keras.as_keras`."""

        def __init__(self, schedule: Schedule):
            self.schedule = _checked(schedule)

        def __call__(self, step: Any) -> Any:
            step = keras.ops.convert_to_tensor(step)
            if keras.backend.backend() == "tensorflow":
                tf: Any = importlib.import_module("tensorflow")
                # Autograph has nothing to convert: no branch in Python depends on a tensor.
                value: Any = tf.autograph.experimental.do_not_convert(value_of)
                return value(self.schedule, _KerasNamespace(keras.ops), step)
            return self.schedule(step)

        def get_config(self) -> dict[str, str]:
            """The expression that builds the schedule."""
            return {"schedule": repr(self.schedule)}

        @classmethod
        def from_config(cls, config: Mapping[str, Any]) -> Any:
            """The schedule of a config from `get_config`. Raises `ConfigError` if it cannot be built."""
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
                    "Load the model without its optimizer, and compile it again:\n"
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
    """An array API namespace made of `keras.ops`, as far as formulas need one: TensorFlow has none for its tensors."""

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
