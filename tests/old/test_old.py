"""What 0.1 wrote is read for ever: the folder `0.1`, made by `make.py`, with the values that it must give.

States are NamedTuples, and that ties their fields. Their pickles call the class with the fields that there were, and so
does whoever builds one of a checkpoint that was restored without a target; flax and Orbax, which restore into a target,
compare its field names with those in the file, and refuse a field more even if it is `()`. So the fields of a state
that was ever written stay as they are, and so does the module that its class is in: a state that holds more, since it
was asked for more, is of another class, whose new fields come last and have a default.
"""

import base64
import importlib
import json
import math
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import make, to_numpy, ulps

import multisched as ms
from multisched import dialects
from multisched.cli import main

OLD = Path(__file__).parent / "0.1"
NAMES = {name: getattr(ms, name) for name in ms.__all__} | {"math": math}
NAMES |= {name: importlib.import_module(f"{dialects.__name__}.{name}") for name in ("torch", "transformers")}


def read(name):
    return json.loads((OLD / name).read_text(encoding="utf-8"))


def unpickled(text):
    return loads(base64.b64decode(text))


def loads(data):
    """What was pickled, with the process's bfloat16 left as it was.

    A pickled array of bfloat16 carries the flags that its dtype had, NumPy sets them on the one bfloat16 of the process
    when it loads the array, and the flags differ between versions of ml_dtypes. The dtype then has another hash, and
    JAX, which keeps its dtypes in a set, no longer finds it.
    """
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    state = bfloat16.__reduce__()[2]
    try:
        return pickle.loads(data)
    finally:
        bfloat16.__setstate__(state)


def of_text(text):
    """A rule as Python builds it now."""
    return eval(text, NAMES)


def records(name, key):
    return pytest.mark.parametrize("record", read(name), ids=lambda record: record[key])


# --- schedules -------------------------------------------------------------------------------------------------------
schedules = records("schedules.json", "text")


def close(actual, expected):
    """To the last digits at the size of the largest value: of double precision, and of single for arrays of values."""
    expected = np.asarray(expected)
    largest, unit = np.abs(expected).max(), 1e-12 if expected.ndim == 1 else 4 * 2.0**-23
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=unit * largest)


@schedules
def test_a_schedule(record):
    """Its pickle, its config and its text give the values that they gave, and equal schedules."""
    lr = unpickled(record["pickle"])
    close([lr(step) for step in record["steps"]], record["values"])
    if record["config"] is None:
        return  # of a function
    for again in (ms.from_config(record["config"]), ms.parse(record["repr"]), ms.parse(record["text"])):
        assert (again, hash(again), repr(again)) == (lr, hash(lr), repr(lr))
    assert repr(lr) == record["repr"]


def test_on_the_command_line():
    """The command line reads the forms that 0.1 read."""
    asked = [record for record in read("schedules.json") if record["form"] == "command line"]
    texts = [record["text"] for record in asked]
    shown = CliRunner().invoke(main, ["table", *texts, "--steps", "4", "--format", "json"])
    assert shown.exit_code == 0, shown.output
    for row in json.loads(shown.output):
        close([row[text] for text in texts], [record["values"][record["steps"].index(row["step"])] for record in asked])


# --- rules and their states ------------------------------------------------------------------------------------------
RULES = read("rules.json")
rules = records("rules.json", "text")


def was_held(record, rule, state):
    """A state of NumPy's arrays is as `init` makes them now, and has the values that it had."""
    fresh = rule.init(np.zeros(2, np.float32))
    assert type(state) is type(fresh)
    assert [np.shape(part) for part in state] == [np.shape(part) for part in fresh]
    for name, value in record["fields"].items():
        held = getattr(state, name)
        assert isinstance(held, tuple) if value is None else np.array_equal(held, value), name


def goes_on(record, rule, state, backend):
    """Besides, it gives the outputs that it gave."""
    was_held(record, rule, state)
    state = type(state)(*(p if isinstance(p, tuple) else make(p, backend, np.asarray(p).dtype.name) for p in state))
    for value, expected in zip(record["values"], record["outputs"], strict=True):
        state, output = rule.step(state, make(value, backend))
        assert ulps(to_numpy(output, backend), expected, np.max(np.abs(record["values"]))) <= 4


@rules
def test_a_rule(record):
    """Its pickle and what `repr` printed are the rule that the same text builds now."""
    rule = of_text(record["text"])
    for old in (unpickled(record["rule"]), of_text(record["repr"])):
        assert (old, hash(old), repr(old)) == (rule, hash(rule), record["repr"])


@rules
def test_a_pickled_state(record, backend):
    """It is what `init` gives now, and goes on as it did, under the pickled rule and under one built now."""
    for rule in (of_text(record["text"]), unpickled(record["rule"])):
        goes_on(record, rule, unpickled(record["state"]), backend)


def test_states_that_torch_saved(torch):
    """A file of `torch.save`."""
    for key, state in torch.load(OLD / "states.pt", weights_only=False).items():
        host = type(state)(*(part if isinstance(part, tuple) else part.numpy() for part in state))
        record = RULES[int(key[1:])]
        goes_on(record, of_text(record["text"]), host, "torch")


def on_host(tree, jax):
    return jax.tree.map(np.asarray, tree)


def test_states_that_flax_serialised(jax):
    """`flax.serialization`, into the states that `init` gives now."""
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    target = {f"r{i}": of_text(record["text"]).init(np.zeros(2, np.float32)) for i, record in enumerate(RULES)}
    found = serialization.from_bytes(target, (OLD / "states.msgpack").read_bytes())
    for i, record in enumerate(RULES):
        goes_on(record, of_text(record["text"]), on_host(found[f"r{i}"], jax), "jax")


# --- averages of models ----------------------------------------------------------------------------------------------
AVERAGES = read("averages.json")
averages = records("averages.json", "file")


def arrays(record, values):
    return {name: np.asarray(value, record["dtypes"][name]) for name, value in values.items()}


def model(record, values, old=None):
    """The model with these values: a tree of arrays, or a module with tied layers."""
    host = arrays(record, values)
    if record["kind"] != "torch":
        return {name: make(array, record["kind"], array.dtype.name) for name, array in host.items()}
    import torch

    if old is None:
        linear = torch.nn.Linear(2, 3)
        old = torch.nn.ModuleDict({"a": linear, "again": linear, "norm": torch.nn.BatchNorm1d(3)})
    old.load_state_dict({name: torch.asarray(array) for name, array in host.items()}, strict=False)
    return old


def fresh(record):
    """An average of the rule and the options, as it is made now, and its model."""
    tree = model(record, record["first"])
    return tree, ms.Average(tree, of_text(record["rule"]), backend=record["kind"], **record["options"])


def numbers(record, average, values):
    """What is held, beside what it should be, on the host, without what is skipped."""
    backend, held = ms.get_backend(record["kind"]), average.snapshot().value
    for name, value in values.items():
        if value is None:
            assert held[name] is None
        elif name in held:
            yield name, backend.to_numpy(held[name]).astype("float64"), np.asarray(value)


def is_back(record, average):
    """The average is to the bit what it was."""
    assert average.count == record["count"]
    for name, actual, expected in numbers(record, average, record["held"]):
        assert np.array_equal(actual, expected), name


def continues(record, tree, average):
    """Besides, it becomes with one more update what it became."""
    is_back(record, average)
    masked = {"where": make(True, record["kind"], "bool")} if record["masked"] else {}
    average.update(model(record, record["next"], tree), **masked)
    held = record["options"].get("dtype", "float32")
    unit = {"bfloat16": 2.0**-7, "float32": 4 * 2.0**-23, "float64": 4 * 2.0**-52}[held]  # all are at most 1
    for name, actual, expected in numbers(record, average, record["after"]):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=unit, err_msg=name)
    assert average.count == record["count"] + 1


def installed(record):
    pytest.importorskip(record["kind"], reason=f"{record['kind']} is not installed")


def loaded(average, state):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a state of 0.1 does not say its rule
        average.load_state_dict(state)


@averages
def test_a_file_of_an_average(record):
    """`ms.load` reads what `ms.save` wrote."""
    installed(record)
    tree, average = fresh(record)
    ms.load(OLD / f"{record['file']}.safetensors", average)
    continues(record, tree, average)


@averages
def test_a_state_dict(record):
    """`load_state_dict` takes what `state_dict` gave, pickled or by `torch.save`; those of JAX are Orbax's, below."""
    installed(record)
    tree, average = fresh(record)
    if record["kind"] == "jax":
        return
    if record["kind"] == "torch":
        import torch

        state = torch.load(OLD / f"{record['file']}.pt", weights_only=True)
    else:
        state = loads((OLD / f"{record['file']}.pickle").read_bytes())
    loaded(average, state)
    continues(record, tree, average)


def test_snapshots():
    """Snapshots that were pickled are combined as they were."""
    old = read("snapshots.json")
    combined = ms.posthoc(unpickled(old["snapshots"]), old["sigma_rel"])
    for name, expected in old["posthoc"].items():
        np.testing.assert_allclose(np.asarray(combined[name], np.float64), expected, rtol=1e-5, atol=1e-6)


# --- optax -----------------------------------------------------------------------------------------------------------
OPTAX = read("optax.json")


def optimizer_of(record, optax):
    return optax.chain(optax.sgd(0.125, momentum=0.5), ms.as_optax(of_text(record["text"])))


def in_jax(tree, jax):
    return jax.tree.map(lambda part: jax.numpy.asarray(part, "float32"), tree, is_leaf=lambda part: type(part) is list)


def averages_on(record, state, jax, optax):
    """`average_of` finds the average in the state of an optimizer, and the next update moves it."""
    params, optimizer = in_jax(record["params"], jax), optimizer_of(record, optax)
    rule = of_text(record["text"])
    near(ms.average_of(rule, state, params), record["average"])
    updates, state = optimizer.update(in_jax(record["grads"], jax), jax.tree.map(jax.numpy.asarray, state), params)
    params = optax.apply_updates(params, updates)
    near(params, record["later"])
    near(ms.average_of(rule, state, params), record["after"])


def near(actual, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(actual[name]), value, rtol=0, atol=1e-6)


def target(record, jax, optax):
    return optimizer_of(record, optax).init(in_jax(record["params"], jax))


@records("optax.json", "text")
def test_a_pickled_state_of_optax(record, jax):
    """It holds NumPy's arrays, as one that was brought to the host."""
    optax = pytest.importorskip("optax", reason="optax is not installed")
    averages_on(record, unpickled(record["state"]), jax, optax)


def test_a_state_of_optax_that_flax_serialised(jax):
    """`flax.serialization`, into the state that `init` gives now."""
    optax = pytest.importorskip("optax", reason="optax is not installed")
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    targets = {f"r{i}": target(record, jax, optax) for i, record in enumerate(OPTAX)}
    found = serialization.from_bytes(targets, (OLD / "optax.msgpack").read_bytes())
    for i, record in enumerate(OPTAX):
        averages_on(record, found[f"r{i}"], jax, optax)


# --- Orbax -----------------------------------------------------------------------------------------------------------
ORBAX = """
import logging, os, sys
logging.disable(logging.CRITICAL)
sys.path += [{tests!r}, {here!r}]
import jax, optax
import orbax.checkpoint as ocp
import numpy as np
import test_old as old

checkpointer = ocp.StandardCheckpointer()
kept = [record for record in old.AVERAGES if record["kind"] == "jax"]
targets = {{
    "states": {{f"r{{i}}": old.of_text(r["text"]).init(jax.numpy.zeros(2)) for i, r in enumerate(old.RULES)}},
    "optax": {{f"r{{i}}": old.target(r, jax, optax) for i, r in enumerate(old.OPTAX)}},
}}
with old.ms.use_backend("jax"):
    for target in (targets["states"], None):
        states = checkpointer.restore(os.path.join(sys.argv[1], "states"), target)
        for i, record in enumerate(old.RULES):
            rule, state = old.of_text(record["text"]), old.on_host(states[f"r{{i}}"], jax)
            old.was_held(record, rule, state if target else type(rule.init(np.zeros(2)))(**state))
    states = checkpointer.restore(os.path.join(sys.argv[1], "optax"), targets["optax"])
    for i, record in enumerate(old.OPTAX):
        old.averages_on(record, states[f"r{{i}}"], jax, optax)
    states = checkpointer.restore(os.path.join(sys.argv[1], "averages"))
    for record in kept:
        _, average = old.fresh(record)
        old.loaded(average, states[record["file"].partition("-")[2]])
        old.is_back(record, average)
print("restored")
"""


def test_what_orbax_saved(jax, tmp_path):
    """Rule states, with a target and without, states of optimizers and of averages; in a process of its own."""
    pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")
    pytest.importorskip("optax", reason="optax is not installed")
    for name in ("states", "optax", "averages"):
        shutil.unpack_archive(OLD / f"{name}.orbax.zip", tmp_path / name)
    here = Path(__file__).parent
    script = ORBAX.format(tests=str(here.parent), here=str(here))
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.split() == ["restored"], done.stderr


# --- declared variables ----------------------------------------------------------------------------------------------
def test_a_file_of_variables(backend):
    """`load_variables` reads a graph of rules, schedules and variables, which then goes on as it did."""
    old = read("variables.json")
    x = ms.Placeholder((2,), name="x")
    outputs = []
    for i, text in enumerate(old["texts"]):
        rule = of_text(text)
        with ms.Scope(f"r{i}"):
            outputs += list(ms.declare(rule, x)) if isinstance(rule, ms.Statistic) else [ms.declare(rule)]
    w = ms.Variable(np.ones(2, np.float32), name="w")
    ms.add_updates({w: w + x})
    mean, _ = ms.ExponentialMovingAverage(x, 0.9)
    lr = ms.PiecewiseConstant(0.1, {2: 0.5, 6: 0.25})
    f = ms.function(x, outputs=[*outputs, w, mean, lr], updates=ms.get_updates())
    ms.load_variables(OLD / "variables.safetensors")
    held = {variable.path: to_numpy(variable.value, backend) for variable in ms.get_variables()}
    assert set(held) == set(old["held"])
    for path, value in old["held"].items():
        assert np.array_equal(held[path], value), path
    for actual, expected in zip(f(np.asarray(old["value"], np.float32), device_get=True), old["after"], strict=True):
        assert ulps(np.asarray(actual, np.float32), expected, 2.0) <= 4


# --- optimizers and trainers -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["optimizer first", "driver first"])
def test_a_driver(torch, order):
    """The state of a driver brings back its count, beside the state of the optimizer that it drove."""
    old, states = read("driven.json"), torch.load(OLD / "driven.pt", weights_only=True)
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": w, "name": f"g{i}"} for i, w in enumerate(weights)], lr=0.1, momentum=0.9)
    rules = {name: of_text(old[name]) for name in ("lr", "momentum")}
    driver = ms.drive(optimizer, **rules)
    steps = [lambda: optimizer.load_state_dict(states["optimizer"]), lambda: driver.load_state_dict(states["driver"])]
    for load in steps if order == "optimizer first" else reversed(steps):
        load()
    for count in (old["count"], old["count"] + 1):
        for group in optimizer.param_groups:
            assert (group["lr"], group["momentum"]) == (rules["lr"](count), rules["momentum"](count))
        for w in weights:
            w.grad = torch.ones(2)
        optimizer.step()


def test_a_checkpoint_of_lightning(torch, tmp_path):
    """A run goes on from a checkpoint with the average in it: compared with the two in plain Python."""
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    from multisched.integrations.lightning import AverageCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def training_step(self, batch, _):
            return (self.weight * batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.125)

    old = read("lightning.json")
    rows = np.asarray(old["data"])
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.asarray(rows, dtype=torch.float32)))
    callback, module = AverageCallback(of_text(old["rule"])), Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and the like
        lightning.Trainer(
            max_epochs=2,
            callbacks=[callback],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, batches, ckpt_path=OLD / "lightning.ckpt")
    weight, mean = np.asarray(old["weight"]), np.asarray(old["held"]["weight"])
    for row in rows:
        weight = weight - 0.125 * row
        mean = 0.5 * mean + 0.5 * weight
    assert callback.average.count == old["count"] + len(rows)
    np.testing.assert_allclose(module.weight.detach().numpy(), weight, atol=1e-6)
    np.testing.assert_allclose(callback.average.value["weight"].numpy(), mean, atol=1e-6)
