"""The Lightning callback, under Lightning's real Trainer, on the CPU."""

import math
import pickle

import pytest
from helpers_callbacks import BATCHES, DECAY, RESUMED, gone_on, quietly, reference, value

import multisched as ms
from multisched import errors
from multisched.integrations import lightning as integration

torch = pytest.importorskip("torch", reason="Lightning needs torch, which is not installed")
lightning = pytest.importorskip("lightning", reason="the test is about Lightning, which is not installed")


class Module(lightning.LightningModule):
    """One weight, trained by gradient descent; it notes its weight after each step, and in each evaluation."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)
        self.trained, self.validated, self.tested = [], [], []
        self.fail_in_validation = False

    def training_step(self, batch, index):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, index):
        self.validated.append(self.layer.weight.item())
        self.log("loss", self.layer(batch).square().mean())
        if self.fail_in_validation and not self.trainer.sanity_checking:
            raise ArithmeticError("as the test wants it")

    def test_step(self, batch, index):
        self.tested.append(self.layer.weight.item())

    def on_before_zero_grad(self, optimizer):
        self.trained.append(self.layer.weight.item())  # of the step before

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


def data():
    return torch.utils.data.DataLoader(torch.linspace(0.5, 1.5, 2 * BATCHES)[:, None], batch_size=2)


def trainer(folder, *callbacks, **options):
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, **options}
    return lightning.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        **options,
    )


def fit(folder, *callbacks, module=None, ckpt_path=None, **options):
    """A module that was trained, and its trainer."""
    module = Module() if module is None else module
    made = quietly(trainer, folder, *callbacks, **options)
    quietly(made.fit, module, data(), data() if options.get("limit_val_batches", 1) else None, ckpt_path=ckpt_path)
    return module, made


def weights_of(module):
    """The weight after each step."""
    return [*module.trained[1:], module.layer.weight.item()]


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_it_follows_the_steps(tmp_path, accumulate):
    """The average is that of the weights after each optimizer step; accumulated batches do not count."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    module, _ = fit(tmp_path, callback, accumulate_grad_batches=accumulate, limit_val_batches=0)
    weights = weights_of(module)
    assert callback.average.count == len(weights) == 2 * math.ceil(BATCHES / accumulate)
    assert math.isclose(value(callback), reference(weights), rel_tol=1e-6)


def test_validation_and_testing_run_on_the_average(tmp_path):
    """Each validation sees the average so far, training goes on with its own weights, and testing sees the last one."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    module, made = fit(tmp_path, callback, val_check_interval=4, limit_val_batches=1, num_sanity_val_steps=1)
    weights = weights_of(module)
    seen = [reference(weights[:n]) for n in (4, 8, 12, 16)]
    assert module.validated == pytest.approx([1.0, *seen], rel=1e-6)  # the sanity check is before the first update
    plain, _ = fit(tmp_path, limit_val_batches=0)
    assert weights == weights_of(plain)
    quietly(made.test, module, data())
    assert module.tested == pytest.approx([seen[-1]] * BATCHES, rel=1e-6)
    assert module.layer.weight.item() == weights[-1]


def test_the_best_checkpoint_is_that_of_the_average(tmp_path):
    """Metrics are those of the average; a checkpoint has the trained weights, and the callback's state the average."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    best = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "best", monitor="loss")
    module, _ = fit(tmp_path, callback, best, limit_val_batches=1)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["state_dict"]["layer.weight"].item() == module.layer.weight.item()
    other = ms.Average(Module(), ms.ema(DECAY))
    other.load_state_dict(saved["callbacks"]["AverageCallback[average]"]["average"])
    assert other.count == 2 * BATCHES
    assert other.value["layer.weight"].item() == value(callback)
    assert best.best_model_score.item() == pytest.approx(module.validated[-1] ** 2 * (0.5**2 + (0.5 + 1 / 15) ** 2) / 2)


def test_resuming_is_exact(tmp_path):
    """A run that was stopped and resumed ends with the average of the unbroken one, to the bit."""
    options = {"limit_val_batches": 0, "accumulate_grad_batches": 3}
    whole, first, second = [integration.AverageCallback(ms.ema(DECAY)) for _ in range(3)]
    unbroken, _ = fit(tmp_path, whole, **options)
    _, stopped = fit(tmp_path, first, max_epochs=1, **options)
    quietly(stopped.save_checkpoint, tmp_path / "stopped.ckpt")
    resumed, _ = fit(tmp_path, second, ckpt_path=tmp_path / "stopped.ckpt", **options)
    assert resumed.layer.weight.item() == unbroken.layer.weight.item()
    assert (first.average.count, second.average.count, whole.average.count) == (3, 6, 6)
    assert value(second) == value(whole)


def test_testing_a_checkpoint(tmp_path):
    """`trainer.test(ckpt_path=...)` in a new process tests the average that the checkpoint has."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    _, made = fit(tmp_path, callback, limit_val_batches=0)
    quietly(made.save_checkpoint, tmp_path / "run.ckpt")
    module, fresh = Module(), integration.AverageCallback(ms.ema(DECAY))
    quietly(quietly(trainer, tmp_path, fresh).test, module, data(), ckpt_path=tmp_path / "run.ckpt")
    assert module.tested == [value(callback)] * BATCHES


def test_without_an_average_the_module_is_evaluated(tmp_path):
    """Before there is an average, validation runs on the module as it is, whatever it was before."""
    module, callback = Module(), integration.AverageCallback(ms.ema(DECAY))
    made = quietly(trainer, tmp_path, callback, limit_val_batches=1)
    quietly(made.validate, module, data(), verbose=False)
    torch.nn.init.constant_(module.layer.weight, 3.0)
    quietly(made.validate, module, data(), verbose=False)
    assert module.validated == [1.0, 3.0]


def test_an_exception_in_validation_restores_the_module(tmp_path):
    """The trained weights are back after a validation that raised, and the optimizer is detached."""
    module, callback = Module(), integration.AverageCallback(ms.ema(DECAY))
    module.fail_in_validation = True
    with pytest.raises(ArithmeticError):
        fit(tmp_path, callback, module=module, limit_val_batches=1)
    plain, _ = fit(tmp_path, max_epochs=1, limit_val_batches=0)
    assert module.layer.weight.item() == plain.layer.weight.item()
    assert module.validated == pytest.approx([reference(weights_of(plain))], rel=1e-6)
    module.trainer.optimizers[0].step()
    assert callback.average.count == BATCHES


def test_steps_that_the_scaler_skips_do_not_count(tmp_path):
    """Under mixed precision a step with an infinite gradient, which the scaler skips, is no update."""

    class Overflowing(Module):
        def training_step(self, batch, index):
            return super().training_step(batch, index) * (math.inf if index in (2, 5) else 1.0)

    precision = lightning.pytorch.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))
    callback = integration.AverageCallback(ms.swa())
    module, made = fit(tmp_path, callback, module=Overflowing(), plugins=[precision], max_epochs=1, limit_val_batches=0)
    weights = weights_of(module)
    counted = [w for k, w in enumerate(weights) if k not in (2, 5)]
    assert (weights[2], weights[5]) == (weights[1], weights[4])
    assert (callback.average.count, made.global_step) == (BATCHES - 2, BATCHES)
    assert math.isclose(value(callback), sum(counted) / len(counted), rel_tol=1e-6)


def test_two_averages(tmp_path):
    """Two callbacks follow one module, each with a state of its own in the checkpoint; only one may be evaluated."""
    slow = integration.AverageCallback(ms.ema(DECAY))
    equal = integration.AverageCallback(ms.swa(), name="equal", evaluate=False)
    module, made = fit(tmp_path, equal, slow, limit_val_batches=1, max_epochs=1)
    weights = weights_of(module)
    assert module.validated == pytest.approx([reference(weights)], rel=1e-6)
    assert math.isclose(value(equal), sum(weights) / len(weights), rel_tol=1e-6)
    quietly(made.save_checkpoint, tmp_path / "two.ckpt")
    saved = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]
    assert {"AverageCallback[average]", "AverageCallback[equal]"} <= set(saved)

    both = [integration.AverageCallback(ms.swa(), name=name) for name in ("one", "two")]
    with pytest.raises(errors.SwapError, match="'one', 'two'"):
        fit(tmp_path, *both, module=module, limit_val_batches=1)


def test_a_second_fit_goes_on(tmp_path):
    """Fitting the same module again goes on with the average; another module has a new one."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    module, _ = fit(tmp_path, callback, limit_val_batches=0, max_epochs=1)
    fit(tmp_path, callback, module=module, limit_val_batches=0, max_epochs=1)
    assert callback.average.count == 2 * BATCHES
    fit(tmp_path, callback, limit_val_batches=0, max_epochs=1)
    assert callback.average.count == BATCHES


def test_another_rule_is_an_error(tmp_path):
    """A checkpoint of another rule is refused, and the message has both."""
    _, made = fit(tmp_path, integration.AverageCallback(ms.ema(DECAY)), limit_val_batches=0, max_epochs=1)
    quietly(made.save_checkpoint, tmp_path / "run.ckpt")
    with pytest.raises(errors.CheckpointMismatch, match=r"ema\(0.75\)") as raised:
        fit(tmp_path, integration.AverageCallback(ms.swa()), limit_val_batches=0, ckpt_path=tmp_path / "run.ckpt")
    assert "swa()" in str(raised.value)


@pytest.mark.parametrize(("whose", "given", "then", "share"), RESUMED.values(), ids=RESUMED)
def test_resuming_by_a_rule(tmp_path, whose, given, then, share):
    """`resume_rule` says by which rule the average of a checkpoint goes on; it is `callback.rule` then, and saved."""
    first, second = integration.AverageCallback(ms.ema(DECAY)), integration.AverageCallback(given, resume_rule=whose)
    options = {"limit_val_batches": 0, "ckpt_path": tmp_path / "run.ckpt"}
    _, made = fit(tmp_path, first, limit_val_batches=0, max_epochs=1)
    quietly(made.save_checkpoint, tmp_path / "run.ckpt")
    with pytest.raises(errors.CheckpointMismatch, match=r"AverageCallback\(\.\.\., resume_rule="):
        fit(tmp_path, integration.AverageCallback(given), **options)
    module, made = fit(tmp_path, second, **options)
    assert second.rule == second.average.rule == then
    assert second.average.count == 2 * BATCHES
    assert value(second) == pytest.approx(gone_on(value(first), weights_of(module), share, BATCHES), rel=1e-6)
    quietly(made.save_checkpoint, tmp_path / "run.ckpt")
    third = integration.AverageCallback(then)
    fit(tmp_path, third, max_epochs=3, **options)
    assert third.average.count == 3 * BATCHES


def test_bad_rules():
    """What is no rule for whole models is refused at once."""
    for given in (0.9, ms.cosine(0.1, 10), ms.sma(3), None):
        with pytest.raises(errors.NotARule, match="AverageCallback takes a rule"):
            integration.AverageCallback(given)
    with pytest.raises(errors.AverageError, match='"mine" or "theirs", got \'ours\''):
        integration.AverageCallback(ms.swa(), resume_rule="ours")


def test_it_pickles():
    """A callback that was not yet used is pickled, as strategies that spawn processes do."""
    callback = pickle.loads(pickle.dumps(integration.AverageCallback(ms.ema(DECAY), name="x", dtype="float64")))
    assert (callback.rule, callback.name, callback.options) == (ms.ema(DECAY), "x", {"dtype": "float64"})
    assert type(callback) is integration.AverageCallback


def test_other_names_are_missing():
    """The module has no other names made on demand."""
    with pytest.raises(AttributeError, match="AverageCallbacks"):
        integration.AverageCallbacks  # noqa: B018


# --- checkpoints in every order --------------------------------------------------------------------------------------
class SaveWhileEvaluating(lightning.Callback):
    """Saves a checkpoint in the middle of each evaluation, once whole and once the weights only."""

    def __init__(self, folder):
        self.folder, self.saved, self.seen = folder, [], []

    def on_validation_batch_end(self, trainer, module, *args, **kwargs):
        if trainer.sanity_checking:
            return
        for weights_only in (False, True):
            path = self.folder / f"{len(self.saved)}.ckpt"
            trainer.save_checkpoint(path, weights_only=weights_only)
            self.saved.append(torch.load(path, weights_only=True))
        self.seen.append(module.layer.weight.item())

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


def test_saving_in_the_middle_of_a_validation(tmp_path):
    """The checkpoint has the trained weights and the average, the validation goes on with the average, training too."""
    callback, keep = integration.AverageCallback(ms.ema(DECAY)), SaveWhileEvaluating(tmp_path)
    module, made = fit(tmp_path, callback, keep, val_check_interval=4, limit_val_batches=2)
    weights = weights_of(module)
    plain, _ = fit(tmp_path, limit_val_batches=0)
    assert weights == weights_of(plain)
    steps = [4, 4, 8, 8, 12, 12, 16, 16]
    assert keep.seen == pytest.approx([reference(weights[:n]) for n in steps], rel=1e-6)
    for saved, n in zip(keep.saved, [n for n in steps for _ in "wo"], strict=True):
        assert saved["state_dict"]["layer.weight"].item() == weights[n - 1]
    for saved, n in zip(keep.saved[::2], steps, strict=True):
        state = saved["callbacks"]["AverageCallback[average]"]["average"]
        assert state["count"] == n
        assert state["average"]["layer.weight"].item() == pytest.approx(reference(weights[:n]), rel=1e-6)
    assert "on_save_checkpoint" not in vars(module)
    quietly(made.test, module, data(), verbose=False)
    assert keep.saved[-2]["state_dict"]["layer.weight"].item() == weights[-1]
    assert module.layer.weight.item() == weights[-1]


def test_the_modules_own_hook_has_the_last_word(tmp_path):
    """What the module takes out of its checkpoints, or adds to them, it does with those of a validation as well."""

    class Adding(Module):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["also"] = checkpoint["state_dict"].pop("layer.weight")

    callback, keep = integration.AverageCallback(ms.ema(DECAY)), SaveWhileEvaluating(tmp_path)
    module, _ = fit(tmp_path, callback, keep, module=Adding(), limit_val_batches=1, max_epochs=1)
    assert keep.saved[0]["also"].item() == weights_of(module)[-1]
    assert keep.saved[0]["state_dict"] == {}


class Evaluated(Module):
    """Notes the weight of each stage, predictions included."""

    def __init__(self):
        super().__init__()
        self.other = torch.nn.Parameter(torch.zeros(3))  # a second leaf, with which the weight shares a buffer

    def predict_step(self, batch, index):
        self.tested.append(self.layer.weight.item())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with checkpoints after 8 and 16 steps, and one without an average; and the weights after each step."""
    folder = tmp_path_factory.mktemp("run")
    callback = integration.AverageCallback(ms.ema(DECAY))
    every = lightning.pytorch.callbacks.ModelCheckpoint(folder, "{step}", save_top_k=-1)
    module, made = fit(folder, callback, every, module=Evaluated(), limit_val_batches=0)
    quietly(made.save_checkpoint, folder / "weights.ckpt", weights_only=True)
    _, made = fit(folder, module=Evaluated(), limit_val_batches=0, max_epochs=1)
    quietly(made.save_checkpoint, folder / "without.ckpt")
    return folder, weights_of(module)


STAGES = ("validate", "test", "predict", "fit")


ORDERS = [(order, True) for order in ((a, b) for a in STAGES for b in STAGES)]
ORDERS += [(order, inference) for order in (STAGES, STAGES[::-1]) for inference in (True, False)]


@pytest.mark.parametrize(("order", "inference"), ORDERS)
def test_checkpoints_in_every_order(tmp_path, run, order, inference):
    """One trainer that validates, tests, predicts and trains from checkpoints, in any order, has the right average."""
    folder, weights = run
    callback, module = integration.AverageCallback(ms.ema(DECAY)), Evaluated()
    made = quietly(trainer, tmp_path, callback, limit_val_batches=1, inference_mode=inference, max_epochs=2)
    for stage, n in zip(order, (16, 8, 16, 8), strict=False):
        module.validated.clear()
        module.tested.clear()
        path = folder / f"step={n if stage != 'fit' else 8}.ckpt"
        loaders = (data(), data()) if stage == "fit" else (data(),)
        quietly(getattr(made, stage), module, *loaders, ckpt_path=path)
        if stage == "fit":
            made.fit_loop.max_epochs += 1  # the next training has an epoch to do
        count = callback.average.count
        seen = module.validated if stage in ("validate", "fit") else module.tested
        assert count == (n if stage != "fit" else 8 * made.current_epoch)
        if stage != "fit":
            assert seen == pytest.approx([reference(weights[:n])] * len(seen), rel=1e-6)
            assert seen
            assert module.layer.weight.item() == weights[n - 1]
        elif made.current_epoch == 2:
            assert module.layer.weight.item() == weights[15]
            assert seen == pytest.approx([reference(weights)], rel=1e-6)
            assert value(callback) == pytest.approx(reference(weights), rel=1e-6)


@pytest.mark.parametrize("name", ["without.ckpt", "weights.ckpt"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_checkpoint_without_an_average(tmp_path, run, name, used):
    """It is refused where the average should be evaluated; training starts an average there, and forgets the former."""
    folder, weights = run
    callback, module = integration.AverageCallback(ms.ema(DECAY)), Evaluated()
    made = quietly(trainer, tmp_path, callback, limit_val_batches=1, max_epochs=2)
    if used:
        quietly(made.test, module, data(), ckpt_path=folder / "step=16.ckpt")
    for stage in ("validate", "test", "predict"):
        module.tested.clear()
        with pytest.raises(errors.CheckpointMismatch, match="evaluate=False"):
            quietly(getattr(made, stage), module, data(), ckpt_path=folder / name)
        assert module.tested == []
    itself = integration.AverageCallback(ms.ema(DECAY), evaluate=False)
    plain = Evaluated()
    quietly(quietly(trainer, tmp_path, itself).test, plain, data(), ckpt_path=folder / name)
    assert set(plain.tested) == {plain.layer.weight.item()}
    if name == "without.ckpt":
        if used:
            quietly(made.test, module, data(), ckpt_path=folder / "step=16.ckpt")
        quietly(made.fit, module, data(), data(), ckpt_path=folder / name)
        assert callback.average.count == 8
        assert value(callback) == pytest.approx(reference(weights[8:]), rel=1e-6)


def test_a_checkpoint_of_before_the_first_step(tmp_path):
    """Saved before there is an average, a checkpoint says so: to evaluate it is to evaluate the module."""
    made = quietly(trainer, tmp_path, integration.AverageCallback(ms.ema(DECAY)), limit_val_batches=1)
    module = Evaluated()
    quietly(made.validate, module, data(), verbose=False)
    quietly(made.save_checkpoint, tmp_path / "first.ckpt")
    other = Evaluated()
    torch.nn.init.constant_(other.layer.weight, 3.0)
    made = quietly(trainer, tmp_path, integration.AverageCallback(ms.ema(DECAY)), limit_val_batches=1)
    quietly(made.test, other, data(), ckpt_path=tmp_path / "first.ckpt", verbose=False)
    assert set(other.tested) == {1.0}
