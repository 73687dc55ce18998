"""Averages of models on a GPU: the numbers of the CPU, in one launch, and nothing waits for the device."""

import pytest

import multisched as ms

torch = pytest.importorskip("torch", reason="torch, whose tensors go to the GPU here, is not installed")
if not torch.cuda.is_available():
    pytest.skip("there is no GPU that torch can use here", allow_module_level=True)

SHAPES = [(300, 700), (50,), (1000, 1000), (7,), (4, 4, 64, 64), ()]
RULE = ms.ema(0.75)  # with a share that rounds nothing, so that no order of operations matters
WAYS = {
    "as it is": {},
    "stochastic": {"dtype": "bfloat16", "rounding": "stochastic"},
    "compensated": {"dtype": "bfloat16", "rounding": "compensated"},
    "offloaded": {"offload": "cpu"},
}
ways = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)


def parameters(tensors, device):
    return torch.nn.ParameterList([torch.nn.Parameter(tensor.to(device, copy=True)) for tensor in tensors])


@ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_numbers_are_those_of_the_cpu(dtype, options):
    """After updates with masks of the device, average and count are those on the CPU, to the bit."""
    torch.manual_seed(0)
    tensors = [torch.randn(shape).to(dtype) for shape in SHAPES]
    models = {device: parameters(tensors, device) for device in ("cuda", "cpu")}
    averages = {device: ms.Average(model, RULE, **options) for device, model in models.items()}
    for step in range(6):
        moves = [torch.randn(shape).to(dtype) for shape in SHAPES]
        for device, model in models.items():
            with torch.no_grad():
                for parameter, move in zip(model, moves, strict=True):
                    parameter.add_(move.to(device))
            averages[device].update(where=torch.tensor(False, device=device) if step == 3 else None)
    assert averages["cuda"].count == averages["cpu"].count == 5
    found, expected = (averages[device].snapshot().value for device in ("cuda", "cpu"))
    for name, tensor in expected.items():
        assert found[name].device.type == ("cpu" if "offload" in options else "cuda")
        assert torch.equal(found[name].cpu(), tensor), name


@pytest.mark.parametrize("options", [WAYS["as it is"], WAYS["stochastic"]], ids=["as it is", "stochastic"])
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_waits_for_the_device(options):
    """No update synchronizes, with a mask of the device or without, whichever comes first."""
    model = parameters([torch.randn(shape) for shape in SHAPES], "cuda")
    mask = torch.ones((), dtype=torch.bool, device="cuda")
    averages = [ms.Average(model, RULE, **options) for _ in range(2)]
    for where in (None, mask):
        averages[0].update(where=where)  # what is compiled and made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for average, masks in zip(averages, ((None, mask, None), (mask, mask, None)), strict=True):
            for where in masks:
                average.update(where=where)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_model_takes_one_launch():
    """Leaves of all sizes, of one dtype, are updated by one kernel."""
    average = ms.Average(parameters([torch.randn(shape) for shape in SHAPES * 20], "cuda"), RULE)
    for _ in range(3):
        average.update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
        average.update()
        torch.cuda.synchronize()
    started = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert len(started) == 1, started
