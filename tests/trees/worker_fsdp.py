"""Two processes of `torchrun`, started by test_fsdp.py: each `check_` is a claim about averages of distributed models.

What each claim came to is written to the folder given, by process: nothing, or how it failed.
"""

import copy
import json
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh
from worker_models import (
    DECAY,
    RULE,
    STEPS,
    Reference,
    assert_laid_out,
    assert_same_bits,
    counted,
    data,
    full,
    fulls,
    leaves,
    moved,
    net,
    raised,
    sharded,
    silent,
    tensors,
    training,
)

import multisched as ms
from multisched.errors import AverageError, CheckpointError, CheckpointMismatch, TreeMismatch

FOLDER = Path(sys.argv[1])


# --- claims ----------------------------------------------------------------------------------------------------------
def check_collectives_are_counted():
    """What counts collectives sees those of FSDP, of `full_tensor`, and a call of c10d."""
    model, found = sharded(), []
    with counted(found):
        model(data())
    assert any("gather" in name for name in found), found
    found = []
    with counted(found):
        next(model.first.parameters()).full_tensor()
        dist.all_reduce(torch.zeros(1))
    assert any("gather" in name for name in found), found
    assert any("reduce" in name for name in found), found


def check_fsdp():
    """The average of a model sharded by FSDP is that of the whole one, and nothing is communicated for it."""
    model = sharded()
    before = leaves(model)
    assert any(p.to_local().numel() == 0 for p in model.parameters()) == (dist.get_rank() == 1)
    with silent():
        avg = ms.Average(model, RULE)
    reference = Reference(before)
    for _ in training(model):
        with silent():
            avg.update()
        reference.update(leaves(model))
        with silent():
            value, snapshot = avg.value, avg.snapshot()
        reference.check(value)
        assert_laid_out(value, leaves(model))
        assert_same_bits(fulls(value), fulls(snapshot.value))
    assert (avg.count, snapshot.count, value["norm.num_batches_tracked"].item()) == (STEPS, STEPS, STEPS)
    assert list(value) == list(net().state_dict())


def check_fsdp_given_the_model():
    """`update(model)` is `update()`."""
    model = sharded()
    avg, other = ms.Average(model, RULE), ms.Average(model, RULE)
    for _ in training(model, 3):
        avg.update()
        with silent():
            other.update(model)
    assert_same_bits(fulls(avg.value), fulls(other.value))


def check_fsdp_left_gathered():
    """After a forward that leaves the parameters gathered, an update is that of the shards, and writes nothing."""
    model = sharded(reshard_after_forward=False).eval()
    avg, reference = ms.Average(model, RULE), Reference(leaves(model))
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        whole = fulls(leaves(model))
        with torch.no_grad():
            model(data())
        assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
        with silent():
            avg.update()
        assert_same_bits(fulls(leaves(model)), whole)
        reference.update(whole)
        reference.check(avg.value)


def check_fsdp_made_while_gathered():
    """An average made of a model that is gathered is one of the shards, too."""
    model = sharded().eval()
    reference = Reference(leaves(model))
    with torch.no_grad():
        model(data())
    assert not all(isinstance(parameter, DTensor) for parameter in model.parameters())
    with silent():
        avg = ms.Average(model, RULE)
    assert_laid_out(avg.value, leaves(model))
    for _ in training(model, 2):
        avg.update()
        reference.update(leaves(model))
    reference.check(avg.value)


def check_fsdp_swapped():
    """Inside of `swapped` the model computes with the average; afterwards it is itself, bit by bit."""
    model = sharded()
    avg = ms.Average(model, RULE)
    for _ in training(model):
        avg.update()
    model.eval()
    own, average = fulls(leaves(model)), fulls(avg.value)
    alone = net().eval()
    alone.load_state_dict(average)
    with torch.no_grad():
        outside = model(data())
        with avg.swapped() as swapped:
            assert swapped is model
            inside = model(data())
            torch.testing.assert_close(inside, alone(data()))
        after = model(data())
    assert (inside - outside).abs().max() > 1e-3
    assert torch.equal(after, outside)
    for module in (model, model.first):
        module.reshard()
    assert_same_bits(fulls(leaves(model)), own)
    assert_same_bits(fulls(avg.value), average)
    with silent(), avg.swapped():
        pass
    for _ in training(model, 2):  # and it goes on training
        avg.update()


def check_fsdp_swapped_fails():
    """An exception inside of `swapped`, also on one process alone, leaves the model itself on both."""
    model = sharded()
    avg = ms.Average(model, RULE)
    for _ in training(model, 2):
        avg.update()
    own = fulls(leaves(model))
    try:
        with avg.swapped():
            if dist.get_rank() == 1:
                raise KeyError("one process")
    except KeyError:
        pass
    assert_same_bits(fulls(leaves(model)), own)


def check_fsdp_copy_to():
    """`copy_to` writes the average into a sharded model, its own or another, which then computes with it."""
    model, other = sharded(), sharded()
    avg = ms.Average(model, RULE)
    for _ in training(model):
        avg.update()
    average = fulls(avg.value)
    with torch.no_grad():
        other(data())  # leaves its parameters gathered
    for target in (other, model):
        with silent():
            avg.copy_to(target)
        target.eval()
        alone = net().eval()
        alone.load_state_dict(average)
        with torch.no_grad():
            torch.testing.assert_close(target(data()), alone(data()))
        for module in (target, target.first):
            module.reshard()
        assert_same_bits(fulls(leaves(target)), average)


def check_fsdp_bfloat16():
    """Of a sharded bfloat16 model the average is held in float32, and read in bfloat16."""
    model = sharded(torch.bfloat16)
    avg, reference = ms.Average(model, RULE), Reference(leaves(model))
    for _ in training(model, 4, torch.bfloat16):
        with silent():
            avg.update()
        reference.update(leaves(model))
    snapshot = avg.snapshot().value
    assert {t.dtype for n, t in snapshot.items() if "tracked" not in n} == {torch.float32}
    for name, tensor in fulls(snapshot).items():
        np.testing.assert_allclose(tensor.double(), reference.means[name], rtol=1e-6, atol=1e-6, err_msg=name)
    reference.check(avg.value, rtol=2**-8)
    assert_laid_out(avg.value, leaves(model))


def check_fsdp_mixed_precision():
    """A model that FSDP gathers in bfloat16 is averaged as it is sharded, in float32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    avg, reference = ms.Average(model, RULE), Reference(leaves(model))
    for _ in training(model, 3):
        with silent():
            avg.update()
        reference.update(leaves(model))
    with torch.no_grad():
        assert model(data()).dtype == torch.bfloat16
    assert {t.dtype for t in avg.value.values()} == {torch.float32}
    reference.check(avg.value)


def check_fsdp_tied():
    """A tied weight of a sharded model is averaged once."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    fully_shard(model)
    with silent():
        avg = ms.Average(model, RULE)
        avg.update()
    assert list(avg.value) == ["0.weight"]


def check_fsdp_dtensor_state():
    """`state_dict` of a sharded model has tensors laid out as the model's, and makes no collective."""
    model = sharded()
    avg = ms.Average(model, RULE)
    for _ in training(model, 2):
        avg.update()
    with silent():
        state = avg.state_dict()
    assert set(state) == {"rule", "count", "weight", "average", "copied"}
    assert_laid_out({**state["average"], **state["copied"]}, leaves(model))
    other = ms.Average(sharded(), RULE)
    with silent():
        other.load_state_dict(state)
    assert_same_bits(fulls(other.value), fulls(avg.value))
    for _ in training(model, 2):
        avg.update()
        other.update(model)
    assert_same_bits(fulls(other.value), fulls(avg.value))


def check_fsdp_checkpoint():
    """`torch.distributed.checkpoint` saves and loads the state; test_fsdp.py reads the same folder on one process."""
    model = sharded()
    avg = ms.Average(model, RULE)
    for _ in training(model):
        avg.update()
    folder = FOLDER / "checkpoint"
    dcp.save(avg.state_dict(), checkpoint_id=folder)
    other = ms.Average(sharded(), RULE)
    state = other.state_dict()
    dcp.load(state, checkpoint_id=folder)
    other.load_state_dict(state)
    assert other.count == avg.count == STEPS
    whole = fulls(avg.value)
    assert_same_bits(fulls(other.value), whole)
    for _ in training(model, 2):
        avg.update()
        other.update(model)
    assert_same_bits(fulls(other.value), fulls(avg.value))
    if dist.get_rank() == 0:
        torch.save(whole, FOLDER / "whole.pt")
    state = ms.Average(net(), RULE).state_dict()  # the whole model on each process, from the same folder
    dcp.load(state, checkpoint_id=folder)
    alone = ms.Average(net(), RULE)
    alone.load_state_dict(state)
    assert_same_bits(alone.value, whole)


def check_dtensor_checkpoint():
    """`torch.distributed.checkpoint` saves and loads the state of DTensors of every layout, also for other layouts."""
    tree = tensors()
    avg = ms.Average(tree, RULE)
    avg.update(moved(tree))
    folder = FOLDER / "layouts"
    dcp.save(avg.state_dict(), checkpoint_id=folder)
    mesh = init_device_mesh("cpu", (2,))
    turned = {
        name: distribute_tensor(full(t), mesh, [Shard(t.ndim - 1)]) if isinstance(t, DTensor) else t.clone()
        for name, t in tensors().items()
    }
    for fresh in (tensors(), turned):
        other = ms.Average(fresh, RULE)
        state = other.state_dict()
        dcp.load(state, checkpoint_id=folder)
        other.load_state_dict(state)
        assert_same_bits(fulls(other.value), fulls(avg.value))
        assert_laid_out(other.value, fresh)


def check_save_refuses():
    """`ms.save` and `ms.load` of distributed tensors raise, and say what to do instead."""
    for tree in (sharded(), tensors()):
        avg = ms.Average(tree, RULE)
        with silent():
            message = raised(CheckpointError, ms.save, FOLDER / "never.safetensors", avg)
        assert "state_dict()" in message, message
        assert "torch.distributed.checkpoint" in message, message
    assert not list(FOLDER.glob("never*"))


def check_dtensors():
    """The average of DTensors of every layout is that of the whole tensors, and nothing is communicated for it."""
    tree = tensors()
    empty = [name for name, t in tree.items() if isinstance(t, DTensor) and t.to_local().numel() == 0]
    assert len(empty) == (2 if dist.get_rank() == 1 else 0), empty
    with silent():
        avg = ms.Average(tree, RULE)
    reference = Reference(tree)
    for _ in range(STEPS):
        moved(tree)
        with silent():
            avg.update(tree)
        reference.update(tree)
        with silent():
            value = avg.value
        reference.check(value, rtol=2e-6)
        assert_laid_out(value, tree)


def check_dtensors_where():
    """`where` counts for the parts on each process."""
    tree = tensors()
    avg = ms.Average(tree, RULE)
    other = ms.Average(tensors(), RULE)
    for step in range(4):
        moved(tree)
        with silent():
            avg.update(tree, where=torch.tensor(step % 2 == 0))
        if step % 2 == 0:
            other.update(copy.deepcopy(tree))
    assert avg.count == other.count == 2
    for name, tensor in fulls(avg.value).items():
        torch.testing.assert_close(tensor, full(other.value[name]), rtol=1e-6, atol=1e-6)


def check_dtensors_swapped():
    """`swapped` and `copy_to` write DTensors in place, and `swapped` restores them bit by bit."""
    tree = tensors()
    avg = ms.Average(tree, RULE)
    for _ in range(3):
        avg.update(moved(tree))
    own, average, objects = fulls(tree), fulls(avg.value), list(map(id, tree.values()))
    with silent(), avg.swapped(tree):
        inside = {n: (t.to_local() if isinstance(t, DTensor) else t).clone() for n, t in tree.items()}
    for name, tensor in avg.value.items():
        assert torch.equal(inside[name], tensor.to_local() if isinstance(tensor, DTensor) else tensor), name
    assert_same_bits(fulls(tree), own)
    with silent():
        avg.copy_to(tree)
    assert_same_bits(fulls(tree), average)
    assert objects == list(map(id, tree.values()))


def check_dtensors_bfloat16():
    """Of bfloat16 DTensors the average is held in float32."""
    tree = tensors(torch.bfloat16)
    avg = ms.Average(tree, RULE)
    means = None
    for _ in range(4):
        moved(tree)
        with silent():
            avg.update(tree)
        values = {name: full(t).double() for name, t in tree.items()}
        means = values if means is None else {n: DECAY * means[n] + (1 - DECAY) * v for n, v in values.items()}
    for name, tensor in fulls(avg.snapshot().value).items():
        if name != "number":
            assert tensor.dtype == torch.float32, name
            np.testing.assert_allclose(tensor.double(), means[name], rtol=1e-6, atol=1e-6, err_msg=name)


def check_rounding():
    """An average of DTensors in bfloat16 makes no collective, and what each process has whole is the same on both."""
    for rounding in ("stochastic", "compensated"):
        tree = tensors()
        with silent():
            avg = ms.Average(tree, ms.ema(0.99), dtype="bfloat16", rounding=rounding, seed=3)
        float32 = ms.Average(tensors(), ms.ema(0.99))
        for _ in range(20):
            moved(tree)
            with silent():
                avg.update(tree)
            float32.update(tree)
        expected = fulls(float32.value)
        for name, tensor in fulls(avg.snapshot().value).items():
            if name != "number":
                np.testing.assert_allclose(tensor, expected[name], rtol=0.1, atol=0.01, err_msg=name)
        for name in ("everywhere", "plain"):
            tensor = avg.value[name]
            here = tensor.to_local() if isinstance(tensor, DTensor) else tensor
            both = [torch.empty_like(here) for _ in range(2)]
            dist.all_gather(both, here)
            assert torch.equal(*both), (rounding, name)
        state = avg.state_dict()
        other = ms.Average(tensors(), ms.ema(0.99), dtype="bfloat16", rounding=rounding, seed=3)
        other.load_state_dict(state)
        for _ in range(2):
            moved(tree)
            avg.update(tree)
            other.update(tree)
        assert_same_bits(fulls(other.value), fulls(avg.value))


def check_mismatches():
    """A tensor of another layout than in the average raises by its name, in a model as in a state."""
    tree = tensors()
    avg = ms.Average(tree, RULE)
    before = fulls(avg.value)
    state = avg.state_dict()
    mesh = init_device_mesh("cpu", (2,))
    others = {
        "whole": full(tree["rows of 5"]),
        "columns": distribute_tensor(full(tree["rows of 5"]), mesh, [Shard(1)]),
        "everywhere": distribute_tensor(full(tree["rows of 5"]), mesh, [Replicate()]),
    }
    for what, other in others.items():
        message = raised(TreeMismatch, avg.update, {**tree, "rows of 5": other})
        assert "rows of 5" in message, (what, message)
        wrong = {**state, "average": {**state["average"], "rows of 5": other}}
        message = raised(CheckpointMismatch, avg.load_state_dict, wrong)
        assert "rows of 5" in message, (what, message)
    tall = distribute_tensor(torch.zeros(6, 5), mesh, [Shard(0)])  # of another shape, and of the same one on each
    message = raised(
        CheckpointMismatch, avg.load_state_dict, {**state, "average": {**state["average"], "everywhere": tall}}
    )
    assert "everywhere" in message, message
    message = raised(TreeMismatch, avg.update, {**tree, "plain": distribute_tensor(tree["plain"], mesh, [Shard(0)])})
    assert "plain" in message, message
    assert avg.count == 0
    assert_same_bits(fulls(avg.value), before)


def check_offload_refuses():
    """A sharded model cannot be offloaded, which is said."""
    for tree in (sharded(), tensors()):
        assert "distributed" in raised(AverageError, lambda tree=tree: ms.Average(tree, RULE, offload="cpu"))


def check_ddp():
    """Of a model wrapped by DDP, the average is that of the plain model, by its names, with no collective."""
    plain, model = net(), nn.parallel.DistributedDataParallel(net())
    with silent():
        avg = ms.Average(model, RULE)
    alone = ms.Average(plain, RULE)
    for _ in zip(training(plain), training(model), strict=True):
        with silent():
            avg.update()
            value = avg.value
        alone.update()
    assert list(value) == list(plain.state_dict())
    for name, tensor in alone.value.items():
        torch.testing.assert_close(value[name], tensor, rtol=1e-5, atol=1e-6)
    own = fulls(model.module.state_dict())
    model.eval()
    with avg.swapped(), torch.no_grad():
        inside = model(data())
    assert_same_bits(fulls(model.module.state_dict()), own)
    other = net().eval()
    avg.copy_to(other)
    torch.testing.assert_close(other(data()), inside)
    path = FOLDER / f"ddp-{dist.get_rank()}.safetensors"
    ms.save(path, avg)
    loaded = ms.Average(net(), RULE)
    ms.load(path, loaded)
    assert_same_bits(loaded.value, avg.value)


def main():
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                results[name] = ""
            except Exception:
                results[name] = traceback.format_exc()
    (FOLDER / f"{dist.get_rank()}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
