"""Bad input to what is declared: tensors, variables, functions, updates, states and files; see `helpers_bad_input`."""

import copy
import pickle

import numpy as np
from helpers import make
from helpers_bad_input import Row

import multisched as ms
from multisched import errors


def namesake():
    """A variable of another graph, of the path "/w"."""
    with ms.Graph("another"):
        return ms.Variable(1.0, name="w")


def without_w(world):
    """Load the file into a graph that has all of its variables but one."""
    with ms.Graph("another"):
        held = [ms.Variable(v.value, name=v.name) for v in (world.n,)]
        ms.load_variables(world.path, scope="/")
    return held


VARIABLES = {
    "a variable of a string": Row(
        lambda _: ms.Variable("one"), errors.ConcreteValueError, TypeError, ("array of numbers", "'one'")
    ),
    "a variable of None": Row(lambda _: ms.Variable(None), errors.ConcreteValueError, TypeError, ("numbers", "None")),
    "a variable of ragged lists": Row(
        lambda _: ms.Variable([[1], [1, 2]]), errors.ConcreteValueError, TypeError, ("numbers", "[[1], [1, 2]]")
    ),
    "a variable of a tensor": Row(
        lambda t: ms.Variable(t.w), errors.ConcreteValueError, TypeError, ("known now", "name=w")
    ),
    "a variable of fractions as integers": Row(
        lambda _: ms.Variable([0.5, 1.5], dtype="int32"), errors.DTypeError, TypeError, ("int32", "float64")
    ),
    "a variable out of range": Row(
        lambda _: ms.Variable([300, 1], dtype="int8"), errors.DTypeError, TypeError, ("int8", "300")
    ),
    "a dtype that is none": Row(
        lambda _: ms.Variable(1.0, dtype="float33"), errors.DTypeError, TypeError, ("'float33'", "float32")
    ),
    "a placeholder of such a dtype": Row(
        lambda _: ms.Placeholder((2,), "floaty"), errors.DTypeError, TypeError, ("'floaty'", "float32")
    ),
    "a schedule of such a dtype": Row(
        lambda _: ms.PiecewiseConstant(0.1, {}, dtype="floaty"), errors.DTypeError, TypeError, ("'floaty'", "float32")
    ),
    "a schedule of integers": Row(
        lambda _: ms.PiecewiseConstant(0.1, {}, dtype="int32"), errors.ScheduleStepError, TypeError, ("int32", "real")
    ),
    "a device that is none": Row(
        lambda t: ms.Variable(1.0, device="toaster"), errors.DeviceError, ValueError, ("'toaster'", "device")
    ),
    "a schedule on such a device": Row(
        lambda t: ms.PiecewiseConstant(1.0, {}, device="toaster"), errors.DeviceError, ValueError, ("'toaster'",)
    ),
    **{
        f"a name of {name!r}": Row(
            lambda _, name=name: ms.Variable(1.0, name=name), errors.InvalidName, ValueError, ("name", repr(name))
        )
        for name in ("", "a/b", "a*", "[a]", "a?", "a\nb", 3, None)
    },
    "a scope of no name": Row(lambda _: ms.Scope(""), errors.InvalidName, ValueError, ("name", "''")),
    "a graph of a bad name": Row(lambda _: ms.Graph("a/b"), errors.InvalidName, ValueError, ("name", "'a/b'")),
    "a declaration of a bad name": Row(
        lambda _: ms.declare(ms.piecewise_constant(0.1, {}), name="a/b"), errors.InvalidName, ValueError, ("'a/b'",)
    ),
    **{
        f"a shape of {shape!r}": Row(
            lambda _, shape=shape: ms.Placeholder(shape), errors.ShapeError, ValueError, ("non-negative", repr(shape))
        )
        for shape in ((-1,), (2.0,), (True,), "ab", None, ((2,),))
    },
    # --- updating by hand
    "an update of another shape by hand": Row(
        lambda t: t.w.update([1.0, 2.0, 3.0]), errors.UpdateShapeError, ValueError, ("name=w", "(2,)", "(3,)")
    ),
    "an update that would broadcast": Row(
        lambda t: t.w.update(1.0), errors.UpdateShapeError, ValueError, ("name=w", "(2,)", "()")
    ),
    "an update of another kind by hand": Row(
        lambda t: t.n.update(1.5), errors.UpdateTypeError, TypeError, ("name=n", "int32", "float64")
    ),
    "an update out of range": Row(
        lambda t: t.n.update(2**31), errors.UpdateTypeError, TypeError, ("name=n", "int32", "2147483648")
    ),
    "an update by a string": Row(lambda t: t.n.update("3"), errors.UpdateTypeError, TypeError, ("name=n", "'3'")),
    "an update by a tensor": Row(
        lambda t: t.n.update(t.n + 1), errors.UpdateTypeError, TypeError, ("name=n", "no value now")
    ),
}

EXPRESSIONS = {
    "a tensor in if": Row(
        lambda t: 1 if t.w[0] > 0 else 2, errors.TensorTruthError, TypeError, ("name=greater", "no value", "xp.where")
    ),
    "a tensor in and": Row(lambda t: t.x and t.w, errors.TensorTruthError, TypeError, ("name=x", "no value")),
    "a tensor in not": Row(lambda t: not t.w, errors.TensorTruthError, TypeError, ("name=w", "no value")),
    "a comparison in a list": Row(lambda t: t.n in [1, 2], errors.TensorTruthError, TypeError, ("no value",)),
    **{
        f"{to.__name__} of a tensor": Row(
            lambda t, to=to: to(t.n), errors.TensorConversionError, TypeError, ("name=n", "no value", "ms.function")
        )
        for to in (float, int, complex, np.asarray, np.float32, bin)
    },
    "pickling a tensor": Row(
        lambda t: pickle.dumps(t.w), errors.TensorConversionError, TypeError, ("name=w", "save_variables")
    ),
    "copying a tensor": Row(
        lambda t: copy.deepcopy(t.w), errors.TensorConversionError, TypeError, ("name=w", "save_variables")
    ),
    **{
        f"{to.__name__} of a tensor": Row(
            lambda t, to=to: to(t.w), errors.TensorIterationError, TypeError, ("name=w", "no value", "x[i, ...]")
        )
        for to in (list, len, iter, sum)
    },
    "a number in a tensor": Row(lambda t: 1.0 in t.w, errors.TensorIterationError, TypeError, ("name=w", "no value")),
    "taking a tensor apart": Row(
        lambda t: dict(zip("ab", t.w, strict=True)), errors.TensorIterationError, TypeError, ("name=w",)
    ),
    "shapes that do not broadcast": Row(
        lambda t: t.w + np.zeros(3), errors.ShapeError, ValueError, ("add", "(2,)", "(3,)")
    ),
    "a product of shapes that do not fit": Row(
        lambda t: t.w @ np.zeros((3, 2)), errors.ShapeError, ValueError, ("matmul", "(2,)", "(3, 2)")
    ),
    "an index out of range": Row(lambda t: t.w[2], errors.ShapeError, ValueError, ("(2,)", "2")),
    "a mask as an index": Row(lambda t: t.w[[True, False]], errors.ShapeError, ValueError, ("name=w", "xp.where")),
    "bits of floats": Row(lambda t: t.w & t.w, errors.DTypeError, TypeError, ("bitwise_and", "integer", "float32")),
    "negative booleans": Row(lambda t: -(t.w > 0), errors.DTypeError, TypeError, ("negative", "bool")),
    "tensors of two backends": Row(
        lambda t: t.x + t.elsewhere(),
        errors.BackendMismatch,
        TypeError,
        ("name=elsewhere", "'$here'", "'$other'"),
    ),
    "a function of two backends": Row(
        lambda t: ms.function(t.x, outputs=[t.x, t.elsewhere()]),
        errors.BackendMismatch,
        TypeError,
        ("name=x", "name=elsewhere", "'$here'", "'$other'"),
    ),
    "an update of another backend": Row(
        lambda t: ms.add_updates({t.w: t.elsewhere() * 2}),
        errors.BackendMismatch,
        TypeError,
        ("name=w", "'$here'", "'$other'"),
    ),
    "an average for another backend": Row(
        lambda t: ms.declare(ms.ema(0.9), t.x, backend=t.other),
        errors.BackendMismatch,
        TypeError,
        ("name=x", "'$here'", "'$other'"),
    ),
    "a rule at arrays of two backends": Row(
        lambda t: ms.ema(0.9).step(ms.ema(0.9).init(make([1, 2], t.backend)), make([1, 2], t.other)),
        errors.BackendMismatch,
        TypeError,
        ("two backends", "array_api_strict"),
    ),
}

DECLARATIONS = {
    **{
        f"the average of a concrete {kind}": Row(
            lambda t, value=value: ms.ExponentialMovingAverage(value(t), 0.9),
            errors.ConcreteValueError,
            TypeError,
            ("never", "ms.Placeholder", "ms.Variable", "rule.step", "ms.Average"),
        )
        for kind, value in {
            "NumPy array": lambda t: np.zeros(2),
            "array": lambda t: make([1, 2], t.backend),
            "number": lambda t: 1.0,
            "list": lambda t: [1.0, 2.0],
            "None": lambda t: None,
        }.items()
    },
    "the simple average of an array": Row(
        lambda t: ms.SimpleMovingAverage(np.zeros(2), 3), errors.ConcreteValueError, TypeError, ("ms.Placeholder",)
    ),
    "a declared init of another shape": Row(
        lambda t: ms.ExponentialMovingAverage(t.x, 0.9, init=[1, 2, 3]),
        errors.InitShapeError,
        ValueError,
        ("init", "(2,)", "(3,)"),
    ),
    "a declared alpha outside": Row(
        lambda t: ms.ExponentialMovingAverage(t.x, 1.5), errors.DecayError, ValueError, ("alpha", "[0, 1]", "1.5")
    ),
    "a declared alpha of another shape": Row(
        lambda t: ms.ExponentialMovingAverage(t.x, [0.1, 0.2, 0.3]), errors.DecayError, ValueError, ("(2,)", "(3,)")
    ),
    "a declared n of 0": Row(
        lambda t: ms.SimpleMovingAverage(t.x, 0), errors.WindowError, ValueError, ("length of a window", "0")
    ),
    "a declared negative key": Row(
        lambda t: ms.PiecewiseConstant(0.1, {-4: 1}), errors.StepKeyError, ValueError, ("-4",)
    ),
    "no rule": Row(lambda t: ms.declare(0.9, t.x), errors.NotARule, TypeError, ("rule", "0.9", "float", "ms.ema")),
    "a rule that is a class": Row(lambda t: ms.declare(ms.ema, t.x), errors.NotARule, TypeError, ("rule", "function")),
    "a schedule of a value": Row(
        lambda t: ms.declare(ms.piecewise_constant(0.1, {}), t.x),
        errors.NotARule,
        TypeError,
        ("piecewise_constant(0.1, {})", "name=x"),
    ),
    # --- updates
    "an update of an expression": Row(
        lambda t: ms.add_updates({t.w * 2: t.w}), errors.NotAVariable, TypeError, ("variables", "name=multiply")
    ),
    "an update of a placeholder": Row(
        lambda t: ms.function(t.x, updates={t.x: t.x}), errors.NotAVariable, TypeError, ("variables", "name=x")
    ),
    "an update of a name": Row(
        lambda t: ms.function(updates={"w": t.w}), errors.NotAVariable, TypeError, ("variables", "'w'", "str")
    ),
    "updates that are a list": Row(
        lambda t: ms.add_updates([(t.w, t.w)]), errors.NotAVariable, TypeError, ("dict", "list")
    ),
    "updates of names alone": Row(
        lambda t: ms.get_updates(variables=["w"]), errors.NotAVariable, TypeError, ("variables", "'w'")
    ),
    "an update of another shape": Row(
        lambda t: ms.add_updates({t.n: t.n + 1, t.w: t.w[0]}), errors.UpdateShapeError, ValueError, ("name=w", "()")
    ),
    "an update of another dtype": Row(
        lambda t: ms.add_updates({t.w: t.w + 1, t.n: t.n * 0.5}),
        errors.UpdateTypeError,
        TypeError,
        ("name=n", "int32", "float32", "xp.astype"),
    ),
    "a function's update of another shape": Row(
        lambda t: ms.function(updates={t.w: np.zeros((1, 2), np.float32)}),
        errors.UpdateShapeError,
        ValueError,
        ("name=w", "(2,)", "(1, 2)"),
    ),
    "a function's update of another dtype": Row(
        lambda t: ms.function(updates={t.n: 0.5}), errors.UpdateTypeError, TypeError, ("name=n", "int32", "float32")
    ),
}

CALLS = {
    "a missing input": Row(lambda t: t.f(), errors.MissingInput, TypeError, ("name=x", "1 input but was given 0")),
    "a placeholder that is no input": Row(
        lambda t: ms.function(outputs=t.x * t.w), errors.MissingInput, TypeError, ("name=x", "inputs")
    ),
    "an average read without its input": Row(
        lambda t: t.average.value, errors.MissingInput, TypeError, ("name=x", "inputs")
    ),
    "an average advanced without its input": Row(
        lambda t: t.average.advance(), errors.MissingInput, TypeError, ("name=x", "inputs")
    ),
    "an extra input": Row(
        lambda t: t.f([1, 2], [3, 4]), errors.ExtraInput, TypeError, ("takes 1 input but was given 2", "list")
    ),
    "an input there twice": Row(
        lambda t: ms.function(t.x, t.x, outputs=t.x), errors.ExtraInput, TypeError, ("twice", "name=x")
    ),
    "an input of another shape": Row(
        lambda t: t.f([1, 2, 3]), errors.InputShapeError, ValueError, ("name=x", "(2,)", "(3,)")
    ),
    "an input that would broadcast": Row(
        lambda t: t.f(1.0), errors.InputShapeError, ValueError, ("name=x", "(2,)", "()")
    ),
    "a complex input": Row(
        lambda t: t.f([1j, 2]), errors.InputTypeError, TypeError, ("name=x", "float32", "complex128")
    ),
    "an input of strings": Row(lambda t: t.f(["a", "b"]), errors.InputTypeError, TypeError, ("name=x", "'a'", "list")),
    "a tensor as input": Row(lambda t: t.f(t.w), errors.InputTypeError, TypeError, ("name=x", "no value now")),
    "an input that is no placeholder": Row(
        lambda t: ms.function(t.w, outputs=t.w), errors.NotATensor, TypeError, ("Input 0", "placeholder", "name=w")
    ),
    "an array as output": Row(
        lambda t: ms.function(outputs=[t.w, {"a": np.zeros(2)}]),
        errors.NotATensor,
        TypeError,
        ("outputs[1]['a']", "ndarray", "declared tensor"),
    ),
    "a string as output": Row(lambda t: ms.function(outputs="w"), errors.NotATensor, TypeError, ("outputs", "'w'")),
    # --- states and files
    "a state that lacks an entry": Row(
        lambda t: t.f.pure({k: v for k, v in t.f.state.items() if k != "/w"}, [1, 2]),
        errors.StateError,
        ValueError,
        ("missing", "/w"),
    ),
    "a state assigned with an extra entry": Row(
        lambda t: setattr(t.f, "state", {**t.f.state, "/v": 1.0}), errors.StateError, ValueError, ("unexpected", "/v")
    ),
    "a state assigned with an entry of another shape": Row(
        lambda t: setattr(t.f, "state", {**t.f.state, "/w": np.zeros(3)}),
        errors.UpdateShapeError,
        ValueError,
        ("name=w", "(2,)", "(3,)"),
    ),
    "a state of two variables of one path": Row(
        lambda t: ms.function(outputs=t.w[0] + namesake()).state, errors.DuplicatePath, ValueError, ("/w",)
    ),
    "a file cut short": Row(
        lambda t: t.spoil(lambda content: content[:-1]), errors.CheckpointCorrupt, ValueError, ("spoilt", "whole")
    ),
    "a file with a flipped bit": Row(
        lambda t: t.spoil(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        errors.CheckpointCorrupt,
        ValueError,
        ("spoilt", "checksum", "first_step"),
    ),
    "a file of text": Row(
        lambda t: t.spoil(lambda content: b"step: 3"), errors.CheckpointCorrupt, ValueError, ("spoilt", "safetensors")
    ),
    "a file with an entry too many": Row(
        without_w,
        errors.CheckpointMismatch,
        ValueError,
        ("state.safetensors", "no variable", "/w"),
    ),
}

DECLARED = VARIABLES | EXPRESSIONS | DECLARATIONS | CALLS
