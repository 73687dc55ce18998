"""Averages in torch's inference mode: what is made inside is used outside, and the other way round."""

import itertools

import pytest

import multisched as ms

OPERATIONS = ("update", "load", "value", "swapped", "copy_to", "state", "save")
OPTIONS = {
    "plain": {},
    "compensated": {"dtype": "bfloat16", "rounding": "compensated"},
    "stochastic": {"dtype": "bfloat16", "rounding": "stochastic"},
    "offloaded": {"offload": "cpu"},
}


def do(operation, average, state, path):
    if operation == "update":
        average.update()
    elif operation == "load":
        average.load_state_dict(state)
    elif operation == "value":
        assert len(average.value) == 7
    elif operation == "swapped":
        with average.swapped():
            pass
    elif operation == "copy_to":
        average.copy_to()
    elif operation == "state":
        average.load_state_dict(average.state_dict())
    else:
        ms.save(path, average)
        ms.load(path, average)


@pytest.mark.parametrize("made_inside", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_any_operation_after_any_other(torch, tmp_path, options, made_inside):
    """Made, updated, loaded, read, swapped and saved inside of the mode and outside, in any order: training goes on."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    first = ms.Average(model, ms.ema(0.5), **options)
    first.update()
    state = first.state_dict()
    with torch.inference_mode(made_inside):
        average = ms.Average(model, ms.ema(0.5), **options)
    mask = torch.tensor(True)
    inside = itertools.cycle((True, False))  # a pair has its first operation inside, the next pair its second
    for before, after in itertools.product(OPERATIONS, repeat=2):
        with torch.inference_mode(next(inside)):
            do(before, average, state, tmp_path / "file")
        with torch.inference_mode(next(inside)):
            do(after, average, state, tmp_path / "file")
            average.update(where=mask)
        next(inside)
    assert not any(tensor.is_inference() for tensor in average._contents.arrays)
    model(torch.randn(8, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
