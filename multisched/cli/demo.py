"""`multisched demo`: the documented examples, and a classifier that is declared variables throughout."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import click

import multisched as ms
from multisched.cli._errors import check_folder, one_line
from multisched.demo import EXAMPLES, Batch, History, learning_rate, load_digits, run, transcript
from multisched.errors import BackendNotInstalled, UnknownBackend
from multisched.plotting import draw, save

_EXTRA = 'pip install "multisched[demo]"'


def _checked_backend(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        ms.get_backend(value)
    except UnknownBackend as cause:
        raise click.BadParameter(one_line(cause)) from cause
    except BackendNotInstalled as cause:
        raise click.ClickException(one_line(cause)) from cause
    return value


def _checked_out(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    if value.suffix.lower() != ".png":
        raise click.BadParameter(f"FILE ends in .png, since the plot is a PNG picture; got {str(value)!r}.")
    check_folder(value)
    return value


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as cause:
        raise click.ClickException(
            f"The demo needs a package that is not installed ({one_line(cause)}). Install it with {_EXTRA}"
        ) from cause


@click.command(epilog=f"The training needs scikit-learn and matplotlib:  {_EXTRA}")
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
    for name, source in EXAMPLES.items():
        click.echo(f"\n{name}, as documented")
        for line in transcript(source, backend):
            click.echo(line)


def _bar(drawn: Iterator[Batch], steps: int) -> AbstractContextManager[Iterable[Batch]]:
    return click.progressbar(drawn, length=steps, label="Training", file=sys.stderr)


def _train(backend: str, steps: int, seed: int) -> History:
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


def _save_plot(history: History, backend: str, out: Path) -> None:
    try:
        save(draw(history, f"Softmax classifier of handwritten digits, on {backend}"), out)
    except OSError as cause:
        raise click.ClickException(f"The plot cannot be saved: {one_line(cause)}") from cause
