"""`Schedule.plot`: the curve that is drawn is the schedule, its boundaries are marked, and matplotlib may be absent."""

import subprocess
import sys

import numpy as np
import pytest
from helpers_catalogue import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.schedules.plot import plot, samples

NAMES = ["cosine", "cosine_restarts", "cyclic", "linear", "one_cycle", "piecewise_scale", "warmup_stable_decay"]


@pytest.fixture(scope="module")
def matplotlib():
    module = pytest.importorskip("matplotlib", reason="matplotlib, of the extra plot, is not installed")
    module.use("Agg")
    return module


@pytest.fixture
def axes(matplotlib):
    """Axes of somebody else, with no layout that makes room for what stands outside."""
    from matplotlib.figure import Figure

    return Figure().subplots()


def curve(line):
    return [float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()]


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


# --- the curve -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=max(1, settings.default.max_examples // 8), deadline=None)  # drawing is slow
@given(data=st.data(), steps=st.integers(1, 90))
def test_the_line_is_the_schedule(matplotlib, name, data, steps):
    """The line goes through the value of each step from 0 to `steps - 1`, as its formula has it in plain Python."""
    _, lr, reference = data.draw(drawn(name))
    at, values = curve(lr.plot(steps).lines[0])
    assert at == list(range(steps))
    np.testing.assert_allclose(values, [reference(k) for k in range(steps)], rtol=1e-12, atol=1e-12)


def test_a_long_line_is_thinned_out_between_its_boundaries(matplotlib):
    """Of a million steps some thousands are drawn: the ends, and each boundary with the step before it, among them."""
    lr = ms.piecewise_constant(1.0, {123_457: 0.5, 700_001: 0.25})
    at, values = curve(lr.plot(1_000_000).lines[0])
    assert len(at) < 3000
    assert {0, 123_456, 123_457, 700_000, 700_001, 999_999} <= set(at)
    assert values == [1.0 if k < 123_457 else 0.5 if k < 700_001 else 0.25 for k in at]
    assert max(np.diff(at)) < 1_000_000 / 1900


@pytest.mark.parametrize(
    ("lr", "steps", "boundaries"),
    [
        (ms.constant(0.1), 50, []),
        (ms.piecewise_constant(0.1, {40: 2, 20: 1, 60: 3}), 50, [20, 40]),
        (ms.linear(1.0, 0.0, 10, begin=5), 50, [5, 15]),
        (ms.linear(1.0, 0.0, 50), 50, []),
        (ms.linear(1.0, 0.0, 50), 51, [50]),
        (2 * ms.warmup(ms.cosine(0.1, 30), 10), 50, [10, 40]),
        (ms.join([ms.linear(0.0, 1.0, 8), ms.cosine(1.0, 20)], [10]), 50, [8, 10, 30]),
        (ms.cosine_restarts(1.0, 10, period_mul=2), 50, [10, 30]),
        (ms.cyclic(0.0, 1.0, 10, 5), 31, [10, 15, 25, 30]),
        (ms.stretch(ms.linear(1.0, 0.0, 5), 1.5), 50, [7.5]),
    ],
    ids=lambda part: repr(part) if isinstance(part, ms.Schedule) else "",
)
def test_boundaries_are_marked(matplotlib, lr, steps, boundaries):
    """A dot stands on the curve where another part of the formula begins to rule, and nowhere else."""
    line, dots = lr.plot(steps).lines
    assert (dots.get_marker(), dots.get_linestyle(), dots.get_color()) == ("o", "None", line.get_color())
    assert curve(dots) == (boundaries, [lr(edge) for edge in boundaries])


# --- the axes --------------------------------------------------------------------------------------------------------
def test_a_figure_of_its_own(matplotlib, tmp_path):
    """Without `ax`, the axes of a new figure come back, which can be saved and which pyplot does not know of."""
    axes = ms.cosine(0.1, 100).plot(120)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    assert (axes.get_xlim(), axes.get_xlabel(), axes.get_ylabel()) == ((0, 119), "Step", "Value")
    assert labels(axes) == ["cosine(0.1, 100)"]
    axes.figure.savefig(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


def test_the_axes_that_are_given(axes):
    """With `ax`, the curve is drawn there, and the same axes come back."""
    assert ms.linear(1.0, 0.0, 4).plot(6, ax=axes) is axes
    assert curve(axes.lines[0]) == ([0, 1, 2, 3, 4, 5], [1, 0.75, 0.5, 0.25, 0, 0])


@pytest.mark.parametrize("own", [True, False], ids=["own", "given"])
def test_several_on_the_same_axes(axes, own):
    """A second schedule joins the first: both are in the one legend, and all steps of the longer are in view."""
    first = ms.cosine(0.1, 100).plot(200, ax=None if own else axes)
    both = ms.constant(0.05).plot(50, ax=first)
    assert labels(both) == ["cosine(0.1, 100)", "constant(0.05)"]
    assert both.get_xlim() == (0, 199)
    assert both.lines[0].get_color() != both.lines[2].get_color()
    assert both.figure.legends == []
    at_once = plot([ms.cosine(0.1, 100), ms.constant(0.05)], 50)
    assert curve(at_once.lines[2]) == curve(both.lines[2])


def test_a_legend_does_not_cover_the_curve(matplotlib):
    """In a figure of its own, the legend is below the curve, however long the expression; a long one is cut off."""
    lr = ms.piecewise_constant(0.1, {step: step / 7 for step in range(1, 100)})
    axes = lr.plot(100)
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0
    assert labels(axes) == [repr(lr)[:87] + "..."]


def test_one_step(matplotlib):
    """A single step is a point, not an axis without extent."""
    axes = ms.constant(0.1).plot(1)
    assert curve(axes.lines[0]) == ([0], [0.1])
    assert axes.get_xlim() == (0, 1)


# --- errors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "10", None, 2**53 + 1, float("nan")])
def test_steps_that_are_no_number_of_steps(steps):
    """Anything but a positive integer, up to where steps are still told apart, is an error that shows it."""
    with pytest.raises(errors.StepCountError, match="steps must be a number of steps to show, from 1 to 2") as caught:
        ms.constant(0.1).plot(steps)
    assert str(steps) in str(caught.value)


def test_the_most_steps():
    """As many steps as double precision tells apart can be shown."""
    at, values = samples(ms.cosine(1.0, 2**52), 2**53)
    assert (at[0], at[-1], values[0], values[-1]) == (0, 2**53 - 1, 1, 0)


def test_arrays_cannot_be_drawn(axes):
    """A schedule of arrays is an error that shows its shape, and leaves the axes as they were."""
    with pytest.raises(errors.ScheduleValueError, match=r"shape \(2,\)"):
        plot([ms.constant(1), ms.piecewise_constant([1, 2], {})], 10, axes)
    assert not axes.has_data()
    assert axes.get_legend() is None


def test_without_matplotlib():
    """Where matplotlib is not installed, the error is an ImportError that says how to install it; the rest works."""
    script = """
import sys
sys.modules["matplotlib"] = None  # as if it were not installed
import multisched as ms
lr = ms.cosine(0.1, 100)
assert lr(0) == 0.1
try:
    lr.plot(10)
except ImportError as error:
    print(error.name, "|", error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("matplotlib | Drawing needs matplotlib, which is not installed.")
    assert 'pip install "multisched[plot]"' in result.stdout
