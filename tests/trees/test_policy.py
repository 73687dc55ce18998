"""`select`: which leaves of a model are averaged, copied or skipped."""

import numpy as np
import pytest
from helpers import make, to_numpy

import multisched as ms
from multisched.errors import SelectError

NAMES = ("encoder.w", "encoder.b", "head.w", "norm.running_mean", "norm.count")


def model_at(step, backend):
    """Each leaf is as many as the step; the count is an integer."""
    values = {name: make([float(step)] * 2, backend) for name in NAMES[:-1]}
    count = make(step, backend, "int32")
    return {
        "encoder": {"w": values["encoder.w"], "b": values["encoder.b"]},
        "head": {"w": values["head.w"]},
        "norm": {"running_mean": values["norm.running_mean"], "count": count},
    }


def after_two(select, backend):
    """What becomes of each leaf after values 1 and 3 at equal weights: 2 averaged, 3 copied, None skipped."""
    avg = ms.Average(model_at(0, backend), ms.swa(), select=select)
    avg.update(model_at(1, backend))
    avg.update(model_at(3, backend))
    found = {f"{outer}.{name}": leaf for outer, inner in avg.value.items() for name, leaf in inner.items()}
    return {name: None if x is None else to_numpy(x, backend).max().item() for name, x in found.items()}


USUAL = {"encoder.w": 2, "encoder.b": 2, "head.w": 2, "norm.running_mean": 2, "norm.count": 3}
SELECTS = {
    "nothing": (None, USUAL),
    "no pattern": ({}, USUAL),
    "one name": ({"head.w": "skip"}, USUAL | {"head.w": None}),
    "globs": (
        {"*.running_*": "copy", "encoder.?": "skip"},
        USUAL | {"norm.running_mean": 3, "encoder.w": None, "encoder.b": None},
    ),
    "the first pattern counts": ({"encoder.w": "average", "*": "copy"}, dict.fromkeys(NAMES, 3) | {"encoder.w": 2}),
    "skipping an integer": ({"norm.count": "skip"}, USUAL | {"norm.count": None}),
    "a function": (
        lambda name, leaf: "copy" if name.startswith("encoder") else None,
        USUAL | {"encoder.w": 3, "encoder.b": 3},
    ),
    "a function of leaves": (
        lambda name, leaf: "skip" if "int" in str(leaf.dtype) else "copy",
        dict.fromkeys(NAMES, 3) | {"norm.count": None},
    ),
    "skipping all": ({"*": "skip"}, dict.fromkeys(NAMES)),
}


@pytest.mark.parametrize(("select", "expected"), SELECTS.values(), ids=SELECTS)
def test_each_leaf_goes_where_select_says(backend, select, expected):
    """A function or glob patterns choose for each leaf; what they say nothing of is averaged if it can be."""
    assert after_two(select, backend) == expected


BAD = {
    "no policy": ({"head.*": "median"}, "'median'"),
    "a policy behind a wider pattern": ({"*": "copy", "head.*": "median"}, "'median'"),
    "a pattern of no leaf": ({"decoder.*": "copy"}, r"'decoder\.\*'"),
    "a pattern that is no text": ({3: "copy"}, "3"),
    "an integer averaged": ({"norm.*": "average"}, r"'norm\.count'.*int32"),
    "an answer that is no policy": (lambda name, leaf: name == "head.w", r"True.*'encoder|False.*'encoder"),
    "no function": ("average", "'average'"),
    "a list": (["head.w"], "head.w"),
}


@pytest.mark.parametrize(("select", "match"), BAD.values(), ids=BAD)
def test_what_selects_nothing_is_refused(backend, select, match):
    """A policy that there is not, a pattern without a leaf, an average of integers: `SelectError` says which."""
    with pytest.raises(SelectError, match=match):
        ms.Average(model_at(0, backend), ms.swa(), select=select)


def test_skipped_leaves_are_not_looked_at(backend):
    """A skipped leaf may change its shape and type: nothing is kept of it."""
    avg = ms.Average({"w": make([1.0], backend), "x": make([1.0], backend)}, ms.swa(), select={"x": "skip"})
    for odd in (make([1.0, 2.0], backend), "text", 3):
        avg.update({"w": make([3.0], backend), "x": odd})
    assert avg.count == 3
    assert avg.value["x"] is None
    assert list(avg.state_dict()["average"]) == ["w"]


def test_a_skipped_leaf_is_not_in_the_dict_of_a_module(torch):
    """The average of a module, and its state, are without what is skipped, and swapping leaves that alone."""
    model = torch.nn.Linear(2, 2)
    avg = ms.Average(model, ms.ema(0.5), select={"bias": "skip"})
    with torch.no_grad():
        model.weight.add_(2)
        model.bias.fill_(7)
    assert list(avg.value) == ["weight"]
    with avg.swapped():
        assert model.bias.tolist() == [7, 7]
        assert torch.equal(model.weight, avg.value["weight"])


@pytest.mark.parametrize("select", [None, {"*.running_*": "copy"}], ids=["averaged", "copied"])
def test_statistics_of_batch_norm(torch, select):
    """Running statistics are averaged like the weights unless `select` copies them; the batch count is the latest."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    avg, seen = ms.Average(model, ms.swa(), select=select), []
    for _ in range(3):
        model(torch.randn(16, 3))
        avg.update()
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    value = avg.value
    for name in ("1.running_mean", "1.running_var"):
        mean = torch.stack([moment[name].double() for moment in seen]).mean(0)
        expected = seen[-1][name].double() if select else mean
        assert torch.allclose(value[name].double(), expected, rtol=1e-6)
        assert not torch.allclose(seen[-1][name].double(), mean, rtol=1e-6)
    assert value["1.num_batches_tracked"] == 3


def test_integers_and_bools_are_the_latest(backend):
    """Leaves that have no mean of their kind are copied exactly, even the largest of them."""
    tree = {
        "n": np.array([2**31 - 1, -(2**31)], np.int32),
        "flag": np.array([True, False]),
        "byte": np.array(255, np.uint8),
    }
    avg = ms.Average({k: make(np.zeros_like(v), backend, v.dtype.name) for k, v in tree.items()}, ms.ema(0.9))
    given = {k: make(v, backend, v.dtype.name) for k, v in tree.items()}
    avg.update(given)
    avg.update(given, where=make(True, backend, "bool"))
    for name, value in avg.value.items():
        host = to_numpy(value, backend)
        assert (host.dtype, host.tolist()) == (tree[name].dtype, tree[name].tolist())
