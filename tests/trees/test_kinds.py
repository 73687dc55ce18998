"""Leaves of any kind: what has no mean is copied, or skipped, and never looked at for more than that."""

import numpy as np
import pytest
from helpers import make, to_numpy

import multisched as ms
from multisched import errors


def odd_tensors(torch):
    dense = torch.eye(3)
    return {
        "sparse": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "fp8": dense.to(torch.float8_e4m3fn),
        "quantised": torch.quantize_per_tensor(dense, 0.5, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "text": np.array(["a", "b"]),
        "any": np.array([{}, None], dtype=object),
    }


def plain(torch, leaf):
    """A leaf as an array of NumPy."""
    if not isinstance(leaf, torch.Tensor):
        return np.asarray(leaf)
    leaf = leaf.dequantize() if leaf.is_quantized else leaf
    if leaf.is_nested:
        return np.concatenate([part.numpy() for part in leaf.unbind()])
    return (leaf.to_dense() if leaf.layout is not torch.strided else leaf).float().numpy()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of torch, about its own kinds
@pytest.mark.parametrize("name", ["sparse", "csr", "fp8", "quantised", "nested", "text", "any"])
def test_torch_leaves_without_a_mean(torch, name):
    """They are copied by default and by name, skipped by name, and an error that names them where a mean is wanted."""
    odd = odd_tensors(torch)[name]
    tree = {"w": torch.zeros(3), "odd": odd}
    for select in (None, {"odd": "copy"}):
        avg = ms.Average(tree, ms.ema(0.5), select=select)
        avg.update({"w": torch.ones(3), "odd": odd})
        np.testing.assert_array_equal(plain(torch, avg.value["odd"]), plain(torch, odd))
        state = avg.state_dict()
        other = ms.Average(tree, ms.ema(0.5), select=select)
        other.load_state_dict(state)
        np.testing.assert_array_equal(plain(torch, other.value["odd"]), plain(torch, odd))
        assert avg.value["odd"] is not odd
    assert ms.Average(tree, ms.ema(0.5), select={"odd": "skip"}).value["odd"] is None
    with pytest.raises(errors.SelectError, match=r"(?s)'odd'.*select"):
        ms.Average(tree, ms.ema(0.5), select={"odd": "average"})


def test_a_copy_is_the_value_of_the_last_update(torch, tmp_path):
    """What is written into the model later does not show; a file that cannot hold it is an error."""
    module = torch.nn.Linear(2, 1)
    module.register_buffer("scale", torch.ones(2).to(torch.float8_e4m3fn))
    avg = ms.Average(module, ms.ema(0.5))
    module.scale.copy_(torch.tensor([2.0, 3.0]))
    avg.update()
    module.scale.copy_(torch.tensor([5.0, 5.0]))
    assert avg.value["scale"].float().tolist() == [2.0, 3.0]
    avg.update(where=False)
    assert avg.value["scale"].float().tolist() == [2.0, 3.0]
    with pytest.raises(errors.CheckpointError, match=r"'scale'.*select=\{'scale': \"skip\"\}"):
        ms.save(tmp_path / "average.safetensors", avg)
    avg = ms.Average(module, ms.ema(0.5), select={"scale": "skip"})
    ms.save(tmp_path / "average.safetensors", avg)


def test_a_copy_follows_masks_that_the_device_knows(torch):
    """Each kind is that of the last update that counted, though the host did not know which: it is looked up later."""
    module = torch.nn.Linear(2, 1)
    module.register_buffer("scale", torch.zeros(2).to(torch.float8_e4m3fn))
    avg, ok, counted = ms.Average(module, ms.ema(0.5)), torch.tensor(True), 0.0
    for k, good in enumerate((True, False, True, True, False, False), 1):
        module.scale.copy_(torch.full((2,), float(k)))
        avg.update(where=ok.fill_(good))
        counted = float(k) if good else counted
        ok.fill_(not good)  # the mask is the caller's, who may use its memory again
        if k != 3:
            assert avg.value["scale"].float().tolist() == [counted] * 2
    with avg.swapped():
        assert module.scale.float().tolist() == [4.0, 4.0]
    assert module.scale.float().tolist() == [6.0, 6.0]
    other = ms.Average(module, ms.ema(0.5))
    other.load_state_dict(avg.state_dict())
    assert other.value["scale"].float().tolist() == [4.0, 4.0]


def test_keys_and_numbers_follow_masks_that_the_device_knows(jax):
    """As tensors of odd kinds do: random keys, and leaves that are no arrays."""
    tree = {"w": jax.numpy.zeros(2), "key": jax.random.key(0), "rate": 0.0, "name": "first"}
    avg, counted = ms.Average(tree, ms.ema(0.5)), 0
    for k, good in enumerate((True, False, True, False), 1):
        tree = {"w": tree["w"] + 1, "key": jax.random.key(k), "rate": float(k), "name": "first"}
        avg.update(tree, where=jax.numpy.asarray(good))
        counted = k if good else counted
    value = avg.value
    assert (value["rate"], value["name"], counted) == (3.0, "first", 3)
    np.testing.assert_array_equal(jax.random.key_data(value["key"]), jax.random.key_data(jax.random.key(3)))


def test_tensors_without_values(torch):
    """On the meta device and lazy ones can be skipped and copied; only a mean of them is an error, which says how."""
    meta = {"w": torch.zeros(2), "later": torch.zeros(2, device="meta")}
    lazy = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LazyLinear(2))
    for tree, name in ((meta, "later"), (lazy, "1.*")):
        with pytest.raises(errors.LeafError, match=r"(?s)(meta|lazy).*select"):
            ms.Average(tree, ms.ema(0.5))
        for policy in ("copy", "skip"):
            avg = ms.Average(tree, ms.ema(0.5), select={name: policy})
            avg.update()
            assert avg.count == 1


def test_keys_of_jax(jax):
    """Random keys and small dtypes are copied, whatever the tree they are in."""
    jnp = jax.numpy
    tree = {"w": jnp.zeros(2), "key": jax.random.key(1), "fp8": jnp.ones(2, jnp.float8_e4m3fn), "n": jnp.arange(2)}
    avg = ms.Average(tree, ms.ema(0.5))
    later = tree | {"w": jnp.ones(2), "key": jax.random.key(7)}
    avg.update(later)
    assert jax.random.key_data(avg.value["key"]).tolist() == jax.random.key_data(later["key"]).tolist()
    other = ms.Average(tree, ms.ema(0.5))
    other.load_state_dict(avg.state_dict())
    assert jax.random.key_data(other.value["key"]).tolist() == jax.random.key_data(later["key"]).tolist()
    with pytest.raises(errors.SelectError, match="'key'"):
        ms.Average(tree, ms.ema(0.5), select={"key": "average"})
    with pytest.raises(errors.CheckpointMismatch, match="copied/key"):
        other.load_state_dict(avg.state_dict() | {"copied": {"key": 3, "fp8": tree["fp8"], "n": tree["n"]}})


# --- dtypes across backends ------------------------------------------------------------------------------------------
FITS = [
    ("int64", "int32", [1, -(2**31)], True),
    ("int64", "int32", [2**31, 0], False),
    ("int32", "int64", [1, 2], True),
    ("uint8", "uint32", [255, 0], True),
    ("uint64", "uint32", [2**32 - 1, 0], True),
    ("uint64", "uint32", [2**32, 0], False),
    ("int32", "uint32", [1, 0], False),
    ("float64", "float32", [1e300, 0], False),
    ("float64", "float32", [np.inf, np.nan], True),
    ("float32", "float64", [1.5, np.inf], True),
    ("float64", "float16", [1e5, 0], False),
    ("complex128", "complex64", [1e300, 0], False),
    ("complex64", "complex128", [1.5 + 2j, 0], True),
    ("bool", "int32", [True, False], False),
    ("int32", "bool", [1, 0], False),
    ("int32", "float32", [1, 0], False),
    ("float32", "complex64", [1, 0], False),
]


@pytest.mark.parametrize(("given", "here", "values", "fits"), FITS)
@pytest.mark.parametrize("by_file", [False, True])
def test_dtypes_are_cast_where_all_fits(backend, given, here, values, fits, by_file, tmp_path):
    """Within a kind, if each value fits; else an error names the leaf and both dtypes, and nothing has changed."""
    if not ms.get_backend(backend).supports(here) or (by_file and given == "complex128"):
        pytest.skip("no such dtype here")
    copies = {"x": "copy"}
    old = ms.Average({"x": np.asarray(values, given), "w": np.ones(1)}, ms.ema(0.5), select=copies)
    new = ms.Average({"x": make([0, 0], backend, here), "w": make([0.0], backend)}, ms.ema(0.5), select=copies)
    old.update()
    if by_file:
        ms.save(tmp_path / "average", old)
    load = (lambda: ms.load(tmp_path / "average", new)) if by_file else lambda: new.load_state_dict(old.state_dict())
    if fits:
        load()
        assert to_numpy(new.value["x"], backend).astype(given).tolist() == pytest.approx(values, nan_ok=True)
        assert to_numpy(new.value["x"], backend).dtype.name == here
        assert (new.count, to_numpy(new.value["w"], backend).tolist()) == (1, [1.0])
    else:
        with pytest.raises(errors.CheckpointMismatch, match=rf"copied/x.*{given}.*{here}"):
            load()
        assert (new.count, to_numpy(new.value["x"], backend).tolist()) == (0, [0, 0])
        assert to_numpy(new.value["w"], backend).tolist() == [0.0]


@pytest.mark.parametrize(
    ("first", "second"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float64", "float32")]
)
def test_what_is_held_is_cast(torch, first, second):
    """An average held in one floating dtype loads into one held in another."""
    tree = {"w": torch.full((3,), 1.5)}
    old, new = (ms.Average(tree, ms.ema(0.5), dtype=dtype) for dtype in (first, second))
    old.update({"w": torch.full((3,), 2.5)})
    new.load_state_dict(old.state_dict())
    assert new.value["w"].tolist() == [2.5] * 3
    assert new.snapshot().value["w"].dtype == getattr(torch, second)
