"""The models of worker_fsdp.py over two processes, and what their averages are compared with."""

from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import distributed_c10d as c10d
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh
from torch.distributed.tensor.debug import CommDebugMode

import multisched as ms

DECAY, STEPS = 0.75, 6
RULE = ms.ema(DECAY)
CALLS = [
    name
    for name in dir(c10d)
    if name.startswith(
        ("all_", "_all_", "reduce", "_reduce", "broadcast", "gather", "scatter", "send", "recv", "isend")
    )
    or name in ("barrier", "monitored_barrier", "irecv", "batch_isend_irecv")
]


# --- models ----------------------------------------------------------------------------------------------------------
class Net(nn.Module):
    """Dimensions of 5, 3 and 1: uneven over two processes, and one that leaves the second with nothing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def net(dtype=torch.float32):
    torch.manual_seed(1)
    return Net().to(dtype)


def sharded(dtype=torch.float32, **options):
    model = net(dtype)
    fully_shard(model.first, **options)
    return fully_shard(model, **options)


def data(dtype=torch.float32, seed=0):
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)


def training(model, steps=STEPS, dtype=torch.float32):
    """Yields after each step of an optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(steps):
        optimizer.zero_grad()
        (model(data(dtype, step)) - 1).square().mean().backward()
        optimizer.step()
        yield step


LAYOUTS = {
    "rows of 5": ((5, 3), [Shard(0)]),
    "columns of 3": ((5, 3), [Shard(1)]),
    "one row": ((1, 4), [Shard(0)]),
    "a vector of 1": ((1,), [Shard(0)]),
    "even": ((4, 6), [Shard(0)]),
    "the last of three": ((2, 3, 5), [Shard(2)]),
    "everywhere": ((3, 5), [Replicate()]),
}


def tensors(dtype=torch.float32):
    """DTensors of all layouts, a plain tensor and an integer."""
    mesh = init_device_mesh("cpu", (2,))
    grid = init_device_mesh("cpu", (1, 2), mesh_dim_names=("outer", "inner"))
    generator = torch.Generator().manual_seed(3)

    def made(shape, mesh, placements):
        return distribute_tensor(torch.randn(shape, generator=generator).to(dtype), mesh, placements)

    tree = {name: made(shape, mesh, placements) for name, (shape, placements) in LAYOUTS.items()}
    tree["on a grid"] = made((5, 3), grid, [Replicate(), Shard(0)])
    tree["both ways"] = made((5, 3), grid, [Shard(0), Shard(1)])
    tree["plain"] = torch.randn(7, generator=generator).to(dtype)
    tree["number"] = torch.tensor(0)
    return tree


def moved(tree):
    """The tree, whose tensors are written over, each with other values by global position."""
    with torch.no_grad():
        for name, tensor in tree.items():
            if name == "number":
                tensor += 1
            else:
                tensor.mul_(1.25).add_(0.5)
    return tree


# --- what is compared ------------------------------------------------------------------------------------------------
def full(tensor):
    tensor = tensor.detach()
    return tensor.full_tensor().clone() if isinstance(tensor, DTensor) else tensor.clone()


def fulls(tree):
    return {name: full(tensor) for name, tensor in tree.items()}


def leaves(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Reference:
    """The average of whole tensors in float64, in plain NumPy, and by `ms.Average` on one process."""

    def __init__(self, tree):
        self.means = None
        self.alone = ms.Average(fulls(tree), RULE)

    def update(self, tree):
        whole = fulls(tree)
        self.alone.update(whole)
        values = {name: tensor.double().numpy() for name, tensor in whole.items()}
        if self.means is None:
            self.means = values
        for name, value in values.items():
            integer = not whole[name].is_floating_point()
            self.means[name] = value if integer else DECAY * self.means[name] + (1 - DECAY) * value

    def check(self, value, rtol=1e-6):
        alone = self.alone.value
        assert set(value) == set(self.means), set(value) ^ set(self.means)
        for name, tensor in fulls(value).items():
            assert tensor.dtype == alone[name].dtype, name
            np.testing.assert_allclose(tensor.double(), self.means[name], rtol=rtol, atol=rtol, err_msg=name)
            torch.testing.assert_close(tensor, alone[name], rtol=rtol, atol=rtol, msg=lambda m, n=name: f"{n}: {m}")


def assert_laid_out(value, tree):
    for name, like in tree.items():
        assert isinstance(value[name], DTensor) == isinstance(like, DTensor), name
        assert value[name].shape == like.shape, name
        if isinstance(like, DTensor):
            assert value[name].placements == like.placements, name
            assert value[name].device_mesh == like.device_mesh, name
            assert value[name].to_local().shape == like.to_local().shape, name
            assert value[name].to_local().untyped_storage() is not like.to_local().untyped_storage(), name


def assert_same_bits(one, other):
    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


@contextmanager
def counted(found):
    """Count the collectives made in the block, as torch dispatches them and as its functions are called."""
    own = {name: getattr(c10d, name) for name in CALLS if callable(getattr(c10d, name))}

    def counting(name, call):
        def count(*args, **kwargs):
            found.append(name)
            return call(*args, **kwargs)

        return count

    for name, call in own.items():
        for module in (c10d, dist):
            if getattr(module, name, None) is call:
                setattr(module, name, counting(name, call))
    try:
        with CommDebugMode() as mode:
            yield
        found += [str(op) for op, times in mode.get_comm_counts().items() for _ in range(times)]
    finally:
        for name, call in own.items():
            for module in (c10d, dist):
                if hasattr(module, name):
                    setattr(module, name, call)


@contextmanager
def silent():
    """The block makes no collective."""
    found = []
    with counted(found):
        yield
    assert not found, found


def raised(error, call, *args):
    try:
        call(*args)
    except error as cause:
        return str(cause)
    raise AssertionError(f"no {error.__name__}")
