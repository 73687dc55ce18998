"""Arrays whose elements share memory are written once for each place, or refused before anything is written."""

import numpy as np
import pytest

import multisched as ms
from multisched import errors


def module(torch, buffer):
    made = torch.nn.Linear(2, 1, bias=False)
    made.register_buffer("odd", buffer)
    made.register_buffer("n", torch.tensor(0))
    return made


def moved(model, avg, torch):
    """Two updates, and a change of the model after them."""
    with torch.no_grad():
        for _ in range(2):
            model.weight.add_(1)
            model.n.add_(1)
            avg.update()
        model.weight.add_(1)
        model.n.add_(5)


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (4, 1, 3)])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_expanded_buffers_are_written(torch, shape, dtype):
    """The number that stands for several elements is written once, for `copy_to` and for `swapped`, and given back."""
    base = torch.arange(3).to(getattr(torch, dtype))
    model = module(torch, base.expand(shape))
    avg = ms.Average(model, ms.ema(0.5))
    moved(model, avg, torch)
    base.add_(7)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with avg.swapped():
        assert base.tolist() == [0, 1, 2]
        assert torch.equal(model.weight, avg.value["weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    avg.copy_to()
    assert base.tolist() == [0, 1, 2]
    assert model.n.item() == 2


def unwritable(torch):
    def expanded_values():
        model = module(torch, torch.zeros(2, 3))
        avg = ms.Average(model, ms.ema(0.5))
        with torch.no_grad():
            model.odd.copy_(torch.arange(6.0).view(2, 3))
        moved(model, avg, torch)
        model.odd = torch.zeros(3).expand(2, 3)  # other values are for one place
        return model, avg

    def windows():
        model = module(torch, torch.zeros(6).as_strided((4, 3), (1, 1)))
        avg = ms.Average(model, ms.ema(0.5))
        moved(model, avg, torch)
        return model, avg

    def two_policies():
        memory = torch.zeros(5)
        model = module(torch, memory[:3])
        model.register_buffer("other", memory[2:])
        avg = ms.Average(model, ms.ema(0.5), select={"other": "copy"})
        moved(model, avg, torch)
        return model, avg

    return {"expanded": expanded_values, "windows": windows, "two policies": two_policies}


@pytest.mark.parametrize("name", ["expanded", "windows", "two policies"])
@pytest.mark.parametrize("swaps", [False, True])
def test_what_overlaps_is_refused_first(torch, name, swaps):
    """Nothing is written before the error, and the average goes on."""
    model, avg = unwritable(torch)[name]()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(errors.SwapError):
        avg.swapped().__enter__() if swaps else avg.copy_to()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    avg.update()
    assert avg.count == 3


def test_views_of_one_memory_with_one_policy(torch):
    """Parts that overlap and are averaged alike hold the same numbers, and are written."""
    memory = torch.zeros(5)
    tree = {"a": memory[:3], "b": memory[2:], "c": memory.view(5, 1)}
    avg = ms.Average(tree, ms.ema(0.5))
    for _ in range(3):
        memory += 1
        avg.update()
    with avg.swapped():
        assert memory.tolist() == [2.25] * 5
    assert memory.tolist() == [3.0] * 5


def test_read_only_and_broadcast_arrays_of_numpy():
    """One in the middle of a tree refuses the whole write."""
    wide = np.lib.stride_tricks.as_strided(np.zeros(6), (4, 3), (8, 8))
    closed = np.zeros(3)
    closed.flags.writeable = False
    for odd in (np.broadcast_to(np.zeros(3), (2, 3)), wide, closed):
        tree = {"a": np.zeros(2), "b": odd, "c": np.zeros(2)}
        avg = ms.Average(tree, ms.ema(0.5))
        avg.update()
        tree["a"] += 3
        tree["c"] += 3
        with pytest.raises(errors.SwapError):
            avg.copy_to()
        with pytest.raises(errors.SwapError), avg.swapped():
            pass
        assert tree["a"].tolist() == tree["c"].tolist() == [3.0, 3.0]
        avg.update()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about its own kinds
@pytest.mark.parametrize("kind", ["sparse", "fp8", "quantised"])
def test_copies_without_a_mean_are_written_too(torch, kind):
    """`copy_to` and `swapped` write the latest values that the average has seen, and give the model its own back."""
    make = {
        "sparse": lambda x: torch.tensor([0.0, x]).to_sparse(),
        "fp8": lambda x: torch.tensor([0.0, x]).to(torch.float8_e4m3fn),
        "quantised": lambda x: torch.quantize_per_tensor(torch.tensor([0.0, x]), 0.5, 0, torch.qint8),
    }[kind]
    read = {"sparse": lambda t: t.to_dense(), "fp8": lambda t: t.float(), "quantised": lambda t: t.dequantize()}[kind]
    tree = {"w": torch.zeros(2), "odd": make(1.0)}
    avg = ms.Average(tree, ms.ema(0.5))
    avg.update()
    tree["odd"].copy_(make(2.0))
    with avg.swapped():
        assert read(tree["odd"]).tolist() == [0.0, 1.0]
    assert read(tree["odd"]).tolist() == [0.0, 2.0]
    avg.copy_to()
    assert read(tree["odd"]).tolist() == [0.0, 1.0]


def test_an_update_that_cannot_follow(jax):
    """Arrays of JAX never change: without the new tree, a second update by the same ones is an error that says so."""
    jnp = jax.numpy
    params = {"w": jnp.zeros(2), "n": jnp.arange(2)}
    avg = ms.Average(params, ms.ema(0.5))
    avg.update()
    with pytest.raises(errors.AverageError, match=r"avg\.update\(params\)"):
        avg.update()
    assert avg.count == 1
    avg.update(params)  # said in so many words
    assert avg.count == 2
    avg = ms.Average(params, ms.ema(0.5))
    for n in range(3):
        params["w"] = params["w"] + 1  # a container whose arrays are exchanged
        avg.update()
        assert avg.count == n + 1
    avg.update(where=False)
    with pytest.raises(errors.AverageError, match="never change"):
        avg.update()
    params["w"] = params["w"] + 1
    avg.update()
    assert avg.value["w"].tolist() == [3.125] * 2


def test_a_module_of_the_beginning_is_not_averaged_again(jax):
    """A module stays bound while others are given; its arrays never change, so an update without a tree is an error."""
    eqx = pytest.importorskip("equinox", reason="the test is about Equinox, which is not installed")
    model = eqx.nn.Linear(2, 1, key=jax.random.PRNGKey(0))
    later = eqx.tree_at(lambda m: (m.weight, m.bias), model, (model.weight + 8, model.bias + 8))
    for before in (0, 1):
        avg = ms.Average(model, ms.swa())
        for _ in range(before):
            avg.update()  # the first one may say what the model is
        avg.update(later)
        for _ in range(2):
            with pytest.raises(errors.AverageError, match=r"avg\.update\(params\)"):
                avg.update()
        assert avg.count == before + 1
        avg.update(later)
        assert avg.count == before + 2
