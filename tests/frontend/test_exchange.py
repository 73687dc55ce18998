"""State on JAX's CPU lies in two buffers that take turns: no new memory, and nothing that anybody holds dies."""

import gc
import threading
import warnings

import numpy as np
import pytest
from helpers_interrupts import Interrupt, injected
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms


@pytest.fixture
def taking_turns(jax, monkeypatch):
    """Arrays of any size take turns, and a warning, as of donated buffers that could not be used, is an error."""
    exchange = pytest.importorskip("multisched_backends.jax_exchange")
    monkeypatch.setattr(exchange, "LARGE", 0)
    with warnings.catch_warnings(), ms.use_backend("jax"), ms.Graph("exchange"):
        warnings.simplefilter("error")
        yield exchange


def declared(size=3):
    """Two variables and a counter, a function that adds to all, one that changes some of them, and one that reads."""
    x = ms.Placeholder(())
    v, w = ms.Variable(np.zeros(size), name="v"), ms.Variable(np.ones(size), name="w")
    n = ms.Variable(0, name="n")
    add = ms.function(x, outputs=(v, w * 2), updates={v: v + x, w: w + v, n: n + 1})
    swap = ms.function(outputs=v, updates={v: w, w: v})
    eager = ms.function(x, outputs=w, updates={w: w + x}, jit=False)
    return (v, w, n), (add, swap, eager)


class Model:
    """The same in plain Python: each variable is one number, since all of its elements are equal."""

    def __init__(self):
        self.v, self.w, self.n = 0.0, 1.0, 0

    def add(self, x):
        outputs = [self.v, 2 * self.w]
        self.v, self.w, self.n = self.v + x, self.w + self.v, self.n + 1
        return outputs

    def swap(self):
        self.v, self.w = self.w, self.v
        return [self.w]

    def eager(self, x):
        self.w, before = self.w + x, self.w
        return [before]


EVENTS = ("add", "add", "add", "swap", "swap", "eager", "assign", "reset", "state", "restore", "fail", "nan", "cut off")


def test_sequences_of_calls_and_failures(jax, taking_turns):
    """Whatever happens in whichever order: values are those of the model, and what was handed out stays as it was."""
    (v, w, n), (add, swap, eager) = declared()
    deleted = jax.numpy.float32(1) + 0
    deleted.delete()
    run = add._call.__globals__["run"]

    def cut_off(*arrays):
        run(*arrays)  # what it made never comes into the cells
        raise Interrupt

    @given(st.lists(st.sampled_from(EVENTS), min_size=4, max_size=30))
    def runs(events):
        ms.reset_variables()
        model, held, states = Model(), [], []

        def keep(arrays, expected):
            held.extend(
                (array, [value] * 3 if array.ndim else value) for array, value in zip(arrays, expected, strict=True)
            )

        for event in events:
            if event == "add":
                keep(add(1.0), model.add(1.0))
            elif event == "swap":
                keep([swap()], model.swap())
            elif event == "eager":
                keep([eager(2.0)], model.eager(2.0))
            elif event == "assign":
                given = jax.numpy.full(3, 5.0)
                v.update(given)
                model.v = 5.0
                keep([given], [5.0])
            elif event == "reset":
                w.reset()
                model.w = 1.0
            elif event == "state":
                state = add.state
                states.append((state, (model.v, model.w, model.n)))
                keep(state.values(), (model.v, model.w, model.n))
            elif event == "restore" and states:
                add.state, (model.v, model.w, model.n) = states[-1]
            elif event == "fail":
                with pytest.raises(ms.errors.InputTypeError):
                    add(deleted)
            elif event == "nan":
                with jax.debug_nans(True), pytest.raises(FloatingPointError):
                    add(float("nan"))
            elif event == "cut off":
                add._call.__globals__["run"] = cut_off
                with pytest.raises(Interrupt):
                    add(1.0)
                add._call.__globals__["run"] = run
            keep([v.value, w.value, n.value], [model.v, model.w, model.n])
        for array, value in held:
            assert array.tolist() == value

    runs()


def test_an_exception_at_any_line(taking_turns):
    """Cut off at any line, a call leaves the state as before or as after, and the next ones go on from there."""
    (v, w, n), (add, _, _) = declared()

    def make():
        ms.reset_variables()
        for _ in range(3):
            add(1.0)
        return add.state

    def check(before):
        for later in range(3):
            found = (v.value.tolist(), w.value.tolist(), int(n.value))
            assert found in [([a + later] * 3, [b] * 3, a + later) for a, b in expected[later]]
            add(1.0)
        for path, value in before.items():
            assert value.tolist() == {"/v": [3.0] * 3, "/w": [4.0] * 3, "/n": 3}[path]

    expected = {0: [(3, 4.0), (4, 7.0)], 1: [(3, 7.0), (4, 11.0)], 2: [(3, 11.0), (4, 16.0)]}
    injected(make, lambda _: add(1.0), check, every=1)


def test_threads_lose_no_update(taking_turns):
    """Functions called by several threads at once count all of their calls."""
    v = ms.Variable(np.zeros(1000), name="v")
    one, ten = ms.function(outputs=v, updates={v: v + 1}), ms.function(updates={v: v + 10})
    read = ms.function(outputs=v)
    seen = []

    def work():
        for _ in range(50):
            seen.append(one())
            ten()
            seen.append(read())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert v.value.tolist() == [4 * 50 * 11.0] * 1000
    assert all((array == array[0]).all() for array in seen)


def test_memory_is_used_again(jax):
    """From some calls on a large state lies in the same two buffers, whichever functions update it."""
    exchange = pytest.importorskip("multisched_backends.jax_exchange")
    with ms.use_backend("jax"), ms.Graph("exchange"):
        large = ms.Variable(np.zeros(exchange.LARGE), name="large")
        small = ms.Variable(np.zeros(2), name="small")
        one, half = ms.function(updates={large: large + 1, small: small + 1}), ms.function(updates={large: large * 0.5})
        for _ in range(3):
            one()
        half()
        gc.collect()  # arrays that others left behind
        places, counts = set(), set()
        for _ in range(10):
            for f in (one, half, half, one):
                f()
                counts.add(len(jax.live_arrays()))
        for _ in range(10):
            for f in (one, half, half, one):
                f()
                places.add(large.cell.array.unsafe_buffer_pointer())  # may make an array of its own, in older JAX
        assert (len(places), len(counts)) == (2, 1)
        assert small.cell.memo is None


def test_state_that_is_set_leaves_no_old_array_behind(jax, taking_turns):
    """After an assignment there are the new array and the one whose turn it was, until the next calls go on."""
    v = ms.Variable(np.zeros(3), name="v")
    f = ms.function(updates={v: v + 1})
    alive = len(jax.live_arrays())
    for _ in range(5):
        f()
        f()
        v.update([7.0] * 3)
        assert len(jax.live_arrays()) <= alive + 1
    f()
    assert v.value.tolist() == [8.0] * 3
