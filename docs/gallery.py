"""The gallery of schedules: the page docs/gallery.md, and its pictures in docs/gallery.

    python docs/gallery.py           writes the page and draws the pictures
    python docs/gallery.py --text    writes the page alone, which needs no matplotlib

Both are committed, so that the page can be read and tested without a build. Everything on it is derived: a formula
comes from the docstring, the values are computed, and the script finds the names that other libraries use by calling
each constructor of `multisched.dialects` and looking for the rule in what it builds.
"""

import argparse
import inspect
import io
import math
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import multisched as ms
from multisched import errors
from multisched.schedules.catalogue import CATALOGUE, DIALECTS, FAMILIES, PLUGINS, by_name
from multisched.schedules.edges import edges
from multisched.schedules.plot import plot

PAGE = Path(__file__).parent / "gallery.md"
PICTURES = Path(__file__).parent / "gallery"


class Example(NamedTuple):
    """What a section shows: the code that builds `lr`, how many steps are drawn, and which of them are printed."""

    code: str
    steps: int
    at: tuple[int, ...]


# --- what is shown ---------------------------------------------------------------------------------------------------
ARITHMETIC = {"add", "subtract", "multiply", "divide", "pow", "negative", "abs"}
ARITHMETIC_TEXT = """\
Schedules and numbers are added, multiplied and so on at each step; `abs` gives absolute values.

    f(step) = x1(step) + x2(step), and so with - * / **
"""

METRIC = """\
import multisched as ms
import numpy as np
rule = ms.plateau(0.1, factor=0.5, patience=5)
state, rates = rule.init(np.float32(0)), []
for update in range(40):
    metric = np.float32(max(1 - update / 10, 0.2))  # from update 8 on it gets no better
    state, rate = rule.step(state, metric)
    rates.append(round(float(rate), 4))
lr = ms.piecewise_constant(rates[0], {k: rates[k] for k in range(1, 40) if rates[k] != rates[k - 1]})
"""

WRITTEN_HERE = {  # sections of what has no example in its decorator
    "arithmetic": Example(
        "import multisched as ms\nlr = 0.5 * ms.cosine(0.1, 100) + ms.constant(0.1) / 4 - 0.01\n", 126, (0, 50, 100)
    ),
    "from_function": Example(
        "import multisched as ms\nlr = ms.from_function(lambda step: 0.1 / (1 + step) ** 0.5)\n", 101, (0, 3, 99)
    ),
    "plateau": Example(METRIC, 40, (0, 12, 14, 20, 39)),
}


def example(name: str) -> Example:
    """What the section of a schedule shows: the first example of its decorator."""
    if name in WRITTEN_HERE:
        return WRITTEN_HERE[name]
    expression = by_name(name).examples[0]
    lr = ms.parse(expression)
    found = [math.ceil(edge) for edge in edges(lr, 1_000_000)[:4]]
    last = max(100, math.ceil(1.25 * max(found, default=0)))
    return Example(code(expression), last + 1, tuple(sorted({0, *found[:3], last // 2, last})))


def code(expression: str) -> str:
    """Code that builds `lr`, from an expression."""
    foreign = sorted({name for name in re.findall(r"(\w+)\(", expression) if name not in CATALOGUE})
    imports = ["import multisched as ms", *(f"from {by_name(name).__module__} import {name}" for name in foreign)]
    called = re.sub(r"\b(\w+)\(", lambda name: name[0] if name[1] in foreign else f"ms.{name[0]}", expression)
    return "\n".join([*imports, f"lr = {called}", ""])


def families() -> dict[str, list[str]]:
    """`{heading: [name, ...]}` of all sections. A family is a file of schedules, whose docstring gives the heading."""
    found = defaultdict(list)
    for family in FAMILIES:
        heading = re.split("[:.]", inspect.getdoc(family) or "")[0]
        of_it = [name for name, made in CATALOGUE.items() if made.__module__ == family.__name__]
        arithmetic = ["arithmetic"] if ARITHMETIC & set(of_it) else []
        found[heading] = [name for name in of_it if name not in ARITHMETIC] + arithmetic
    found["A function of your own"] = ["from_function"]
    found["The rule of a metric"] = ["plateau"]
    found["Schedules of other packages"] = list(PLUGINS["schedules"])
    return {heading: names for heading, names in found.items() if names}


def sections() -> dict[str, Example]:
    """Each section, by its name."""
    return {name: example(name) for names in families().values() for name in names}


# --- the constructors of other libraries -----------------------------------------------------------------------------
PARTS = "[constant(0.05), constant(0.1)]"
CALLS = {  # that are no expressions, since they need a function or a dict with names
    "optax.sgdr_schedule": "optax.sgdr_schedule([dict(init_value=0, peak_value=0.1, warmup_steps=10, decay_steps=50)])",
    "torch.LambdaLR": "torch.LambdaLR(0.1, lr_lambda=lambda step: 1 / (1 + step))",
    "torch.MultiplicativeLR": "torch.MultiplicativeLR(0.1, lr_lambda=lambda step: 1 / (1 + step), total_iters=2)",
}
OWN = "Formulas that only a dialect has"


def call(name: str, constructor: Any) -> str:
    """Code that calls a constructor: its first example, if an expression can be one."""
    return CALLS.get(name) or str(constructor.examples[0])


def build(name: str, code: str) -> Any:
    """What a call of a dialect builds."""
    dialect = name.partition(".")[0]
    return eval(code, {dialect: SimpleNamespace(**DIALECTS.functions(dialect))}) if name in CALLS else ms.parse(code)


def rules(part: Any, outermost: bool = True) -> set[str]:
    """The sections of what something is built of: the outermost rule, and those that hold no other; no arithmetic."""
    if isinstance(part, tuple):
        return set().union(*(rules(item, outermost) for item in part))
    if not isinstance(part, ms.Schedule):
        return {type(part).__name__.lower()} if isinstance(part, ms.Statistic) else set()
    own = next((name for name, made in CATALOGUE.items() if made.__wrapped__ is part._formula), part.name)
    inside = rules(tuple(part._arguments.values()), outermost and own in ARITHMETIC)
    return inside if own in ARITHMETIC or (inside and not outermost) else inside | {OWN if "." in own else own}


def names() -> dict[str, list[tuple[str, str]]]:
    """`{section: [(call, what it builds), ...]}`. Says of each constructor that is not in it why."""
    found = defaultdict(list)
    for name, constructor in sorted(DIALECTS.items()):
        try:
            built = build(name, code := call(name, constructor))
        except (AttributeError, IndexError, errors.MultischedError) as cause:
            print(f"{name} is left out, since it has no example that builds something: {cause}", file=sys.stderr)
            continue
        sections = {OWN} if OWN in rules(built) else rules(built)
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
    if name == "arithmetic":
        text = ARITHMETIC_TEXT
    else:
        text = inspect.getdoc(getattr(ms, name) if hasattr(ms, name) else by_name(name)) or ""
    summary, *others = text.split("\n\n")
    formula = next((other for other in others if other.startswith("    ")), "")
    return " ".join(summary.split()), textwrap.dedent(formula).strip("\n")


def schedule(shown: Example) -> ms.Schedule:
    """The schedule of an example."""
    scope: dict[str, Any] = {}
    exec(shown.code, scope)
    found: ms.Schedule = scope["lr"]
    return found


def session(shown: Example) -> str:
    """The example as one types it in, and what comes out."""
    lines = [("... " if line.startswith(" ") else ">>> ") + line for line in shown.code.splitlines()]
    lr = schedule(shown)
    values = [round(lr(step), 4) for step in shown.at]
    return "\n".join([*lines, f">>> [round(lr(step), 4) for step in {shown.at}]", repr(values)])


def table(rows: list[tuple[str, str]]) -> str:
    """Calls of dialects, and what each builds."""
    lines = [f"| `{call}` | `{built}` |" for call, built in rows]
    return "\n".join(["| in a dialect | in multisched |", "| --- | --- |", *lines])


def section(name: str, elsewhere: list[tuple[str, str]]) -> str:
    """One rule: picture, formula, code, names."""
    summary, formula = described(name)
    parts = [f"### {name}", summary, f"![{name}](gallery/{name}.svg)"]
    if formula:
        parts.append(f"```text\n{formula}\n```")
    parts.append(f"```python\n{session(example(name))}\n\n```")
    if elsewhere:
        parts.append(table(elsewhere))
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    elsewhere = names()
    parts = [INTRODUCTION.strip()]
    for heading, of_it in families().items():
        parts.append(f"## {heading}")
        parts += [section(name, elsewhere[name]) for name in of_it]
    if elsewhere[OWN]:
        parts += [f"## {OWN}", table(elsewhere[OWN])]
    return "\n\n".join(parts) + "\n"


# --- the pictures ----------------------------------------------------------------------------------------------------
# One drawing gives one file: ids do not change from run to run, and text stays text, which is smaller than outlines.
SETTINGS = {"svg.hashsalt": "multisched", "svg.fonttype": "none"}


def draw(folder: Path) -> None:
    """A picture for each section, `NAME.svg`."""
    from matplotlib import __version__, rc_context

    folder.mkdir(parents=True, exist_ok=True)
    for name, shown in sections().items():
        label = next(line for line in reversed(shown.code.splitlines()) if line.startswith(("rule = ", "lr = ")))
        buffer = io.StringIO()
        with rc_context(SETTINGS):
            axes = plot([schedule(shown)], shown.steps, labels=[label.partition(" = ")[2]])
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
