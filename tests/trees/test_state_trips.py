"""States of averages on their way through what people save states with, on every backend that it takes arrays of."""

import copy
import io
import pickle

import numpy as np
import pytest

import multisched as ms

STEPS = 3


def tree(name, step):
    """Leaves with names that paths and keys of other formats might take apart."""
    backend = ms.get_backend(name)
    return {
        "w.x/y": backend.asarray(np.arange(3.0) + step, "float32"),
        "scalar": backend.asarray(np.asarray(1.5 * step), "float32"),
        "n": backend.asarray(np.asarray(step), "int32"),
        "on": backend.asarray(np.asarray([True, False]), "bool"),
    }


def averaged(name, masked, updates=STEPS):
    """An average, whose last update was masked, if it was, by an array."""
    average = ms.Average(tree(name, 0), ms.ema(0.5, debias=True), backend=name)
    for step in range(updates):
        average.update(tree(name, step))
    if masked:
        average.update(tree(name, 9), where=ms.get_backend(name).asarray(np.asarray(False), "bool"))
    return average


def by_flax(state, folder):
    serialization = pytest.importorskip("flax.serialization", reason="the test is about Flax, which is not installed")
    return serialization.msgpack_restore(serialization.msgpack_serialize(serialization.to_state_dict(state)))


def by_flax_and_a_target(state, folder):
    serialization = pytest.importorskip("flax.serialization", reason="the test is about Flax, which is not installed")
    return serialization.from_bytes(state, serialization.to_bytes(state))


def by_equinox(state, folder):
    equinox = pytest.importorskip("equinox", reason="the test is about Equinox, which is not installed")
    arrays, others = equinox.partition(state, equinox.is_array_like)
    equinox.tree_serialise_leaves(folder / "file", arrays)
    return equinox.combine(equinox.tree_deserialise_leaves(folder / "file", arrays), others)


def by_orbax(state, folder):
    orbax = pytest.importorskip("orbax.checkpoint", reason="the test is about Orbax, which is not installed")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state")


def by_torch(state, folder):
    torch = pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    torch.save(state, folder / "file")
    arrays = {type(array).__module__.partition(".")[0] for array in state["average"].values()}
    return torch.load(folder / "file", weights_only=arrays == {"torch"})


def by_pickle(state, folder):
    return pickle.load(io.BytesIO(pickle.dumps(state)))


def by_copy(state, folder):
    return copy.deepcopy(state)


EVERY = ("numpy", "jax", "torch", "array_api_strict")
WAYS = {by_pickle: EVERY, by_copy: EVERY, by_torch: EVERY, by_orbax: EVERY}
WAYS |= dict.fromkeys((by_flax, by_flax_and_a_target, by_equinox), ("numpy", "jax"))  # they take no other arrays


@pytest.mark.filterwarnings("ignore")  # those of the libraries
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.removeprefix("by_"))
def test_a_state_comes_back(backend, tmp_path, way, masked):
    """The count and every array come back to the bit, and the average goes on as the one that was saved."""
    if backend not in WAYS[way]:
        pytest.skip("the library takes no arrays of this backend")
    average, other = averaged(backend, masked), averaged(backend, masked=False, updates=0)
    other.load_state_dict(way(average.state_dict(), tmp_path))
    for _ in range(2):
        assert other.count == average.count
        for name, array in average.value.items():
            expected, found = (ms.get_backend(backend).to_numpy(a) for a in (array, other.value[name]))
            assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist()), name
        average.update(tree(backend, 7))
        other.update(tree(backend, 7))
