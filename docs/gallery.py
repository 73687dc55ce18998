"""The gallery of schedules: the page docs/gallery.md, and its pictures in docs/gallery.

    python docs/gallery.py           writes the page and draws the pictures
    python docs/gallery.py --text    writes the page alone, which needs no matplotlib

Both are committed, so that the page can be read and tested without a build. Everything on it is derived: a formula
comes from the docstring, the values are computed, and the script finds the names that other libraries use by calling
each constructor of `multisched.dialects` and looking for the rule in what it builds.
"""

import argparse
import importlib
import inspect
import io
import pkgutil
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import multisched as ms
from multisched import dialects, errors
from multisched.schedules.catalogue import CATALOGUE
from multisched.schedules.plot import plot

PAGE = Path(__file__).parent / "gallery.md"
PICTURES = Path(__file__).parent / "gallery"


class Example(NamedTuple):
    """What a section shows: the code that builds `lr`, how many steps are drawn, and which of them are printed."""

    code: str
    steps: int = 101
    at: tuple[int, ...] = (0, 10, 50, 100)


# --- what is shown ---------------------------------------------------------------------------------------------------
FAMILIES = {
    "Level and piecewise": {
        "constant": Example("ms.constant(0.1)"),
        "piecewise_constant": Example("ms.piecewise_constant(0.1, {40: 0.05, 80: 0.01})", at=(0, 39, 40, 80)),
        "piecewise_scale": Example("ms.piecewise_scale(0.1, {40: 0.5, 80: 0.2})", at=(0, 39, 40, 80)),
        "piecewise_interpolate": Example("ms.piecewise_interpolate({0: 0, 20: 0.1, 60: 0.02, 100: 0.05})"),
    },
    "One way": {
        "linear": Example("ms.linear(0.1, 0, 80, begin=10)"),
        "polynomial": Example("ms.polynomial(0.1, 0, 80, power=2)"),
        "exponential": Example("ms.exponential(0.1, 0.5, 20)", at=(0, 10, 20, 40, 100)),
        "inverse_time": Example("ms.inverse_time(0.1, 1, 20)", at=(0, 10, 20, 40, 100)),
        "inverse_sqrt": Example("ms.inverse_sqrt(0.1, 20)", 201, (0, 10, 20, 80, 200)),
        "noam": Example("ms.noam(512, 40)", 201, (0, 39, 159, 200)),
        "cosine": Example("ms.cosine(0.1, 80)"),
        "tanh": Example("ms.tanh(0.1, 80)"),
    },
    "There and back": {
        "cosine_restarts": Example(
            "ms.cosine_restarts(0.1, 30, period_mul=2, peak_mul=0.5)", 211, (0, 29, 30, 90, 210)
        ),
        "cyclic": Example('ms.cyclic(0.01, 0.1, 20, mode="triangular2")', 161, (0, 20, 40, 60, 160)),
        "one_cycle": Example("ms.one_cycle(0.1, 90)", at=(0, 27, 50, 90, 100)),
        "warmup_stable_decay": Example('ms.warmup_stable_decay(0.1, 10, 50, 30, decay="1-sqrt")', at=(0, 10, 60, 90)),
    },
    "Of other schedules": {
        "join": Example("ms.join([ms.linear(0, 0.1, 20), ms.cosine(0.1, 60)], [30])", at=(0, 20, 30, 60, 90)),
        "warmup": Example("ms.warmup(ms.cosine(0.1, 80), 10)"),
        "delay": Example("ms.delay(ms.cosine(0.1, 50), 30)", at=(0, 30, 55, 80)),
        "repeat": Example("ms.repeat(ms.linear(0.1, 0.02, 30), 30)", at=(0, 15, 29, 30, 45)),
        "stretch": Example("ms.stretch(ms.piecewise_constant(0.1, {20: 0.05, 40: 0.01}), 2)", at=(0, 39, 40, 80)),
        "clip": Example("ms.clip(ms.exponential(0.1, 0.5, 20), 0.02, 0.08)"),
        "minimum": Example("ms.minimum(ms.linear(0, 0.2, 40), ms.cosine(0.1, 100))"),
        "maximum": Example("ms.maximum(ms.exponential(0.1, 0.5, 10), 0.02)"),
        "arithmetic": Example("0.5 * ms.cosine(0.1, 100) + ms.constant(0.1) / 4 - 0.01", at=(0, 50, 100)),
        "from_function": Example("ms.from_function(lambda step: 0.1 / (1 + step) ** 0.5)", at=(0, 3, 99)),
    },
    "Of averages": {"decay_warmup": Example("ms.decay_warmup(high=0.99)", 2001, (0, 1, 10, 100, 1000))},
    "Of a metric": {"plateau": Example("ms.plateau(0.1, factor=0.5, patience=5)", 40, (0, 12, 14, 20, 39))},
}
SECTIONS = {name: example for family in FAMILIES.values() for name, example in family.items()}

ARITHMETIC = {"add", "subtract", "multiply", "divide", "pow", "negative", "abs"}
ARITHMETIC_TEXT = """\
Schedules and numbers are added, multiplied and so on at each step; `abs` gives absolute values.

    f(step) = x1(step) + x2(step), and so with - * / **
"""

METRIC = """\
import numpy as np
rule = {code}
state, rates = rule.init(np.float32(0)), []
for update in range(40):
    metric = np.float32(max(1 - update / 10, 0.2))  # from update 8 on it gets no better
    state, rate = rule.step(state, metric)
    rates.append(round(float(rate), 4))
lr = ms.piecewise_constant(rates[0], {{k: rates[k] for k in range(1, 40) if rates[k] != rates[k - 1]}})
"""

# --- the constructors of other libraries -----------------------------------------------------------------------------
PARTS = "[ms.constant(0.05), ms.constant(0.1)]"
RATES = ("base_lr", "init_value", "initial_learning_rate", "lr", "max_lr", "peak_value", "value")
LENGTHS = ("decay_steps", "num_training_steps", "t_initial", "total_iters", "transition_steps")
ARGUMENTS = {  # of parameters that have no default, by name
    **dict.fromkeys(RATES, "0.1"),
    **dict.fromkeys(LENGTHS, "80"),
    **dict.fromkeys(("T_0", "T_max", "decay_t", "first_decay_steps", "step_size"), "40"),
    **dict.fromkeys(("num_warmup_steps", "warmup_steps"), "10"),
    **dict.fromkeys(("boundaries", "milestones"), "[40]"),
    **dict.fromkeys(("schedulers", "schedules"), PARTS),
    "cosine_kwargs": "[dict(init_value=0.0, peak_value=0.1, warmup_steps=10, decay_steps=50)]",
    "decay_rate": "0.5",
    "end_value": "0.0",
    "gamma": "0.95",
    "interpolate_type": "'linear'",
    "lr_lambda": "lambda step: 1 / (1 + step)",
    "name": "'cosine'",
    "num_decay_steps": "30",
    "power": "2",
    "swa_lr": "0.05",
    "values": "[0.1, 0.05]",
}
MORE = {  # arguments that some need besides, or instead
    "keras.PolynomialDecay": {"power": "2"},
    "optax.piecewise_constant_schedule": {"boundaries_and_scales": "{40: 0.5}"},
    "optax.piecewise_interpolate_schedule": {"boundaries_and_scales": "{40: 0.5}"},
    "optax.warmup_constant_schedule": {"init_value": "0.0"},
    "optax.warmup_cosine_decay_schedule": {"init_value": "0.0"},
    "optax.warmup_exponential_decay_schedule": {"init_value": "0.0"},
    "timm.MultiStepLRScheduler": {"decay_t": "[40]", "decay_rate": "0.5"},
    "timm.StepLRScheduler": {"decay_rate": "0.5"},
    "torch.CyclicLR": {"base_lr": "0.01", "step_size_up": "20"},
    "torch.CyclicMomentum": {"step_size_up": "20"},
    "torch.MultiplicativeLR": {"total_iters": "2"},
    "torch.OneCycleLR": {"total_steps": "90"},
    "torch.OneCycleMomentum": {"total_steps": "90"},
    "transformers.get_cosine_with_hard_restarts_schedule_with_warmup": {"num_cycles": "2"},
    "transformers.get_cosine_with_min_lr_schedule_with_warmup": {"min_lr": "0.01"},
    "transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate": {"min_lr": "0.01"},
    "transformers.get_scheduler": {"num_warmup_steps": "10", "num_training_steps": "80"},
    "transformers.get_wsd_schedule": {"num_training_steps": "90"},
}
# Rules that only a dialect has, and the section that they stand in.
NEAREST = {"OneCycleLR": "one_cycle", "OneCycleMomentum": "one_cycle", "by_cycle": "cyclic", "ahead": "delay"}


def constructors() -> dict[str, Any]:
    """`{"torch.StepLR": constructor}`: all that the dialects have in `__all__`."""
    found = {}
    for module in pkgutil.iter_modules(dialects.__path__):
        dialect = importlib.import_module(f"multisched.dialects.{module.name}")
        for name in getattr(dialect, "__all__", ()):
            if inspect.isfunction(getattr(dialect, name)):
                found[f"{module.name}.{name}"] = getattr(dialect, name)
    return found


def call(name: str, constructor: Any) -> str:
    """Code that calls a constructor, with those of its arguments that it needs."""
    more, given = MORE.get(name, {}), []
    for parameter in inspect.signature(constructor).parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if needed or parameter.name in more:
            value = more.get(parameter.name) or ARGUMENTS[parameter.name]
            given.append(f"{parameter.name}={value}" if given or not needed else value)
    return f"{name}({', '.join(given)})"


def build(code: str) -> Any:
    """What a call of a dialect builds; the code is that of this file, with names of the dialects."""
    modules = {name.partition(".")[0] for name in constructors()}
    return eval(code, {"ms": ms, **{name: importlib.import_module(f"multisched.dialects.{name}") for name in modules}})


def rules(part: Any, outermost: bool = True) -> set[str]:
    """The sections of what something is built of: the outermost rule, and those that hold no other; no arithmetic."""
    if isinstance(part, tuple):
        return set().union(*(rules(item, outermost) for item in part))
    if not isinstance(part, ms.Schedule):
        return {type(part).__name__.lower()} if isinstance(part, ms.Statistic) else set()
    own = next((name for name, made in CATALOGUE.items() if made.__wrapped__ is part._formula), part.name)
    own = own.rpartition(".")[2]
    inside = rules(tuple(part._arguments.values()), outermost and own in ARITHMETIC)
    return inside if own in ARITHMETIC or (inside and not outermost) else inside | {NEAREST.get(own, own)}


def names() -> dict[str, list[tuple[str, str]]]:
    """`{section: [(call, what it builds), ...]}`. Says of each constructor that is not in it why."""
    found = defaultdict(list)
    for name, constructor in constructors().items():
        try:
            built = build(code := call(name, constructor))
        except (KeyError, errors.MultischedError) as cause:
            print(f"{name} is left out. ARGUMENTS and MORE do not make a call of it: {cause}", file=sys.stderr)
            continue
        sections = rules(built)
        if PARTS in code:  # these are not its own
            sections = sections - {"constant"} or {"arithmetic"}
        for section in sections:
            found[section].append((code, re.sub("<function .*? at 0x[0-9a-f]+>", "...", repr(built))))
    return found


# --- the page --------------------------------------------------------------------------------------------------------
INTRODUCTION = """\
# The gallery of schedules

<!-- Written by docs/gallery.py: change that, and run it. -->

This page shows each schedule as a picture, a formula and code. The dots in a picture are boundaries, at which another
part of the formula takes over.

A table lists what other libraries call the schedule. On the left stands a call of a dialect
(`from multisched.dialects import torch`), on the right the expression that it builds. An expression that combines
several rules is listed under the outermost one and under each curve inside.
"""


def described(name: str) -> tuple[str, str]:
    """What a rule is, and its formula, from its docstring."""
    text = ARITHMETIC_TEXT if name == "arithmetic" else inspect.getdoc(getattr(ms, name)) or ""
    summary, *others = text.split("\n\n")
    formula = next((other for other in others if other.startswith("    ")), "")
    return " ".join(summary.split()), textwrap.dedent(formula).strip("\n")


def source(example: Example) -> str:
    """Code that builds `lr`."""
    made = METRIC if example.code.startswith("ms.plateau") else "lr = {code}\n"
    return f"import multisched as ms\n{made.format(code=example.code)}"


def schedule(example: Example) -> ms.Schedule:
    """The schedule of an example."""
    scope: dict[str, Any] = {}
    exec(source(example), scope)
    found: ms.Schedule = scope["lr"]
    return found


def session(example: Example) -> str:
    """The example as one types it in, and what comes out."""
    lines = [("... " if line.startswith(" ") else ">>> ") + line for line in source(example).splitlines()]
    lr = schedule(example)
    values = [round(lr(step), 4) for step in example.at]
    return "\n".join([*lines, f">>> [round(lr(step), 4) for step in {example.at}]", repr(values)])


def section(name: str, elsewhere: list[tuple[str, str]]) -> str:
    """One rule: picture, formula, code, names."""
    summary, formula = described(name)
    parts = [f"### {name}", summary, f"![{name}](gallery/{name}.svg)"]
    if formula:
        parts.append(f"```text\n{formula}\n```")
    parts.append(f"```python\n{session(SECTIONS[name])}\n\n```")
    if elsewhere:
        rows = [f"| `{code}` | `{built}` |" for code, built in elsewhere]
        parts.append("\n".join(["| in a dialect | here |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def page() -> str:
    """The whole page. Says of each rule that dialects build, and that has no section, that it is left out."""
    elsewhere = names()
    for rule in set(elsewhere) - set(SECTIONS):
        print(f"{rule} is left out: it is neither in FAMILIES nor in NEAREST.", file=sys.stderr)
    parts = [INTRODUCTION.strip()]
    for family, examples in FAMILIES.items():
        parts.append(f"## {family}")
        parts += [section(name, elsewhere[name]) for name in examples]
    return "\n\n".join(parts) + "\n"


# --- the pictures ----------------------------------------------------------------------------------------------------
# One drawing gives one file: ids do not change from run to run, and text stays text, which is smaller than outlines.
SETTINGS = {"svg.hashsalt": "multisched", "svg.fonttype": "none"}


def draw(folder: Path) -> None:
    """A picture for each section, `NAME.svg`."""
    from matplotlib import __version__, rc_context

    folder.mkdir(parents=True, exist_ok=True)
    for name, example in SECTIONS.items():
        buffer = io.StringIO()
        with rc_context(SETTINGS):
            axes = plot([schedule(example)], example.steps, labels=[example.code])
            axes.figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        text = f"{slim(buffer.getvalue())}<!-- matplotlib {__version__} -->\n"
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")


def slim(text: str) -> str:
    """An SVG without comments, metadata and a list of fonts, and with two decimals, which is a hundredth of a point."""
    text = re.sub(r"<!--.*?-->|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    text = re.sub(r"font-family: .*?, sans-serif", "font-family: 'DejaVu Sans', sans-serif", text)
    return re.sub(r"\s*\n\s*", "\n", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", action="store_true", help="write the page alone")
    text_alone = parser.parse_args().text
    PAGE.write_text(page(), encoding="utf-8")
    if not text_alone:
        draw(PICTURES)
