"""Averages of `torch.nn.Module`: plain, compiled, wrapped, tied, and in parts."""

import socket

import pytest

import multisched as ms
from multisched.errors import LeafError, TreeMismatch


@pytest.fixture
def nn(torch):
    torch.manual_seed(0)
    return torch.nn


def small(nn):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))


SMALL_NAMES = [
    "0.weight",
    "0.bias",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "3.0.weight",
    "3.0.bias",
]


def shifted(torch, model, by):
    """Move all floating tensors of a model, in place."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(by)


def followed(torch, model, avg, plain):
    """Whether an average that is updated after each of two moves is that of both, by the names of the plain model."""
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    avg.update()
    shifted(torch, plain, 2)
    avg.update()
    value = avg.value
    return value.keys() == before.keys() and all(
        torch.allclose(value[name], tensor + (1 if tensor.is_floating_point() else 2))
        for name, tensor in before.items()
    )


def test_a_module_is_averaged_by_the_names_of_its_state_dict(torch, nn):
    """Parameters and buffers come back in a dict of tensors without gradients, by the names of `state_dict`."""
    model = small(nn)
    avg = ms.Average(model, ms.ema(0.5))
    assert list(avg.value) == SMALL_NAMES
    assert followed(torch, model, avg, model)
    assert not any(tensor.requires_grad for tensor in avg.value.values())
    model.load_state_dict(avg.value)


@pytest.mark.parametrize("kind", ["plain", "DataParallel", "compiled", "compiled in place", "both", "of a wrapper"])
def test_a_wrapped_module_has_the_names_of_the_plain_one(torch, nn, kind):
    """Compiled and wrapped modules, also inside of others, are followed under the names of the plain model."""
    model = small(nn)
    wrapped = model
    if kind == "DataParallel":
        wrapped = nn.DataParallel(model)
    elif kind == "compiled":
        wrapped = torch.compile(model, backend="eager")
    elif kind == "compiled in place":
        model.compile(backend="eager")
    elif kind == "both":
        wrapped = torch.compile(nn.DataParallel(torch.compile(model, backend="eager")), backend="eager")
    elif kind == "of a wrapper":
        model[3] = torch.compile(model[3], backend="eager")
    avg = ms.Average(wrapped, ms.ema(0.5))
    plain = small(nn)
    plain.load_state_dict({n.replace("_orig_mod.", ""): t for n, t in model.state_dict().items()})
    assert list(avg.value) == SMALL_NAMES
    plain_avg = ms.Average(plain, ms.ema(0.5))
    for _ in range(2):
        shifted(torch, model, 1)
        shifted(torch, plain, 1)
        avg.update()
        plain_avg.update()
    assert all(torch.equal(tensor, plain_avg.value[name]) for name, tensor in avg.value.items())
    avg.load_state_dict(plain_avg.state_dict())


def test_distributed_data_parallel(torch, nn):
    """A module wrapped for several processes is followed under the names of the plain one."""
    distributed = pytest.importorskip("torch.distributed", reason="this torch has no distributed package")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        model = small(nn)
        wrapped = nn.parallel.DistributedDataParallel(model)
        avg = ms.Average(wrapped, ms.ema(0.5))
        assert list(avg.value) == SMALL_NAMES
        assert followed(torch, wrapped, avg, model)
    finally:
        distributed.destroy_process_group()


def test_a_submodule_of_the_users_own_called_module(torch, nn):
    """`module` is dropped from names only where a wrapper of torch gave it."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = Outer()
    for wrapped in (model, nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert list(ms.Average(wrapped, ms.swa()).value) == ["module.weight", "module.bias"]


def test_tied_weights_are_averaged_once(torch, nn):
    """A parameter that two submodules share is one leaf, by its first name, and is updated once."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    model["again"] = model["head"]
    avg = ms.Average(model, ms.swa())
    avg.update()
    model["head"].weight.data += 2
    avg.update()
    assert list(avg.value) == ["embed.weight"]
    assert torch.allclose(avg.value["embed.weight"], model["embed"].weight.detach() - 1)


def test_weights_that_are_no_longer_tied_are_a_mismatch(torch, nn):
    """When a shared parameter is replaced in one of its places, that is a leaf that the average lacks, and says so."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    avg = ms.Average(model, ms.swa())
    model["head"].weight = nn.Parameter(torch.ones(5, 3))
    with pytest.raises(TreeMismatch, match=r"head\.weight"):
        avg.update()
    assert avg.count == 0


def test_parametrized_modules(torch, nn):
    """What a parametrization computes is no leaf; what it computes it from is."""
    model = nn.Linear(3, 2)
    nn.utils.parametrizations.weight_norm(model)
    avg = ms.Average(model, ms.ema(0.5))
    assert set(avg.value) == set(model.state_dict())
    assert followed(torch, model, avg, model)


def test_empty_places_and_temporary_buffers(torch, nn):
    """A buffer or parameter that is None is no leaf; one that is not saved with the model is one."""
    model = nn.Linear(2, 2, bias=False)
    model.register_buffer("nothing", None)
    model.register_buffer("cache", torch.zeros(2), persistent=False)
    avg = ms.Average(model, ms.swa())
    avg.update()
    assert list(avg.value) == ["weight", "cache"]
    model.nothing = torch.ones(1)
    with pytest.raises(TreeMismatch, match="'nothing'"):
        avg.update()
    assert avg.count == 1


def test_lazy_and_meta_parameters_are_refused(torch, nn):
    """What has no shape or no values yet is a `LeafError` by its name, in modules and in other trees."""
    for model, match in (
        (nn.Sequential(nn.ReLU(), nn.LazyLinear(2)), r"'1\.weight' is lazy"),
        (nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
        ({"w": torch.ones(2, device="meta")}, "'w' is on the meta device"),
    ):
        with pytest.raises(LeafError, match=match):
            ms.Average(model, ms.swa())
    model = nn.Sequential(nn.LazyLinear(2))
    model(torch.ones(1, 3))
    assert ms.Average(model, ms.swa()).value["0.weight"].shape == (2, 3)


def test_modules_without_parameters(torch, nn):
    """A module of no tensors has an empty average, which counts."""
    avg = ms.Average(nn.ReLU(), ms.ema(0.9))
    avg.update()
    assert (avg.value, avg.count) == ({}, 1)


def test_a_module_may_be_given_as_another_or_as_its_state_dict(torch, nn):
    """`update` takes another module of the same names, and a state dict; the average stays that of the first."""
    model, other = small(nn), small(nn)
    avg = ms.Average(model, ms.ema(0.0))
    for given in (other, nn.DataParallel(other), other.state_dict(), dict(reversed(other.state_dict().items()))):
        shifted(torch, other, 1)
        avg.update(given)
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in avg.value.items())
    avg.update()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in avg.value.items())


def test_the_training_of_the_model_is_not_disturbed(torch, nn):
    """Updates between forward and backward, and under inference mode, leave gradients and the model as they were."""
    model, x = small(nn), torch.randn(8, 3)
    avg = ms.Average(model, ms.ema(0.5))
    plain = small(nn)
    plain.load_state_dict(model.state_dict())
    plain(x).sum().backward()
    loss = model(x).sum()
    avg.update()
    with torch.inference_mode():
        avg.update()
    loss.backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
        assert one.requires_grad
    avg.update()
    assert avg.count == 3
