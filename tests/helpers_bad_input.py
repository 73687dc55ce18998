"""Bad input, one row for each: what is done, what is raised, and what the message says of it.

`RULES` concerns rules and backends by name; `helpers_bad_declared` what is declared. All is done in a `World`, which
holds what a bad call might disturb.
"""

import math
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from helpers import to_numpy

import multisched as ms
from multisched import errors


class Row(NamedTuple):
    """`act(world)` raises `error`, also caught as `builtin`, whose message has all of the words.

    In these, $here and $other stand for the names of the two backends.
    """

    act: Callable[[Any], object]
    error: type[errors.MultischedError]
    builtin: type[Exception]
    words: tuple[str, ...]


class World:
    """Variables with recorded updates, a function, a file, and another backend."""

    def __init__(self, backend, folder):
        self.backend, self.folder, self.path = backend, folder, folder / "state.safetensors"
        self.other = "numpy" if backend == "array_api_strict" else "array_api_strict"
        self.x = ms.Placeholder((2,), name="x")
        self.w, self.n = ms.Variable([1.0, 2.0], name="w"), ms.Variable(3, name="n")
        self.lr = ms.PiecewiseConstant(0.5, {1: 2})
        self.average, self.fixed = ms.ExponentialMovingAverage(self.x, 0.5)
        updates = {**ms.get_updates(), self.w: self.w * self.lr, self.n: self.n + 1}
        self.f = ms.function(self.x, outputs=self.average, updates=updates, jit=False)
        self.f([1, 2])
        ms.save_variables(self.path)
        self.f([3, 4])

    def elsewhere(self, shape=(2,)):
        """A placeholder of another backend."""
        return ms.Placeholder(shape, name="elsewhere", backend=self.other)

    def snapshot(self):
        """All that a bad call must leave alone: values, recorded updates, what is listed, the backend, the folder."""
        held = ms.get_variables()
        values = [(v.path, v.dtype, to_numpy(v.value, self.backend).tolist()) for v in held]
        updates = [id(v.recorded) for v in held]
        files = {name: (self.folder / name).read_bytes() for name in os.listdir(self.folder)}
        return (
            values,
            updates,
            [p.path for p in ms.get_placeholders()],
            ms.get_backend().name,
            ms.current_scope(),
            files,
        )

    def spoil(self, change):
        """Load a file whose bytes were changed."""
        path = self.folder / "spoilt"
        path.write_bytes(change(self.path.read_bytes()))
        try:
            ms.load_variables(path)
        finally:
            path.unlink()


RULES = {
    # --- calls of constructors
    "an unknown keyword": Row(
        lambda _: ms.cosine(0.1, stepps=4), errors.ArgumentError, TypeError, ("cosine()", "'stepps'", "mean 'steps'")
    ),
    "a keyword of another library": Row(
        lambda _: ms.cosine(init_value=0.1, steps=4), errors.ArgumentError, TypeError, ("'init_value'", "mean 'init'")
    ),
    "an unknown keyword of an average": Row(
        lambda _: ms.ema(decay=0.9), errors.ArgumentError, ValueError, ("ema() has no argument 'decay'",)
    ),
    "an argument that is missing": Row(
        lambda _: ms.linear(0.1, 0),
        errors.ArgumentError,
        TypeError,
        ("linear() needs 'steps'", "(init, end, steps"),
    ),
    "an argument twice": Row(
        lambda _: ms.linear(0.1, 0, 4, init=1), errors.ArgumentError, TypeError, ("'init' twice", "linear(init, end")
    ),
    "too many arguments": Row(
        lambda _: ms.constant(1, 2), errors.ArgumentError, TypeError, ("at most 1 argument, got 2",)
    ),
    # --- piecewise_constant: unsorted keys and no keys are accepted, see the laws
    "a negative key": Row(
        lambda _: ms.piecewise_constant(0.1, {-1: 1}), errors.StepKeyError, ValueError, ("steps_and_values", "-1")
    ),
    "a NaN key": Row(
        lambda _: ms.piecewise_constant(0.1, {math.nan: 1}), errors.StepKeyError, ValueError, ("integers", "nan")
    ),
    "a NaN key of NumPy": Row(
        lambda _: ms.piecewise_constant(0.1, {np.float32("nan"): 1}), errors.StepKeyError, ValueError, ("nan",)
    ),
    "a boolean key": Row(
        lambda _: ms.piecewise_constant(0.1, {True: 1}),
        errors.StepKeyTypeError,
        TypeError,
        ("steps_and_values", "True", "bool", "non-negative integers"),
    ),
    "a float key": Row(
        lambda _: ms.piecewise_constant(0.1, {4.0: 1}), errors.StepKeyTypeError, TypeError, ("4.0", "float", "integers")
    ),
    "an infinite key": Row(
        lambda _: ms.piecewise_constant(0.1, {math.inf: 1}), errors.StepKeyTypeError, TypeError, ("inf", "integers")
    ),
    "a string key": Row(
        lambda _: ms.piecewise_constant(0.1, {"4.0": 1}),
        errors.StepKeyTypeError,
        TypeError,
        ("'4.0'", "str", "integers"),
    ),
    "None as a key": Row(
        lambda _: ms.piecewise_constant(0.1, {None: 1}), errors.StepKeyTypeError, TypeError, ("NoneType", "integers")
    ),
    "values of differing shapes": Row(
        lambda _: ms.piecewise_constant(0.1, {4: [1, 2]}),
        errors.ScheduleValueError,
        ValueError,
        ("one shape", "()", "step 4", "(2,)"),
    ),
    "arrays of differing shapes": Row(
        lambda _: ms.piecewise_constant(np.zeros(3), {4: np.zeros((3, 1))}),
        errors.ScheduleValueError,
        ValueError,
        ("(3,)", "(3, 1)", "step 4"),
    ),
    "a complex value": Row(
        lambda _: ms.piecewise_constant(0.1, {4: 1j}), errors.ScheduleValueError, ValueError, ("step 4", "1j", "real")
    ),
    "a string value": Row(
        lambda _: ms.piecewise_constant("0.1", {}), errors.ScheduleValueError, ValueError, ("init", "'0.1'", "real")
    ),
    "a boolean value": Row(
        lambda _: ms.piecewise_constant(0.1, {4: True}), errors.ScheduleValueError, ValueError, ("step 4", "True")
    ),
    "None as init": Row(
        lambda _: ms.piecewise_constant(None, {}), errors.ScheduleValueError, ValueError, ("init", "None", "real")
    ),
    "a ragged value": Row(
        lambda _: ms.piecewise_constant(0.1, {4: [[1], [1, 2]]}), errors.ScheduleValueError, ValueError, ("step 4",)
    ),
    "a list for the steps": Row(
        lambda _: ms.piecewise_constant(0.1, [(4, 1)]),
        errors.ScheduleValueError,
        ValueError,
        ("steps_and_values", "dict", "[(4, 1)]", "list"),
    ),
    "nothing for the steps": Row(
        lambda _: ms.piecewise_constant(0.1, None), errors.ScheduleValueError, ValueError, ("steps_and_values", "None")
    ),
    # --- the catalogue, schedules as data, and what drives optimizers
    "a length that is negative": Row(
        lambda _: ms.linear(1.0, 0.0, -5), errors.StepCountError, ValueError, ("steps", "-5", "non-negative")
    ),
    "an option that there is not": Row(
        lambda _: ms.cyclic(0.0, 1.0, 5, mode="square"), errors.ScheduleOptionError, ValueError, ("mode", "'square'")
    ),
    "an expression that ends early": Row(
        lambda _: ms.parse("cosine(0.1,"), errors.ParseError, ValueError, ("cosine(0.1,",)
    ),
    "a config of an unknown name": Row(
        lambda _: ms.from_config({"name": "cosinus"}), errors.ConfigError, ValueError, ("$", "cosinus")
    ),
    "no optimizer": Row(
        lambda _: ms.drive([1.0], lr=ms.constant(0.1)), errors.OptimizerError, ValueError, ("torch optimizer", "[1.0]")
    ),
    # --- schedules at steps
    "a schedule at a string": Row(
        lambda _: ms.piecewise_constant(0.1, {})("4"), errors.ScheduleStepError, TypeError, ("step", "'4'", "integer")
    ),
    "a schedule at a bool": Row(
        lambda _: ms.piecewise_constant(0.1, {})(True), errors.ScheduleStepError, TypeError, ("step", "True", "bool")
    ),
    "a schedule at a complex array": Row(
        lambda _: ms.piecewise_constant(0.1, {})(np.zeros(2, complex)), errors.ScheduleStepError, TypeError, ("step",)
    ),
    "a schedule at None": Row(
        lambda _: ms.piecewise_constant(0.1, {})(None), errors.ScheduleStepError, TypeError, ("None", "integer")
    ),
    # --- ema and sma
    **{
        f"alpha of {alpha}": Row(
            lambda _, alpha=alpha: ms.ema(alpha), errors.DecayError, ValueError, ("alpha", "[0, 1]", repr(alpha))
        )
        for alpha in (-0.1, 1.1, math.nan, math.inf, -math.inf)
    },
    "one alpha of many": Row(
        lambda _: ms.ema([0.5, 1.5]), errors.DecayError, ValueError, ("alpha", "[0, 1]", "[0.5, 1.5]")
    ),
    "one NaN alpha of many": Row(
        lambda _: ms.ema(np.asarray([0.5, np.nan])), errors.DecayError, ValueError, ("alpha", "[0, 1]", "nan")
    ),
    "a string alpha": Row(lambda _: ms.ema("0.9"), errors.DecayError, ValueError, ("alpha", "real", "'0.9'")),
    "a complex alpha": Row(lambda _: ms.ema(0.9j), errors.DecayError, ValueError, ("alpha", "real", "0.9j")),
    "None as alpha": Row(lambda _: ms.ema(None), errors.DecayError, ValueError, ("alpha", "none")),
    "a boolean alpha": Row(lambda _: ms.ema(True), errors.DecayError, ValueError, ("alpha", "True")),
    **{
        f"dt of {dt!r}": Row(
            lambda _, dt=dt: ms.ema(0.9).step(ms.ema(0.9).init(np.zeros(2)), np.zeros(2), dt=dt),
            errors.TimeStepError,
            ValueError,
            ("dt", "time", repr(dt)),
        )
        for dt in (-1, math.nan, "1", True)
    },
    "a string init": Row(lambda _: ms.ema(0.9, init="0"), errors.RuleError, ValueError, ("init", "number", "'0'")),
    "an init of another shape": Row(
        lambda _: ms.ema(0.9, init=[1, 2, 3]).init(np.zeros(2)),
        errors.InitShapeError,
        ValueError,
        ("init", "(2,)", "(3,)"),
    ),
    "an alpha of another shape": Row(
        lambda _: ms.ema([0.9, 0.8, 0.7]).init(np.zeros(2)), errors.DecayError, ValueError, ("alpha", "(2,)", "(3,)")
    ),
    **{
        f"n of {n!r}": Row(
            lambda _, n=n: ms.sma(n), errors.WindowError, ValueError, ("length of a window", "at least 1", repr(n))
        )
        for n in (0, -1, 2.0, math.nan, True, "3", None)
    },
    # --- rules of whole models
    "a width beyond that of the mean": Row(
        lambda _: ms.power_ema(0.3), errors.DecayError, ValueError, ("sigma_rel", "12 ** -0.5", "0.3")
    ),
    "a width and an exponent": Row(
        lambda _: ms.power_ema(0.1, gamma=1), errors.DecayError, ValueError, ("sigma_rel", "gamma", "both")
    ),
    "bounds that are no decays": Row(
        lambda _: ms.decay_warmup(low=0.9, high=0.5),
        errors.ScheduleValueError,
        ValueError,
        ("low <= high", "0.9", "0.5"),
    ),
    "a pace of a window": Row(
        lambda _: ms.paced(ms.sma(3)), errors.NotARule, TypeError, ("one share", "ema(0.9)", "sma(3)")
    ),
    "a pace of what starts from init": Row(
        lambda _: ms.paced(ms.ema(0.9, init=1.0)), errors.RuleError, ValueError, ("ema(0.9, init=1.0)", "init")
    ),
    "an update at each 0th call": Row(
        lambda _: ms.paced(ms.swa(), every=0), errors.StepCountError, ValueError, ("every", "calls, from 1", "0")
    ),
    "no snapshots": Row(
        lambda _: ms.posthoc([], 0.1), errors.RuleError, ValueError, ("snapshots", "at least one", "[]")
    ),
    "a snapshot of another rule": Row(
        lambda _: ms.posthoc([ms.Snapshot(np.zeros(2), 3, ms.swa())], 0.1),
        errors.RuleError,
        ValueError,
        ("snapshots[0]", "power_ema", "swa()"),
    ),
    "snapshots of two trees": Row(
        lambda _: ms.posthoc([ms.Snapshot({name: np.zeros(2)}, 3, ms.power_ema(0.1)) for name in "ab"], 0.1),
        errors.TreeMismatch,
        ValueError,
        ("'a'", "'b'"),
    ),
    "a value of another shape": Row(
        lambda _: ms.ema(0.9).step(ms.ema(0.9).init(np.zeros(2)), np.zeros(3)),
        errors.ShapeError,
        ValueError,
        ("ema(0.9)", "(2,)", "(3,)"),
    ),
    "values that are dates": Row(
        lambda _: ms.ema(0.9).init(np.zeros(2, "datetime64[D]")), errors.DTypeError, TypeError, ("datetime64",)
    ),
    "a mask of integers": Row(
        lambda _: ms.ema(0.9).step(ms.ema(0.9).init(np.zeros(2)), np.zeros(2), where=np.asarray(1)),
        errors.MaskError,
        TypeError,
        ("where", "boolean scalar", "int64"),
    ),
    "a mask of two": Row(
        lambda _: ms.ema(0.9).step(ms.ema(0.9).init(np.zeros(2)), np.zeros(2), where=np.asarray([True, False])),
        errors.MaskError,
        TypeError,
        ("where", "boolean scalar", "(2,)"),
    ),
    "a mask that is a number": Row(
        lambda _: ms.ema(0.9).step(ms.ema(0.9).init(np.zeros(2)), np.zeros(2), where=1),
        errors.MaskError,
        TypeError,
        ("where", "boolean scalar", "int"),
    ),
    # --- backends
    "an unknown backend": Row(
        lambda _: ms.get_backend("nunpy"), errors.UnknownBackend, ValueError, ("'nunpy'", "'numpy'", "namespace")
    ),
    "an unknown backend in use": Row(
        lambda _: ms.use_backend("nunpy"), errors.UnknownBackend, ValueError, ("'nunpy'", "'numpy'")
    ),
    "a module that is no namespace": Row(
        lambda _: ms.get_backend("math"), errors.UnknownBackend, ValueError, ("'math'", "lacks", "asarray")
    ),
    "an empty module": Row(
        lambda _: ms.get_backend(ModuleType("empty")), errors.UnknownBackend, ValueError, ("'empty'", "lacks")
    ),
    "an empty name of a backend": Row(lambda _: ms.get_backend(""), errors.UnknownBackend, ValueError, ("''",)),
    "a relative name of a backend": Row(
        lambda _: ms.get_backend(".numpy"), errors.UnknownBackend, ValueError, ("'.numpy'", "'numpy'")
    ),
    "a number as a backend": Row(lambda _: ms.get_backend(3), errors.UnknownBackend, ValueError, ("3", "'numpy'")),
    "an array as a backend": Row(
        lambda _: ms.Placeholder((), backend=np.zeros(2)), errors.UnknownBackend, ValueError, ("array", "'numpy'")
    ),
}
