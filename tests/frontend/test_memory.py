"""Memory: what was declared and dropped is gone, however often, and a function keeps what it needs."""

import gc
import sys
import weakref

import pytest
from helpers import to_numpy

import multisched as ms

resource = pytest.importorskip("resource", reason="only POSIX systems tell the peak memory of a process")

DECLARATIONS = 20_000


def declare():
    """Three declarations, of a variable, an expression and an average of it, dropped at once."""
    variable = ms.Variable(0.0)
    expression = variable * 2 + 1
    ms.ExponentialMovingAverage(expression, 0.9)


def declare_many(n):
    for _ in range(n // 3 + 1):
        declare()
    gc.collect()  # a variable and its recorded update refer to each other


def peak():
    """The most memory that this process ever had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@pytest.fixture
def held_blocks():
    """What Python holds now, in blocks of its allocator, counting nothing that waits to be collected."""

    def count():
        gc.collect()
        return sys.getallocatedblocks()

    return count


def test_memory_stays_flat_over_20_000_declarations(graph, held_blocks):
    """After a warm-up, 20,000 declarations leave neither Python objects nor a higher peak, and empty lists."""
    with ms.use_backend("numpy"):
        declare_many(3_000)
        blocks, mebibytes = held_blocks(), peak()
        declare_many(DECLARATIONS)
        assert held_blocks() - blocks < DECLARATIONS / 100
        assert peak() - mebibytes < 16
        assert (ms.get_variables(), ms.get_ops(), ms.get_placeholders(), ms.get_updates()) == ([], [], [], {})


def test_memory_stays_flat_on_every_backend(backend, held_blocks):
    """A shorter loop of declarations leaves nothing behind on any backend."""
    declare_many(300)
    blocks = held_blocks()
    declare_many(6_000)
    assert held_blocks() - blocks < 2_000  # not one object for each round; free lists vary
    assert (ms.get_variables(), ms.get_ops(), ms.get_updates()) == ([], [], {})


def test_memory_stays_flat_over_functions(backend, held_blocks):
    """Functions that were built, called and dropped are gone, with their variables."""

    def build():
        x, w = ms.Placeholder(()), ms.Variable(0.0)
        f = ms.function(x, outputs=w + x, updates={w: w + x}, jit=False)
        f(1.0)
        f.pure(f.state, 1.0)

    for _ in range(50):
        build()
    blocks = held_blocks()
    for _ in range(600):
        build()
    assert held_blocks() - blocks < 600  # not one object for each function; free lists vary
    assert ms.get_variables() == ms.get_placeholders() == []


def test_memory_stays_flat_over_calls(backend, held_blocks):
    """Calls of one function keep nothing of their inputs, outputs and former states."""
    x, w = ms.Placeholder((8,)), ms.Variable([0.0] * 8)
    f = ms.function(x, outputs=w * x, updates={w: w + x})
    value = [1.0] * 8
    for _ in range(50):
        f(value)
    blocks = held_blocks()
    for _ in range(2_000):
        f(value)
    assert held_blocks() - blocks < 100


def test_the_graph_keeps_no_variable(backend, graph):
    """A variable that nobody holds is neither listed nor alive, though expressions of it were declared."""
    variable = ms.Variable(0.0)
    expression = variable + 1
    ms.add_updates({variable: expression})
    gone = weakref.ref(variable)
    assert ms.get_variables() == [variable]
    del variable, expression
    gc.collect()
    assert gone() is None
    assert graph.find(ms.Tensor) == []


def test_a_function_keeps_what_it_needs(backend):
    """A function goes on working when the user holds nothing else, and its variables stay listed until it is gone."""
    f = ms.function(outputs=ms.PiecewiseConstant(0.5, {2: 2}), updates=ms.get_updates())
    gc.collect()
    assert [to_numpy(f(), backend).item() for _ in range(4)] == [0.5, 0.5, 2.0, 2.0]
    assert [v.path for v in ms.get_variables()] == ["/PiecewiseConstant/step"]
    del f
    gc.collect()
    assert ms.get_variables() == []


def test_names_of_what_is_gone_are_not_given_again(backend):
    """Names do not depend on when garbage is collected: a dropped variable's name stays taken until a reset."""
    assert [ms.Variable(0.0, name="w").name for _ in range(3)] == ["w", "w_1", "w_2"]
    ms.current_graph().reset()
    assert ms.Variable(0.0, name="w").name == "w"
