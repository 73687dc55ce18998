"""`multisched compare`: where two schedules differ."""

import click
import numpy as np

from multisched.cli._schedules import Expression, Named, described, steps_option


@click.command()
@click.argument("first", metavar='"EXPR"', type=Expression())
@click.argument("second", metavar='"EXPR"', type=Expression())
@steps_option(10_000)
@click.option(
    "--tolerance",
    metavar="R",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="Relative difference up to which two values count as the same.",
)
@described(
    "Say where two schedules first differ, and by how much. The exit code is 0 if they are the same, and 1 otherwise."
)
def compare(first: Named, second: Named, steps: int, tolerance: float) -> None:
    at = np.arange(steps, dtype=np.float64)
    a, b = first.rule(at), second.rule(at)
    apart = np.abs(a - b)
    differ = np.flatnonzero(apart > tolerance * np.maximum(np.abs(a), np.abs(b)))
    click.echo(f"A: {first.text}\nB: {second.text}")
    if not differ.size:
        click.echo(f"The same at all steps from 0 to {steps - 1}, to {tolerance:g} of the value.")
        return
    start, most = int(differ[0]), int(np.argmax(apart))
    click.echo(
        f"They first differ at step {start}: A is {a[start]:.8g}, B is {b[start]:.8g}.\n"
        f"They differ at {differ.size} of {steps} steps, most at step {most}: A is {a[most]:.8g}, B is {b[most]:.8g}."
    )
    raise click.exceptions.Exit(1)
