"""The command line for looking at schedules: `multisched plot`, `table` and `compare`."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from multisched.dialects.lookup import parse
from multisched.errors import ParseError
from multisched.schedules import Schedule
from multisched.schedules.plot import plot as draw
from multisched.schedules.plot import samples

_PLOT_EXTRA = 'pip install "multisched[plot]"'


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class Expression(_ParamType):
    """A schedule, as its `repr` prints it."""

    name = "expression"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = parse(value)
        except ParseError as error:
            raise click.UsageError(f"This is no schedule:\n{error}", ctx) from error
        if not isinstance(found, Schedule):
            raise click.UsageError(
                f"{value} is a rule of averages, {type(found).__name__}: a function of values, and not of the step, so "
                "that there is nothing to show. A schedule is expected, such as cosine(0.1, 1000).",
                ctx,
            )
        if found.shape != ():
            raise click.UsageError(f"{value} is a schedule of arrays, of shape {found.shape}; numbers are shown.", ctx)
        return value, found


def _steps(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--steps",
        metavar="N",
        type=click.IntRange(min=1, max=100_000_000),
        default=default,
        show_default=True,
        help="Steps 0 to N - 1.",
    )


_expressions = click.argument("expressions", metavar='"EXPR"...', type=Expression(), nargs=-1, required=True)
_LANGUAGE = """\
    \b
    An expression is what Python would take after "from multisched import *":
      cosine(0.1, 1000)                              a constructor and its arguments
      0.5 * warmup(cosine(0.1, 1000), 100)           arithmetic and combinators
      piecewise_constant(0.1, {400: 0.05})           dicts, lists, keywords
      torch:OneCycleLR(0.1, 1000)                    by another library's name
"""


def _help(text: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        function.__doc__ = f"{text}\n\n{_LANGUAGE}"
        return function

    return decorate


@click.command()
@_expressions
@_steps(1000)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Save a picture there, of the kind that its ending says: .png, .svg, .pdf. Without it, draw in the terminal.",
)
@_help("Draw schedules, one or several.")
def plot(expressions: tuple[tuple[str, Schedule], ...], steps: int, out: Path | None) -> None:
    try:
        if out is None:
            click.echo(_in_terminal(expressions, steps))
            return
        axes = draw([rule for _, rule in expressions], steps, labels=[text for text, _ in expressions])
    except ImportError as cause:
        raise click.ClickException(f"Drawing needs a package that is not installed ({cause}): {_PLOT_EXTRA}") from cause
    try:
        axes.figure.savefig(out, dpi=150)
    except (OSError, ValueError) as cause:
        raise click.ClickException(f"The picture cannot be saved: {cause}") from cause
    click.echo(f"Plot: {out}", err=True)


def _in_terminal(expressions: tuple[tuple[str, Schedule], ...], steps: int) -> str:
    import plotext

    width, height = shutil.get_terminal_size((90, 24))
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(max(40, min(width, 120)), max(12, min(height - 2, 30)))
    for text, rule in expressions:
        at, values = samples(rule, steps)
        plotext.plot(at.tolist(), values.tolist(), label=text if len(expressions) > 1 else None, marker="braille")
    if len(expressions) == 1:
        plotext.title(expressions[0][0])
    plotext.xlabel("step")
    built: str = plotext.uncolorize(plotext.build())
    return built


@click.command()
@_expressions
@_steps(1000)
@click.option(
    "--every", metavar="K", type=click.IntRange(min=1), default=1, show_default=True, help="Each K-th step alone."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="csv: a header, then a row for each step. json: a list of objects, one a step.",
)
@_help("Print the values of schedules, to be piped on.")
def table(expressions: tuple[tuple[str, Schedule], ...], steps: int, every: int, form: str) -> None:
    names = [text for text, _ in expressions]
    rows = ([step, *(rule(step) for _, rule in expressions)] for step in range(0, steps, every))
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["step", *names])
        writer.writerows(rows)
        return
    for i, (step, *values) in enumerate(rows):
        record = {"step": step, **dict(zip(names, values, strict=True))}
        click.echo(("[\n " if i == 0 else ",\n ") + json.dumps(record), nl=False)
    click.echo("\n]")


@click.command()
@click.argument("first", metavar='"EXPR"', type=Expression())
@click.argument("second", metavar='"EXPR"', type=Expression())
@_steps(10_000)
@click.option(
    "--tolerance",
    metavar="R",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="Relative difference up to which values count as the same.",
)
@_help("Say where two schedules first differ, and by how much. Exit code 0 if they are the same, else 1.")
def compare(first: tuple[str, Schedule], second: tuple[str, Schedule], steps: int, tolerance: float) -> None:
    at = np.arange(steps, dtype=np.float64)
    a, b = first[1](at), second[1](at)
    apart = np.abs(a - b)
    differ = np.flatnonzero(apart > tolerance * np.maximum(np.abs(a), np.abs(b)))
    click.echo(f"A: {first[0]}\nB: {second[0]}")
    if not differ.size:
        click.echo(f"The same at all steps from 0 to {steps - 1}, to {tolerance:g} of the value.")
        return
    start, most = int(differ[0]), int(np.argmax(apart))
    click.echo(
        f"They first differ at step {start}: A is {a[start]:.8g}, B is {b[start]:.8g}.\n"
        f"They differ at {differ.size} of {steps} steps, most at step {most}: A is {a[most]:.8g}, B is {b[most]:.8g}."
    )
    raise click.exceptions.Exit(1)
