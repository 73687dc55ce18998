"""Functions of any size: hundreds of variables, inputs and outputs, deep graphs and deep structures."""

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import number

import multisched as ms
from multisched import errors
from multisched.graph.tensor import Op

MANY = 300


def test_a_function_of_many_variables(backend):
    """300 averages of 300 inputs give 300 outputs, as the formula of one of them does, and all are updated."""
    inputs = [ms.Placeholder((), name=f"x{i}") for i in range(MANY)]
    averages = [ms.ExponentialMovingAverage(x, 0.5)[0] for x in inputs]
    f = ms.function(*inputs, outputs=averages, updates=ms.get_updates(), jit=False)
    f(*[make(float(i), backend) for i in range(MANY)])
    outputs = f(*[make(float(i + 2), backend) for i in range(MANY)])
    assert [number(out, backend) for out in outputs] == [i + 1 for i in range(MANY)]
    assert len(f.state) == 2 * MANY
    assert [number(a.variables[0].value, backend) for a in averages] == [i + 1 for i in range(MANY)]


@pytest.mark.parametrize("count", [16, 17, 32, 33])
def test_as_many_locks_as_a_with_names_and_one_more(backend, count):
    """At the numbers of variables where the generated source changes its form, all are read and written."""
    variables = [ms.Variable(float(i)) for i in range(count)]
    f = ms.function(outputs=variables, updates={v: v + 1 for v in variables}, jit=False)
    f()
    assert [number(out, backend) for out in f()] == [i + 1 for i in range(count)]
    assert all(f._call.__globals__[f"lock_{i}"].acquire(blocking=False) for i in range(count))


def test_state_of_many_variables(backend, tmp_path):
    """More variables than Python nests calls are saved, loaded, read, assigned and reset together."""
    count = 1100 if backend == "numpy" else 100
    variables = [ms.Variable(float(i), name="v") for i in range(count)]
    f = ms.function(updates={v: v + 1 for v in variables}, jit=False)
    before = f.state
    ms.save_variables(tmp_path / "many.safetensors")
    f()
    assert number(variables[-1].value, backend) == count
    ms.load_variables(tmp_path / "many.safetensors")
    assert number(variables[-1].value, backend) == count - 1
    f()
    f.state = before
    assert number(variables[-1].value, backend) == count - 1
    f()
    ms.reset_variables()
    assert number(variables[-1].value, backend) == count - 1


def test_a_deep_graph(backend):
    """A chain of 3,000 operations compiles, runs and is dropped."""
    x = ms.Placeholder(())
    total = x
    for _ in range(3000):
        total = total + 1
    f = ms.function(x, outputs=total, jit=False)
    assert number(f(make(2.0, backend)), backend) == 3002


def test_a_chain_of_averages(backend):
    """A hundred averages of each other's fixed value: which of two values counts is found once for each."""
    x = ms.Placeholder(())
    value, averages = x, []
    for _ in range(100):
        average, value = ms.ExponentialMovingAverage(value, 0.5)
        averages.append(average)
    f = ms.function(x, outputs=averages[-1], updates=ms.get_updates(), jit=False)
    assert number(f(make(2.0, backend)), backend) == 2
    without = ms.function(outputs=value, jit=False)  # no placeholder is given
    assert number(without(), backend) == 2


def test_names_for_names(backend):
    """A value that goes by many names is the value."""
    v = ms.Variable(3.0)
    named = v
    for _ in range(3000):
        named = Op("identity", (named,), {}, named.shape, named.dtype, named.xp)
    assert number(ms.function(outputs=named)(), backend) == 3


def nested(depth, leaf):
    for i in range(depth):
        leaf = ([leaf], (leaf,), {"a": leaf})[i % 3] if i < depth - 3 else [leaf]
    return leaf


def unnested(value):
    depth = 0
    while isinstance(value, list | tuple | dict):
        (value,), depth = (value.values() if isinstance(value, dict) else value), depth + 1
    return value, depth


def test_deep_structures_of_outputs(backend):
    """Outputs in 2,000 nested containers come back in the same ones."""
    v = ms.Variable(3.0)
    value, depth = unnested(ms.function(outputs=nested(2000, v))())
    assert (number(value, backend), depth) == (3, 2000)


def test_structures_come_back_as_they_were(backend):
    """Tuples, named tuples, lists and dicts, empty ones and None among them, nested, keep types, order and keys."""
    from collections import namedtuple

    Pair = namedtuple("Pair", "first second")
    a, b = ms.Variable(1.0), ms.Variable(2.0)
    cases = [
        ((), ()),
        ([], []),
        ({}, {}),
        ((a,), (1,)),
        ([a, b], [1, 2]),
        ({"x": b, 1: a}, {"x": 2, 1: 1}),
        (Pair(a, b), Pair(1, 2)),
        ({"p": Pair([a, None], ()), "q": (b, {"r": a})}, {"p": Pair([1, None], ()), "q": (2, {"r": 1})}),
        ([None, None], [None, None]),
        ([[], a], [[], 1]),
        (([a, b], a), ([1, 2], 1)),
    ]
    for outputs, expected in cases:
        given = ms.function(outputs=outputs)(device_get=True)
        assert repr(numbers(given)) == repr(expected)


def numbers(part):
    if isinstance(part, np.ndarray):
        return int(part)
    if isinstance(part, dict):
        return {key: numbers(value) for key, value in part.items()}
    if isinstance(part, tuple | list):
        parts = [numbers(value) for value in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    return part


def test_structures_that_are_none():
    """A container that contains itself, or something that is no tensor deep inside, is an error that says where."""
    a = ms.Variable(1.0)
    circle = [a]
    circle.append({"again": circle})
    with pytest.raises(errors.NotATensor, match=r"outputs\[1\]\['again'\] is a list that contains itself"):
        ms.function(outputs=circle)
    with pytest.raises(errors.NotATensor, match=r"outputs\[0\].*\[0\] must be a declared tensor.*got 7"):
        ms.function(outputs=nested(2000, 7))
    twice = [a]
    assert len(ms.function(outputs=[twice, twice])()) == 2  # the same one beside itself is fine


def test_names_and_numbers_are_no_source(backend):
    """Whatever a name says, and whatever the kind of a number, the generated source means the same."""
    import enum

    class Level(enum.IntEnum):
        LOW = 2

        def __repr__(self):
            return "__import__('os').abort()"

    class Loud(float):
        def __repr__(self):
            return "__import__('os').abort()"

    for name in ["a'b", 'a"""b', "lambda", "x; import os", "ü{x}", "%s", "\\", "run", "(", "#", "input_0", "None"]:
        with ms.Scope(name):
            x, v = ms.Placeholder((Level.LOW,), name=name), ms.Variable([1.0, 2.0], name=name)
            f = ms.function(x, outputs=v * Level.LOW + Loud(0.5), updates={v: v + x})
            assert to_numpy(f(make([1.0, 1.0], backend)), backend).tolist() == [2.5, 4.5]
            assert list(f.state) == [f"{v.scope}{v.name}"]
            assert to_numpy(v.value, backend).tolist() == [2.0, 3.0]
    for name in ["a\nb", "a\x00", "a/b", "", "a*", "\ud800"]:
        with pytest.raises(errors.InvalidName):
            ms.Variable(1.0, name=name)
