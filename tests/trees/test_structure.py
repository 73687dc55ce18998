"""Which trees are averaged, what their leaves are called, and that they come back as they were."""

import dataclasses
from collections import OrderedDict, defaultdict, deque
from typing import NamedTuple

import numpy as np
import pytest
from helpers import make, to_numpy

import multisched as ms
from multisched.errors import BackendMismatch, DuplicatePath, LeafError, SelectError


class Point(NamedTuple):
    x: object
    y: object


def names_of(avg):
    """The names of the leaves, as `state_dict` tells them."""
    state = avg.state_dict()
    return sorted([*state.get("average", {}), *state.get("copied", {})])


def one(backend, value=1.0):
    return make([value, value + 1], backend)


TREES = {
    "a single array": (lambda a: a, ["value"]),
    "dict": (lambda a: {"a": a, "b": {"c": a}}, ["a", "b.c"]),
    "dict of other keys": (lambda a: {1: a, (2, 3): a, "x": a}, ["(2, 3)", "1", "x"]),
    "OrderedDict": (lambda a: OrderedDict(z=a, a=a), ["a", "z"]),
    "defaultdict": (lambda a: defaultdict(list, k=[a]), ["k.0"]),
    "list": (lambda a: [a, [a]], ["0", "1.0"]),
    "tuple": (lambda a: (a, (a, a)), ["0", "1.0", "1.1"]),
    "deque": (lambda a: deque([a, a], maxlen=2), ["0", "1"]),
    "NamedTuple": (lambda a: {"p": Point(a, Point(a, None))}, ["p.x", "p.y.x"]),
    "nothing": (lambda a: {"a": {}, "b": None, "c": []}, []),
}


@pytest.mark.parametrize(("build", "names"), TREES.values(), ids=TREES)
def test_containers_come_back_as_they_were(backend, build, names):
    """The average of a container of Python is one of the same type and keys, its leaves named by their paths."""
    optree = pytest.importorskip("optree", reason="trees are taken apart by optree")
    first, second = build(one(backend)), build(one(backend, 3.0))
    avg = ms.Average(first, ms.ema(0.5))
    avg.update(first)
    avg.update(second)
    assert names_of(avg) == names
    value = avg.value
    assert optree.tree_structure(value) == optree.tree_structure(first)
    assert type(value) is type(first)
    assert all(to_numpy(leaf, backend).tolist() == [2, 3] for leaf in optree.tree_leaves(value))


def test_dataclasses_registered_with_optree(backend):
    """A dataclass that optree knows is taken apart by its fields, and what is no leaf stays in it."""
    optree = pytest.importorskip("optree", reason="trees are taken apart by optree")

    @optree.dataclasses.dataclass(namespace="")
    class Dense:
        weight: object
        size: int = optree.dataclasses.field(default=2, pytree_node=False)

    avg = ms.Average([Dense(one(backend), 7)], ms.ema(0.5))
    avg.update([Dense(one(backend), 7)])
    avg.update([Dense(one(backend, 3.0), 7)])
    (value,) = avg.value
    assert names_of(avg) == ["0.weight"]
    assert (type(value), value.size, to_numpy(value.weight, backend).tolist()) == (Dense, 7, [2, 3])


def test_what_nobody_registered_is_one_leaf(backend):
    """An object of an unknown class is no array: its latest is what the average gives."""

    @dataclasses.dataclass
    class Note:
        text: str

    avg = ms.Average({"w": one(backend), "note": Note("first")}, ms.swa())
    avg.update({"w": one(backend), "note": Note("second")})
    assert avg.value["note"] == Note("second")


def test_two_leaves_of_one_name_are_refused(backend):
    """Where a path is ambiguous, `DuplicatePath` says which."""
    for tree in ({"a": {"b": one(backend)}, "a.b": one(backend)}, {1: one(backend), "1": one(backend)}):
        with pytest.raises(DuplicatePath, match=r"'a\.b'|'1'"):
            ms.Average(tree, ms.swa())


def test_arrays_of_two_backends_are_refused(jax, torch):
    """A tree holds arrays of one backend, besides those of NumPy; the error names both."""
    with pytest.raises(BackendMismatch, match="jax, torch"):
        ms.Average({"a": jax.numpy.ones(2), "b": torch.ones(2), "c": np.ones(2)}, ms.swa())


def test_arrays_of_another_backend_than_the_one_meant_are_refused(torch):
    """With `backend=` a tree of another backend's arrays is refused, by the name of the leaf."""
    with pytest.raises(LeafError, match="'w'"):
        ms.Average({"w": torch.ones(2)}, ms.swa(), backend="numpy")


def test_the_backend_is_found_from_the_arrays(backend):
    """Without `backend=` the arrays say which it is, whichever backend is in use."""
    tree = {"w": one(backend)}
    with ms.use_backend("numpy"):
        avg = ms.Average(tree, ms.swa())
        avg.update(tree)
        assert ms.get_backend(backend).owns(avg.value["w"])


def test_modules_inside_of_containers(torch):
    """A module may be a part of a tree; it comes back as a dict of its names."""
    model, log_scale = torch.nn.Linear(2, 1), torch.zeros(())
    torch.nn.init.constant_(model.weight, 0.25)
    tree = {"models": [model, torch.nn.ReLU()], "log_scale": log_scale}
    avg = ms.Average(tree, ms.ema(0.5))
    avg.update()
    model.weight.data.add_(2)
    log_scale += 4
    avg.update()
    assert names_of(avg) == ["log_scale", "models.0.bias", "models.0.weight"]
    value = avg.value
    assert float(value["log_scale"]) == 2
    assert torch.equal(value["models"][0]["weight"], model.weight.detach() - 1)
    assert value["models"][1] == {}


@pytest.mark.parametrize("dtype", ["<U3", "datetime64[s]", "object", "longdouble"])
def test_arrays_of_no_numbers_are_copied(dtype):
    """A leaf of a dtype that no average has is copied; to average it is a `SelectError` that names it."""
    tree = {"w": np.ones(2), "odd": np.zeros(2, dtype)}
    with pytest.raises(SelectError, match="'odd'"):
        ms.Average(tree, ms.swa(), select={"odd": "average"})
    avg, left_out = ms.Average(tree, ms.swa()), ms.Average(tree, ms.swa(), select={"odd": "skip"})
    tree["odd"] = np.ones(2, dtype)
    avg.update()
    left_out.update()
    assert np.array_equal(avg.value["odd"], np.ones(2, dtype))
    assert left_out.value["odd"] is None


def test_declared_tensors_are_refused(backend):
    """A tensor that has no value yet is a `LeafError` that names it."""
    with pytest.raises(LeafError, match="'w'"):
        ms.Average({"w": ms.Placeholder((2,), "float32")}, ms.swa())


# --- Flax and Equinox ------------------------------------------------------------------------------------------------
def test_flax_linen_parameters(jax):
    """The parameters of a linen module are averaged, and the module runs with their average."""
    linen = pytest.importorskip("flax.linen", reason="the test is about Flax, which is not installed")
    model, x = linen.Sequential([linen.Dense(3), linen.Dense(1)]), jax.numpy.ones(2)
    first, second = (model.init(jax.random.PRNGKey(seed), x) for seed in (0, 1))
    avg = ms.Average(first, ms.ema(0.5))
    avg.update(first)
    avg.update(second)
    half = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    assert "params.layers_0.kernel" in names_of(avg)
    assert jax.tree.structure(avg.value) == jax.tree.structure(first)
    assert np.allclose(model.apply(avg.value, x), model.apply(half, x), rtol=1e-6)


def test_flax_nnx_modules_and_states(jax):
    """An nnx module is averaged as it changes, and so is its state; both come back as what they were."""
    nnx = pytest.importorskip("flax.nnx", reason="the test is about Flax, which is not installed")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    start = np.asarray(model.kernel[...])
    avg, of_state = ms.Average(model, ms.ema(0.5)), ms.Average(nnx.state(model), ms.ema(0.5))
    for _ in range(2):
        avg.update()
        of_state.update(nnx.state(model))
        model.kernel[...] = model.kernel[...] + 2
    assert type(avg.value) is nnx.Linear
    assert type(of_state.value) is type(nnx.state(model))
    assert np.allclose(avg.value.kernel[...], start + 1, rtol=1e-6)
    other = nnx.Linear(2, 3, rngs=nnx.Rngs(1))
    nnx.update(other, of_state.value)
    assert np.allclose(other.kernel[...], start + 1, rtol=1e-6)
    assert np.allclose(model.kernel[...], start + 4, rtol=1e-6)


def test_equinox_modules(jax):
    """An Equinox module with functions as leaves and static fields comes back as one that runs."""
    eqx = pytest.importorskip("equinox", reason="the test is about Equinox, which is not installed")
    first, second = (eqx.nn.MLP(2, 1, 3, 2, key=jax.random.PRNGKey(seed)) for seed in (0, 1))
    avg = ms.Average(first, ms.ema(0.5))
    avg.update(first)
    avg.update(second)
    value = avg.value
    assert jax.tree.structure(value) == jax.tree.structure(first)
    assert value.activation is second.activation
    assert value.depth == 2
    assert "layers.0.weight" in names_of(avg)
    weights = [np.asarray(m.layers[1].weight) for m in (first, second, value)]
    assert np.allclose(weights[2], (weights[0] + weights[1]) / 2, rtol=1e-6)
    assert value(jax.numpy.ones(2)).shape == (1,)
