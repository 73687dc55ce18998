"""What the library uses of torch that is not public: this torch has it, and without it the numbers are the same."""

import warnings

import numpy as np
import pytest

import multisched as ms
from multisched.integrations.drive import harness

torch = pytest.importorskip("torch", reason="the tests are about torch, which is not installed")

LR = ms.linear(1.0, 0.0, 100)


def optimizer():
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    return torch.optim.SGD([parameter], lr=0.1)


def test_it_is_there():
    """Where it is not, an interrupt can leave gradients off, and each step of a driven optimizer takes longer."""
    assert hasattr(torch._C, "_AutoDispatchBelowAutograd")
    assert hasattr(torch._C, "_InferenceMode")
    tracing, _, _ = harness.hooks_for_torch()
    assert tracing is not None
    assert tracing() is None  # nothing is being compiled


@pytest.fixture
def public_modes(monkeypatch):
    """The adapter as it is for a torch without those two."""
    adapter = pytest.importorskip("multisched_backends.torch", reason="torch is not installed")
    monkeypatch.setattr(adapter, "_below_autograd", torch.no_grad)
    monkeypatch.setattr(adapter, "_inference", torch.inference_mode)


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", "rounding": "stochastic"}], ids=["plain", "rounded"])
@pytest.mark.parametrize("inference", [False, True], ids=["usual", "inference"])
def test_averages_without_it(public_modes, options, inference):
    """Averages follow, are swapped in and back, and leave torch's modes alone."""
    model = torch.nn.Linear(3, 2)
    average, mean = ms.Average(model, ms.ema(0.5), **options), model.weight.detach().numpy().astype(np.float64)
    for step in range(4):
        with torch.no_grad():
            model.weight.fill_(step)
        with torch.inference_mode(inference):
            average.update()
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        mean = np.full_like(mean, step) if step == 0 else mean + 0.5 * (step - mean)
    np.testing.assert_allclose(average.value["weight"].numpy(), mean, rtol=2**-7 if options else 1e-6)
    with average.swapped():
        assert torch.equal(model.weight, average.value["weight"])
    assert torch.equal(model.weight, torch.full_like(model.weight, 3.0))
    assert model.weight.requires_grad


def test_driving_without_it(monkeypatch):
    """A torch that does not tell whether it compiles calls the hooks that it never traces."""
    _, before, after = harness.hooks_for_torch()
    monkeypatch.setattr(harness, "hooks_for_torch", lambda: (None, before, after))
    driven = optimizer()
    driver = ms.drive(driven, lr=LR)
    step = torch.compile(driven.step, backend="eager")
    for count in range(1, 6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what it imports while it compiles
            (driven.step if count % 2 else step)()
        assert driver.count == count
        assert driver.get_last_lr() == pytest.approx([LR(count)])
    driver.detach()
    driven.step()
    assert driver.count == 5
