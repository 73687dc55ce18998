"""The Hugging Face callback, under the real `transformers.Trainer`, on the CPU."""

import math

import pytest
from helpers_callbacks import BATCHES, DECAY, RESUMED, gone_on, quietly, reference, value

import multisched as ms
from multisched import errors
from multisched.integrations import transformers as integration

torch = pytest.importorskip("torch", reason="transformers' Trainer needs torch, which is not installed")
transformers = pytest.importorskip("transformers", reason="the test is about transformers, which is not installed")
safetensors = pytest.importorskip("safetensors", reason="transformers saves by it, and it is not installed")
pytest.importorskip("safetensors.torch", reason="transformers saves by it, and it is not installed")
pytest.importorskip("accelerate", reason="transformers' Trainer needs Accelerate, which is not installed")


class Model(torch.nn.Module):
    """One weight; it notes the weight of each evaluation."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)
        self.evaluated, self.fail = [], False

    def forward(self, x, labels=None):
        if not self.training:
            self.evaluated.append(self.layer.weight.item())
            if self.fail:
                raise ArithmeticError("as the test wants it")
        return {"loss": self.layer(x).square().mean(), "logits": self.layer(x)}


class Noted(transformers.TrainerCallback):
    """The weight after each step."""

    def __init__(self):
        self.weights = []

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.weights.append(model.layer.weight.item())


class Data(torch.utils.data.Dataset):
    """Different inputs of one number."""

    def __init__(self, length=2 * BATCHES):
        self.values = torch.linspace(0.5, 1.5, length)[:, None]

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return {"x": self.values[index], "labels": self.values[index]}


def trainer(folder, *callbacks, model=None, eval_dataset=None, **options):
    options = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 16,
        "learning_rate": 0.1,
        "save_strategy": "no",
        **options,
    }
    arguments = quietly(
        transformers.TrainingArguments,
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        label_names=["labels"],
        **options,
    )
    return quietly(
        transformers.Trainer,
        Model() if model is None else model,
        arguments,
        train_dataset=Data(),
        eval_dataset=Data() if eval_dataset is None else eval_dataset,
        callbacks=list(callbacks),
    )


def train(folder, *callbacks, resume=None, **options):
    """A trainer that has trained, and the weights after each step."""
    noted = Noted()
    made = trainer(folder, *callbacks, noted, **options)
    quietly(made.train, resume_from_checkpoint=resume)
    return made, noted.weights


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_follows_the_steps(tmp_path, accumulate):
    """The average is that of the weights after each optimizer step; accumulated batches do not count."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    _, weights = train(tmp_path, callback, gradient_accumulation_steps=accumulate)
    assert callback.average.count == len(weights) == 2 * math.ceil(BATCHES / accumulate)
    assert math.isclose(value(callback), reference(weights), rel_tol=1e-6)


def test_evaluation_runs_on_the_average(tmp_path):
    """Each evaluation sees the average so far, on every dataset, and training goes on with its own weights."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    options = {"eval_strategy": "steps", "eval_steps": 4, "eval_on_start": True}
    made, weights = train(tmp_path, callback, eval_dataset={"a": Data(), "b": Data()}, **options)
    seen = [reference(weights[:n]) for n in (4, 8, 12, 16)]
    expected = [1.0, 1.0] + [mean for mean in seen for _ in "ab"]
    assert made.model.evaluated == pytest.approx(expected, rel=1e-6)
    _, plain = train(tmp_path)
    assert weights == plain
    made.model.evaluated.clear()
    quietly(made.evaluate, Data())
    quietly(made.predict, Data())
    assert made.model.evaluated == pytest.approx([seen[-1]] * 2, rel=1e-6)
    assert made.model.layer.weight.item() == weights[-1]


def test_checkpoints_have_both(tmp_path):
    """Saved right after an evaluation, the model has the trained weights, and the file beside it the average."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    options = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    _, weights = train(tmp_path, callback, **options)
    for step in (4, 8, 12, 16):
        folder = tmp_path / f"checkpoint-{step}"
        model = Model()
        saved = transformers.Trainer(model, transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
        saved._load_from_checkpoint(str(folder))
        assert model.layer.weight.item() == weights[step - 1]
        average = ms.Average(Model(), ms.ema(DECAY))
        ms.load(folder / "multisched_average.safetensors", average)
        assert average.count == step
        assert average.value["layer.weight"].item() == pytest.approx(reference(weights[:step]), rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resuming_is_exact(tmp_path, accumulate):
    """A run resumed from a checkpoint in the middle of an epoch ends with the same average, to the bit."""
    options = {"gradient_accumulation_steps": accumulate, "save_strategy": "steps", "save_steps": 1}
    whole, second = integration.AverageCallback(ms.ema(DECAY)), integration.AverageCallback(ms.ema(DECAY))
    made, _ = train(tmp_path, whole, **options)
    resumed, weights = train(tmp_path, second, resume=str(tmp_path / "checkpoint-4"), **options)
    assert len(weights) == whole.average.count - 4
    assert resumed.model.layer.weight.item() == made.model.layer.weight.item()
    assert (second.average.count, value(second)) == (whole.average.count, value(whole))


def test_resuming_elsewhere(tmp_path):
    """A checkpoint of another output folder is named with `resume=`; without, the error says so; False starts anew."""
    first, second = tmp_path / "first", tmp_path / "second"
    train(first, integration.AverageCallback(ms.swa()), save_strategy="steps", save_steps=8)
    checkpoint = first / "checkpoint-8"
    callback = integration.AverageCallback(ms.swa(), resume=checkpoint)
    train(second, callback, resume=str(checkpoint))
    assert callback.average.count == 2 * BATCHES
    with pytest.raises(errors.CheckpointError, match=r"multisched_average.safetensors.*resume="):
        train(second, integration.AverageCallback(ms.swa()), resume=str(checkpoint))
    anew = integration.AverageCallback(ms.swa(), resume=False)
    train(second, anew, resume=str(checkpoint))
    assert anew.average.count == BATCHES


def test_another_rule_is_an_error(tmp_path):
    """A checkpoint of another rule is refused, and the message has both."""
    train(tmp_path, integration.AverageCallback(ms.ema(DECAY)), save_strategy="steps", save_steps=8)
    with pytest.raises(errors.CheckpointMismatch, match=r"ema\(0.75\)") as raised:
        train(tmp_path, integration.AverageCallback(ms.swa()), resume=str(tmp_path / "checkpoint-8"))
    assert "swa()" in str(raised.value)


@pytest.mark.parametrize(("whose", "given", "then", "share"), RESUMED.values(), ids=RESUMED)
def test_resuming_by_a_rule(tmp_path, whose, given, then, share):
    """`resume_rule` says by which rule the average of a checkpoint goes on; it is `callback.rule` then, and saved."""
    first, second = integration.AverageCallback(ms.ema(DECAY)), integration.AverageCallback(given, resume_rule=whose)
    options = {"save_strategy": "steps", "save_steps": BATCHES}
    train(tmp_path, first, num_train_epochs=1, **options)
    begin = str(tmp_path / f"checkpoint-{BATCHES}")
    with pytest.raises(errors.CheckpointMismatch, match=r"AverageCallback\(\.\.\., resume_rule="):
        train(tmp_path, integration.AverageCallback(given), resume=begin, **options)
    _, weights = train(tmp_path, second, resume=begin, **options)
    assert second.rule == second.average.rule == then
    assert second.average.count == 2 * BATCHES
    assert value(second) == pytest.approx(gone_on(value(first), weights, share, BATCHES), rel=1e-6)
    third = integration.AverageCallback(then)
    train(tmp_path, third, resume=str(tmp_path / f"checkpoint-{2 * BATCHES}"), num_train_epochs=3, **options)
    assert third.average.count == 3 * BATCHES


def test_the_best_model_comes_with_its_average(tmp_path):
    """With `load_best_model_at_end` the average is that of the best checkpoint, chosen by the average's own metric."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    options = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    made, weights = train(
        tmp_path, callback, load_best_model_at_end=True, metric_for_best_model="loss", learning_rate=0.3, **options
    )
    averages = {n: reference(weights[:n]) for n in (4, 8, 12, 16)}
    best = min(averages, key=lambda n: averages[n] ** 2)
    assert best < 16  # the average passes the best weight, 0, and goes on
    assert (made.state.best_global_step, callback.average.count) == (best, best)
    assert made.model.layer.weight.item() == weights[best - 1]
    assert math.isclose(value(callback), averages[best], rel_tol=1e-6)


def failed_in_evaluation(folder):
    """A trainer whose evaluation has raised, and the weights of its steps."""
    made, weights = train(folder, integration.AverageCallback(ms.ema(DECAY)))
    made.model.fail = True
    with pytest.raises(ArithmeticError):
        quietly(made.evaluate)
    return made, weights


def test_an_exception_in_evaluation(tmp_path):
    """After an evaluation that raised, the next step trains the trained weights, not the average."""
    made, weights = failed_in_evaluation(tmp_path)
    assert made.model.layer.weight.item() == pytest.approx(reference(weights), rel=1e-6)
    quietly(made.training_step, made.model, {"x": torch.ones(1, 1), "labels": torch.ones(1, 1)})
    assert made.model.layer.weight.item() == weights[-1]


def test_two_averages(tmp_path):
    """Two callbacks follow one model and have two files; only one may be evaluated."""
    slow = integration.AverageCallback(ms.ema(DECAY))
    equal = integration.AverageCallback(ms.swa(), name="equal", evaluate=False)
    made, weights = train(tmp_path, equal, slow, eval_strategy="epoch", save_strategy="epoch", num_train_epochs=1)
    assert made.model.evaluated == pytest.approx([reference(weights)], rel=1e-6)
    assert math.isclose(value(equal), sum(weights) / len(weights), rel_tol=1e-6)
    names = {path.name for path in (tmp_path / f"checkpoint-{BATCHES}").glob("multisched_*")}
    assert names == {"multisched_average.safetensors", "multisched_equal.safetensors"}

    both = [integration.AverageCallback(ms.swa(), name=name) for name in ("one", "two")]
    with pytest.raises(errors.SwapError, match="evaluate=False"):
        train(tmp_path, *both)


def test_a_trainer_with_an_evaluation_of_its_own(tmp_path):
    """A trainer that does not tell its optimizer of evaluations is an error, rather than evaluated on other weights."""

    class Own(transformers.Trainer):
        def evaluation_loop(self, dataloader, description, *args, **kwargs):
            return transformers.trainer_utils.EvalLoopOutput(None, None, {}, 1)

    callback = integration.AverageCallback(ms.ema(DECAY))
    made, _ = train(tmp_path, callback)
    made.__class__ = Own
    with pytest.raises(errors.SwapError, match=r"optimizer.eval\(\)"):
        quietly(made.evaluate)


def test_each_training_starts_an_average(tmp_path):
    """Training again without a checkpoint starts a new average, which counts each step once."""
    callback = integration.AverageCallback(ms.ema(DECAY))
    made, _ = train(tmp_path, callback)
    quietly(made.train)
    assert callback.average.count == 2 * BATCHES


def test_bad_rules():
    """What is no rule for whole models is refused at once."""
    for given in (0.9, ms.cosine(0.1, 10), ms.sma(3), None):
        with pytest.raises(errors.NotARule, match="AverageCallback takes a rule"):
            integration.AverageCallback(given)
    with pytest.raises(errors.AverageError, match='"mine" or "theirs", got \'ours\''):
        integration.AverageCallback(ms.swa(), resume_rule="ours")


# --- saving in the middle of an evaluation ---------------------------------------------------------------------------
class SaveWhileEvaluating(transformers.TrainerCallback):
    """Saves the model, and a checkpoint, in the middle of each evaluation and at its end."""

    def __init__(self, folder):
        self.folder, self.trainer, self.seen, self.saved = folder, None, [], 0

    def on_prediction_step(self, args, state, control, model=None, **kwargs):
        self.saved += 1
        self.trainer.save_model(str(self.folder / f"model-{self.saved}"))
        self.trainer._save_checkpoint(model, trial=None)
        self.trainer.callback_handler.on_save(args, state, control)  # as the trainer does after a checkpoint
        self.seen.append((state.global_step, model.layer.weight.item()))

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.trainer.save_model(str(self.folder / f"end-{self.saved}"))


def weight_in(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")["layer.weight"].item()


@pytest.mark.parametrize("before", [True, False], ids=["before ours", "after ours"])
def test_saving_in_the_middle_of_an_evaluation(tmp_path, before):
    """What is saved there is the trained model and the average; the evaluation goes on with the average, training too.

    The callback that saves may come before the one that averages, or after it.
    """
    keep, callback = SaveWhileEvaluating(tmp_path), integration.AverageCallback(ms.ema(DECAY))
    noted = Noted()
    callbacks = [keep, callback] if before else [callback, keep]
    made = trainer(tmp_path, *callbacks, noted, eval_strategy="steps", eval_steps=4)
    keep.trainer = made
    quietly(made.train)
    weights = noted.weights
    _, plain = train(tmp_path / "plain")
    assert weights == plain
    assert [step for step, _ in keep.seen] == [4, 8, 12, 16]
    for number, (step, seen) in enumerate(keep.seen, start=1):
        assert seen == pytest.approx(reference(weights[:step]), rel=1e-6)
        for folder in (f"model-{number}", f"end-{number}", f"checkpoint-{step}"):
            assert weight_in(tmp_path / folder) == weights[step - 1]
        average = ms.Average(Model(), ms.ema(DECAY))
        ms.load(tmp_path / f"checkpoint-{step}" / "multisched_average.safetensors", average)
        assert average.count == step
        assert average.value["layer.weight"].item() == pytest.approx(reference(weights[:step]), rel=1e-6)
    second = integration.AverageCallback(ms.ema(DECAY))
    train(tmp_path, second, resume=str(tmp_path / "checkpoint-8"))
    assert (second.average.count, value(second)) == (16, value(callback))
    quietly(made.predict, Data())
    assert weight_in(tmp_path / f"model-{keep.saved}") == weights[-1]
    assert not made.model._state_dict_hooks


def test_a_pretrained_model_with_tied_weights(tmp_path):
    """Saved in the middle of an evaluation, a model of transformers is as it is saved after it: tied weights once."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=7, n_positions=5)
    model = transformers.GPT2LMHeadModel(config)
    data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor([2, 3, 4])} for _ in range(4)]

    class Keep(transformers.TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            kwargs["model"].save_pretrained(tmp_path / "during")

    callback = integration.AverageCallback(ms.ema(DECAY))
    arguments = quietly(
        transformers.TrainingArguments,
        str(tmp_path),
        **{"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no", "num_train_epochs": 2},
    )
    made = quietly(transformers.Trainer, model, arguments, train_dataset=data, callbacks=[callback, Keep()])
    quietly(made.train)
    quietly(made.evaluate, data)
    model.save_pretrained(tmp_path / "after")
    during, after = [safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("during", "after")]
    assert {name: tensor.tolist() for name, tensor in during.items()} == {n: t.tolist() for n, t in after.items()}
    assert not torch.equal(callback.average.value["transformer.wte.weight"], after["transformer.wte.weight"])


def test_an_exception_in_evaluation_and_a_save(tmp_path):
    """After an evaluation that raised, what is saved is the trained model."""
    made, weights = failed_in_evaluation(tmp_path)
    quietly(made.save_model, str(tmp_path / "saved"))
    assert weight_in(tmp_path / "saved") == weights[-1]
