"""What becomes of a graph: straight-line programs that compute each thing once, share no memory, and never recurse."""

import itertools
import sys

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import overwrite
from helpers_laws import shares_memory

import multisched as ms
from multisched.graph.program import ordered

VIEWS = {
    "the tensor itself": lambda xp, x: x,
    "a slice": lambda xp, x: x[1:, :],
    "a row": lambda xp, x: x[0, :],
    "backwards": lambda xp, x: x[::-1, :],
    "all of it": lambda xp, x: x[...],
    "reshape": lambda xp, x: xp.reshape(x, (4,)),
    "reshape to its own shape": lambda xp, x: xp.reshape(x, (2, 2)),
    "permute_dims": lambda xp, x: xp.permute_dims(x, (1, 0)),
    "transpose": lambda xp, x: x.mT,
    "expand_dims": lambda xp, x: xp.expand_dims(x, axis=0),
    "squeeze of expand_dims": lambda xp, x: xp.squeeze(xp.expand_dims(x, axis=0), axis=0),
    "broadcast_to": lambda xp, x: xp.broadcast_to(x, (3, 2, 2)),
    "astype to its own dtype": lambda xp, x: xp.astype(x, xp.float32),
    "positive": lambda xp, x: +x,
    "real": lambda xp, x: xp.real(x),
    "conj": lambda xp, x: xp.conj(x),
    "round": lambda xp, x: xp.round(x),
    "concat of one": lambda xp, x: xp.concat([x]),
    "clip without bounds": lambda xp, x: xp.clip(x),
    "clip": lambda xp, x: xp.clip(x, -100, 100),
    "where": lambda xp, x: xp.where(x == x, x, 0.0),
    "sum over no axes": lambda xp, x: xp.sum(x, axis=()),
    "max over an axis of length 1": lambda xp, x: xp.max(xp.expand_dims(x, axis=0), axis=0),
    "take": lambda xp, x: xp.take(x, xp.asarray([0, 1]), axis=0),
}
START = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_results_share_no_memory(view, backend):
    """What might be a view comes apart: from the input, from itself returned twice, and from the variable."""
    x, w = ms.Placeholder((2, 2)), ms.Variable(START)
    xp = x.__array_namespace__()
    f = ms.function(x, outputs=[view(xp, x), view(xp, x), view(xp, w), view(xp, w), x, w])
    given = make(START, backend)
    arrays = [given, *f(given), w.cell.array]
    assert not [
        pair for pair in itertools.combinations(range(len(arrays)), 2) if shares_memory(*(arrays[i] for i in pair))
    ]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_updates_read_what_was_there_before(view, backend):
    """Two variables that swap views of each other, and hand them out, use the values from before the call."""
    a, b = ms.Variable(START), ms.Variable(np.negative(START).tolist())
    xp = a.__array_namespace__()

    def part(t):
        return xp.sum(view(xp, t)) + xp.zeros_like(t)

    of_a, of_b = (np.full((2, 2), float(to_numpy(ms.function(outputs=part(v))(), backend)[0, 0])) for v in (a, b))
    f = ms.function(outputs=[view(xp, a), view(xp, b)], updates={a: part(b), b: part(a)})
    handed = f()
    before = [to_numpy(array, backend).copy() for array in handed]
    values = [to_numpy(v.value, backend) for v in (a, b)]
    f()
    np.testing.assert_array_equal(values, [of_b, of_a])
    np.testing.assert_array_equal([to_numpy(array, backend) for array in handed], before)


def test_swaps_without_a_copy_between(backend):
    """`{a: b, b: a}` swaps; a view of itself may be the new value of a variable."""
    a, b = ms.Variable([1.0, 2.0, 3.0]), ms.Variable([4.0, 5.0, 6.0])
    swap, turn = ms.function(updates={a: b, b: a}), ms.function(updates={a: a[::-1]})
    swap()
    turn()
    assert [to_numpy(v.value, backend).tolist() for v in (a, b)] == [[6.0, 5.0, 4.0], [1.0, 2.0, 3.0]]


def test_donated_state_leaves_outputs_alive(backend):
    """What calls handed out keeps its value through later calls, and so does a snapshot: state alone is overwritten."""
    w = ms.Variable([0.0, 0.0])
    f = ms.function(outputs=[w, w + 1, w[:1]], updates={w: w + 1})
    handed = [f() for _ in range(4)] + [[w.value] * 3]
    for i, (value, new, first) in enumerate(handed[:4]):
        found = [to_numpy(array, backend).tolist() for array in (value, new, first)]
        assert found == [[float(i)] * 2, [i + 1.0] * 2, [float(i)]]
    assert to_numpy(handed[4][0], backend).tolist() == [4.0, 4.0]


def test_writing_into_results_changes_nothing_else(backend):
    """Outputs and inputs are the caller's to overwrite: neither the next call nor a variable sees it."""
    x, w = ms.Placeholder((2,)), ms.Variable([1.0, 1.0])
    f = ms.function(x, outputs=[x, w, w + x], updates={w: x})
    given = make([5.0, 6.0], backend)
    results = f(given)
    for array in (*results, given):
        overwrite(array, -1.0)
    assert to_numpy(w.value, backend).tolist() == [5.0, 6.0]
    assert to_numpy(f(make([0.0, 0.0], backend))[2], backend).tolist() == [5.0, 6.0]


@pytest.fixture
def counted(monkeypatch, backend):
    """Counts how often a program calls each function of the array API, in `counted[name]`."""
    counts = {}
    adapter = ms.get_backend(backend)
    get = adapter.operation

    def operation(name):
        function = get(name)

        def call(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(adapter, "operation", operation)
    return counts


def test_a_shared_subexpression_is_computed_once(counted, backend):
    """However often outputs and updates use a tensor, each call computes it once."""
    x, w = ms.Placeholder((2,)), ms.Variable([0.0, 0.0])
    xp = x.__array_namespace__()
    shared = xp.exp(x)
    f = ms.function(x, outputs=[shared, shared * shared, xp.log(shared)], updates={w: w + shared}, jit=False)
    f(make([0.0, 1.0], backend))
    assert (counted["exp"], counted["log"]) == (1, 1)


def test_what_nobody_asks_for_is_not_computed(counted, backend):
    """Declared things that no output and no passed update needs do not run, nor do their placeholders need a value."""
    x, unused = ms.Placeholder((2,)), ms.Placeholder((2,))
    w = ms.Variable([0.0, 0.0])
    xp = x.__array_namespace__()
    dead = [xp.sin(x), xp.cos(unused)]
    ms.add_updates({w: w + xp.tanh(x)})
    ms.function(x, outputs=xp.exp(x), jit=False)(make([0.0, 1.0], backend))
    assert set(counted) <= {"exp", "copy"}
    assert counted["exp"] == 1
    assert len(dead) == 2


def test_many_calls_are_traced_once(counted, backend):
    """JAX traces a function at its first call alone, whoever made the input; elsewhere it runs at each call."""
    x, w = ms.Placeholder((2,)), ms.Variable([0.0, 0.0])
    f = ms.function(x, outputs=x.__array_namespace__().tanh(x), updates={w: w + x})
    makers = [lambda v: make(v, backend), np.float32, lambda v: v, lambda v: tuple(np.float64(v))]
    for i in range(100):
        f(makers[i % 4]([1.0, i]))
    assert counted["tanh"] == (1 if backend == "jax" else 100)
    assert to_numpy(w.value, backend).tolist() == [100.0, 4950.0]


def test_source_is_deterministic(backend):
    """Declared twice alike, functions have the same source: names in it do not depend on what was there before."""

    def source():
        with ms.Graph("source"):
            x = ms.Placeholder((2,))
            ema, _ = ms.ExponentialMovingAverage(x * 2 + 1, 0.9)
            return ms.function(x, outputs=[ema, x], updates=ms.get_updates()).source

    first = source()
    kept = [ms.Variable(0.0) for _ in range(3)]
    assert source() == first
    assert first.startswith("def program(")
    assert len(kept) == 3


def chain(x, operations):
    for _ in range(operations // 2):
        x = x * 0.5 + 1.0
    return x


def test_deep_graphs(backend):
    """An expression of 2,000 operations upon one another runs within Python's usual limit of recursion."""
    assert sys.getrecursionlimit() < 2000
    x = ms.Placeholder((2,))
    tensor = chain(x, 2000)
    assert sum(t.kind == "Op" for t in ordered([tensor])) == 2000
    jit = backend != "jax"  # XLA's compiler would take seconds, and is not what is tested
    result = ms.function(x, outputs=tensor, jit=jit)(make([0.0, 8.0], backend))
    expected = np.float32([0.0, 8.0])
    for _ in range(1000):
        expected = expected * np.float32(0.5) + np.float32(1.0)
    np.testing.assert_array_equal(to_numpy(result, backend), expected)


def test_deep_graphs_that_branch_at_each_level(backend):
    """A tensor that is used twice by the next, 200 times over, is walked once: 2**200 paths lead through it."""
    x = ms.Placeholder(())
    tensor = x
    for _ in range(200):
        tensor = (tensor + tensor) * 0.5
    assert float(to_numpy(ms.function(x, outputs=tensor, jit=False)(3.0), backend)) == 3.0


def test_deep_graphs_are_freed(backend):
    """A deep expression that nobody holds any more goes without recursion."""
    x = ms.Placeholder(())
    tensor = chain(x, 20_000)
    del tensor
    assert ms.get_ops() == []


def test_order_puts_needs_first():
    """In the order of a program each tensor comes once, after all that it needs."""
    x = ms.Placeholder((2,), backend="numpy")
    a = x + 1
    b, c = a * x, a - 2
    roots = [c / b, b]
    found = ordered(roots)
    assert len(found) == len(set(found))
    position = {tensor: i for i, tensor in enumerate(found)}
    for op in (t for t in found if t.kind == "Op"):
        assert all(position[t] < position[op] for t in op.args if isinstance(t, ms.Tensor))
    assert {x, a, b, c, *roots} <= set(found)
