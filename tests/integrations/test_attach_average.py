"""`Average.attach`: an average that follows the steps of a torch optimizer."""

import math
import warnings

import pytest
from helpers_callbacks import DECAY, reference

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="attach is about torch's optimizers, and torch is not installed")


def training(make=torch.optim.SGD, **options):
    """A model of one weight, [1.0], its optimizer, and a function that takes a step with a gradient."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = make(model.parameters(), lr=0.125, **options)

    def step(gradient=1.0):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()

    return model, optimizer, step


def value(average):
    return average.value["weight"].item()


def test_every_step_counts_with_the_weights_it_left():
    """After k steps the average is that of the k weights after each of them; the first weights are not among them."""
    model, optimizer, step = training()
    average = ms.Average(model, ms.ema(DECAY))
    average.attach(optimizer)
    weights = []
    for k in range(6):
        step(gradient=k + 1.0)
        weights.append(model.weight.item())
        assert average.count == k + 1
        assert math.isclose(value(average), reference(weights), rel_tol=1e-6)


def test_detach():
    """After `detach()`, and after the block of a `with`, steps do not count; detaching again changes nothing."""
    model, optimizer, step = training()
    average = ms.Average(model, ms.ema(DECAY))
    with average.attach(optimizer) as handle:
        step()
    step()
    assert average.count == 1
    handle.detach()
    handle = average.attach(optimizer)
    step()
    handle.detach()
    step()
    assert average.count == 2


def test_a_block_that_raises_detaches():
    """An exception inside the `with` is passed on, and the average is detached."""
    model, optimizer, step = training()
    average = ms.Average(model, ms.ema(DECAY))
    with pytest.raises(KeyError), average.attach(optimizer):
        raise KeyError
    step()
    assert average.count == 0


def test_several_averages_of_one_optimizer():
    """Averages of two rules follow one optimizer, each by its own rule."""
    model, optimizer, step = training()
    slow, equal = ms.Average(model, ms.ema(DECAY)), ms.Average(model, ms.swa())
    slow.attach(optimizer)
    equal.attach(optimizer)
    weights = []
    for _ in range(4):
        step()
        weights.append(model.weight.item())
    assert math.isclose(value(slow), reference(weights), rel_tol=1e-6)
    assert math.isclose(value(equal), sum(weights) / 4, rel_tol=1e-6)


@pytest.mark.parametrize("fused", [False, True], ids=["scaler skips", "optimizer skips"])
def test_a_skipped_step_does_not_count(fused):
    """A step that GradScaler skips, since a gradient is infinite, changes neither count nor average.

    An optimizer that is fused is called by GradScaler nevertheless, hooks included, and skips the step itself.
    """
    model, optimizer, _ = training(torch.optim.Adam, fused=fused)
    average = ms.Average(model, ms.ema(DECAY))
    average.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    counts, weights = [], []
    for bad in (True, False, True, False, False):
        optimizer.zero_grad()
        scaler.scale(model.weight.sum() * (math.inf if bad else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        counts.append(int(average.count))
        if not bad:
            weights.append(model.weight.item())
    assert counts == [0, 1, 1, 2, 3]
    assert len(set(weights)) == 3
    assert math.isclose(value(average), reference(weights), rel_tol=1e-6)


def test_a_compiled_step_compiles_once():
    """50 steps of a compiled optimizer compile once, and each counts, with the weights that it left."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    model, optimizer, _ = training(torch.optim.Adam, capturable=True)
    average = ms.Average(model, ms.ema(DECAY))
    average.attach(optimizer)
    model.weight.grad = torch.ones_like(model.weight)
    weights = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it imports while it compiles
        step = torch.compile(lambda: optimizer.step(), backend=counter)
        for _ in range(50):
            step()
            weights.append(model.weight.item())
    assert (counter.frame_count, average.count) == (1, 50)
    assert math.isclose(value(average), reference(weights), rel_tol=1e-5)


def test_accelerate():
    """An optimizer that Accelerate wrapped is followed; batches over which gradients accumulate do not count."""
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    model, optimizer, _ = training()
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, wrapped = accelerator.prepare(model, optimizer)
    average = ms.Average(model, ms.ema(DECAY))
    average.attach(wrapped)
    weights = []
    for batch in range(8):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 1)).sum())
            wrapped.step()
            wrapped.zero_grad()
        if batch % 2:
            weights.append(accelerator.unwrap_model(model).weight.item())
    assert average.count == 4
    assert math.isclose(value(average), reference(weights), rel_tol=1e-6)


@pytest.mark.parametrize("given", [[1], None, "adam", torch.ones(1)], ids=["list", "none", "string", "tensor"])
def test_no_optimizer(given):
    """What is no torch optimizer raises OptimizerError, which shows it."""
    average = ms.Average(torch.nn.Linear(1, 1), ms.ema(DECAY))
    with pytest.raises(errors.OptimizerError, match="torch optimizer") as raised:
        average.attach(given)
    assert type(given).__name__ in str(raised.value)
