"""`multisched plot`: schedules drawn in the terminal, or into a picture."""

import shutil
from pathlib import Path

import click

from multisched.cli._errors import check_folder, one_line
from multisched.cli._schedules import Named, described, expressions_argument, steps_option
from multisched.schedules.plot import plot as draw
from multisched.schedules.plot import samples

_EXTRA = 'pip install "multisched[plot]"'


def _checked_out(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        if not value.suffix:
            raise click.BadParameter(f"FILE ends in the kind of picture, such as .png; got {str(value)!r}.")
        check_folder(value)
    return value


@click.command()
@expressions_argument
@steps_option(1000)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_checked_out,
    help="Save a picture there, of the kind that its ending says: .png, .svg, .pdf. Without it, draw in the terminal.",
)
@described("Draw schedules, one or several.")
def plot(expressions: tuple[Named, ...], steps: int, out: Path | None) -> None:
    try:
        if out is None:
            click.echo(_in_terminal(expressions, steps))
        else:
            _save(expressions, steps, out)
    except ImportError as cause:
        raise click.ClickException(f"Drawing needs a package that is not installed ({cause}): {_EXTRA}") from cause


def _save(expressions: tuple[Named, ...], steps: int, out: Path) -> None:
    axes = draw([named.rule for named in expressions], steps, labels=[named.text for named in expressions])
    kinds = sorted(axes.figure.canvas.get_supported_filetypes())
    if out.suffix.lower().removeprefix(".") not in kinds:
        raise click.BadParameter(
            f"FILE ends in the kind of picture, one of {', '.join(kinds)}; got {str(out)!r}.", param_hint="'--out'"
        )
    try:
        axes.figure.savefig(out, dpi=150)
    except OSError as cause:
        raise click.ClickException(f"The picture cannot be saved: {one_line(cause)}") from cause
    click.echo(f"Plot: {out}", err=True)


def _in_terminal(expressions: tuple[Named, ...], steps: int) -> str:
    import plotext

    width, height = shutil.get_terminal_size((90, 24))
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(max(40, min(width, 120)), max(12, min(height - 2, 30)))
    for text, rule in expressions:
        at, values = samples(rule, steps)
        plotext.plot(at.tolist(), values.tolist(), label=text if len(expressions) > 1 else None, marker="braille")
    if len(expressions) == 1:
        plotext.title(expressions[0].text)
    plotext.xlabel("step")
    built: str = plotext.uncolorize(plotext.build())
    return built
