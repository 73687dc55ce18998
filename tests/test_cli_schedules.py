"""`multisched plot`, `table` and `compare`: schedules looked at from the command line."""

import csv
import json
from itertools import pairwise

import pytest
from click.testing import CliRunner

import multisched as ms
from multisched.cli import main


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_table_in_csv():
    """A header and a row for each step, with the values that the schedule has."""
    result = run("table", "linear(1.0, 0.0, 4)", "0.5 * cosine(1.0, 4)", "--steps", "5", "--every", "2")
    rows = list(csv.reader(result.output.splitlines()))
    assert (result.exit_code, rows[0]) == (0, ["step", "linear(1.0, 0.0, 4)", "0.5 * cosine(1.0, 4)"])
    wave = 0.5 * ms.cosine(1.0, 4)
    assert [[float(cell) for cell in row] for row in rows[1:]] == [[k, 1 - k / 4, wave(k)] for k in (0, 2, 4)]


def test_table_in_json():
    """A list of objects, one a step."""
    result = run("table", "constant(0.25)", "--steps", "3", "--format", "json")
    assert json.loads(result.output) == [{"step": k, "constant(0.25)": 0.25} for k in range(3)]


def test_plot_to_a_file(tmp_path):
    """With `-o` a picture is written."""
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra plot, is not installed")
    out = tmp_path / "schedule.png"
    assert run("plot", "warmup(cosine(0.1, 100), 10)", "constant(0.1)", "--steps", "120", "-o", str(out)).exit_code == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_plot_in_the_terminal():
    """Without `-o` the curve is drawn in characters, with its expression above."""
    pytest.importorskip("plotext", reason="plotext, of the extra plot, is not installed")
    result = run("plot", "linear(1.0, 0.0, 50)", "--steps", "60")
    assert result.exit_code == 0
    assert "linear(1.0, 0.0, 50)" in result.output
    assert len(result.output.splitlines()) > 10


def test_compare_finds_the_first_difference():
    """Where two schedules part is told, with both values; the exit code is 1. torch's rate starts at its base."""
    result = run("compare", "piecewise_constant(0.1, {4: 0.05})", "torch:StepLR(0.1, 5, gamma=0.5)", "--steps", "20")
    assert result.exit_code == 1
    assert "first differ at step 4: A is 0.05, B is 0.1." in result.output


def test_compare_finds_none():
    """Equal schedules have the exit code 0."""
    result = run("compare", "exponential(0.1, 0.5, 5, staircase=True)", "torch:StepLR(0.1, 5, gamma=0.5)")
    assert (result.exit_code, "The same at all steps" in result.output) == (0, True)


@pytest.mark.parametrize("command", ["plot", "table"])
def test_a_bad_expression_points_at_its_column(command):
    """The text is shown with a mark below the column, and no traceback; the exit code is that of wrong usage."""
    result = run(command, "0.5 * cosin(0.1, 10)")
    assert result.exit_code == 2
    text, mark = next((a, b) for a, b in pairwise(result.output.splitlines()) if "^" in b)
    assert text[mark.index("^") :].startswith("cosin")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["plot", "table", "compare"])
def test_help_teaches(command):
    """`--help` shows expressions to start from."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "warmup(cosine(0.1, 1000), 100)" in result.output
