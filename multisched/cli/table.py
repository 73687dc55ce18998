"""`multisched table`: the values of schedules as CSV or JSON."""

import csv
import json
import math
import sys
from typing import Literal

import click

from multisched.cli._schedules import Named, described, expressions_argument, steps_option


@click.command()
@expressions_argument
@steps_option(1000)
@click.option(
    "--every", metavar="K", type=click.IntRange(min=1), default=1, show_default=True, help="Every K-th step only."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="csv: a header, then a row for each step. json: a list with an object for each step; null for a value that is "
    "not finite.",
)
@described("Print the values of schedules, ready for a pipe.")
def table(expressions: tuple[Named, ...], steps: int, every: int, form: Literal["csv", "json"]) -> None:
    names = [named.text for named in expressions]
    rows = ([step, *(named.rule(step) for named in expressions)] for step in range(0, steps, every))
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["step", *names])
        writer.writerows(rows)
        return
    for i, (step, *values) in enumerate(rows):
        finite = [value if math.isfinite(value) else None for value in values]
        record = {"step": step, **dict(zip(names, finite, strict=True))}
        click.echo(("[\n " if i == 0 else ",\n ") + json.dumps(record), nl=False)
    click.echo("\n]")
