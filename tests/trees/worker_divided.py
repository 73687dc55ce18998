"""Claims about models of which each of two processes holds a part, each a function `check_*`, under torchrun.

Every process writes a JSON file into the folder given: for each claim, the failure, or nothing.
"""

import json
import logging
import os
import sys
import traceback
import types
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard

import multisched as ms
from multisched import errors

RANK = int(os.environ["RANK"])
STEPS = 3


def raised(kinds, do, *words):
    """The block raises exactly one of these, and every other process does so, too; its message has the words."""
    try:
        do()
        found = None
    except errors.MultischedError as error:
        found = error
    names: list = [None, None]
    dist.all_gather_object(names, type(found).__name__)
    assert names[0] == names[1], names
    assert isinstance(found, kinds), found
    missing = [word for word in words if word not in str(found)]
    assert not missing, (missing, str(found))
    assert len(str(found)) < 1000


def fsdp1(**options):
    torch.manual_seed(0)
    return FullyShardedDataParallel(torch.nn.Linear(6, 7), device_id=torch.device("cpu"), **options)


def trained(model, average):
    """The means of the parameters that this process holds, in double precision."""
    optimizer, mean = torch.optim.SGD(model.parameters(), lr=0.1), None
    for step in range(STEPS):
        optimizer.zero_grad()
        model(torch.ones(2, 6) * (step + RANK)).square().sum().backward()
        optimizer.step()
        average.update()
        now = [parameter.detach().double().numpy().copy() for parameter in model.parameters()]
        mean = now if mean is None else [0.5 * (m + n) for m, n in zip(mean, now, strict=True)]
    return mean


def check_fsdp1_follows_and_is_not_saved(folder):
    """Shards of FSDP1 are averaged; a file, which would be of one process, is refused by all, and none is written."""
    for options in ({}, {"use_orig_params": True}):
        model = fsdp1(**options)
        average = ms.Average(model, ms.ema(0.5))
        mean = trained(model, average)
        for expected, found in zip(mean, average.value.values(), strict=True):
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
        path = folder / "fsdp1.safetensors"
        raised(errors.CheckpointError, lambda: ms.save(path, average), "FSDP1", "avg.swapped()", "fully_shard")  # noqa: B023
        assert not path.exists()
        raised(errors.TreeMismatch, lambda: average.copy_to(torch.nn.Linear(6, 7)))  # noqa: B023


def check_the_full_state_of_fsdp1(folder):
    """Inside `swapped` the full state dict of the model is the average, as the message says."""
    model = fsdp1()
    average = ms.Average(model, ms.ema(0.5))
    trained(model, average)
    with average.swapped():
        full = model.state_dict()
    parts: list = [None, None]
    dist.all_gather_object(parts, next(iter(average.value.values())).tolist())
    flat = [*parts[0], *parts[1]][: 6 * 7 + 7]
    assert torch.cat([full["weight"].flatten(), full["bias"]]).tolist() == flat


def check_the_state_of_another_rank(folder):
    """The state of an average of shards goes back to its own process, and is refused by another."""
    for options in ({}, {"use_orig_params": True}):
        model = fsdp1(**options)
        average = ms.Average(model, ms.ema(0.5))
        trained(model, average)
        states: list = [None, None]
        dist.all_gather_object(states, average.state_dict())
        other = ms.Average(model, ms.ema(0.5))
        other.load_state_dict(states[RANK])
        assert other.count == STEPS
        theirs = states[1 - RANK]
        raised(errors.CheckpointMismatch, lambda: other.load_state_dict(theirs), "rank 0 of 2", "rank 1 of 2")  # noqa: B023
        whole = ms.Average(torch.nn.Linear(6, 7), ms.ema(0.5))
        raised(errors.CheckpointMismatch, lambda: whole.load_state_dict(theirs), "no part")  # noqa: B023
        path = folder / f"whole{RANK}"
        ms.save(path, whole)
        raised(errors.CheckpointError, lambda: ms.load(path, other), "FSDP1")  # noqa: B023


def check_fsdp1_that_shards_nothing(folder):
    """Flat parameters that each process holds whole are saved and loaded as any others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: it is deprecated
        model = fsdp1(sharding_strategy=ShardingStrategy.NO_SHARD)
    average, other = ms.Average(model, ms.ema(0.5)), ms.Average(model, ms.ema(0.5))
    trained(model, average)
    path = folder / f"whole{RANK}.safetensors"
    ms.save(path, average)
    ms.load(path, other)
    assert other.count == STEPS


def check_fsdp2_is_not_saved(folder):
    """A file of DTensors is refused on all processes."""
    average = ms.Average(fully_shard(torch.nn.Linear(3, 1)), ms.ema(0.5))
    raised(
        errors.CheckpointError, lambda: ms.save(folder / "fsdp2", average), "DTensor", "torch.distributed.checkpoint"
    )
    assert not (folder / "fsdp2").exists()
    whole = ms.Average(torch.nn.Linear(3, 1), ms.ema(0.5))
    ms.save(folder / f"linear{RANK}", whole)
    raised(errors.CheckpointError, lambda: ms.load(folder / f"linear{RANK}", average), "DTensor")
    assert average.count == 0


def check_parameters_that_deepspeed_has_emptied(folder):
    """Parameters as ZeRO-3 leaves them, empty, are refused by name; while they are gathered they are averaged."""
    model = torch.nn.Linear(6, 7)
    for number, parameter in enumerate(model.parameters()):
        parameter.ds_id, parameter.ds_numel = number, parameter.numel()
        parameter.full, parameter.data = parameter.data, torch.empty(0)
    for tree in (model, list(model.parameters()), dict(model.named_parameters())):
        raised(errors.LeafError, lambda: ms.Average(tree, ms.swa()), "ZeRO-3", "GatheredParameters")  # noqa: B023
    for parameter in model.parameters():
        parameter.data = parameter.full
    average = ms.Average(model, ms.swa())
    average.update()
    ms.save(folder / f"zero{RANK}", average)


# --- trainers ---------------------------------------------------------------------------------------------------------
def lightning_module(divided):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.weights = torch.nn.Linear(4, 1), []

        def configure_model(self):
            if divided:
                fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

        def training_step(self, batch, index):
            return (self.layer(batch) - 1).square().mean()

        def on_before_zero_grad(self, optimizer):
            self.weights.append(self.layer.weight.detach().clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Module()


def lightning_fit(strategy, module, callback, **options):
    import lightning

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_epochs=options.pop("max_epochs", 1),
        use_distributed_sampler=False,
    )
    data = torch.randn(24, 4, generator=torch.Generator().manual_seed(RANK))
    trainer.fit(module, torch.utils.data.DataLoader(data, 4), **options)
    return trainer


def check_lightning_refuses_what_is_divided(folder):
    """Under ModelParallelStrategy the callback refuses on all processes before the first step, and names the way."""
    from lightning.pytorch.strategies import ModelParallelStrategy

    from multisched.integrations.lightning import AverageCallback

    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo")
    module = lightning_module(divided=True)
    raised(
        errors.CheckpointError,
        lambda: lightning_fit(strategy, module, AverageCallback(ms.ema(0.5))),
        *("'layer.weight'", "DTensor", "ms.Average(model, rule)", "torch.distributed.checkpoint"),
    )
    assert module.weights == []


def check_lightning_serves_ddp(folder):
    """Under DDP both processes have the average of the weights, which are the same; a run is resumed from one file."""
    from multisched.integrations.lightning import AverageCallback

    callback, module = AverageCallback(ms.ema(0.5)), lightning_module(divided=False)
    trainer = lightning_fit("ddp", module, callback)
    weights = [*module.weights[1:], module.layer.weight.detach()]
    mean = weights[0].double()
    for weight in weights[1:]:
        mean = 0.5 * (mean + weight.double())
    assert callback.average.count == len(weights) == 6
    torch.testing.assert_close(callback.average.value["layer.weight"].double(), mean, rtol=1e-6, atol=1e-7)
    both: list = [None, None]
    dist.all_gather_object(both, callback.average.value["layer.weight"].tolist())
    assert both[0] == both[1]
    path = str(folder / "ddp.ckpt")
    trainer.save_checkpoint(path)
    resumed = AverageCallback(ms.ema(0.5))
    lightning_fit("ddp", lightning_module(divided=False), resumed, ckpt_path=path)
    assert resumed.average is None or resumed.average.count == 6
    lightning_fit("ddp", lightning_module(divided=False), resumed, ckpt_path=path, max_epochs=2)
    assert resumed.average.count == 12


def check_transformers_refuses_what_is_divided(folder):
    """The Hugging Face callback refuses an FSDP1 and an FSDP2 model on all processes when training begins."""
    from transformers import TrainerState

    from multisched.integrations.transformers import AverageCallback

    for model in (fully_shard(torch.nn.Linear(4, 1)), fsdp1(), fsdp1(use_orig_params=True)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        arguments = types.SimpleNamespace(output_dir=str(folder), should_save=RANK == 0, load_best_model_at_end=False)
        callback, state = AverageCallback(ms.ema(0.5)), TrainerState(global_step=0)
        raised(
            errors.CheckpointError,
            lambda: callback.on_train_begin(arguments, state, None, model=model, optimizer=optimizer),  # noqa: B023
            *("AverageCallback", "divided among processes"),
        )
        optimizer.step()
        assert callback.average is None


def check_transformers_serves_ddp(folder):
    """Hugging Face's Trainer under DDP: both processes have the same average, and one of them saves it."""
    import transformers

    from multisched.integrations.transformers import AverageCallback

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x, labels=None):
            return {"loss": self.layer(x).square().mean(), "logits": self.layer(x)}

    data = [{"x": torch.randn(4, generator=torch.Generator().manual_seed(i)), "labels": 0.0} for i in range(32)]
    arguments = transformers.TrainingArguments(
        str(folder / "hf"),
        use_cpu=True,
        ddp_backend="gloo",
        per_device_train_batch_size=4,
        num_train_epochs=1,
        save_strategy="steps",
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    callback = AverageCallback(ms.ema(0.5))
    transformers.Trainer(Model(), arguments, train_dataset=data, callbacks=[callback]).train()
    both: list = [None, None]
    dist.all_gather_object(both, (callback.average.count, callback.average.value["layer.weight"].tolist()))
    assert both[0] == both[1]
    assert both[0][0] == 4
    resumed = AverageCallback(ms.ema(0.5))
    trainer = transformers.Trainer(Model(), arguments, train_dataset=data, callbacks=[resumed])
    trainer.train(resume_from_checkpoint=str(folder / "hf" / "checkpoint-2"))
    assert resumed.average.value["layer.weight"].tolist() == both[0][1]


NEEDS = {"lightning": "lightning", "transformers": "accelerate"}


def main(folder):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    failures = {}
    for name, check in [item for item in globals().items() if item[0].startswith("check_")]:
        needed = [each for word, each in NEEDS.items() if word in name]
        try:
            for package in needed:
                __import__(package)
            check(folder)
            failures[name] = ""
        except ModuleNotFoundError as missing:
            failures[name] = f"skip: {missing}" if missing.name in needed else traceback.format_exc()
        except BaseException:
            failures[name] = traceback.format_exc()
        (folder / f"{RANK}.json").write_text(json.dumps(failures))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
