"""Pictures of schedules. matplotlib, of the extra `plot`, is imported when something is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multisched.errors import ScheduleValueError, StepCountError, shown
from multisched.schedules.edges import edges
from multisched.schedules.schedule import Schedule

_POINTS = 2000  # of a curve, besides its edges: more than a picture has columns
_MARKS = 40


def samples(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps from 0 to `steps - 1` that show the curve, edges and the steps before them included; and its values."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise StepCountError(f"steps must be a positive number of steps to show, got {shown(steps)}.")
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

    Raises `ImportError` without matplotlib, `StepCountError`, `ScheduleValueError`.
    """
    own = ax is None
    if own:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
    for schedule, label in zip(schedules, labels or map(repr, schedules), strict=True):
        at, values = samples(schedule, steps)
        (line,) = ax.plot(at, values, label=_short(label), linewidth=1.8)
        marked = edges(schedule, steps - 1)[:_MARKS]
        points = schedule(np.asarray(marked, np.float64)) if marked else []
        ax.plot(marked, points, "o", color=line.get_color(), markersize=4)
    ax.set_xlabel("Step")
    ax.set_ylabel("Value")
    ax.set_xlim(0, max(1, steps - 1))
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if own:
        ax.figure.legend(frameon=False, fontsize="small", loc="outside lower left")
    else:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _short(label: str) -> str:
    return label if len(label) <= 90 else label[:87] + "..."
