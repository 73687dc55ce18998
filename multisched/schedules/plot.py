"""Pictures of schedules. matplotlib, of the extra `plot`, is imported when something is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multisched.arrays import is_integer
from multisched.errors import ScheduleValueError, StepCountError, shown
from multisched.schedules.edges import edges
from multisched.schedules.schedule import Schedule

_POINTS = 2000  # of a curve, besides its edges: more than a picture has columns
_MARKS = 40
_MOST = 2**53  # steps that double precision tells apart
_MISSING = """\
Drawing needs matplotlib, which is not installed. Install it with
    pip install "multisched[plot]"\
"""


def samples(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps from 0 to `steps - 1` that show the curve, edges and the steps before them included; and its values."""
    if not is_integer(steps) or not 1 <= steps <= _MOST:
        raise StepCountError(f"steps must be a number of steps to show, from 1 to 2**53, got {shown(steps)}.")
    if schedule.shape != ():
        raise ScheduleValueError(f"Only schedules of numbers can be drawn, got one of shape {schedule.shape}.")
    even = np.linspace(0, steps - 1, min(int(steps), _POINTS)).round().astype(np.int64)
    ends = np.ceil(edges(schedule, steps - 1)[:_POINTS]).astype(np.int64)
    at = np.unique(np.concatenate([even, ends, ends - 1]))
    at = at[(at >= 0) & (at < steps)]
    return at, schedule(at.astype(np.float64))


def plot(schedules: Sequence[Schedule], steps: int, ax: Any = None, labels: Sequence[str] | None = None) -> Any:
    """Draw schedules over the steps from 0 to `steps - 1`, their boundaries marked; returns the matplotlib axes.

    Parameters
    ----------
    schedules:
        One or several, of numbers.
    steps:
        How many steps to show.
    ax:
        The axes to draw on; by default those of a new figure.
    labels:
        Their names in the legend; by default what builds them.

    Raises `StepCountError`, `ScheduleValueError` and, without matplotlib, `ImportError`.
    """
    curves = [samples(schedule, steps) for schedule in schedules]
    ax = _new_axes() if ax is None else ax
    shown_before = ax.get_xlim()[1] if ax.has_data() else 1
    for schedule, (at, values), label in zip(schedules, curves, labels or map(repr, schedules), strict=True):
        (line,) = ax.plot(at, values, label=_short(label), linewidth=1.8)
        marked = edges(schedule, steps - 1)[:_MARKS]
        points = schedule(np.asarray(marked, np.float64)) if marked else []
        ax.plot(marked, points, "o", color=line.get_color(), markersize=4)
    ax.set_xlabel("Step")
    ax.set_ylabel("Value")
    ax.set_xlim(0, max(shown_before, steps - 1))
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    _place_legend(ax)
    return ax


def _new_axes() -> Any:
    """Those of a figure that pyplot, whose state belongs to the caller, does not know of."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise ImportError(_MISSING, name="matplotlib") from cause
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def _place_legend(ax: Any) -> None:
    """Below the axes where the layout of the figure makes room for it, else inside. It takes the place of an older."""
    below = {"loc": "upper left", "bbox_to_anchor": (0, 0), "borderaxespad": 4.5}
    ax.legend(frameon=False, fontsize="small", **(below if ax.figure.get_layout_engine() else {}))


def _short(label: str) -> str:
    return label if len(label) <= 90 else label[:87] + "..."
