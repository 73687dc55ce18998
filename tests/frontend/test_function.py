"""`function`: the structure of its outputs, what it does with its inputs, and what it never shares or overwrites."""

import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import overwrite, raises

import multisched as ms
from multisched import errors

Pair = namedtuple("Pair", "first second")

STRUCTURES = {
    "tensor": lambda a, b: a,
    "nothing": lambda a, b: None,
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [b, a],
    "dict": lambda a, b: {"b": b, "a": a},
    "named tuple": lambda a, b: Pair(a, b),
    "empty": lambda a, b: [(), {}, []],
    "twice the same": lambda a, b: (a, a, b, a),
    "None inside": lambda a, b: (None, a, [None, b], {"none": None}),
    "deep": lambda a, b: {"x": [(a, {"y": Pair(b, [a])}), None], 3: Pair((), b)},
}


def as_numbers(part, backend):
    """Nested arrays as nested Python floats."""
    if isinstance(part, dict):
        return {key: as_numbers(value, backend) for key, value in part.items()}
    if isinstance(part, tuple | list):
        parts = [as_numbers(value, backend) for value in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    return None if part is None else float(to_numpy(part, backend))


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_outputs_have_the_structure_they_were_given_in(backend, structure):
    """Tuples, lists, dicts, NamedTuples and None, nested at will, come back with arrays in the places of tensors."""
    x = ms.Placeholder(())
    f = ms.function(x, outputs=structure(x * 2, x + 1))
    assert as_numbers(f(4.0), backend) == structure(8.0, 5.0)
    assert repr(as_numbers(f(4.0), backend)) == repr(structure(8.0, 5.0))  # the same types and order, too


def test_the_arrays_are_of_the_backend(backend):
    """Outputs are the backend's own arrays, of the dtype and shape that was declared."""
    x = ms.Placeholder((2,))
    f = ms.function(x, outputs=[x, x > 0, ms.Variable(3)])
    outputs = f([1, -1])
    assert all(ms.get_backend(backend).owns(output) for output in outputs)
    hosts = [to_numpy(output, backend) for output in outputs]
    assert [h.dtype.name for h in hosts] == ["float32", "bool", "int32"]
    assert [h.tolist() for h in hosts] == [[1.0, -1.0], [True, False], 3]


def test_device_get_gives_numpy(backend):
    """With `device_get=True` every output, at any depth, is a NumPy array."""
    x = ms.Placeholder((2,))
    outputs = ms.function(x, outputs={"a": [x], "b": x > 0})([1, -1], device_get=True)
    assert type(outputs["a"][0]) is type(outputs["b"]) is np.ndarray
    assert outputs["a"][0].dtype == np.float32
    assert outputs["b"].tolist() == [True, False]


def test_a_missing_input_is_named(backend):
    """A call with too few inputs names the placeholders that got none."""
    x, y = ms.Placeholder((2,), name="x"), ms.Placeholder((), name="y")
    f = ms.function(x, y, outputs=x * y)
    with pytest.raises(
        errors.MissingInput, match=r"takes 2 inputs but was given 1; it lacks Placeholder\(name=y, shape=\(\)"
    ):
        f([1, 2])


def test_an_extra_input_is_described(backend):
    """A call with too many inputs says how many it takes, and the shape of the one it has no place for."""
    x = ms.Placeholder((2,), name="x")
    with pytest.raises(errors.ExtraInput, match=r"takes 1 input but was given 2.*\(3,\)"):
        ms.function(x, outputs=x)([1, 2], np.ones(3))


@pytest.mark.parametrize("value", [np.ones(3), np.ones((2, 1)), 1.0, [1.0], [[1.0, 2.0]]], ids=str)
def test_a_misshaped_input_names_the_placeholder_and_both_shapes(backend, value):
    """Shapes must be equal, since broadcasting would hide mistakes; the error has the placeholder and both shapes."""
    x = ms.Placeholder((2,), name="weights")
    with raises(errors.InputShapeError, "Placeholder(name=weights", "(2,)", str(np.shape(value))):
        ms.function(x, outputs=x)(value)


def test_a_misshaped_array_of_the_backend_is_an_error(backend):
    """What is already an array of the backend is not trusted more than anything else."""
    x = ms.Placeholder((2,), name="weights")
    with pytest.raises(errors.InputShapeError, match=r"weights.*\(2,\).*\(3,\)"):
        ms.function(x, outputs=x)(make([1, 2, 3], backend))


def test_a_placeholder_that_is_needed_must_be_an_input(backend):
    """Building a function whose outputs or updates need a placeholder that it does not take names the placeholder."""
    x, y, w = ms.Placeholder((), name="x"), ms.Placeholder((), name="y"), ms.Variable(0.0)
    with pytest.raises(errors.MissingInput, match="name=y"):
        ms.function(x, outputs=x + y)
    with pytest.raises(errors.MissingInput, match="name=y"):
        ms.function(x, outputs=x, updates={w: w + y})


def test_an_input_that_nothing_needs_is_still_checked(backend):
    """A placeholder that no output uses keeps its place among the arguments, and its shape."""
    x, unused = ms.Placeholder(()), ms.Placeholder((2,), name="unused")
    f = ms.function(unused, x, outputs=x)
    assert float(to_numpy(f([0, 0], 3.0), backend)) == 3.0
    with pytest.raises(errors.InputShapeError, match="unused"):
        f([0, 0, 0], 3.0)


@pytest.mark.parametrize("jit", [True, False])
def test_outputs_come_before_updates(backend, jit):
    """Outputs and updates all see the state before the call; two variables can exchange their values."""
    a, b = ms.Variable(1.0), ms.Variable(2.0)
    f = ms.function(outputs=(a, b), updates={a: b, b: a}, jit=jit)
    seen = [as_numbers(f(), backend) for _ in range(3)]
    assert seen == [(1.0, 2.0), (2.0, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize("jit", [True, False])
def test_one_tensor_may_update_two_variables_and_be_an_output(backend, jit):
    """Each gets an array of its own: later calls change none of the others."""
    a, b, x = ms.Variable([1.0]), ms.Variable([5.0]), ms.Placeholder((1,))
    total = a + x
    f = ms.function(x, outputs=[total, total], updates={a: total, b: total}, jit=jit)
    first = f([1])
    second = f([10])
    assert [to_numpy(o, backend).tolist() for o in (*first, *second)] == [[2.0], [2.0], [12.0], [12.0]]
    a.update([0.0])
    assert to_numpy(b.value, backend).tolist() == [12.0]


@pytest.mark.parametrize("jit", [True, False])
def test_snapshots_and_outputs_outlive_later_calls(backend, jit):
    """State is donated or written in place, yet no value handed out before changes or dies."""
    w, x = ms.Variable([0.0, 0.0]), ms.Placeholder((2,))
    f = ms.function(x, outputs=(w, w + x, x), updates={w: w + x}, jit=jit)
    handed_out = []
    for i in range(3):
        handed_out += [w.value, f.state["/Variable"], *f([1, i])]
    w.update([7, 7])
    w.reset()
    totals = [[0, 0], [1, 0], [2, 1], [3, 3]]
    expected = [row for i in range(3) for row in (totals[i], totals[i], totals[i], totals[i + 1], [1, i])]
    assert [to_numpy(a, backend).tolist() for a in handed_out] == expected


def test_state_is_written_in_place_where_arrays_are_mutable(backend):
    """NumPy and torch keep the very array of a variable through calls, `update` and `reset`; the others replace it."""
    w = ms.Variable([1.0, 2.0])
    f = ms.function(updates={w: w * 2})
    array = w.cell.array
    f()
    w.update([5.0, 6.0])
    w.reset()
    f()
    assert (w.cell.array is array) == (backend in ("numpy", "torch"))
    assert to_numpy(w.cell.array, backend).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("of_the_backend", [False, True])
def test_an_input_is_never_an_output_or_a_variable(backend, of_the_backend):
    """Writing into an input after the call changes neither an output nor the variable that it updated."""
    n = 4096  # large enough for JAX to take NumPy's memory as it is, where it can
    w, x = ms.Variable(np.zeros(n, np.float32)), ms.Placeholder((n,))
    f = ms.function(x, outputs=[x, x[::-1], x + 0], updates={w: x})
    given = make(np.ones(n), backend) if of_the_backend else np.ones(n, np.float32)
    outputs = f(given)
    overwrite(given, 9.0)
    assert [to_numpy(o, backend).max() for o in (*outputs, w.value)] == [1.0] * 4


def test_inputs_and_outputs_of_a_call_leave_the_input_as_it_was(backend):
    """The function writes into no input, whatever it computes from it."""
    w, x = ms.Variable([1.0, 1.0]), ms.Placeholder((2,))
    f = ms.function(x, outputs=-x, updates={w: w * x})
    given = make([2, 3], backend)
    f(given)
    f(given)
    assert to_numpy(given, backend).tolist() == [2.0, 3.0]
    assert to_numpy(w.value, backend).tolist() == [4.0, 9.0]


def test_without_jit_the_numbers_are_the_same(backend):
    """`jit=False` runs the same program as it is."""
    x = ms.Placeholder((3,))
    averages = [ms.ExponentialMovingAverage(x, 0.5) for _ in range(2)]
    functions = [
        ms.function(x, outputs=pair, updates=ms.get_updates(variables=pair[0].variables), jit=jit)
        for pair, jit in zip(averages, (True, False), strict=True)
    ]
    for value in ([1, 2, 3], [3, -2, 8], [0, 0, 0.5]):
        jitted, plain = ([to_numpy(o, backend).tolist() for o in f(value)] for f in functions)
        assert jitted == plain
    assert plain == [[1.0, 0.0, 3.0], [2.0, 0.0, 5.5]]


def test_a_function_of_nothing_does_nothing(backend):
    """No inputs, outputs and updates are a function all the same."""
    f = ms.function()
    assert f() is None
    assert f.state == {}
    assert f.pure({}) == (None, {})


def test_a_function_says_what_it_is(backend):
    """`repr` names the inputs and the backend; `source` is the program that runs."""
    x = ms.Placeholder((), name="x")
    f = ms.function(x, outputs=x + 1)
    assert repr(f) == f"<function of (/x) on backend {backend!r}>"
    assert f.source.startswith("def program(input_0):")


def test_an_adapter_that_is_made_inside_of_jit(jax):
    """The first use of JAX may be inside a trace, where new arrays are tracers; a tracer is still no array."""
    script = """
import jax, multisched as ms
jax.jit(ms.linear(1.0, 0.0, 4))(jax.numpy.arange(3))
lr = ms.PiecewiseConstant(0.1, {1: 1.0}, backend="jax")
f = ms.function(outputs=lr, updates=ms.get_updates())
try: jax.jit(lambda x: x + f())(1.0)
except ms.errors.TracedInputError: print(int(lr.counter.value))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0"]


def test_a_function_without_inputs_inside_of_jit(jax):
    """It would keep a traced value in its variable, which is refused; the variable is as it was, and goes on."""
    with ms.use_backend("jax"), ms.Graph("traced"):
        lr = ms.PiecewiseConstant(0.1, {1: 1.0})
        f = ms.function(outputs=lr, updates=ms.get_updates())
        with pytest.raises(errors.TracedInputError, match=r"f\.pure\(state\)"):
            jax.jit(lambda x: x + f())(1.0)
        assert [round(float(f()), 6) for _ in range(3)] == [0.1, 1.0, 1.0]
        outputs, _ = jax.jit(f.pure)(f.state)
        assert float(outputs) == 1.0
