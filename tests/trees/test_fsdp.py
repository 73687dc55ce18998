"""Averages of models over two processes: FSDP2, DTensors of every layout and DDP, under `torchrun` with gloo."""

from pathlib import Path

import pytest
from helpers_processes import check_claim, claims, torchrun

import multisched as ms

WORKER = Path(__file__).with_name("worker_fsdp.py")
CLAIMS = claims(WORKER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes wrote what each claim came to."""
    pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    folder = tmp_path_factory.mktemp("fsdp")
    torchrun(WORKER, folder)
    return folder


@pytest.mark.parametrize("claim", CLAIMS)
def test_two_processes(folder, claim):
    """Each claim of worker_fsdp.py, in the docstring of its function, holds on both processes."""
    check_claim(folder, claim, CLAIMS[claim])


@pytest.mark.filterwarnings("ignore:torch.distributed is .*, assuming the intent is to load in a single process")
def test_one_process_reads_the_checkpoint_of_two(folder):
    """What two processes saved with torch.distributed.checkpoint, one loads into an average of the whole model."""
    import torch
    import torch.distributed.checkpoint as dcp

    whole = torch.load(folder / "whole.pt", weights_only=True)
    tree = {name: torch.zeros_like(tensor) for name, tensor in whole.items()}
    avg = ms.Average(tree, ms.ema(0.75))
    state = avg.state_dict()
    dcp.load(state, checkpoint_id=folder / "checkpoint", no_dist=True)
    avg.load_state_dict(state)
    assert avg.count == 6
    for name, tensor in avg.value.items():
        assert torch.equal(tensor, whole[name]), name
