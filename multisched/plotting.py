"""The picture that `multisched demo` saves.

Drawn on a figure of its own, without pyplot, whose global state belongs to the caller. matplotlib is imported when
something is drawn, since the library works without it.
"""

import math
import os
from typing import TYPE_CHECKING

from multisched.demo import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LAST, _AVERAGED, _RATE = "#e69f00", "#0072b2", "#555555"  # told apart by colour-blind eyes, and in grey
_FEW = 30  # evaluations that are shown as points too


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
    marker = "o" if len(history.evaluated) < _FEW else None
    curves = (("last", history.last, _LAST, 1.2), ("averaged", history.averaged, _AVERAGED, 2.0))
    for name, values, color, width in curves:
        label = f"{name} weights, {values[-1]:.3f} at the end"
        axes.plot(history.evaluated, values, label=label, color=color, linewidth=width, marker=marker, markersize=4)
    axes.set_ylim(_lowest_shown(history), 1)
    axes.set_ylabel("Share of test images classified right")
    axes.set_title("Test accuracy", loc="left", fontsize="medium")
    axes.legend(loc="lower right", frameon=False)


def _lowest_shown(history: History) -> float:
    """Below all but the first tenth of the points: the climb at the start would flatten what comes after it."""
    later = len(history.evaluated) // 10
    return math.floor(20 * min(history.last[later:] + history.averaged[later:])) / 20 - 0.01


def _draw_rates(axes: "Axes", history: History) -> None:
    from matplotlib.ticker import MaxNLocator

    rates = history.rates
    axes.stairs(rates, range(len(rates) + 1), baseline=None, color=_RATE, linewidth=1.5)
    starts = [step for step, rate in enumerate(rates) if step == 0 or rate != rates[step - 1]]
    for start, end in zip(starts, [*starts[1:], len(rates)], strict=True):
        middle = ((start + end) / 2, rates[start])
        axes.annotate(f"{rates[start]:g}", middle, (0, 4), textcoords="offset points", ha="center", color=_RATE)
    axes.set_xlim(0, len(rates))
    axes.set_ylim(0, 1.3 * max(rates))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Training step")
    axes.set_ylabel("Learning rate")
    axes.set_title("Schedule: piecewise constant", loc="left", fontsize="medium")


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, 1200 x 900 pixels."""
    figure.savefig(path, format="png", dpi=150)
