"""The picture that `multisched demo` saves.

Drawn on a figure of its own, without pyplot, whose global state belongs to the caller. matplotlib is imported when
something is drawn, since the library works without it.
"""

import os
from typing import TYPE_CHECKING

from multisched.demo import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LAST, _AVERAGED, _RATE = "#e69f00", "#0072b2", "#555555"  # told apart by colour-blind eyes, and in grey


def draw(history: History, title: str) -> "Figure":
    """Both accuracies over the steps, and below them the learning rate. Raises `ImportError` without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.5, 1))
    _draw_accuracies(top, history)
    _draw_rates(bottom, history)
    for axes in (top, bottom):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_accuracies(axes: "Axes", history: History) -> None:
    last, averaged = (f"{values[-1]:.3f}" for values in (history.last, history.averaged))
    axes.plot(history.evaluated, history.last, color=_LAST, linewidth=1.2, label=f"last weights ({last} at the end)")
    axes.plot(
        history.evaluated, history.averaged, color=_AVERAGED, linewidth=2, label=f"averaged weights ({averaged})"
    )
    axes.set_ylabel("Test accuracy")
    axes.legend(loc="lower right", frameon=False)


def _draw_rates(axes: "Axes", history: History) -> None:
    axes.step(range(len(history.rates)), history.rates, where="post", color=_RATE, linewidth=1.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Learning rate")
    axes.set_xlabel("Training step")


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, format="png", dpi=150)
