"""The average in the place of the model: written in place, and the model back again, to the bit."""

import numpy as np
import pytest
from helpers import make
from helpers_average import bits, bits_of

import multisched as ms
from multisched.errors import AverageError, SwapError, TreeMismatch

WRITABLE = pytest.mark.parametrize("kind", ["numpy", "torch"], indirect=True)
SHAPES = {"a": (3,), "b": (2, 2), "scalar": (), "empty": (0, 2), "big": (20_000,)}


@pytest.fixture
def kind(request):
    """A backend whose arrays can be written."""
    if request.param == "torch":
        pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    return request.param


def model_of(kind, value=0.0, dtype="float32"):
    """A nested model of arrays that can be written."""
    leaves = {name: make(np.full(shape, value), kind, dtype) for name, shape in SHAPES.items()}
    return {"first": leaves, "n": make([1, 2], kind, "int32"), "z": make([1 + value * 1j], kind, "complex64")}


def arrays_of(model):
    return [*model["first"].values(), model["n"], model["z"]]


def on_host(model, kind):
    """Copies of all arrays, so that bits can be compared."""
    return {str(i): ms.get_backend(kind).to_numpy(array) for i, array in enumerate(arrays_of(model))}


def is_filled(model, kind, value):
    return all(np.all(array == value) for name, array in on_host(model, kind).items() if name < "5")


def moved(kind, dtype="float32", **options):
    """A model of twos whose average is of ones."""
    model = model_of(kind, 0.0, dtype)
    avg = ms.Average(model, ms.swa(), **options)
    for value in (0.0, 2.0):
        for array in arrays_of(model)[:5]:
            array[...] = value
        avg.update()
    return model, avg


@WRITABLE
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_inside_the_block_the_model_is_the_average(kind, dtype):
    """The same arrays hold the average inside the block, and the model's own values after it."""
    model, avg = moved(kind, dtype)
    arrays, before, held = arrays_of(model), bits(on_host(model, kind)), bits_of(avg, kind)
    for _ in range(2):
        with avg.swapped() as given:
            assert given is model
            assert is_filled(model, kind, 1)
            assert all(a is b for a, b in zip(arrays_of(model), arrays, strict=True))
        assert bits(on_host(model, kind)) == before
    assert bits_of(avg, kind) == held


PAYLOADS = {
    "float32": (0x7FC12345, 0xFF800001, 0x80000000),
    "float16": (0x7D55, 0xFE01, 0x8000),
    "bfloat16": (0x7FA5, 0xFFC3, 0x8000),
}
"""NaN, a quiet and a signalling one, and negative zero."""


@WRITABLE
@pytest.mark.parametrize(("dtype", "payloads"), PAYLOADS.items())
def test_the_model_comes_back_to_the_bit(kind, dtype, payloads):
    """NaN of any payload, quiet and signalling, and negative zero are restored as they were."""
    words = np.array(payloads, np.uint32 if dtype == "float32" else np.uint16)
    model = {"w": make(words.view(ms.get_backend("numpy").dtype(dtype)), kind, dtype)}
    avg = ms.Average({"w": make([1.0, 2.0, 3.0], kind, dtype)}, ms.ema(0.5))
    host = ms.get_backend(kind).to_numpy
    before = host(model["w"]).tobytes()
    assert before == words.tobytes()
    with avg.swapped(model):
        assert host(model["w"]).astype(np.float32).tolist() == [1, 2, 3]
    assert host(model["w"]).tobytes() == before


@WRITABLE
def test_the_model_comes_back_after_exceptions(kind):
    """An exception inside the block goes through, and the model is restored, and can be swapped again."""
    model, avg = moved(kind)
    before = bits(on_host(model, kind))
    with pytest.raises(ZeroDivisionError), avg.swapped():
        assert 1 / float(is_filled(model, kind, 2))  # of ones, as it must be here, that is no number
    assert bits(on_host(model, kind)) == before
    with avg.swapped():
        assert is_filled(model, kind, 1)
    avg.update()
    assert avg.count == 3


@WRITABLE
def test_what_the_block_does_to_the_model_is_undone(kind):
    """What is written into the model inside the block changes neither it after the block nor the average."""
    model, avg = moved(kind)
    before, held = bits(on_host(model, kind)), bits_of(avg, kind)
    with avg.swapped():
        for array in arrays_of(model):
            array[...] = 77
    assert bits(on_host(model, kind)) == before
    assert bits_of(avg, kind) == held


@WRITABLE
def test_two_averages_take_turns(kind):
    """While a model holds one average no other is put into it, which would take the first for its own weights."""
    model, avg = moved(kind)
    other = ms.Average(model, ms.ema(0.5))
    before = bits(on_host(model, kind))
    with avg.swapped():
        held = bits(on_host(model, kind))
        with pytest.raises(SwapError, match="holds another average"), other.swapped():
            pass
        assert bits(on_host(model, kind)) == held
    assert bits(on_host(model, kind)) == before
    with other.swapped():
        pass
    assert bits(on_host(model, kind)) == before


@WRITABLE
def test_an_average_does_not_follow_another_average(kind):
    """While the model holds one, an update of a second is an error that changes nothing, and one of a copy is none."""
    model = model_of(kind)
    first, second = ms.Average(model, ms.ema(0.5)), ms.Average(model, ms.ema(0.5))
    first.update()
    second.update()
    for array in model["first"].values():
        array += 1
    with first.swapped():
        for arguments in ((), (model,), (model, False), ([*arrays_of(model)],)):
            with pytest.raises((SwapError, TreeMismatch)):
                second.update(*arguments)
        with pytest.raises(SwapError, match="another average now"):
            second.update()
        second.update(model_of(kind, 3.0))
    assert second.count == 2
    assert is_filled(second.value, kind, 1.5)
    second.update(model)
    assert is_filled(second.value, kind, 1.25)


@WRITABLE
def test_before_the_first_update_the_average_is_the_model(kind):
    """Swapping an average that was never updated shows what it was made of."""
    model = model_of(kind, 3.0)
    avg = ms.Average(model, ms.ema(0.9))
    for array in arrays_of(model)[:5]:
        array[...] = 5
    with avg.swapped():
        assert is_filled(model, kind, 3)
    assert is_filled(model, kind, 5)


@WRITABLE
def test_inside_the_block_the_average_cannot_be_used_up(kind, tmp_path):
    """Nesting, updating, saving, loading and copying inside the block raise `SwapError`, and the block goes on."""
    model, avg = moved(kind)
    state, held, path = avg.state_dict(), bits_of(avg, kind), tmp_path / "average.safetensors"
    ms.save(path, avg)
    saved = path.read_bytes()
    with avg.swapped():
        for use, match in (
            (lambda: avg.swapped().__enter__(), "swap it again"),
            (lambda: avg.update(), "update it"),
            (lambda: avg.update(model_of(kind), where=False), "update it"),
            (lambda: avg.state_dict(), "save it"),
            (lambda: avg.load_state_dict(state), "load it"),
            (lambda: ms.save(path, avg), "save it"),
            (lambda: ms.load(path, avg), "load it"),
            (lambda: avg.copy_to(model_of(kind)), "copy it"),
        ):
            with pytest.raises(SwapError, match=match):
                use()
            assert is_filled(model, kind, 1)
        assert avg.count == 2
        assert is_filled(avg.value, kind, 1)
        assert is_filled(avg.snapshot().value, kind, 1)
    assert is_filled(model, kind, 2)
    assert bits_of(avg, kind) == held
    assert path.read_bytes() == saved


@WRITABLE
@pytest.mark.parametrize("rounding", ["stochastic", "compensated"])
def test_averages_in_bfloat16_can_be_swapped(kind, rounding):
    """An average that is held in bfloat16 is written into a float32 model."""
    model = {"w": make([0.0, 0.0], kind)}
    avg = ms.Average(model, ms.swa(), dtype="bfloat16", rounding=rounding)
    avg.update()
    model["w"][...] = 2
    avg.update()
    with avg.swapped():
        assert model["w"].tolist() == [1, 1]
    assert model["w"].tolist() == [2, 2]


@WRITABLE
def test_another_model_can_hold_the_average(kind):
    """`copy_to` and `swapped` take another model of the same leaves, in another precision too; for good, or for now."""
    model, avg = moved(kind)
    for dtype in ("float32", "float16", "float64"):
        other = model_of(kind, 9.0, dtype)
        with avg.swapped(other) as given:
            assert given is other
            assert is_filled(other, kind, 1)
        assert is_filled(other, kind, 9)
        avg.copy_to(other)
        assert is_filled(other, kind, 1)
    assert is_filled(model, kind, 2)
    avg.copy_to()
    assert is_filled(model, kind, 1)


@WRITABLE
def test_a_model_of_other_leaves_is_refused_untouched(kind):
    """`copy_to` and `swapped` refuse a model that is not of the same leaves, and write nothing."""
    _, avg = moved(kind)
    other = model_of(kind, 9.0)
    other["first"]["big"] = make([1.0], kind)
    before = bits(on_host(other, kind))
    with pytest.raises(TreeMismatch, match=r"first\.big"):
        avg.copy_to(other)
    with pytest.raises(TreeMismatch, match=r"first\.big"), avg.swapped(other):
        pytest.fail("the block was entered")
    assert bits(on_host(other, kind)) == before
    avg.update()


def test_without_a_model_there_is_nothing_to_swap_into():
    """An average that is given a new tree at each update asks for the model to swap into."""
    avg = ms.Average({"w": np.zeros(2)}, ms.swa())
    avg.update({"w": np.ones(2)})
    with pytest.raises(AverageError, match="no model to swap into"), avg.swapped():
        pytest.fail("the block was entered")
    with pytest.raises(AverageError, match="no model to copy to"):
        avg.copy_to()


@pytest.mark.parametrize("name", ["jax", "array_api_strict"])
def test_arrays_that_cannot_be_written(name):
    """Where arrays are immutable, `SwapError` says what to use, the model is as it was, and the average goes on."""
    pytest.importorskip(name, reason=f"the test is about {name}, which is not installed")
    with ms.use_backend(name):
        tree = {"w": make([2.0, 3.0], name), "host": np.zeros(2, np.float32)}
        avg = ms.Average(tree, ms.swa())
        for _ in range(2):
            with pytest.raises(SwapError, match=r"avg\.value"), avg.swapped():
                pytest.fail("the block was entered")
            with pytest.raises(SwapError, match=r"avg\.value"):
                avg.copy_to()
        avg.update(tree)
        assert avg.count == 1
        assert ms.get_backend(name).to_numpy(tree["w"]).tolist() == [2, 3]


def test_read_only_arrays_cannot_be_written():
    """A model with a read-only array is as it was after `SwapError`, and the average goes on."""
    model = {"a": np.ones(3), "b": np.ones(20_000), "c": np.ones(30_000)}
    avg = ms.Average(model, ms.swa())
    for array in model.values():
        array += 1
    model["b"].setflags(write=False)
    with pytest.raises(SwapError, match="read-only"), avg.swapped():
        pytest.fail("the block was entered")
    assert all(np.all(array == 2) for array in model.values())
    avg.update()
    assert avg.count == 1


# --- modules ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def model(torch):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).eval()


@pytest.mark.parametrize("kind", ["plain", "DataParallel", "compiled", "compiled in place"])
def test_forwards_inside_the_block_are_those_of_the_average(torch, model, kind):
    """A model that was compiled, and has run, runs with the average inside the block, with its own weights after."""
    x = torch.randn(5, 3)
    wrapped = model
    if kind == "DataParallel":
        wrapped = torch.nn.DataParallel(model)
    elif kind == "compiled":
        wrapped = torch.compile(model, backend="aot_eager")
    elif kind == "compiled in place":
        model.compile(backend="aot_eager")
    avg = ms.Average(wrapped, ms.ema(0.5))
    avg.update()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    avg.update()
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).eval()
    other.load_state_dict(avg.value)
    with torch.no_grad():
        own, expected = wrapped(x).clone(), other(x)
        with avg.swapped():
            assert torch.allclose(wrapped(x), expected, rtol=1e-6, atol=1e-6)
            assert not torch.allclose(expected, own)
        assert torch.equal(wrapped(x), own)


def test_a_swap_does_not_reach_gradients_or_optimizers(torch, model):
    """Parameters are the same objects inside and after the block, with their gradients, and training goes on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(5, 3)).sum().backward()
    avg = ms.Average(model, ms.ema(0.5))
    parameters, gradients = list(model.parameters()), [p.grad.clone() for p in model.parameters()]
    with avg.swapped():
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, gradients, strict=True))
    before = parameters[0].detach().clone()
    optimizer.step()
    assert torch.allclose(parameters[0].detach(), before - 0.1 * gradients[0])


def test_tied_and_replaced_parameters_can_be_swapped(torch):
    """Tied weights are written once; a parameter that was replaced since is the one that is written."""
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(3, 2), "head": torch.nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embed"].weight
    avg = ms.Average(model, ms.ema(0.0))
    model["embed"].weight = model["head"].weight = torch.nn.Parameter(torch.full((3, 2), 7.0))
    with avg.swapped():
        assert torch.equal(model["head"].weight, avg.value["embed.weight"])
        assert model["embed"].weight is model["head"].weight
    assert torch.all(model["embed"].weight == 7)
