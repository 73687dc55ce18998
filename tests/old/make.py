"""What multisched 0.1 wrote, to be read by all later versions: this script made the folder `0.1` beside it.

It is run with multisched 0.1 alone, the commit b612ffc, since only that writes what 0.1 wrote; it is kept to show how
the files came to be. It writes over no file that is there. Arrays are written by NumPy where a pickle would tie them to
a version of JAX. The values that a file must give stand in the JSON beside it, as plain numbers.

    PYTHONPATH=checkout:checkout/backends python tests/old/make.py
"""

import base64
import json
import math
import pickle
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

import multisched as ms
from multisched.dialects import lookup, optax, timm, torch, transformers
from multisched.errors import ConfigError
from multisched.schedules.catalogue import CATALOGUE, DIALECTS

FOLDER = Path(__file__).parent / "0.1"
STEPS = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 100, 1000]
NAMES = {**vars(ms), "optax": optax, "timm": timm, "torch": torch, "transformers": transformers, "math": math}
NAMES |= {name: getattr(ms, name) for name in ms.__all__} | dict(CATALOGUE)

SCHEDULES = """
abs(linear(-1.0, 1.0, 10))
add(constant(0.5), linear(0.0, 1.0, 10))
clip(linear(0.0, 1.0, 10), 0.25, 0.75)
constant(0.1)
cosine(0.1, 100)
cosine(0.1, 50, end=0.01, exponent=2.0, begin=5, k=0.5)
cosine_restarts(0.1, 10, period_mul=2.0, peak_mul=0.5, end=0.01, cycles=3)
cyclic(0.01, 0.1, 5, down_steps=10, mode='exp_range', gamma=0.99)
decay_warmup(inv_gamma=2.0, power=0.75, low=0.1, high=0.99)
delay(cosine(0.1, 100), 10)
divide(1.0, linear(1.0, 2.0, 10))
exponential(0.1, 0.5, 10, begin=3, staircase=True, end=0.01)
inverse_sqrt(0.1, 10, timescale=20)
inverse_time(0.1, 0.5, 10, staircase=True)
join([constant(0.1), cosine(0.2, 20), constant(0.05)], [10, 30])
linear(0.1, 0.0, 50, begin=5)
maximum(linear(1.0, 0.0, 10), 0.3)
minimum(linear(1.0, 0.0, 10), [0.3, 0.6])
multiply(2, cosine(0.1, 100))
negative(cosine(0.1, 100))
noam(512, 40, factor=2.0)
one_cycle(0.1, 50, warmup=0.25, init_div=10.0, end_div=100.0, anneal='linear', three_phase=True)
piecewise_constant(0.1, {10: 0.05, 20: 0.01})
piecewise_constant([0.1, 0.2], {10: [0.05, 0.5], 20: [0.01, 0.02]})
piecewise_interpolate({0: 0.0, 10: 1.0, 30: 0.1}, kind='cosine')
piecewise_scale(0.1, {10: 0.5, 20: 0.1})
polynomial(0.1, 0.01, 10, power=2.0, begin=3, cycle=True)
pow(linear(1.0, 2.0, 10), 2)
repeat(linear(0.0, 1.0, 10), 12)
stretch(cosine(0.1, 100), 2.5)
subtract(1.0, linear(1.0, 2.0, 10))
tanh(0.1, 50, end=0.01, lower=-3.0, upper=2.0)
warmup(cosine(0.1, 100), 10, init=0.001)
warmup_stable_decay(0.1, 10, 20, 30, init=0.001, end=0.01, warmup='cosine', decay='1-sqrt')
0.5 * warmup(cosine(0.1, 100), 10) + 1e-05
-(2 * abs(linear(-1.0, 1.0, 10)) ** 2 - 1) / 3
minimum(2 * linear(0.0, 1.0, 4), 1.5) ** 2
timm.k_decay_polynomial(0.1, 0.01, 50, 0.5, 2.0)
torch.OneCycleLR(0.1, total_steps=100, pct_start=0.5, anneal_strategy='linear', three_phase=True)
torch.OneCycleMomentum(total_steps=100, pct_start=0.5)
torch.by_cycle(exponential(1.0, 0.5, 3), 15)
transformers.ahead(cosine(0.1, 100), 2)
from_function(math.sqrt)
""".strip().splitlines()

TEXTS = """
keras:CosineDecay(0.1, 50, alpha=0.1, warmup_target=0.2, warmup_steps=10)
keras:CosineDecayRestarts(0.1, 10, t_mul=2.0, m_mul=0.5, alpha=0.1)
keras:ExponentialDecay(0.1, 10, 0.5, staircase=True)
keras:InverseTimeDecay(0.1, 10, 0.5)
keras:PiecewiseConstantDecay([10, 20], [0.1, 0.05, 0.01])
keras:PolynomialDecay(0.1, 10, end_learning_rate=0.01, power=2.0, cycle=True)
optax:constant_schedule(0.1)
optax:cosine_decay_schedule(0.1, 50, alpha=0.1, exponent=2.0)
optax:cosine_onecycle_schedule(50, 0.1)
optax:exponential_decay(0.1, 10, 0.5, transition_begin=3, staircase=True, end_value=0.01)
optax:join_schedules([constant(0.1), optax:linear_schedule(0.2, 0.1, 10)], [10])
optax:linear_onecycle_schedule(50, 0.1)
optax:linear_schedule(0.1, 0.01, 10, transition_begin=3)
optax:piecewise_constant_schedule(0.1, {10: 0.5, 20: 0.1})
optax:piecewise_interpolate_schedule('cosine', 0.1, {10: 0.5, 20: 0.1})
optax:polynomial_schedule(0.1, 0.01, 2.0, 10, transition_begin=3)
optax:warmup_constant_schedule(0.01, 0.1, 10)
optax:warmup_cosine_decay_schedule(0.01, 0.1, 10, 50, end_value=0.001)
optax:warmup_exponential_decay_schedule(0.01, 0.1, 10, 20, 0.5)
timm:CosineLRScheduler(0.1, 50, lr_min=0.01, cycle_mul=2.0, cycle_decay=0.5, cycle_limit=2, warmup_t=5, k_decay=2.0)
timm:MultiStepLRScheduler(0.1, [10, 20], decay_rate=0.5, warmup_t=5)
timm:PolyLRScheduler(0.1, 50, power=0.5, k_decay=2.0)
timm:StepLRScheduler(0.1, 10, decay_rate=0.5, warmup_t=5)
timm:TanhLRScheduler(0.1, 50, lr_min=0.01)
timm:WSDLRScheduler(0.1, 50, 10, warmup_t=5)
torch:SWALR(0.1, 0.05, anneal_epochs=10)
torch:ChainedScheduler(0.1, [torch:StepLR(0.1, 10), torch:ConstantLR(0.1, factor=0.5, total_iters=5)])
torch:ConstantLR(0.1, factor=0.5, total_iters=5)
torch:CosineAnnealingLR(0.1, 50, eta_min=0.01)
torch:CosineAnnealingWarmRestarts(0.1, 10, T_mult=2, eta_min=0.01)
torch:CyclicLR(0.01, 0.1, 5, step_size_down=10, mode='triangular2')
torch:CyclicMomentum(0.8, 0.9, 5)
torch:ExponentialLR(0.1, 0.9)
torch:LambdaLR(0.1, exponential(1.0, 0.5, 10))
torch:LinearLR(0.1, start_factor=0.5, total_iters=10)
torch:MultiStepLR(0.1, [10, 20, 20], gamma=0.5)
torch:OneCycleLR(0.1, epochs=2, steps_per_epoch=25)
torch:OneCycleLR(0.1, 1000)
torch:OneCycleMomentum(epochs=2, steps_per_epoch=25)
torch:PolynomialLR(0.1, total_iters=10, power=2.0)
torch:SequentialLR([torch:ConstantLR(0.1), torch:ExponentialLR(0.1, 0.9)], [10])
torch:StepLR(0.1, step_size=30, gamma=0.5)
transformers:get_constant_schedule(0.1)
transformers:get_constant_schedule_with_warmup(0.1, 10)
transformers:get_cosine_schedule_with_warmup(0.1, 10, 50)
transformers:get_cosine_with_hard_restarts_schedule_with_warmup(0.1, 10, 50, num_cycles=2)
transformers:get_cosine_with_min_lr_schedule_with_warmup(0.1, 10, 50, min_lr=0.01)
transformers:get_cosine_with_min_lr_schedule_with_warmup_lr_rate(0.1, 10, 50, min_lr=0.01, warmup_lr_rate=0.1)
transformers:get_inverse_sqrt_schedule(0.1, 10)
transformers:get_linear_schedule_with_warmup(0.1, 10, 50)
transformers:get_polynomial_decay_schedule_with_warmup(0.1, 10, 50)
transformers:get_scheduler('cosine', 0.1, 10, 50)
transformers:get_wsd_schedule(0.1, 10, 10, num_training_steps=50)
0.5 * torch:StepLR(0.1, step_size=30, gamma=0.5)
""".strip().splitlines()
NO_TEXT = {  # rules of a metric, and those that take a function or a dict of strings
    "optax:sgdr_schedule",
    "timm:PlateauLRScheduler",
    "torch:MultiplicativeLR",
    "torch:ReduceLROnPlateau",
    "transformers:get_reduce_on_plateau_schedule",
}

RULES = """
ema(0.9)
ema(0.9, init=2.0)
ema(0.9, init=[1.0, 2.0])
ema(0.9, decay_min=True)
ema(0.9, debias=True)
ema([0.5, 0.25], decay_min=True, debias=True)
ema(piecewise_constant(0.5, {2: 0.25, 4: 0.75}), debias=True)
ema(decay_warmup())
ema(torch.OneCycleLR(0.9, total_steps=100))
ema(halflife=3.0)
ema(span=5.0)
ema(com=2.0)
ema(tau=3.0, debias=True)
sma(3)
swa()
power_ema(0.1)
power_ema(gamma=2.0)
paced(ema(0.9, debias=True), start=2, every=2)
paced(swa(), every=3)
plateau(1.0, factor=0.5, patience=1, cooldown=1)
plateau(1.0, factor=0.5, patience=0, threshold=0.01, mode='max', minimum=0.3)
""".strip().splitlines()

AVERAGES = {  # a rule, options of the average, and whether a mask that a device holds is given
    "ema": ("ema(0.9)", {}, False),
    "ema_decay_min": ("ema(0.9, decay_min=True)", {}, False),
    "ema_debias": ("ema(0.9, debias=True)", {}, False),
    "ema_of_schedule": ("ema(linear(0.1, 0.9, 8), decay_min=True, debias=True)", {}, False),
    "ema_of_dialect": ("ema(torch.OneCycleLR(0.9, total_steps=100))", {}, False),
    "ema_halflife": ("ema(halflife=3.0)", {}, False),
    "swa": ("swa()", {}, False),
    "power_ema": ("power_ema(0.1)", {}, False),
    "power_ema_gamma": ("power_ema(gamma=2.0)", {}, False),
    "paced": ("paced(ema(0.9, debias=True), start=1, every=2)", {}, False),
    "paced_swa": ("paced(swa(), every=2)", {}, False),
    "selected": ("ema(0.9)", {"select": {"*b*": "copy", "*s": "skip"}}, False),
    "stochastic": ("ema(0.9)", {"dtype": "bfloat16", "rounding": "stochastic", "seed": 3}, False),
    "compensated": ("ema(0.9)", {"dtype": "bfloat16", "rounding": "compensated"}, False),
    "double": ("ema(0.9, debias=True)", {"dtype": "float64"}, False),
    "masked": ("ema(0.9, debias=True)", {}, True),
}
LEAVES = {  # shapes and dtypes; those of a module by its names
    "numpy": {"w": ((2, 3), "float32"), "b": ((3,), "float32"), "s": ((), "float32"), "n": ((), "int64")},
    "jax": {"w": ((2, 3), "float32"), "b": ((3,), "float32"), "s": ((), "float32"), "n": ((), "int32")},
    "torch": {
        "a.weight": ((3, 2), "float32"),
        "a.bias": ((3,), "float32"),
        "norm.weight": ((3,), "float32"),
        "norm.bias": ((3,), "float32"),
        "norm.running_mean": ((3,), "float32"),
        "norm.running_var": ((3,), "float32"),
        "norm.num_batches_tracked": ((), "int64"),
    },
}
UPDATES = 3  # before the file; one more after it


# --- plain numbers ---------------------------------------------------------------------------------------------------
def drawn(shape, step, salt=0):
    """Eighths that change from step to step, exact in every dtype."""
    size = math.prod(shape)
    return (np.array([(7 * i + 5 * step + 3 * salt) % 16 - 8 for i in range(size)]) / 8).reshape(shape)


def leaves(kind, step):
    found = {}
    for salt, (name, (shape, dtype)) in enumerate(LEAVES[kind].items()):
        found[name] = np.asarray(step if dtype.startswith("int") else drawn(shape, step, salt), dtype)
    return found


def plain(tree):
    """A tree of arrays as JSON."""
    if isinstance(tree, dict):
        return {str(name): plain(part) for name, part in tree.items()}
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return [plain(part) for part in tree]
    if tree is None or isinstance(tree, int | float | str):
        return tree
    if hasattr(tree, "detach"):
        tree = tree.detach().to(dtype=tree.dtype if not tree.is_floating_point() else _double()).cpu().numpy()
    array = np.asarray(tree)
    return (array.astype(np.float64) if array.dtype.name == "bfloat16" else array).tolist()


def _double():
    import torch

    return torch.float64


def fields(state):
    return {name: None if isinstance(part, tuple) else plain(part) for name, part in state._asdict().items()}


def pickled(thing):
    return base64.b64encode(pickle.dumps(thing, protocol=4)).decode()


def parts(f, state):
    return type(state)(*(part if isinstance(part, tuple) else f(part) for part in state))


def write(name, content):
    path = FOLDER / name
    if path.exists():
        raise FileExistsError(f"{path} was written by 0.1 and stays as it is.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        lines = ",\n".join(map(json.dumps, content)) if isinstance(content, list) else json.dumps(content)
        path.write_text(f"[\n{lines}\n]\n" if isinstance(content, list) else f"{lines}\n", encoding="utf-8")
    return path


# --- schedules and rules ---------------------------------------------------------------------------------------------
def config_of(lr):
    try:
        return lr.to_config()
    except ConfigError:
        return None


def schedules():
    records = []
    for form, texts in (("python", SCHEDULES), ("command line", TEXTS)):
        for text in texts:
            lr = eval(text, NAMES) if "math" in text else (ms.parse if form == "python" else lookup.parse)(text)
            values = [plain(lr(step)) for step in STEPS]
            record = {"form": form, "text": text, "repr": repr(lr), "config": config_of(lr), "pickle": pickled(lr)}
            records.append({**record, "steps": STEPS, "values": values})
    named = " ".join(SCHEDULES + TEXTS)
    for name in [*CATALOGUE, *DIALECTS, *lookup.dialect_names]:
        assert f"{name}(" in named or name in NO_TEXT, name
    write("schedules.json", records)


def stream(text, dtype="float32"):
    """A rule, its state after half of the values, and the outputs after that."""
    rule = eval(text, NAMES)
    values = [drawn((2,), step).astype(dtype) for step in range(8)]
    state = rule.init(values[0])
    for value in values[:4]:
        state, _ = rule.step(state, value)
    later, outputs = state, []
    for value in values[4:]:
        later, output = rule.step(later, value)
        outputs.append(plain(output))
    return rule, state, {"text": text, "values": plain(tuple(values[4:])), "fields": fields(state), "outputs": outputs}


def rules():
    records = []
    for text in RULES:
        rule, state, record = stream(text)
        records.append(
            {**record, "repr": repr(rule), "rule": pickled(rule), "state": pickled(parts(np.asarray, state))}
        )
    write("rules.json", records)


def states():
    """The same states as torch, flax and Orbax save them: in a dict, by their place in `rules.json`."""
    import jax.numpy as jnp
    import torch
    from flax import serialization

    held = {f"r{i}": stream(text)[1] for i, text in enumerate(RULES)}
    torch.save(
        {key: parts(lambda p: torch.asarray(np.asarray(p)), s) for key, s in held.items()}, write("states.pt", b"")
    )
    of_jax = {key: parts(jnp.asarray, state) for key, state in held.items()}
    write("states.msgpack", serialization.to_bytes(of_jax))
    orbax("states", of_jax)


def orbax(name, tree):
    """A checkpoint of Orbax, which is a folder, in a zip file."""
    import orbax.checkpoint as ocp

    with tempfile.TemporaryDirectory() as folder:
        checkpointer = ocp.StandardCheckpointer()
        checkpointer.save(Path(folder) / "checkpoint", tree)
        checkpointer.wait_until_finished()
        (Path(folder) / "checkpoint" / "commit_success.txt").unlink()  # it has the path of a temporary folder
        archive = shutil.make_archive(str(Path(folder) / "packed"), "zip", Path(folder) / "checkpoint")
        write(f"{name}.orbax.zip", Path(archive).read_bytes())


# --- averages of models ----------------------------------------------------------------------------------------------
def tree_of(kind):
    if kind == "torch":
        from torch import nn

        linear = nn.Linear(2, 3)
        return nn.ModuleDict({"a": linear, "again": linear, "norm": nn.BatchNorm1d(3)})
    return filled(kind, None, leaves(kind, 0))


def filled(kind, tree, arrays):
    """The model with these values."""
    if kind == "torch":
        import torch

        held = tree.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, array in arrays.items():
                held[name].copy_(torch.asarray(array))
        return tree
    backend = ms.get_backend(kind)
    return {name: backend.asarray(array, array.dtype.name) for name, array in arrays.items()}


def mask(kind):
    return ms.get_backend(kind).asarray(np.asarray(True), "bool")


def averages():
    import torch

    records, of_jax = [], {}
    for kind in LEAVES:
        for name, (text, options, masked) in AVERAGES.items():
            if kind == "jax" and name == "double":
                continue
            tree = filled(kind, tree_of(kind), leaves(kind, 0))
            average = ms.Average(tree, eval(text, NAMES), backend=kind, **options)
            where = {"where": mask(kind)} if masked else {}
            for step in range(1, UPDATES + 1):
                tree = filled(kind, tree, leaves(kind, step))
                average.update(tree, **where)
            stem = f"averages/{kind}-{name}"
            ms.save(write(f"{stem}.safetensors", b""), average)
            state = average.state_dict()
            if kind == "torch":
                torch.save(state, write(f"{stem}.pt", b""))
            elif kind == "numpy":
                write(f"{stem}.pickle", pickle.dumps(state, protocol=4))
            else:
                of_jax[name] = state
            held, count = plain(average.snapshot().value), average.count
            average.update(filled(kind, tree, leaves(kind, UPDATES + 1)), **where)
            records.append(
                {
                    "file": stem,
                    "kind": kind,
                    "rule": text,
                    "options": options,
                    "masked": masked,
                    "dtypes": {leaf: dtype for leaf, (_, dtype) in LEAVES[kind].items()},
                    "first": plain(leaves(kind, 0)),
                    "count": count,
                    "held": held,
                    "next": plain(leaves(kind, UPDATES + 1)),
                    "after": plain(average.snapshot().value),
                }
            )
    write("averages.json", records)
    orbax("averages", of_jax)


def snapshots():
    """What `posthoc` combines, as it is pickled."""
    records = []
    averaged = {sigma: ms.Average(tree_of("numpy"), ms.power_ema(sigma), backend="numpy") for sigma in (0.05, 0.1)}
    for step in range(1, 9):
        for average in averaged.values():
            average.update(filled("numpy", None, leaves("numpy", step)))
            if step % 4 == 0:
                records.append(average.snapshot())
    combined = ms.posthoc(records, 0.15)
    write("snapshots.json", {"sigma_rel": 0.15, "snapshots": pickled(records), "posthoc": plain(combined)})


# --- what others keep ------------------------------------------------------------------------------------------------
OPTAX = ("ema(0.9)", "ema(0.9, debias=True)", "sma(3)", "paced(swa(), every=2)")


def optax_states():
    import jax
    import jax.numpy as jnp
    import optax
    from flax import serialization

    def parameters(step):
        return {"w": jnp.asarray(drawn((2, 3), step), jnp.float32), "b": jnp.asarray(drawn((3,), step), jnp.float32)}

    records, kept = [], {}
    for i, text in enumerate(OPTAX):
        rule = eval(text, NAMES)
        optimizer = optax.chain(optax.sgd(0.125, momentum=0.5), ms.as_optax(rule))
        params = parameters(0)
        state = optimizer.init(params)

        def step(params, state, k, optimizer=optimizer):
            updates, state = optimizer.update(parameters(k), state, params)
            return optax.apply_updates(params, updates), state

        for k in range(1, 4):
            params, state = step(params, state, k)
        kept[f"r{i}"] = state
        host = jax.tree.map(np.asarray, state)
        average = ms.average_of(rule, state, params)
        later, state = step(params, state, 4)
        record = {"text": text, "params": plain(params), "average": plain(average), "state": pickled(host)}
        after = plain(ms.average_of(rule, state, later))
        records.append({**record, "grads": plain(parameters(4)), "later": plain(later), "after": after})
    write("optax.json", records)
    write("optax.msgpack", serialization.to_bytes(kept))
    orbax("optax", kept)


def declare(text, x):
    """The outputs of a rule of the two shapes of declarations."""
    rule = eval(text, NAMES)
    return list(ms.declare(rule, x)) if isinstance(rule, ms.Statistic) else [ms.declare(rule)]


def variables():
    """A graph with each rule, a schedule, a plain variable and the classes, and what it gives after it is loaded."""
    texts = [*RULES[:6], *RULES[13:], "cosine(0.1, 100)", "piecewise_constant(0.1, {2: 0.5, 6: 0.25})"]
    with ms.Graph("old"):
        x = ms.Placeholder((2,), name="x")
        outputs = []
        for i, text in enumerate(texts):
            with ms.Scope(f"r{i}"):
                outputs += declare(text, x)
        w = ms.Variable(np.ones(2, np.float32), name="w")
        ms.add_updates({w: w + x})
        mean, _ = ms.ExponentialMovingAverage(x, 0.9)
        lr = ms.PiecewiseConstant(0.1, {2: 0.5, 6: 0.25})
        f = ms.function(x, outputs=[*outputs, w, mean, lr], updates=ms.get_updates())
        for step in range(4):
            f(drawn((2,), step).astype(np.float32))
        ms.save_variables(write("variables.safetensors", b""))
        held = {v.path: plain(np.asarray(v.value)) for v in ms.get_variables()}
        value = drawn((2,), 4).astype(np.float32)
        after = [plain(part) for part in f(value, device_get=True)]
    write("variables.json", {"texts": texts, "held": held, "value": plain(value), "after": after})


def driven():
    """The state of a driver, and of the optimizer that it drives."""
    import torch

    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": w, "name": f"g{i}"} for i, w in enumerate(weights)], lr=0.1, momentum=0.9)
    driver = ms.drive(optimizer, lr=ms.cosine(0.1, 100), momentum=ms.linear(0.9, 0.5, 100))
    for step in range(3):
        for i, w in enumerate(weights):
            w.grad = torch.asarray(drawn((2,), step, i), dtype=torch.float32)
        optimizer.step()
    state = {"driver": driver.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, write("driven.pt", b""))
    write("driven.json", {"count": 3, "lr": "cosine(0.1, 100)", "momentum": "linear(0.9, 0.5, 100)"})


def lightning():
    """A checkpoint of a run with the callback."""
    import lightning.pytorch as pl
    import torch

    from multisched.integrations.lightning import AverageCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def training_step(self, batch, _):
            return (self.weight * batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.125)

    data = torch.utils.data.TensorDataset(torch.asarray(drawn((4, 2), 1), dtype=torch.float32))
    callback, module = AverageCallback(ms.ema(0.5)), Module()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1,
            callbacks=[callback],
            default_root_dir=folder,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(data))
        trainer.save_checkpoint(write("lightning.ckpt", b""))
    record = {"rule": "ema(0.5)", "data": plain(drawn((4, 2), 1)), "weight": plain(module.weight)}
    write("lightning.json", {**record, "count": callback.average.count, "held": plain(callback.average.value)})


def keras():
    """A schedule, as Keras serialises it, and a model with it; 0.1 itself could not read them."""
    import keras

    from multisched.integrations.keras import as_keras

    wrapped = as_keras(ms.warmup(ms.cosine(0.1, 100), 10))
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(wrapped), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=1, shuffle=False, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        write("model.keras", (Path(folder) / "model.keras").read_bytes())
    config = keras.optimizers.schedules.serialize(wrapped)
    weights = [plain(np.asarray(w)) for w in model.get_weights()]
    write("keras.json", {"text": repr(wrapped.schedule), "config": config, "iterations": 4, "weights": weights})


def main():
    assert ms.__version__ == "0.1.0"
    warnings.simplefilter("ignore")
    with ms.use_backend("numpy"):
        for part in (schedules, rules, states, averages, snapshots, optax_states, variables, driven, lightning, keras):
            part()
            print(part.__name__)


if __name__ == "__main__":
    main()
