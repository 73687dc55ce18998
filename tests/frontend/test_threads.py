"""Threads and tasks: no update is lost, nothing is read half-written, nobody waits forever, contexts stay apart."""

import asyncio
import contextvars
import itertools
import sys
import threading

import numpy as np
import pytest
from helpers import to_numpy
from helpers_frontend import number

import multisched as ms


@pytest.fixture(autouse=True)
def _switching_often():
    """Threads take turns every few microseconds, so that what can go wrong between two of them does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works):
    """Run each in a thread of its own, all at once; what they return, or the first error of one of them."""
    results, failures = [None] * len(works), []
    barrier = threading.Barrier(len(works))

    def run(i, work):
        try:
            barrier.wait(60)
            results[i] = work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(i, work), daemon=True) for i, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "the threads wait for each other"
    if failures:
        raise failures[0]
    return results


def repeat(f, n):
    """A work that calls f n times."""

    def work():
        for _ in range(n):
            f()

    return work


@pytest.mark.parametrize("shared", [True, False], ids=["one function", "two functions"])
def test_two_threads_lose_no_update(backend, shared):
    """Two threads with 10,000 calls each leave a counter at 20,000, through one function or through two."""
    counter = ms.Variable(0, name="counter")
    first = ms.function(updates={counter: counter + 1})
    second = first if shared else ms.function(outputs=counter, updates={counter: counter + 1})
    together(repeat(first, 10_000), repeat(second, 10_000))
    assert number(counter.value, backend) == 20_000


def test_each_call_sees_a_state_of_its_own(backend):
    """Reading, computing and writing are one step: four threads together see each state once."""
    counter = ms.Variable(0)
    f = ms.function(outputs=counter, updates={counter: counter + 1})
    seen = together(*[lambda: [number(f(), backend) for _ in range(500)]] * 4)
    assert sorted(itertools.chain(*seen)) == list(range(2000))
    assert all(own == sorted(own) for own in seen)


def test_opposite_orders_never_deadlock(backend):
    """Functions that name the same variables in opposite orders, as updates or to read, never wait for each other."""
    a, b = ms.Variable(0, name="a"), ms.Variable(0, name="b")
    works = [
        ms.function(updates={a: a + 1, b: b + 1}),
        ms.function(updates={b: b + 1, a: a + 1}),
        ms.function(outputs=(b, a), updates={a: a + 1}),
        ms.function(outputs=(a, b), updates={b: b + 1}),
    ]
    together(*(repeat(f, 500) for f in works))
    assert (number(a.value, backend), number(b.value, backend)) == (1500, 1500)


def test_no_reader_sees_half_an_update(backend):
    """Two variables that are updated together always add up to zero for whoever reads both in one function."""
    a, b = ms.Variable(np.zeros(3000)), ms.Variable(np.zeros(3000))
    write = ms.function(updates={a: a + 1, b: b - 1})
    read = ms.function(outputs=a + b)
    sums = together(repeat(write, 300), lambda: [to_numpy(read(), backend) for _ in range(300)])[1]
    assert not np.any(sums)


def test_a_snapshot_is_of_one_moment(backend):
    """`value` of a large variable, read while another thread updates it, is the same everywhere."""
    a = ms.Variable(np.zeros(3000))
    write = ms.function(updates={a: a + 1})
    snapshots = together(repeat(write, 300), lambda: [to_numpy(a.value, backend) for _ in range(300)])[1]
    assert all(s.min() == s.max() for s in snapshots)


def test_a_state_is_of_one_moment(backend):
    """`f.state`, read while another thread calls f, is the state between two calls, for all variables together."""
    a, b = ms.Variable(0, name="a"), ms.Variable(0, name="b")
    f = ms.function(updates={a: a + 1, b: b - 1})
    states = together(repeat(f, 3000), lambda: [f.state for _ in range(3000)])[1]
    sums = {number(s["/a"], backend) + number(s["/b"], backend) for s in states}
    assert sums == {0}


def test_a_state_is_assigned_at_one_moment(backend):
    """No call of another thread comes between the variables while `f.state` is assigned."""
    a, b = ms.Variable(0, name="a"), ms.Variable(0, name="b")
    f = ms.function(outputs=(a, b), updates={a: a + 1, b: b - 1})
    start = f.state

    def assign():
        for _ in range(1000):
            f.state = start

    seen = together(assign, lambda: [f() for _ in range(2000)])[1]
    assert {number(x, backend) + number(y, backend) for x, y in seen} == {0}


def test_names_stay_unique_among_threads(graph):
    """Threads that declare in one graph get names of their own, and everything is listed."""
    contexts = [contextvars.copy_context() for _ in range(4)]

    def declare():
        return [ms.Variable(0.0, name="w") for _ in range(500)]

    held = together(*(lambda context=context: context.run(declare) for context in contexts))
    names = {v.name for variables in held for v in variables}
    assert names == {"w", *(f"w_{i}" for i in range(1, 2000))}
    assert len(graph.find(ms.Variable)) == 2000


def test_a_thread_starts_with_defaults(backend, graph):
    """The current graph, scope and backend belong to the context: a new thread has those of no other thread."""
    with ms.Scope("outer"), ms.use_backend("array_api_strict" if backend == "numpy" else "numpy"):
        here = ms.current_graph(), ms.current_scope(), ms.get_backend().name
        [there] = together(lambda: (ms.current_graph(), ms.current_scope()))
        [chosen] = together(lambda: contextvars.Context().run(lambda: ms.get_backend().name))
    assert here[0] is graph
    assert here[1] == "/outer/"
    assert there[0] is not graph
    assert there[1] == "/"
    assert chosen == "numpy"


def test_what_a_thread_chooses_is_its_own(backend, graph):
    """A graph, scope or backend chosen in one thread, even for good, changes nothing in another."""

    def choose():
        ms.use_backend("array_api_strict" if backend == "numpy" else "numpy")
        ms.Graph("theirs").__enter__()
        ms.Scope("theirs").__enter__()
        return ms.current_graph(), ms.current_scope(), ms.get_backend().name

    [theirs] = together(choose)
    assert theirs[0] is not graph
    assert theirs[1] == "/theirs/"
    assert (ms.current_graph(), ms.current_scope(), ms.get_backend().name) == (graph, "/", backend)
    assert theirs[2] != backend


def test_a_copied_context_goes_on_where_it_was(backend, graph):
    """Work run in a copy of the context, as executors and tasks do, declares where its starter would have."""
    with ms.Scope("outer"):
        context = contextvars.copy_context()
    [inner] = together(lambda: context.run(lambda: ms.Variable(0.0, name="w")))
    assert inner.graph is graph
    assert inner.path == "/outer/w"
    assert inner.backend.name == backend


@pytest.mark.parametrize("kind", [ms.Graph, ms.Scope])
def test_one_context_manager_serves_two_tasks(kind):
    """Two tasks that enter and leave the same graph or scope in turns each come back to where they were."""
    shared = kind("shared")

    async def task(own):
        with ms.Graph(own) as graph:
            await asyncio.sleep(0)
            with shared:
                await asyncio.sleep(0)
                inside = ms.current_scope()
                if own == "second":  # leaves after the first, which entered first
                    await asyncio.sleep(0)
            return ms.current_graph() is graph, ms.current_scope(), inside

    async def both():
        return await asyncio.gather(task("first"), task("second"))

    inside = "/" if kind is ms.Graph else "/shared/"
    assert asyncio.run(both()) == [(True, "/", inside)] * 2


def test_one_graph_serves_two_threads():
    """Threads that are inside the same graph at the same time each come back to where they were."""
    shared, inside, left = ms.Graph("shared"), threading.Barrier(2), threading.Event()

    def enter(first):
        before = ms.current_graph()
        with shared:
            inside.wait(60)
            assert ms.current_graph() is shared
            if not first:
                left.wait(60)
        left.set()
        return ms.current_graph() is before

    assert together(lambda: enter(True), lambda: enter(False)) == [True, True]
