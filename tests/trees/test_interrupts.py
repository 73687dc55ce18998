"""Interrupts of whole-model averages: model, average and state are as they were before a call, or as after it."""

import copy
import threading
from functools import partial

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_interrupts import THOROUGH, injected, signals

import multisched as ms
from multisched.errors import ReentrantError, SwapError, TornError

SHAPES = {"a": (3,), "b": (2, 2), "c": (), "d": (9000,), "e": (5,), "f": (130, 140)}
WRITABLE = ("numpy", "torch")


class Scenario:
    """A model of ones, with an average that has seen zeros twice: all of its arrays move together."""

    def __init__(self, backend, rule=None, of="float32", **options):
        self.backend, self.of = backend, of
        self.model = self.filled(0)
        self.avg = ms.Average(self.model, rule or ms.ema(0.5), **options)
        self.avg.update(self.model)
        self.avg.update(self.model)
        self.model = self.filled(1)

    def filled(self, value):
        """The model with one value in all arrays: the same arrays if they can be written."""
        if self.backend in WRITABLE and hasattr(self, "model"):
            for array in self.model.values():
                array[...] = value
            return self.model
        tree = {name: make(np.full(shape, value), self.backend, self.of) for name, shape in SHAPES.items()}
        return {**tree, "n": make(np.full(4, value), self.backend, "int32")}

    def update(self, **arguments):
        self.avg.update(self.model, **arguments)

    def held(self):
        """The one number that all averaged leaves hold, that of the copied leaf, and the count."""
        leaves = {name: to_numpy(array, self.backend).astype(np.float64) for name, array in self.avg.value.items()}
        copied = set(leaves.pop("n").ravel().tolist())
        averaged = {number for array in leaves.values() for number in array.ravel().tolist()}
        assert len(copied) == 1
        return averaged, copied.pop(), self.avg.count

    def weights(self):
        return {number for a in self.model.values() for number in to_numpy(a, self.backend).ravel().tolist()}


def is_whole(scenario):
    """All or nothing of one update by a half, from 0 towards 1; and the average goes on from there."""
    assert scenario.held() in [({0.0}, 0, 2), ({0.5}, 1, 3)]
    before = scenario.avg.count
    scenario.update()
    assert scenario.avg.count == before + 1
    assert scenario.weights() == {1.0}


def few(interrupt, backend):
    """A few places or moments in the quick profile: JAX compiles for each scenario."""
    if THOROUGH:
        return {}
    return (
        {"trials": 3 if backend == "jax" else 6} if interrupt is signals else {"every": 67 if backend == "jax" else 19}
    )


def masks(backend):
    return {} if backend == "numpy" else {"where": make(np.array(True), backend, "bool")}


@pytest.mark.parametrize("interrupt", [injected, signals])
@pytest.mark.parametrize("masked", [False, True])
def test_an_update_is_all_or_nothing(backend, masked, interrupt):
    """A count without its values, or some leaves without the others, are never left behind."""
    arguments = masks(backend) if masked else {}
    interrupt(lambda: Scenario(backend), lambda s: s.update(**arguments), is_whole, **few(interrupt, backend))


@pytest.mark.parametrize("rounding", ["stochastic", "compensated"])
@pytest.mark.parametrize("interrupt", [injected, signals])
def test_a_rounded_update_is_all_or_nothing(backend, rounding, interrupt):
    """The steps of a rounding are Python, which other threads run while the one that was called waits."""
    if not ms.get_backend(backend).supports("bfloat16"):
        pytest.skip(f"{backend} has no bfloat16")

    options = {"dtype": "bfloat16", "rounding": rounding}
    interrupt(lambda: Scenario(backend, **options), Scenario.update, is_whole, **few(interrupt, backend))


@pytest.mark.parametrize("interrupt", [injected, signals])
def test_a_half_precision_update_is_all_or_nothing(backend, interrupt):
    """Where dtypes differ, leaves are cast on their way, in memory that is used again."""
    if not ms.get_backend(backend).supports("bfloat16"):
        pytest.skip(f"{backend} has no bfloat16")
    for held in (None, "bfloat16"):
        make_one = partial(Scenario, backend, of="bfloat16", dtype=held)
        interrupt(make_one, Scenario.update, is_whole, **few(interrupt, backend))


@pytest.mark.parametrize("interrupt", [injected, signals])
def test_an_offloaded_update_is_all_or_nothing(interrupt, torch):
    """It blends in what arrived before, and notes what is on its way; each of the two is one step."""

    def run(scenario):
        scenario.update()
        return scenario.avg.value

    for rule in (ms.ema(0.5), ms.paced(ms.ema(0.5), every=1)):
        interrupt(partial(Scenario, "torch", rule, offload="cpu"), run, is_whole, **few(interrupt, "torch"))


# A file that `open` has opened when a signal comes, before `with` has it, is closed by Python, which warns of it.
OPENED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@OPENED
@pytest.mark.parametrize("interrupt", [injected, signals])
def test_a_load_is_all_or_nothing(backend, interrupt, tmp_path):
    """A state of halves replaces an average of zeros, from a dict and from a file, or does not."""
    other = Scenario(backend)
    other.update()
    state, path = other.avg.state_dict(), tmp_path / "average.safetensors"
    ms.save(path, other.avg)
    interrupt(lambda: Scenario(backend), lambda s: s.avg.load_state_dict(state), is_whole, **few(interrupt, backend))
    interrupt(lambda: Scenario(backend), lambda s: ms.load(path, s.avg), is_whole, **few(interrupt, backend))


@OPENED
@pytest.mark.parametrize("interrupt", [injected, signals])
def test_a_save_writes_a_file_or_none(backend, interrupt, tmp_path):
    """What is there after an interrupt is no file, or the whole file, and nothing else."""
    path = tmp_path / "average.safetensors"

    def run(scenario):
        path.unlink(missing_ok=True)
        ms.save(path, scenario.avg)

    def check(scenario):
        assert set(tmp_path.iterdir()) <= {path}
        if path.exists():
            read = Scenario(backend)
            read.update()
            ms.load(path, read.avg)
            assert read.held() == ({0.0}, 0, 2)
        is_whole(scenario)

    interrupt(lambda: Scenario(backend), run, check, **few(interrupt, backend))


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("interrupt", [injected, signals])
def test_a_model_that_the_average_is_copied_to_has_all_of_it(kind, interrupt):
    """Its arrays are all written, or none."""
    pytest.importorskip(kind, reason=f"the test is about {kind}, which is not installed")

    def check(scenario):
        assert scenario.weights() in ({0.0}, {1.0})

    interrupt(lambda: Scenario(kind), lambda s: s.avg.copy_to(s.model), check, **few(interrupt, kind))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of one in `__del__`, when all is paid
@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("interrupt", [injected, signals])
def test_after_a_swap_the_model_has_its_own_weights(kind, interrupt):
    """An interrupt may come before the block, in it, or while it is left: the weights come back, and can be swapped."""
    pytest.importorskip(kind, reason=f"the test is about {kind}, which is not installed")

    def run(scenario):
        with scenario.avg.swapped(scenario.model):
            assert scenario.weights() == {0.0}

    def check(scenario):
        assert scenario.weights() == {1.0}
        run(scenario)
        is_whole(scenario)

    interrupt(lambda: Scenario(kind), run, check, **few(interrupt, kind))


# --- on the same thread, and on others -------------------------------------------------------------------------------
def test_a_call_in_the_middle_of_another_is_refused(backend, monkeypatch):
    """What a callback or a signal handler does with an average that is being updated is refused, in words."""
    scenario = Scenario(backend)
    path, refused = "never written", []
    uses = [
        lambda: scenario.update(),
        lambda: scenario.avg.value,
        lambda: scenario.avg.state_dict(),
        lambda: scenario.avg.copy_to(scenario.filled(1)),
        lambda: scenario.avg.load_state_dict({}),
        lambda: scenario.avg.swapped(scenario.model).__enter__(),
        lambda: ms.save(path, scenario.avg),
    ]
    read = scenario.avg._model.structure.leaves

    def leaves(tree):
        for use in uses:
            with pytest.raises(ReentrantError, match="in the middle of another call"):
                use()
            refused.append(use)
        return read(tree)

    monkeypatch.setattr(scenario.avg._model.structure, "leaves", leaves)
    scenario.update()
    monkeypatch.undo()
    assert len(refused) == len(uses)
    assert scenario.held() == ({0.5}, 1, 3)


def test_other_threads_wait(backend):
    """Updates of many threads all count, and readers see whole averages."""
    scenario = Scenario(backend, rule=ms.ema(0.5))
    torn, done = [], threading.Event()

    def read():
        while not done.is_set():
            averaged, _, _ = scenario.held()
            if len(averaged) > 1:
                torn.append(averaged)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=lambda: [scenario.update() for _ in range(5)]) for _ in range(4)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert not torn
    assert scenario.avg.count == 22


# --- failures --------------------------------------------------------------------------------------------------------
def test_a_kernel_that_fails_in_the_middle_leaves_a_torn_average(backend, monkeypatch):
    """Then all but loading is refused, in words; after it the average goes on."""
    scenario = Scenario(backend)
    state = scenario.avg.state_dict()
    pool = scenario.avg._contents.latest

    def fail():
        raise MemoryError("out of memory")

    whole = pool.blending
    monkeypatch.setattr(pool, "blending", lambda *args, **kwargs: [fail, *whole(*args, **kwargs)])
    with pytest.raises(MemoryError) as raised:
        scenario.update()
    monkeypatch.undo()
    assert "torn" in raised.value.__notes__[0]
    for use in (
        scenario.update,
        lambda: scenario.avg.value,
        lambda: scenario.avg.count,
        lambda: scenario.avg.snapshot(),
        lambda: scenario.avg.state_dict(),
        lambda: scenario.avg.copy_to(scenario.model),
        lambda: scenario.avg.swapped(scenario.model).__enter__(),
        lambda: ms.save("never written", scenario.avg),
    ):
        with pytest.raises(TornError, match="Load a state"):
            use()
    with pytest.raises(ms.errors.CheckpointMismatch):
        scenario.avg.load_state_dict({})
    with pytest.raises(TornError):
        scenario.update()
    scenario.avg.load_state_dict(state)
    is_whole(scenario)


def test_a_job_that_fails_in_another_thread_stops_the_update(monkeypatch):
    """Its error is raised, nothing is written any more by then, and the average is torn."""
    from multisched_backends import numpy_blend

    scenario = Scenario("numpy", dtype="bfloat16", rounding="stochastic")
    state = scenario.avg.state_dict()

    def step(*args):
        raise MemoryError("out of memory")

    monkeypatch.setattr(numpy_blend, "_step", step)
    with pytest.raises(MemoryError):
        scenario.update()
    monkeypatch.undo()
    with pytest.raises(TornError):
        scenario.update()
    scenario.avg.load_state_dict(state)
    is_whole(scenario)


def test_arrays_of_jax_that_were_donated_are_named(jax):
    """A leaf that was given to a function that consumed it is an error with its name, and nothing has changed."""
    consume = jax.jit(lambda w: w + 1, donate_argnums=0)
    scenario = Scenario("jax")
    scenario.update()
    state, given = scenario.avg.state_dict(), scenario.filled(1)
    consume(given["d"])
    with pytest.raises(ms.errors.TreeMismatch, match="'d' has no values any more"):
        scenario.avg.update(given)
    assert scenario.held() == ({0.5}, 1, 3)
    with pytest.raises(ms.errors.LeafError, match="'d' has no values any more"):
        ms.Average(given, ms.ema(0.5))
    consume(state["average"]["a"])
    with pytest.raises(ms.errors.CheckpointMismatch, match="average/a has no values any more"):
        scenario.avg.load_state_dict(state)
    assert scenario.held() == ({0.5}, 1, 3)


def test_arrays_of_an_average_that_are_gone_tear_it(jax):
    """If XLA fails after it was given the arrays, they are deleted: loading makes them again."""
    scenario = Scenario("jax")
    state = scenario.avg.state_dict()
    for array in scenario.avg._contents.mean.all:
        array.delete()
    for use in (scenario.update, lambda: scenario.avg.value, lambda: scenario.avg.state_dict()):
        with pytest.raises(TornError):
            use()
    scenario.avg.load_state_dict(state)
    is_whole(scenario)


def test_errors_of_a_debugged_update_leave_the_average(jax):
    """With `jax_debug_nans` an update may raise when it is done: it does not consume what it would replace."""
    scenario = Scenario("jax")
    scenario.update()
    bad = {**scenario.filled(1), "d": jax.numpy.full(9000, np.nan)}
    with jax.debug_nans(True):
        with pytest.raises(FloatingPointError):
            scenario.avg.update(bad)
        assert scenario.held() == ({0.5}, 1, 3)
        scenario.update()
    assert scenario.held() == ({0.75}, 1, 4)
    scenario.avg.update(bad)
    assert scenario.avg.count == 5


# --- copies of what is in use ----------------------------------------------------------------------------------------
def test_copies_of_a_swapped_model_hold_the_average(torch):
    """A model that is copied inside of the block is a model with the average; the block itself is not copied."""
    model = torch.nn.Linear(2, 2)
    avg = ms.Average(model, ms.ema(0.5))
    with torch.no_grad():
        model.weight.fill_(3)
    swap = avg.swapped()
    with swap:
        other = copy.deepcopy(model)
        with pytest.raises(ms.errors.AverageError, match="neither copied nor pickled"):
            copy.deepcopy(swap)
        with pytest.raises(SwapError, match="in use"):
            swap.__enter__()
    assert torch.all(model.weight == 3)
    assert torch.equal(other.weight, avg.value["weight"])
