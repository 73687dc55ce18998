"""The compiled loop over all leaves, of the extra `fast`: it gives what the array API gives, and follows changes."""

import array_api_compat.numpy
import numpy as np
import pytest
from helpers import make, to_numpy, ulps
from helpers_laws import law
from hypothesis import given, settings
from hypothesis import strategies as st
from multisched_backends import host
from multisched_backends.array_api import blended

import multisched as ms
from multisched.runtime.commit import commit
from multisched.runtime.protocol import RunsWithMemo
from multisched.trees.packing import grouped

pytest.importorskip("numba", reason="numba, which compiles the loop, is not installed")

SHAPES = st.sampled_from([(), (0, 2), (5,), (2, 3), (4, 4), (8191,), (9000,), (130, 140)])


@pytest.fixture
def backend(backend):
    if backend not in ("numpy", "torch"):
        pytest.skip(f"{backend} has no use for the loop: its arrays never change")
    return backend


def gathered(leaves, group):
    return np.concatenate([leaves[i].reshape(-1) for i in group.leaves]) if group.packed else leaves[group.leaves[0]]


def in_runs(leaves, groups):
    return [[[leaves[i] for i in run] for run in group.runs] for group in groups]


@settings(law, max_examples=10)
@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=12),
    dtype=st.sampled_from(["float32", "float64"]),
    share=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_gives_what_the_array_api_gives(backend, shapes, dtype, share, seed):
    """Update after update, when leaves come again, to the rounding of one: torch has a formula of its own for some."""
    random = np.random.default_rng(seed)
    leaves = [np.asarray(random.uniform(-9, 9, shape)).astype(dtype) for shape in shapes]
    groups = grouped(shapes, ["one"] * len(shapes))
    expected = [gathered([np.zeros_like(leaf) for leaf in leaves], group) for group in groups]
    adapter = ms.get_backend(backend)
    old = [make(array, backend, dtype) for array in expected]
    new = RunsWithMemo(in_runs([make(leaf, backend, dtype) for leaf in leaves], groups), {})
    for _ in range(4):
        adapter.blend(old, new, share)
        expected = blended(array_api_compat.numpy, expected, in_runs(leaves, groups), share, None)
    assert "plan" in new.memo
    for array, wanted in zip(old, expected, strict=True):
        if wanted.size:
            assert np.max(ulps(to_numpy(array, backend), wanted, 9.0)) <= 4


def test_threads_share_a_large_table(monkeypatch):
    """Leaves of several million elements are done by several threads, each row once."""
    monkeypatch.setattr(host, "ALONE", 1000)
    random = np.random.default_rng(0)
    new = [random.uniform(-1, 1, size).astype("float32") for size in (3_000_000, 7, 500_001, 64)]
    old = [np.ones_like(array) for array in new]
    rows = [(a.ctypes.data, b.ctypes.data, a.size) for a, b in zip(old, new, strict=True)]
    commit(host.Table(np.dtype("float32"), rows).blend(0.25))
    for a, b in zip(old, new, strict=True):
        np.testing.assert_array_equal(a, 1 + np.float32(0.25) * (b - 1))


def test_a_leaf_that_moves_is_followed(backend):
    """An array that is exchanged, or whose data are, is read where it is then, and not where it was."""
    tree = {str(i): make(np.zeros(16), backend, "float32") for i in range(5)}
    avg = ms.Average(tree, ms.ema(0.5))
    for _ in range(3):
        avg.update()
    tree["3"] = make(np.full(16, 4.0), backend, "float32")
    avg.update()
    if backend == "torch":
        tree["1"].data = make(np.full(16, 8.0), backend, "float32")
    avg.update()
    read = {name: float(to_numpy(array, backend)[0]) for name, array in avg.value.items()}
    assert read == {"0": 0.0, "1": 4.0 if backend == "torch" else 0.0, "2": 0.0, "3": 3.0, "4": 0.0}


def test_scalars_of_numpy_are_read_at_once():
    """A scalar of NumPy has no place in memory to come back to: it is averaged as any value."""
    avg = ms.Average([np.float32(3)], ms.swa())
    for value in (5, 7, 9, 11):
        avg.update([np.float32(value)])
    assert avg.value == [8.0]


def test_turned_data_are_read_as_they_lie():
    """A square matrix whose data are transposed in place has the shape and the place of before, and other elements."""
    torch = pytest.importorskip("torch", reason="only tensors have data that can be exchanged")
    tree = [torch.nn.Parameter(torch.arange(9.0).reshape(3, 3)), torch.nn.Parameter(torch.zeros(3, 3))]
    avg = ms.Average(tree, ms.ema(0.0))
    for _ in range(3):
        avg.update()
    tree[0].data = tree[0].data.t()
    avg.update()
    assert torch.equal(avg.value[0], torch.arange(9.0).reshape(3, 3).t())
