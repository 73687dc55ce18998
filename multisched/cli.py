"""The command line: `multisched demo`, and the commands of `cli_schedules`.

Frameworks, scikit-learn and matplotlib are imported by the command that needs them, so that `--help` is quick and works
without them. What the user can put right is one line on stderr: exit code 2 for an option, 1 for what is missing.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import multisched as ms
from multisched.cli_schedules import compare, plot, table
from multisched.errors import BackendNotInstalled, UnknownBackend

if TYPE_CHECKING:
    from multisched.demo import Batch, History

_EXTRA = 'pip install "multisched[demo]"'


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ms.__version__, prog_name="multisched")
def main() -> None:
    """Variables that update themselves online, the same on NumPy, JAX and PyTorch.

    A schedule is a number that depends on how many updates have happened; a statistic, such as a moving average,
    depends on the values seen so far. Declared as variables, they record their own updates, and every function is built
    with these updates or without them.

    \b
    See it work:              multisched demo
    The same on PyTorch:      multisched demo --backend torch
    Look at a schedule:       multisched plot "warmup(cosine(0.1, 1000), 100)"
    In your own code:         import multisched as ms
    """


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _checked_backend(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        ms.get_backend(value)
    except UnknownBackend as cause:
        raise click.BadParameter(_one_line(cause)) from cause
    except BackendNotInstalled as cause:
        raise click.ClickException(_one_line(cause)) from cause
    return value


def _checked_out(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    if value.suffix.lower() != ".png":
        raise click.BadParameter(f"The plot is a PNG picture, so FILE ends in .png; got {str(value)!r}.")
    if not value.parent.is_dir():
        raise click.BadParameter(f"There is no directory {str(value.parent)!r}.")
    if not os.access(value.parent, os.W_OK):  # said before the training, not after it
        raise click.BadParameter(f"You may not write to the directory {str(value.parent)!r}.")
    return value


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as cause:
        raise click.ClickException(
            f"The demo needs a package that is not installed ({_one_line(cause)}). Install it with {_EXTRA}"
        ) from cause


@main.command(epilog=f"The training needs scikit-learn and matplotlib:  {_EXTRA}")
@click.option(
    "--backend",
    metavar="NAME",
    default="numpy",
    envvar="MULTISCHED_BACKEND",
    callback=_checked_backend,
    show_default=True,
    show_envvar=True,
    help="numpy, jax or torch; also any other backend or array API namespace that is installed.",
)
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=1), default=1000, show_default=True, help="Training steps."
)
@click.option(
    "--seed",
    metavar="S",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Decides the test images and the batches, the same for all backends.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default="multisched-demo.png",
    callback=_checked_out,
    show_default=True,
    help="Where to save the plot, a PNG picture; an older one is replaced.",
)
def demo(backend: str, steps: int, seed: int, out: Path) -> None:
    """Run the documented examples, then train a classifier of handwritten digits.

    The examples are shown as typed, with what they print on this backend.

    The classifier, softmax regression, is declared variables throughout: its learning rate is a PiecewiseConstant, its
    weights are averaged by an ExponentialMovingAverage. One function trains, with their updates; another, built without
    updates, takes the test accuracy of the last and of the averaged weights. A plot shows the schedule and both
    accuracies.

    \b
    Examples:
      multisched demo
      multisched demo --backend jax --steps 300 --out jax.png
    """
    with _needing_the_extra():  # said before anything runs
        import matplotlib.figure  # noqa: F401
        import sklearn.datasets  # noqa: F401
    click.echo(f"Backend: {backend}")
    _show_examples(backend)
    history = _train(backend, steps, seed)
    _save_plot(history, backend, out)
    click.echo(f"Plot: {out}")


def _show_examples(backend: str) -> None:
    from multisched.demo import EXAMPLES, transcript

    for name, source in EXAMPLES.items():
        click.echo(f"\n{name}, as documented")
        for line in transcript(source, backend):
            click.echo(line)


def _bar(drawn: Iterator["Batch"], steps: int) -> AbstractContextManager[Iterable["Batch"]]:
    return click.progressbar(drawn, length=steps, label="Training", file=sys.stderr)


def _train(backend: str, steps: int, seed: int) -> "History":
    from multisched.demo import learning_rate, load_digits, run

    digits = load_digits(seed)
    learn, test = len(digits.train.labels), len(digits.test.labels)
    click.echo(
        f"\nHandwritten digits: {learn} images to learn from, {test} to test with\n"
        f"Learning rate: {ms.piecewise_constant(*learning_rate(steps))}"
    )
    history = run(digits, backend, steps, seed, progress=lambda drawn: _bar(drawn, steps))
    click.echo(
        f"Training loss: {history.losses[0]:.4f} at first, {history.losses[-1]:.4f} at last\n"
        f"Test accuracy of the last weights:     {history.last[-1]:.4f}\n"
        f"Test accuracy of the averaged weights: {history.averaged[-1]:.4f}"
    )
    return history


def _save_plot(history: "History", backend: str, out: Path) -> None:
    from multisched.plotting import draw, save

    try:
        save(draw(history, f"Softmax classifier of handwritten digits, on {backend}"), out)
    except OSError as cause:
        raise click.ClickException(f"The plot cannot be saved: {_one_line(cause)}") from cause


for _command in (plot, table, compare):
    main.add_command(_command)
