"""`drive`: schedules in the hyperparameters of torch optimizers, in plain loops and under others' trainers."""

import copy
import math
import warnings

import pytest

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")

LR = ms.warmup(ms.cosine(0.1, 20), 5)


def parameter(*shape):
    p = torch.nn.Parameter(torch.ones(shape or (3,)))
    p.grad = torch.ones_like(p)
    return p


def test_update_k_has_the_value_at_k():
    """Before update k each group has f(k), from 0 on; driving changes the value at once, and no call is needed."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    ms.drive(optimizer, lr=LR)
    for k in range(30):
        assert optimizer.param_groups[0]["lr"] == LR(k)
        optimizer.step()


def test_the_parameters_are_those_of_a_loop_by_hand():
    """SGD with a schedule and a momentum schedule takes the steps that its formula, written out, takes."""
    momentum = ms.linear(0.9, 0.5, 10)
    p = parameter(1)
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    ms.drive(optimizer, lr=LR, momentum=momentum)
    w, v = 1.0, None
    for k in range(15):
        p.grad = 2 * p.detach()
        optimizer.step()
        v = 2 * w if v is None else momentum(k) * v + 2 * w
        w -= LR(k) * v
        assert math.isclose(p.item(), w, rel_tol=1e-5)


def test_factors_of_groups_are_kept():
    """With `relative`, each group has its own value times the schedule, groups added later included."""
    optimizer = torch.optim.SGD([{"params": [parameter()]}, {"params": [parameter()], "lr": 0.01}], lr=0.1)
    ms.drive(optimizer, lr=ms.relative(LR))
    optimizer.add_param_group({"params": [parameter()], "lr": 0.2})
    for k in range(1, 10):
        optimizer.step()
        assert [g["lr"] for g in optimizer.param_groups] == [0.1 * LR(k), 0.01 * LR(k), 0.2 * LR(k)]


def test_named_groups():
    """A dict drives the groups of these names, and leaves the others as they are."""
    groups = [{"params": [parameter()], "name": "head"}, {"params": [parameter()], "name": "body"}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3)
    ms.drive(optimizer, lr={"head": LR}, weight_decay={"body": ms.linear(0.3, 0.0, 10)})
    optimizer.step()
    assert [g["lr"] for g in optimizer.param_groups] == [LR(1), 0.1]
    assert [g["weight_decay"] for g in optimizer.param_groups] == pytest.approx([0.3, 0.27])


def test_tuples_of_schedules_and_numbers():
    """`betas=` takes a pair, of which each part may be a schedule."""
    optimizer = torch.optim.Adam([parameter()], lr=0.1, betas=(0.9, 0.99))
    ms.drive(optimizer, betas=(ms.linear(0.9, 0.5, 4), 0.99))
    for k in range(5):
        assert optimizer.param_groups[0]["betas"] == (ms.linear(0.9, 0.5, 4)(k), 0.99)
        optimizer.step()


def test_resuming_is_exact():
    """Optimizer and driver restored from their checkpoints go on to the bit; the driver's is the count alone."""

    def training():
        p = torch.nn.Parameter(torch.ones(3))
        groups = [{"params": [p]}, {"params": [parameter()], "lr": 0.03}]
        optimizer = torch.optim.AdamW(groups, lr=0.1)
        return p, optimizer, ms.drive(optimizer, lr=ms.relative(LR), weight_decay=ms.linear(0.01, 0.1, 30))

    def run(p, optimizer, updates):
        for _ in range(updates):
            p.grad = p.detach() * 2
            optimizer.step()

    p, optimizer, driver = training()
    run(p, optimizer, 7)
    saved = copy.deepcopy((p.detach(), optimizer.state_dict(), driver.state_dict()))
    assert saved[2] == {"count": 7}
    q, other, resumed = training()
    q.data.copy_(saved[0])
    other.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    run(p, optimizer, 9)
    run(q, other, 9)
    assert torch.equal(p, q)
    assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in other.param_groups]


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_does_not_count(fused):
    """A step that GradScaler skips, since a gradient is infinite, leaves the schedule where it was.

    It calls fused optimizers nonetheless, and these skip the step by themselves.
    """
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=0.1, fused=fused)
    driver = ms.drive(optimizer, lr=LR)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    counts = []
    for bad in (False, True, False, True, False):
        optimizer.zero_grad()
        scaler.scale(p.sum() * (math.inf if bad else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        driver.step()
        counts.append(driver.count)
    assert counts == [1, 1, 2, 2, 3]
    assert optimizer.param_groups[0]["lr"] == LR(3)


def test_no_warning_about_the_order_of_calls():
    """`driver.step()`, before or after the optimizer's, does nothing and warns of nothing."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver = ms.drive(optimizer, lr=LR)
        for _ in range(3):
            driver.step()
            optimizer.step()
            driver.step()
    assert driver.count == 3
    assert driver.get_last_lr() == [LR(3)]


@pytest.mark.parametrize("manual", [False, True])
def test_a_compiled_step_compiles_once(manual):
    """1,000 updates of a compiled capturable optimizer, its rate in a tensor written in place, compile once."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, lr = CompileCounter(), ms.cosine(0.1, 1000)
    optimizer = torch.optim.Adam([parameter()], lr=0.1, capturable=True)
    driver = ms.drive(optimizer, lr=lr, manual=manual)
    rate = optimizer.param_groups[0]["lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it imports while it compiles
        step = torch.compile(lambda: optimizer.step(), backend=counter)
        for k in range(1000):
            assert rate.item() == pytest.approx(lr(k), rel=1e-6)
            step()
            driver.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert (counter.frame_count, driver.count) == (1, 1000)


def test_detach():
    """A detached driver leaves the optimizer as it is."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    optimizer.step()
    driver.detach()
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == LR(1)


BAD = {
    "no schedule": (lambda o: ms.drive(o), errors.NotARule, "at least one"),
    "a number": (lambda o: ms.drive(o, lr=0.1), errors.NotARule, "0.1"),
    "a statistic": (lambda o: ms.drive(o, lr=ms.ema(0.9)), errors.NotARule, "ema(0.9)"),
    "a schedule of arrays": (lambda o: ms.drive(o, lr=LR * [1, 2]), errors.NotARule, "numbers"),
    "an unknown hyperparameter": (lambda o: ms.drive(o, rate=LR), errors.OptimizerError, "'rate'"),
    "an unknown group": (lambda o: ms.drive(o, lr={"head": LR}), errors.OptimizerError, "head"),
    "one for a pair": (lambda o: ms.drive(o, betas=LR), errors.NotARule, "tuple"),
    "three for a pair": (lambda o: ms.drive(o, betas=(LR, 0.9, 0.9)), errors.NotARule, "(0.9, 0.999)"),
    "a pair for one": (lambda o: ms.drive(o, lr=(LR, 0.9)), errors.NotARule, "0.1"),
    "a string in a pair": (lambda o: ms.drive(o, betas=(LR, "0.9")), errors.NotARule, "'0.9'"),
    "no optimizer": (lambda o: ms.drive([1], lr=LR), errors.OptimizerError, "[1]"),
    "a bad state": (lambda o: ms.drive(o, lr=ms.constant(0.1)).load_state_dict({"n": 1}), errors.OptimizerError, "'n'"),
}


@pytest.mark.parametrize(("use", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input(use, error, words):
    """Each raises its class, says what was given, and leaves the optimizer as it was."""
    optimizer = torch.optim.Adam([parameter()], lr=0.1)
    with pytest.raises(error) as raised:
        use(optimizer)
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]) == (0.1, (0.9, 0.999))


def test_lightning_takes_it_as_a_scheduler(tmp_path):
    """Lightning's real Trainer, on the CPU: the driver is its scheduler, each update has its rate, and it is saved."""
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    rates = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            rates.append(self.optimizers().param_groups[0]["lr"])
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = {"scheduler": ms.drive(optimizer, lr=LR), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and the like
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2))
        trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert rates == [LR(k) for k in range(8)]
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert saved["lr_schedulers"] == [{"count": 8}]


def test_an_optimizer_that_accelerate_has_wrapped():
    """What is driven is the optimizer inside, which takes the steps."""
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, wrapped = accelerate.Accelerator(cpu=True).prepare(model, optimizer)
    driver = ms.drive(wrapped, lr=LR)
    assert driver.optimizer is optimizer
    for k in range(3):
        assert wrapped.param_groups[0]["lr"] == LR(k)
        model(torch.ones(2, 2)).square().mean().backward()
        wrapped.step()
    assert driver.count == 3


def test_accelerate_takes_it_as_a_scheduler():
    """Accelerate wraps it with the optimizer; each update has its rate."""
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    accelerator = accelerate.Accelerator(cpu=True)
    model, wrapped, scheduler = accelerator.prepare(model, optimizer, driver)
    rates = []
    for _ in range(8):
        rates.append(wrapped.param_groups[0]["lr"])
        accelerator.backward(model(torch.ones(2, 2)).square().mean())
        wrapped.step()
        scheduler.step()
        wrapped.zero_grad()
    assert rates == [LR(k) for k in range(8)]
    assert scheduler.get_last_lr() == [LR(8)]
