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


WRONG = {
    "a rule of averages": (("table", "ema(0.9)"), "ema(0.9) is a rule of averages, Ema:"),
    "a schedule of arrays": (
        ("table", "piecewise_constant([1, 2], {3: [4, 5]})"),
        "a schedule of arrays of shape (2,)",
    ),
    "no steps": (("table", "constant(1)", "--steps", "0"), "0 is not in the range"),
    "an unknown format": (("table", "constant(1)", "--format", "xml"), "'xml' is not one of 'csv', 'json'"),
    "nothing to compare with": (("compare", "constant(1)"), "Missing argument"),
    "a negative tolerance": (("compare", "1", "2", "--tolerance", "-1"), "-1.0 is not in the range"),
    "no ending": (("plot", "constant(1)", "-o", "picture"), "FILE ends in the kind of picture, such as .png;"),
    "no folder": (("plot", "constant(1)", "-o", "nowhere/a.png"), "There is no directory 'nowhere'."),
    "an unknown command": (("tabel", "constant(1)"), "No such command 'tabel'."),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_wrong_input(arguments, said, tmp_path, monkeypatch):
    """Input that is not right is answered in one line after the usage, with exit code 2; no file is written."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert said in result.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_kind_of_picture_that_matplotlib_does_not_know(tmp_path):
    """The error names the kinds that there are."""
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra plot, is not installed")
    result = run("plot", "constant(1)", "-o", str(tmp_path / "picture.doc"))
    assert result.exit_code == 2
    assert "pdf, " in result.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_in_json():
    """JSON has no infinity: it is null there."""
    result = run("table", "1 / linear(0.0, 1.0, 1)", "--steps", "2", "--format", "json")
    assert [list(record.values()) for record in json.loads(result.output)] == [[0, None], [1, 1.0]]
