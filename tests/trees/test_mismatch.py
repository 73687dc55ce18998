"""A tree that is not that of the average is refused by the path of the leaf, and nothing is updated."""

import os
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_average import bits_of

import multisched as ms
from multisched.errors import BackendMismatch, MultischedError, TracedInputError, TreeMismatch

ORDINARY = {"a": (3,), "b": (2, 2), "big": (20_000,), "n": (2,)}


def tree_of(backend, value=1.0):
    """Floating leaves, packed and alone, and an integer one."""
    leaves = {name: make(np.full(shape, value), backend) for name, shape in ORDINARY.items()}
    return {**leaves, "n": make([1, 2], backend, "int32"), "rate": 0.5}


def other_than(backend, change):
    tree = tree_of(backend, 3.0)
    change(tree, lambda value, dtype="float32": make(value, backend, dtype))
    return tree


WRONG = {
    "missing": (lambda t, _: t.pop("b"), "lacks 'b'"),
    "missing object": (lambda t, _: t.pop("rate"), "lacks 'rate'"),
    "None": (lambda t, _: t.update(b=None), "'b'.* None"),
    "extra": (lambda t, new: t.update(c=new([1.0])), "has 'c' besides"),
    "renamed": (lambda t, _: t.update(c=t.pop("b")), "lacks 'b' and has 'c' besides"),
    "container": (lambda t, _: t.update(b=[t["b"]]), r"(?s)'b'.* of type list"),
    "longer": (lambda t, new: t.update(a=new([1.0] * 4)), r"'a' has the shape \(4,\), and \(3,\)"),
    "broadcastable": (lambda t, new: t.update(a=new([1.0])), r"'a' has the shape \(1,\), and \(3,\)"),
    "scalar": (lambda t, new: t.update(big=new(1.0)), r"'big' has the shape \(\)"),
    "reshaped": (lambda t, new: t.update(b=new([1.0] * 4)), r"'b' has the shape \(4,\), and \(2, 2\)"),
    "integer": (lambda t, new: t.update(b=new([[1, 2], [3, 4]], "int32")), "'b' has the dtype int32, and float32"),
    "complex": (lambda t, new: t.update(b=new([[1, 2], [3, 4]], "complex64")), "'b' has the dtype complex64"),
    "bool": (lambda t, new: t.update(b=new([[True] * 2] * 2, "bool")), "'b' has the dtype bool"),
    "floating for integer": (lambda t, new: t.update(n=new([1.0, 2.0])), "'n' has the dtype float32, and int32"),
    "unsigned for signed": (lambda t, new: t.update(n=new([1, 2], "uint8")), "'n' has the dtype uint8, and int32"),
    "a number": (lambda t, _: t.update(big=2.0), "'big' is no array"),
    "a list of numbers": (lambda t, _: t.update(a=[1.0, 2.0, 3.0]), "'a'.* of type list"),
    "a text": (lambda t, _: t.update(a="abc"), "'a' is no array"),
    "a function": (lambda t, _: t.update(a=abs), "'a' is no array"),
}


@pytest.mark.parametrize(("change", "match"), WRONG.values(), ids=WRONG)
def test_a_leaf_that_is_not_as_it_was(backend, change, match):
    """Missing, extra, of another shape or kind: `TreeMismatch` says which leaf, and all stays as it was, to the bit."""
    avg = ms.Average(tree_of(backend), ms.ema(0.5))
    avg.update(tree_of(backend, 2.0))
    before = bits_of(avg, backend)
    for where in (None, make(True, backend, "bool"), False):
        with pytest.raises(TreeMismatch, match=match):
            avg.update(other_than(backend, change), where=where)
    assert bits_of(avg, backend) == before
    assert avg.value["rate"] == 0.5
    avg.update(tree_of(backend, 4.0))
    assert avg.count == 2


def test_a_failed_update_keeps_the_model(backend):
    """After a tree that is refused, `update()` still follows the model that the average was made of."""
    avg = ms.Average(tree_of(backend), ms.ema(0.5))
    with pytest.raises(TreeMismatch):
        avg.update({"b": 1})
    avg.update()
    assert avg.count == 1


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_precisions_of_the_kind_are_taken(backend, dtype):
    """A model that was cast to another floating dtype goes on being averaged; the value keeps the dtype it had."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype} here")
    avg = ms.Average(tree_of(backend), ms.ema(0.5))
    avg.update(tree_of(backend))
    cast = {name: make(np.full(shape, 3.0), backend, dtype) for name, shape in ORDINARY.items() if name != "n"}
    avg.update(tree_of(backend) | cast)
    avg.update(tree_of(backend) | cast, where=make(True, backend, "bool"))
    assert all("float32" in str(avg.value[name].dtype) for name in cast)
    assert all(np.all(to_numpy(avg.value[name], backend) == 2.5) for name in cast)


@pytest.mark.parametrize("other", ["numpy", "jax", "torch", "array_api_strict"])
def test_arrays_of_another_backend(backend, other):
    """An array of another framework is refused by its name; one of NumPy is taken."""
    pytest.importorskip(other, reason=f"the test is about {other}, which is not installed")
    if other == backend:
        pytest.skip("the same backend is no other")
    avg = ms.Average(tree_of(backend), ms.ema(0.5))
    before = bits_of(avg, backend)
    tree = tree_of(backend) | {"b": make([[1.0, 2.0], [3.0, 4.0]], other)}
    if other == "numpy":
        avg.update(tree)
        assert avg.count == 1
        return
    with pytest.raises((TreeMismatch, BackendMismatch), match="'b'"):
        avg.update(tree)
    assert bits_of(avg, backend) == before


def test_masks_of_another_backend(jax, torch):
    """A mask that another framework holds is refused, and nothing is updated."""
    avg = ms.Average({"w": torch.ones(2)}, ms.swa())
    with pytest.raises(MultischedError, match="where"):
        avg.update(where=jax.numpy.array(True))
    assert avg.count == 0


def test_traced_values_are_refused(jax):
    """Inside of `jit`, values, and masks alone too, are refused, and the average does not hold what is traced."""
    tree = {"w": jax.numpy.ones(3)}
    avg = ms.Average(tree, ms.ema(0.5))
    with pytest.raises(TracedInputError, match="traced by a compiler"):
        jax.jit(lambda w: avg.update({"w": w}))(tree["w"])
    with pytest.raises(TracedInputError, match="traced by a compiler"):
        jax.jit(lambda yes: avg.update(tree, where=yes))(True)
    with pytest.raises(TracedInputError, match="traced by a compiler"):
        jax.jit(lambda w: ms.Average({"w": w}, ms.swa()))(tree["w"])
    assert avg.count == 0
    avg.update(tree)
    assert avg.value["w"].tolist() == [1, 1, 1]


# --- modules ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def model(torch):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


def is_followed(torch, avg, model):
    """Whether an average without memory is the model after an update."""
    avg.update()
    return all(torch.equal(value, model.state_dict()[name].to(value.dtype)) for name, value in avg.value.items())


def test_parameters_and_submodules_that_are_replaced_are_followed(torch, model):
    """A new parameter, buffer, submodule or `data` in the place of the old one is what the average follows."""
    avg = ms.Average(model, ms.ema(0.0))
    for replace in (
        lambda: setattr(model[0], "weight", torch.nn.Parameter(torch.randn(4, 3))),
        lambda: setattr(model[0].bias, "data", torch.randn(4)),
        lambda: setattr(model[1], "running_mean", torch.randn(4)),
        lambda: model[2].register_parameter("bias", torch.nn.Parameter(torch.randn(2))),
        lambda: model.__setitem__(2, torch.nn.Linear(4, 2)),
        lambda: model.load_state_dict({n: t.clone() + 1 for n, t in model.state_dict().items()}, assign=True),
    ):
        assert is_followed(torch, avg, model)
        replace()
        assert is_followed(torch, avg, model)
    assert avg.count == 12


def test_a_module_that_is_cast_is_followed(torch, model):
    """`half()`, `double()`, and casts of a part of the model change what is averaged in no other way."""
    avg = ms.Average(model, ms.ema(0.0))
    for cast in (model.half, model.double, model[0].float, model[2].bfloat16, model.float):
        cast()
        assert is_followed(torch, avg, model)
    assert {value.dtype for value in avg.value.values()} == {torch.float32, torch.int64}


def test_casting_a_part_of_a_model_rounds_only_that_part(torch, model):
    """Where one parameter of several that are packed together is in half precision, the others keep theirs."""
    avg = ms.Average(model, ms.ema(0.5))
    avg.update()
    model[0].half()
    weight, start = model[2].weight, model[2].weight.detach().clone()
    with torch.no_grad():
        weight.add_(2**-20)
    avg.update()
    expected = (start.double() + weight.detach().double()) / 2
    assert torch.allclose(avg.value["2.weight"].double(), expected, rtol=0, atol=2**-24)


WRONG_MODULES = {
    "a parameter of another shape": (
        lambda torch, m: setattr(m[0], "weight", torch.nn.Parameter(torch.ones(4, 1))),
        r"'0\.weight' has the shape \(4, 1\)",
    ),
    "data of another shape": (
        lambda torch, m: setattr(m[0].weight, "data", torch.ones(2, 6)),
        r"'0\.weight' has the shape \(2, 6\)",
    ),
    "parameters on meta": (lambda torch, m: m[2].to("meta"), r"'2\.\w+' is on the (meta )?device"),
    "a new parameter": (
        lambda torch, m: m[0].register_parameter("scale", torch.nn.Parameter(torch.ones(1))),
        r"has '0\.scale' besides",
    ),
    "a new buffer": (lambda torch, m: m[0].register_buffer("scale", torch.ones(1)), r"has '0\.scale' besides"),
    "a new submodule": (lambda torch, m: m.append(torch.nn.Linear(2, 2)), r"has '3\.weight', '3\.bias' besides"),
    "a parameter that is None": (lambda torch, m: setattr(m[0], "bias", None), r"lacks '0\.bias'"),
    "a parameter that is gone": (lambda torch, m: delattr(m[0], "bias"), r"lacks '0\.bias'"),
    "a submodule that is gone": (lambda torch, m: m.pop(2), r"lacks '2\.weight', '2\.bias'"),
    "another submodule": (lambda torch, m: m.__setitem__(2, torch.nn.ReLU()), r"lacks '2\.weight', '2\.bias'"),
    "another dtype kind": (
        lambda torch, m: setattr(m[1], "num_batches_tracked", torch.tensor(1.5)),
        r"'1\.num_batches_tracked' has the dtype float32",
    ),
    "a parametrization": (lambda torch, m: torch.nn.utils.parametrizations.weight_norm(m[0]), r"lacks '0\.weight'"),
}


@pytest.mark.parametrize(("change", "match"), WRONG_MODULES.values(), ids=WRONG_MODULES)
def test_a_module_that_is_not_as_it_was(torch, model, change, match):
    """A module that got, lost or changed a parameter or buffer is refused by its name, and nothing is updated."""
    avg = ms.Average(model, ms.ema(0.5))
    avg.update()
    before = bits_of(avg, "torch")
    change(torch, model)
    for _ in range(2):
        with pytest.raises(MultischedError, match=match):
            avg.update()
    assert bits_of(avg, "torch") == before


def test_the_same_memory_in_another_shape(torch, model):
    """`data` that is a view of the old one is refused, though it lies where the old one did."""
    avg = ms.Average(model, ms.ema(0.5))
    for view in (lambda x: x.view(3, 4), lambda x: x.view(3, 4).t(), lambda x: x[:2], lambda x: x.view(-1)):
        avg.update()
        before, own = bits_of(avg, "torch"), model[0].weight.data
        model[0].weight.data = view(own)
        if model[0].weight.shape != own.shape:
            with pytest.raises(TreeMismatch, match=r"'0\.weight'"):
                avg.update()
            assert bits_of(avg, "torch") == before
        model[0].weight.data = own


# --- devices ---------------------------------------------------------------------------------------------------------
def test_tensors_on_another_device(torch):
    """A tensor that is on another device than it was is refused by its name."""
    avg = ms.Average({"w": torch.ones(2)}, ms.swa())
    with pytest.raises(TreeMismatch, match="'w' is on the device meta, and on cpu"):
        avg.update({"w": torch.ones(2, device="meta")})
    assert avg.count == 0


def test_jax_arrays_on_another_device(jax):
    """JAX arrays that moved are refused, two that changed places as well; each device may have arrays of its own."""
    program = dedent("""
        import jax, jax.numpy as jnp
        import multisched as ms
        from multisched.errors import TreeMismatch
        first, second = jax.devices()
        tree = {"a": jax.device_put(jnp.ones(2), first), "b": jax.device_put(jnp.ones(2), second)}
        avg = ms.Average(tree, ms.swa())
        avg.update(tree)
        for wrong in ({"a": tree["b"], "b": tree["a"]}, {"a": tree["a"], "b": tree["a"]}):
            try:
                avg.update(wrong)
            except TreeMismatch as error:
                print(str(error)[:4])
        avg.update(tree)
        print(avg.count, {name: str(x.devices()) for name, x in avg.value.items()})
    """)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | flags, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert [line[:3] for line in told[:2]] == ["'a'", "'b'"]
    assert told[2] == "2 {'a': '{CpuDevice(id=0)}', 'b': '{CpuDevice(id=1)}'}"
