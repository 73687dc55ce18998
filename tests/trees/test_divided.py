"""Models of which each process holds a part: what one process cannot do right is refused by all of them."""

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_processes import check_claim, claims, together, torchrun

import multisched as ms
from multisched import errors
from multisched.runtime.protocol import Part

WORKER, WORKER_JAX = Path(__file__).with_name("worker_divided.py"), Path(__file__).with_name("worker_divided_jax.py")
CLAIMS, CLAIMS_JAX = claims(WORKER), claims(WORKER_JAX)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes of torch wrote what each claim came to."""
    pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    folder = tmp_path_factory.mktemp("parts")
    torchrun(WORKER, folder)
    return folder


@pytest.mark.parametrize("claim", CLAIMS)
def test_two_processes_of_torch(folder, claim):
    """Each claim of worker_divided.py, in the docstring of its function, holds on both processes."""
    check_claim(folder, claim, CLAIMS[claim])


@pytest.fixture(scope="module")
def folder_jax(tmp_path_factory):
    """Where both processes of JAX wrote what each claim came to."""
    pytest.importorskip("jax", reason="the test is about jax, which is not installed")
    folder = tmp_path_factory.mktemp("parts_jax")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together([[sys.executable, WORKER_JAX, folder, rank, port] for rank in range(2)])
    return folder


@pytest.mark.parametrize("claim", CLAIMS_JAX)
def test_two_processes_of_jax(folder_jax, claim):
    """Each claim of worker_divided_jax.py, in the docstring of its function, holds on both processes."""
    check_claim(folder_jax, claim, CLAIMS_JAX[claim])


def test_parts_of_any_backend(monkeypatch, tmp_path):
    """An adapter says itself which of its arrays are parts; the library refuses what it cannot do with them."""
    backend = ms.get_backend("numpy")
    part = Part("half of it", "Ask the other half.", "left")
    monkeypatch.setattr(backend, "part_of", lambda array: part if array.shape == (2,) else None)
    average = ms.Average({"w": np.ones(2), "v": np.ones(3)}, ms.swa())
    average.update()
    with pytest.raises(errors.CheckpointError, match=r"the leaf 'w' is half of it\. Ask the other half\."):
        ms.save(tmp_path / "file", average)
    assert list(tmp_path.iterdir()) == []
    state = average.state_dict()
    average.load_state_dict(state)
    with pytest.raises(errors.CheckpointMismatch, match="'right', and this is 'left'"):
        average.load_state_dict({**state, "shard": "right"})
    whole = ms.Average({"w": np.ones(3)}, ms.swa())
    with pytest.raises(errors.CheckpointMismatch, match="'left', and this is no part"):
        whole.load_state_dict({**whole.state_dict(), "shard": "left"})
    part = part._replace(held=False)
    with pytest.raises(errors.LeafError, match="'w' is half of it, and has no elements here"):
        ms.Average({"w": np.ones(2)}, ms.swa())
    ms.Average({"w": np.ones(2), "v": np.ones(3)}, ms.swa(), select={"w": "skip"})
