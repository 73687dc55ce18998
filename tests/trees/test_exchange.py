"""What a block of `swapped` exchanges in the model: it is given back, or named in an error, whatever was done."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched.errors import SwapError

# --- modules: drawn sequences of what people do -----------------------------------------------------------------------


def _model(torch):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 3))
    model[2].weight = torch.nn.Parameter(model[0].weight.detach().T.clone())
    model.tied = torch.nn.Module()
    model.tied.weight = model[0].weight
    return model


def _assign(torch, model):
    model.load_state_dict({k: v.clone() + 1 for k, v in model.state_dict().items()}, assign=True)


ACTIONS = {
    "half": lambda torch, m: m.half(),
    "float": lambda torch, m: m.float(),
    "double": lambda torch, m: m.double(),
    "assign": _assign,
    "buffer": lambda torch, m: setattr(m[1], "running_mean", torch.zeros(2)),
    "parameter": lambda torch, m: setattr(m[0], "weight", torch.nn.Parameter(torch.zeros(2, 3))),
    "data": lambda torch, m: setattr(m[2].bias, "data", torch.ones(3)),
    "write": lambda torch, m: [p.data.fill_(9) for p in m.parameters()],
    "untie": lambda torch, m: setattr(m.tied, "weight", torch.nn.Parameter(torch.ones(2, 3))),
    "reset": lambda torch, m: m[2].reset_parameters(),
    "train": lambda torch, m: m.train()[:3](torch.ones(4, 3, dtype=m[0].weight.dtype)) if _alike(m) else None,
}


def _alike(model):
    """Whether a forward can run: all of one dtype."""
    return len({t.dtype for t in model.state_dict().values() if t.is_floating_point()}) == 1


@given(actions=st.lists(st.sampled_from(sorted(ACTIONS)), max_size=5), fails=st.booleans())
def test_a_module_gets_back_all_that_it_was(actions, fails):
    """Every parameter and buffer is the same object, at the same place, in its dtype, with its own values, and tied."""
    torch = pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    model = _model(torch)
    avg = ms.Average(model, ms.ema(0.5))
    avg.update()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    objects = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    places = {name: tensor.data_ptr() for name, tensor in objects.items()}
    try:
        with avg.swapped():
            for action in actions:
                ACTIONS[action](torch, model)
            assert not fails
    except AssertionError:
        assert fails
    now = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    assert now.keys() == objects.keys()
    assert all(now[name] is tensor for name, tensor in objects.items())
    assert {name: tensor.data_ptr() for name, tensor in now.items()} == places
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == own[name].dtype
        assert torch.equal(tensor, own[name])
    assert model.tied.weight is model[0].weight
    avg.update()
    with avg.swapped():
        pass


def test_what_was_put_into_the_model_is_not_written(torch):
    """Tensors of a checkpoint, or of another model, that stand in the model for the block keep their values."""
    model = _model(torch)
    avg = ms.Average(model, ms.ema(0.5))
    checkpoint = {k: torch.full_like(v, 7) for k, v in model.state_dict().items()}
    other = _model(torch)
    with avg.swapped():
        model.load_state_dict(checkpoint, assign=True)
    with avg.swapped():
        model[0].weight = other[0].weight
    assert all(torch.all(tensor == 7) for tensor in checkpoint.values())
    assert torch.equal(other[0].weight, _model(torch)[0].weight)


@pytest.mark.parametrize("what", ["module", "removed", "pruned"])
def test_what_cannot_be_given_back_is_named(torch, what):
    """A submodule that is another one, or a parameter that is gone, is named; all others are given back."""
    from torch.nn.utils import prune

    def exchange(model):
        if what == "module":
            model[0] = torch.nn.Linear(3, 2)
        elif what == "removed":
            del model[0].bias
        else:
            prune.l1_unstructured(model[0], "bias", amount=1)

    for fails in (False, True):
        model = _model(torch)
        avg = ms.Average(model, ms.ema(0.5))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}

        def use(avg=avg, model=model, fails=fails):
            with avg.swapped():
                exchange(model)
                assert not fails

        with pytest.raises(AssertionError if fails else SwapError) as raised:
            use()
        told = raised.value.__notes__[0] if fails else str(raised.value)
        assert "0.bias" in told
        assert "1.weight" not in told
        for name, tensor in model.state_dict().items():
            assert name.startswith(("0.", "tied.")) or torch.equal(tensor, own[name])
        with pytest.raises(ms.errors.TreeMismatch):
            avg.update()


# --- dicts and lists --------------------------------------------------------------------------------------------------
def test_dicts_and_lists_get_their_arrays_back():
    """Arrays that were exchanged in containers stand there again; those that came in are left as they are."""
    model = {"a": np.ones(3), "b": [np.ones(2), {"c": np.ones(())}]}
    avg = ms.Average(model, ms.ema(0.5))
    arrays = model["a"], model["b"][0], model["b"][1]["c"]
    foreign = np.full(3, 7.0)
    with avg.swapped():
        model["a"], model["b"][0] = foreign, np.zeros(2)
        model["b"][1]["c"] = np.zeros(())
    assert model["a"] is arrays[0]
    assert model["b"][0] is arrays[1]
    assert model["b"][1]["c"] is arrays[2]
    assert foreign.tolist() == [7, 7, 7]


def test_containers_that_were_exchanged_get_back_what_stood_in_them():
    """A dict that another one replaced stands there again, or its leaves are named; the other one is not written."""
    model = {"a": {"w": np.ones(3)}, "b": (np.ones(2),)}
    avg = ms.Average(model, ms.ema(0.5))
    other = {"w": np.full(3, 7.0)}
    with pytest.raises(SwapError, match=r"a\.w"), avg.swapped():
        model["a"] = other
    assert other["w"].tolist() == [7, 7, 7]
    model = {"b": (np.ones(2),), "c": np.ones(2)}
    avg = ms.Average(model, ms.ema(0.5))
    with pytest.raises(SwapError, match=r"b\.0"), avg.swapped():
        model.update(b=(np.zeros(2),), c=np.zeros(2))
    assert model["c"].tolist() == [1, 1]


# --- how blocks are used ----------------------------------------------------------------------------------------------
def test_a_block_decorates_a_function_and_lives_in_generators(torch):
    """It is entered anew for each call; a generator that is dropped in the middle gives the weights back."""
    model = torch.nn.Linear(2, 2)
    avg = ms.Average(model, ms.ema(0.5))
    with torch.no_grad():
        model.weight.fill_(3)

    @avg.swapped()
    def evaluate():
        return model.weight.detach().clone()

    for _ in range(2):
        assert torch.equal(evaluate(), avg.value["weight"])
        assert torch.all(model.weight == 3)

    def batches():
        with avg.swapped():
            yield from range(3)

    running = batches()
    next(running)
    assert not torch.all(model.weight == 3)
    del running
    assert torch.all(model.weight == 3)


def test_skipped_leaves_are_left_to_the_block(torch):
    """What is not in the average is not exchanged: what the block does to it stays."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    avg = ms.Average(model, ms.ema(0.5), select={"1.running_*": "skip"})
    with avg.swapped():
        model[1].running_mean = torch.full((2,), 5.0)
    assert model[1].running_mean.tolist() == [5, 5]
    assert copy.deepcopy(model[1].running_mean).tolist() == [5, 5]
