"""Averages on the host of models that may be elsewhere: the numbers are those of an average beside the model.

That a copy from a GPU does not block, and goes to pinned memory, can be tested only where there is one: here models lie
on the host already, and the copies that an update makes are what is tested.
"""

import re
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import pytest

import multisched as ms
from multisched.errors import AverageError, CheckpointMismatch, DeviceError, MaskError, TreeMismatch

RULE = ms.ema(0.75)
OPTIONS = {
    "plain": {},
    "float64": {"dtype": "float64"},
    "select": {"select": {"layers.0": "copy", "layers.2": "skip"}},
    "stochastic": {"dtype": "bfloat16", "rounding": "stochastic", "seed": 3},
    "compensated": {"dtype": "bfloat16", "rounding": "compensated", "seed": 3},
}


@pytest.fixture
def offloads(backend):
    """The backend in use, which has a device "cpu" to which its arrays can be brought."""
    if backend == "array_api_strict":
        pytest.skip('array_api_strict has no device "cpu"; test_a_backend_without_a_host is about it')
    return ms.get_backend(backend)


def values(step, dtype="float32"):
    """Arrays of NumPy, others for each step, small ones and one that is not packed."""
    rng = np.random.default_rng(step)
    layers = [rng.normal(size=shape).astype(dtype) for shape in ((5, 3), (7,), (), (200, 100))]
    return {"layers": layers, "count": np.array(step, np.int32)}


def model(adapter, step, dtype="float32"):
    tree = values(step, dtype)
    return {
        "layers": [adapter.asarray(layer, layer.dtype.name) for layer in tree["layers"]],
        "count": adapter.asarray(tree["count"], "int32"),
    }


def flat(adapter, tree):
    """All arrays of a tree on the host; skipped ones are None."""
    return [None if x is None else adapter.to_numpy(x) for x in (*tree["layers"], tree["count"])]


def assert_same(adapter, tree, other):
    for one, two in zip(flat(adapter, tree), flat(adapter, other), strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            assert one.dtype == two.dtype
            assert one.tobytes() == two.tobytes()


def averaged(count):
    """The average of the layers in float64, in plain NumPy."""
    mean = [layer.astype(np.float64) for layer in values(0)["layers"]]
    for step in range(1, count):
        mean = [0.75 * m + 0.25 * x for m, x in zip(mean, values(step)["layers"], strict=True)]
    return mean


def needs(adapter, options):
    dtype = options.get("dtype", "float32")
    if not adapter.supports(dtype):
        pytest.skip(f"the backend has no {dtype} as it is configured")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_same_numbers(offloads, options):
    """An offloaded average is, to the bit, what the average is otherwise, whatever the options, at each update."""
    needs(offloads, options)
    avg = ms.Average(model(offloads, 0), RULE, offload="cpu", **options)
    beside = ms.Average(model(offloads, 0), RULE, **options)
    assert_same(offloads, avg.value, beside.value)
    for step in range(5):
        avg.update(model(offloads, step))
        beside.update(model(offloads, step))
        if step != 2:  # at which nobody looks: the update waits for the next one
            assert_same(offloads, avg.value, beside.value)
            assert_same(offloads, avg.snapshot().value, beside.snapshot().value)
        assert avg.count == step + 1


def test_the_numbers_of_numpy(offloads):
    """An offloaded average is that of plain NumPy in float64, without a look at it between updates."""
    avg = ms.Average(model(offloads, 0), RULE, offload="cpu")
    for step in range(6):
        avg.update(model(offloads, step))
    for layer, expected in zip(flat(offloads, avg.value), [*averaged(6), 5], strict=True):
        np.testing.assert_allclose(layer, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("read", ["value", "snapshot", "state_dict", "save"])
def test_all_ways_of_reading_include_the_last_update(offloads, tmp_path, read):
    """However an average is read right after an update, the update is in it."""
    avg, beside = (ms.Average(model(offloads, 0), RULE, offload=to) for to in ("cpu", None))
    for step in range(2):
        avg.update(model(offloads, step))
        beside.update(model(offloads, step))
    other = ms.Average(model(offloads, 9), RULE)
    if read == "value":
        found = avg.value
    elif read == "snapshot":
        found = avg.snapshot().value
    elif read == "state_dict":
        other.load_state_dict(avg.state_dict())
        found = other.value
    else:
        ms.save(tmp_path / "average.safetensors", avg)
        ms.load(tmp_path / "average.safetensors", other)
        found = other.value
    assert_same(offloads, found, beside.value)
    assert_same(offloads, avg.value, beside.value)


def test_a_model_overwritten_right_after_the_update(offloads):
    """What is averaged is the model at the moment of the update, whatever it is overwritten with before a look."""
    if not offloads.in_place:
        pytest.skip("arrays of this backend cannot be overwritten")
    tree = model(offloads, 0)
    avg = ms.Average(tree, RULE, offload="cpu")
    for step in range(5):
        new = model(offloads, step)
        for layer, value in zip([*tree["layers"], tree["count"]], [*new["layers"], new["count"]], strict=True):
            layer[...] = value
        avg.update()
        for layer in tree["layers"]:
            layer[...] = float("nan")
        tree["count"][...] = 77
    for layer, expected in zip(flat(offloads, avg.value), [*averaged(5), 4], strict=True):
        np.testing.assert_allclose(layer, expected, rtol=1e-6, atol=1e-6)


def test_a_model_donated_right_after_the_update(jax):
    """A JAX model may be donated to a step right after the update: the average has its own copy."""
    tree = {"w": jax.numpy.arange(6.0)}
    train = jax.jit(lambda tree: {"w": tree["w"] + 1}, donate_argnums=0)
    avg = ms.Average(tree, ms.swa(), offload="cpu")
    for _ in range(4):
        avg.update(tree)
        given, tree = tree, train(tree)
        assert given["w"].is_deleted()
    np.testing.assert_allclose(avg.value["w"], np.arange(6.0) + 1.5)


@pytest.mark.parametrize("options", [{}, OPTIONS["compensated"]], ids=["plain", "compensated"])
@pytest.mark.parametrize("on_device", [False, True])
def test_where(offloads, options, on_device):
    """A mask, of Python or an array, leaves out the updates at which it is false; their values are never looked at."""
    needs(offloads, options)
    avg, beside = (ms.Average(model(offloads, 0), RULE, offload=to, **options) for to in ("cpu", None))
    for step, flag in enumerate((True, False, True, True, False)):
        tree = model(offloads, step)
        if not flag:
            tree["layers"] = [offloads.asarray(np.full_like(x, np.nan), "float32") for x in values(step)["layers"]]
        mask = offloads.asarray(np.array(flag), "bool") if on_device else flag
        avg.update(tree, where=mask)
        beside.update(tree, where=mask)
        assert avg.count == beside.count
    assert avg.count == 3
    assert_same(offloads, avg.value, beside.value)
    assert all(np.isfinite(layer.astype(np.float64)).all() for layer in flat(offloads, avg.value))


def test_half_precision_models(offloads):
    """Of a bfloat16 model the average on the host is float32, and `value` is bfloat16."""
    needs(offloads, {"dtype": "bfloat16"})
    avg = ms.Average(model(offloads, 0, ml_dtypes.bfloat16), RULE, offload="cpu")
    mean = None
    for step in range(4):
        avg.update(model(offloads, step, ml_dtypes.bfloat16))
        new = [layer.astype(np.float64) for layer in values(step, ml_dtypes.bfloat16)["layers"]]
        mean = new if mean is None else [0.75 * m + 0.25 * x for m, x in zip(mean, new, strict=True)]
    snapshot, value = flat(offloads, avg.snapshot().value), flat(offloads, avg.value)
    for layer, read, expected in zip(snapshot[:-1], value[:-1], mean, strict=True):
        assert (layer.dtype, read.dtype) == (np.float32, ml_dtypes.bfloat16)
        np.testing.assert_allclose(layer, expected, rtol=1e-6, atol=1e-6)


def test_a_refused_update_changes_nothing(offloads):
    """A model of other leaves, and a bad mask, leave the average as the last update made it, if on its way or not."""
    avg, beside = (ms.Average(model(offloads, 0), RULE, offload=to) for to in ("cpu", None))
    for step in range(2):
        avg.update(model(offloads, step))
        beside.update(model(offloads, step))
    wrong = model(offloads, 2)
    wrong["layers"][0] = wrong["layers"][1]
    with pytest.raises(TreeMismatch, match=r"layers\.0"):
        avg.update(wrong)
    with pytest.raises(MaskError):
        avg.update(model(offloads, 2), where=2.5)
    state = avg.state_dict()
    with pytest.raises(CheckpointMismatch):
        avg.load_state_dict({**state, "average": {}})
    assert avg.count == 2
    assert_same(offloads, avg.value, beside.value)


def test_a_loaded_state_replaces_what_is_on_its_way(offloads):
    """After `load_state_dict` the average is what was loaded: no update of before is blended into it."""
    avg = ms.Average(model(offloads, 0), RULE, offload="cpu")
    avg.update(model(offloads, 0))
    state, before = avg.state_dict(), avg.value
    avg.update(model(offloads, 1))
    avg.load_state_dict(state)
    assert avg.count == 1
    assert_same(offloads, avg.value, before)
    beside = ms.Average(model(offloads, 0), RULE)
    beside.load_state_dict(state)
    for step in range(1, 4):
        avg.update(model(offloads, step))
        beside.update(model(offloads, step))
    assert_same(offloads, avg.value, beside.value)


@pytest.mark.parametrize("offload", ["gpu", "", 0, True, b"cpu", ["cpu"]])
def test_bad_values(backend, offload):
    """`offload` is "cpu" or None; anything else is an error that says so and shows what was given."""
    tree = {"w": ms.get_backend(backend).asarray(np.ones(2), "float32")}
    with pytest.raises(AverageError, match=rf'"cpu" or None, got {re.escape(repr(offload))}'):
        ms.Average(tree, RULE, offload=offload)


def test_a_backend_without_a_host():
    """A backend with no device called "cpu" raises, and says which devices it has."""
    strict = pytest.importorskip("array_api_strict", reason="the test is about it, and it is not installed")
    with pytest.raises(DeviceError, match=r"no device 'cpu'.*CPU_DEVICE"):
        ms.Average({"w": strict.ones(2)}, RULE, offload="cpu", backend="array_api_strict")


# --- torch -----------------------------------------------------------------------------------------------------------
def test_module(torch):
    """Of a module the average is that of its state; its parameters may be trained on and swapped as ever."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    avg, beside = ms.Average(net, RULE, offload="cpu"), ms.Average(net, RULE)
    for _ in range(4):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        avg.update()
        beside.update()
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with avg.swapped():
        inside = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, tensor in beside.value.items():
        assert torch.equal(avg.value[name], tensor), name
        assert torch.equal(inside[name], tensor), name
        assert torch.equal(net.state_dict()[name], own[name]), name
        assert (avg.value[name].device.type, avg.value[name].requires_grad) == ("cpu", False)
    avg.update()
    beside.update()
    avg.copy_to(net)
    for name, tensor in beside.value.items():
        assert torch.equal(net.state_dict()[name], tensor), name


def test_layouts_of_memory(torch):
    """Tensors that are transposed, strided or channels-last are averaged by their elements."""
    whole = torch.arange(120.0).reshape(2, 3, 4, 5)
    tree = {
        "turned": whole[0, 0].T,
        "strided": whole[1, :, ::2, 1],
        "last": whole.to(memory_format=torch.channels_last),
        "expanded": torch.ones(3, 1).expand(3, 4),
        "conjugate": torch.view_as_complex(whole[..., :2].contiguous()).conj(),
    }
    avg = ms.Average(tree, ms.swa(), offload="cpu")
    for step in range(3):
        avg.update({name: tensor * (step + 1) for name, tensor in tree.items()})
    for name, tensor in avg.value.items():
        torch.testing.assert_close(tensor.resolve_conj(), (tree[name] * 2).resolve_conj())


# --- JAX -------------------------------------------------------------------------------------------------------------
OTHER_DEVICES = """
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
import jax
import numpy as np

import multisched as ms

first, *others = jax.devices()
for options in ({}, {"dtype": "bfloat16", "rounding": "stochastic"}):
    trees = [{"a": jax.device_put(np.arange(4.0, dtype="float32") + i, others[0]),
              "b": jax.device_put(np.ones((3, 3), "float32") * i, others[1])} for i in range(3)]
    avg, mean = ms.Average(trees[0], ms.swa(), offload="cpu", **options), []
    for i, (tree, flag) in enumerate(zip([*trees, trees[0]], [True, True, True, False])):
        avg.update(tree, where=jax.device_put(np.array(flag), others[i % 2]))
    value = avg.value
    assert avg.count == 3
    np.testing.assert_allclose(value["a"], np.arange(4.0) + 1, rtol=2**-7)
    np.testing.assert_allclose(value["b"], np.ones((3, 3)), rtol=2**-7)
    for array in [*value.values(), *avg._contents.mean.arrays, *avg.state_dict()["average"].values()]:
        assert array.devices() == {first}, array.devices()
    for tree in trees:
        assert not any(array.is_deleted() for array in tree.values())
"""


def test_the_average_is_on_the_host(jax):
    """Of arrays on other devices of JAX, with masks there, the average is on the first of those called "cpu"."""
    command = [sys.executable, "-c", textwrap.dedent(OTHER_DEVICES)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
