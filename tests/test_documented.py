"""The two documented examples, as written in the reference with `symjax.` read as `ms.`, and updates as a choice."""

import numpy as np
import pytest
from helpers import DOCUMENTED_EMA, documented_inputs, to_numpy, ulps

import multisched as ms

PRINTED_STEPS = """\
0 0.1
1 0.1
2 0.1
3 0.1
4 1.0
5 1.0
6 1.0
7 1.0
8 2.0
9 2.0
"""

PRINTED_PIECEWISE = (
    "{Variable(name=step, shape=(), dtype=int32, trainable=False, scope=/PiecewiseConstant/): "
    "Op(name=add, fn=add, shape=(), dtype=int32, scope=/PiecewiseConstant/)}"
)

PRINTED_EMA = (
    "{Variable(name=EMA, shape=(2,), dtype=float32, trainable=False, scope=/ExponentialMovingAverage/): "
    "Op(name=where, fn=where, shape=(2,), dtype=float32, scope=/ExponentialMovingAverage/), "
    "Variable(name=first_step, shape=(), dtype=bool, trainable=False, scope=/ExponentialMovingAverage/): False}"
)


# --- the documented examples -----------------------------------------------------------------------------------------
def test_piecewise_constant_prints_the_documented_updates_and_steps(backend, capsys):
    """The first example prints what is documented, to the character."""
    ms.current_graph().reset()
    var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
    print(ms.get_updates())
    f = ms.function(outputs=var, updates=ms.get_updates())
    for i in range(10):
        print(i, f(device_get=True))
    assert capsys.readouterr().out == PRINTED_PIECEWISE + "\n" + PRINTED_STEPS


def test_piecewise_constant_gives_the_documented_numbers(backend):
    """The ten outputs, arrays of the backend in float32, are within 4 units of the documented numbers."""
    var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
    f = ms.function(outputs=var, updates=ms.get_updates())
    outputs = [f() for _ in range(10)]
    assert all(ms.get_backend(backend).owns(output) for output in outputs)
    numbers = [to_numpy(output, backend) for output in outputs]
    assert {(n.dtype.name, n.shape) for n in numbers} == {("float32", ())}
    documented = [np.float32(line.split()[1]) for line in PRINTED_STEPS.splitlines()]
    assert ulps(np.stack(numbers), documented) <= 4


def test_exponential_moving_average_prints_the_documented_updates(backend):
    """The updates of the second example print as documented: names, shapes, dtypes, scopes and functions."""
    ms.current_graph().reset()
    value = ms.Placeholder((2,), "float32")
    ms.ExponentialMovingAverage(value, 0.9)
    assert str(ms.get_updates()) == PRINTED_EMA


def test_exponential_moving_average_gives_the_documented_numbers(backend):
    """Each of the 25 outputs is within 4 units in the last place of float32 of the documented number."""
    np.random.seed(0)  # as documented: the numbers come from this seed
    value = ms.Placeholder((2,), "float32")
    ema, _ = ms.ExponentialMovingAverage(value, 0.9)
    f = ms.function(value, outputs=ema, updates=ms.get_updates())
    outputs = [to_numpy(f(np.ones(2) + np.random.randn(2) * 0.3), backend) for _ in range(25)]
    assert {(o.dtype.name, o.shape) for o in outputs} == {("float32", (2,))}
    for output, documented in zip(outputs, DOCUMENTED_EMA, strict=True):
        assert ulps(output, documented) <= 4


# --- updates are the user's choice -----------------------------------------------------------------------------------
def test_without_updates_nothing_changes(backend):
    """A function built without updates never changes a variable, though its outputs would advance."""
    value = ms.Placeholder((2,))
    lr = ms.PiecewiseConstant(0.1, {1: 1})
    latest, _ = ms.ExponentialMovingAverage(value, 0.5)
    before = {v.path: to_numpy(v.value, backend) for v in ms.get_variables()}
    f = ms.function(value, outputs=(lr, latest))
    results = [f(np.full(2, i), device_get=True) for i in range(3)]
    assert [float(r[0]) for r in results] == [float(np.float32(0.1))] * 3
    assert [r[1].tolist() for r in results] == [[i, i] for i in range(3)]  # the first value, each time
    for v in ms.get_variables():
        assert np.array_equal(to_numpy(v.value, backend), before[v.path])


def test_fixed_stays_put_while_latest_follows(backend):
    """In a function without updates `fixed_ema` is the average of the past; `ema` includes the value given."""
    value = ms.Placeholder(())
    latest, fixed = ms.ExponentialMovingAverage(value, 0.5)
    train = ms.function(value, outputs=(latest, fixed), updates=ms.get_updates())
    test = ms.function(value, outputs=(latest, fixed))
    alone = ms.function(outputs=fixed)
    assert [tuple(map(float, train(x))) for x in (4.0, 2.0, 7.0)] == [(4.0, 4.0), (3.0, 4.0), (5.0, 3.0)]
    assert [tuple(map(float, test(x))) for x in (5.0, 9.0, -5.0)] == [(5.0, 5.0), (7.0, 5.0), (0.0, 5.0)]
    assert [float(alone()), float(alone()), float(fixed.value)] == [5.0, 5.0, 5.0]


def test_two_functions_share_a_variable(backend):
    """What one function writes, another reads at its next call, and writes further."""
    lr = ms.PiecewiseConstant(0.0, {1: 1, 2: 2, 3: 3, 4: 4})
    advance = ms.function(outputs=lr, updates=ms.get_updates())
    again = ms.function(updates=ms.get_updates())
    look = ms.function(outputs=lr)
    seen = [float(look()), float(advance()), float(look()), again(), float(look()), float(advance()), float(look())]
    assert seen == [0.0, 0.0, 1.0, None, 2.0, 2.0, 3.0]
    assert int(lr.counter.value) == 3


def test_a_subset_of_the_updates(backend):
    """Only the updates that are passed are applied."""
    first = ms.PiecewiseConstant(0.0, {1: 1})
    second = ms.PiecewiseConstant(0.0, {1: 1})
    updates = ms.get_updates(scope="/PiecewiseConstant_1/")
    assert list(updates) == [second.counter]
    f = ms.function(outputs=(first, second), updates=updates)
    assert [tuple(map(float, f())) for _ in range(2)] == [(0.0, 0.0), (0.0, 1.0)]
    assert (int(first.counter.value), int(second.counter.value)) == (0, 2)


def test_updates_written_by_the_user(backend):
    """`{w: w - lr * g, **ms.get_updates()}` descends with the rate of each step, and returns the state before."""
    g = ms.Placeholder((2,), name="g")
    w = ms.Variable([1.0, -1.0], name="w")
    lr = ms.PiecewiseConstant(0.5, {2: 0.25})
    f = ms.function(g, outputs={"w": w, "lr": lr}, updates={w: w - lr * g, **ms.get_updates()})
    expected, rates = np.array([1.0, -1.0]), [0.5, 0.5, 0.25, 0.25]
    for step, rate in enumerate(rates):
        gradient = np.array([1.0, 2.0 * step])
        result = f(gradient, device_get=True)
        assert float(result["lr"]) == rate
        assert result["w"].tolist() == expected.tolist()  # before this call's update
        expected = expected - rate * gradient
        assert to_numpy(w.value, backend).tolist() == expected.tolist()


def test_updates_are_simultaneous(backend):
    """All new values are computed from the state before the call: two variables can be exchanged."""
    a, b = ms.Variable([1.0, 2.0], name="a"), ms.Variable([3.0, 4.0], name="b")
    total = ms.Variable([0.0, 0.0], name="total")
    f = ms.function(outputs=[a + b, total], updates={a: b, b: a, total: total + a})
    seen = [[part.tolist() for part in f(device_get=True)] for _ in range(3)]
    assert seen == [[[4, 6], [0, 0]], [[4, 6], [1, 2]], [[4, 6], [4, 6]]]
    values = [to_numpy(v.value, backend).tolist() for v in (a, b, total)]
    assert values == [[3, 4], [1, 2], [5, 8]]


def test_an_update_through_a_view_reads_the_state_before(backend):
    """An update that is a view of its own variable is not overwritten while it is read."""
    start = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    square, column = ms.Variable(start, name="square"), ms.Variable(np.zeros(3, np.float32), name="column")
    f = ms.function(outputs=square[:, 0], updates={square: square.T, column: square[:, 0]})
    assert f(device_get=True).tolist() == [0, 3, 6]
    assert to_numpy(square.value, backend).tolist() == start.T.tolist()
    assert to_numpy(column.value, backend).tolist() == [0, 3, 6]


def test_an_update_may_reverse_its_variable(backend):
    """A slice with a negative step, which is in the array API standard, runs on every backend."""
    w = ms.Variable([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], name="w")
    ms.function(updates={w: w[:, ::-1]})()
    assert to_numpy(w.value, backend).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize("structure", ["tensor", "list", "tuple", "dict", "none"])
def test_outputs_come_back_as_they_were_given(backend, structure):
    """`outputs` may be one tensor, a list, tuple or dict of them, or None; the result has the same form."""
    v = ms.Variable(2.0, name="v")
    asked = {"tensor": v, "list": [v, v + 1], "tuple": (v, (v + 1, None)), "dict": {"a": v}, "none": None}[structure]
    expected = {"tensor": 2.0, "list": [2.0, 3.0], "tuple": (2.0, (3.0, None)), "dict": {"a": 2.0}, "none": None}
    assert ms.function(outputs=asked)(device_get=True) == expected[structure]


def test_the_inputs_are_those_that_the_documented_seed_gives():
    """`helpers.documented_inputs`, which other tests use, gives the inputs of the documented example."""
    np.random.seed(0)
    assert all(np.array_equal(x, np.ones(2) + np.random.randn(2) * 0.3) for x in documented_inputs())
