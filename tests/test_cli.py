"""`multisched demo` as it is typed: what it prints and saves, and what it says when it cannot."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import multisched as ms
from multisched.cli import main


@pytest.fixture
def extra():
    for module in ("sklearn", "matplotlib"):
        pytest.importorskip(module, reason=f"the training needs {module}, of the extra demo")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in an empty folder, and give its result; anything but an orderly exit is raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MULTISCHED_BACKEND", raising=False)
    return lambda *args: CliRunner().invoke(main, args, catch_exceptions=False, prog_name="multisched")


def in_a_process(*args, prelude="", **popen):
    """The command in a fresh process, after `prelude`."""
    script = f"{prelude}\nfrom multisched.cli import main\nmain(prog_name='multisched')"
    return subprocess.run([sys.executable, "-c", script, *args], text=True, timeout=120, **popen)


# --- what it does ----------------------------------------------------------------------------------------------------
def test_the_demo(backend, run, extra, tmp_path):
    """It prints the backend, both examples and both accuracies, saves the plot and ends with 0."""
    result = run("demo", "--backend", backend, "--steps", "20", "--out", "plot.png")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"Backend: {backend}"
    assert {"PiecewiseConstant, as documented", "ExponentialMovingAverage, as documented", "9 2.0"} <= set(lines)
    assert "Learning rate: piecewise_constant(3.0, {10: 0.5, 15: 0.1})" in lines
    accuracies = [float(line.split()[-1]) for line in lines if line.startswith("Test accuracy of the")]
    assert len(accuracies) == 2
    assert all(0 < accuracy < 1 for accuracy in accuracies)
    assert lines[-1] == "Plot: plot.png"
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == ["plot.png"]


def test_the_whole_demo_on_numpy(run, extra, tmp_path):
    """As typed without options, it ends with both accuracies above 0.93 and the plot in the folder."""
    result = run("demo")
    accuracies = [float(line.split()[-1]) for line in result.output.splitlines() if line.startswith("Test accuracy")]
    assert len(accuracies) == 2
    assert min(accuracies) > 0.93
    assert os.listdir(tmp_path) == ["multisched-demo.png"]


def test_the_backend_may_come_from_the_environment(run, extra, monkeypatch):
    """MULTISCHED_BACKEND chooses where `--backend` does not."""
    pytest.importorskip("array_api_strict", reason="the second backend of this test")
    monkeypatch.setenv("MULTISCHED_BACKEND", "array_api_strict")
    assert run("demo", "--steps", "1").output.startswith("Backend: array_api_strict\n")
    assert run("demo", "--steps", "1", "--backend", "numpy").output.startswith("Backend: numpy\n")


def test_the_seed_decides_what_is_printed(run, extra):
    """The same seed prints the same, to the character; another one something else."""
    first, again, other = (run("demo", "--steps", "5", "--seed", seed).output for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


@pytest.mark.skipif(os.name != "posix", reason="other systems have no pseudo-terminals")
def test_a_terminal_shows_a_progress_bar(extra, tmp_path):
    """On a terminal a bar fills up to 100% on stderr; stdout, which may be piped on, has none of it."""
    import pty

    ours, theirs = pty.openpty()
    result = in_a_process(
        "demo", "--steps", "30", "--out", str(tmp_path / "p.png"), stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert result.returncode == 0
    assert "100%" in shown
    assert "Training" in shown
    assert "%" not in result.stdout


# --- help ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_the_demo(run, flag):
    """The help tells of every option and its default, of examples, and of the extra that is needed."""
    result = run("demo", flag)
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    options = ("--backend", "--steps", "--seed", "--out", "default: 1000", "default: numpy", "multisched-demo.png")
    assert all(word in said for word in (*options, "multisched demo --backend jax", 'pip install "multisched[demo]"'))


def test_help_of_the_command(run):
    """The help lists the commands and how to begin; the version is that of the package."""
    assert "multisched demo --backend torch" in run("--help").output
    assert run("--version").output == f"multisched, version {ms.__version__}\n"


def test_help_needs_no_framework():
    """The help is printed without importing a framework, scikit-learn or matplotlib."""
    heavy = ("jax", "torch", "sklearn", "matplotlib", "scipy")
    prelude = f"import atexit, sys\natexit.register(lambda: print('seen', [m for m in {heavy} if m in sys.modules]))"
    result = in_a_process("demo", "--help", prelude=prelude, capture_output=True)
    assert result.returncode == 0
    assert result.stdout.endswith("seen []\n")


# --- what it says when it cannot -------------------------------------------------------------------------------------
WRONG = {
    "unknown backend": (("--backend", "cupid"), ("'cupid'", "'jax', 'numpy', 'torch'")),
    "empty backend": (("--backend", ""), ("no backend ''",)),
    "a module that is no namespace": (("--backend", "json"), ("'json'", "not an array API namespace")),
    "no steps": (("--steps", "0"), ("0 is not in the range", "x>=1")),
    "negative steps": (("--steps", "-5"), ("-5 is not in the range",)),
    "steps in words": (("--steps", "many"), ("'many' is not a valid integer",)),
    "a negative seed": (("--seed", "-1"), ("-1 is not in the range",)),
    "no folder": (("--out", "nowhere/plot.png"), ("There is no directory 'nowhere'",)),
    "a folder": (("--out", "."), ("is a directory",)),
    "another kind of picture": (("--out", "plot.pdf"), ("'plot.pdf'", ".png")),
    "no ending": (("--out", "plot"), ("'plot'", ".png")),
    "an unknown option": (("--fast",), ("--fast",)),
    "an argument": (("numpy",), ("numpy",)),
}


@pytest.mark.parametrize(("args", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_option(run, tmp_path, args, said):
    """What is wrong is said in one line beside the usage, with exit code 2, before anything runs or is written."""
    result = run("demo", *args)
    assert result.exit_code == 2
    message = result.output.splitlines()
    assert message[0].startswith("Usage: multisched demo")
    assert message[-1].startswith("Error: ")
    assert all(part in message[-1] for part in said)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("module", ["sklearn.datasets", "matplotlib.figure"])
def test_a_missing_extra(run, tmp_path, monkeypatch, module):
    """Without scikit-learn or matplotlib the error, exit code 1, is the pip command, before anything runs."""
    if module != "matplotlib.figure":
        pytest.importorskip("matplotlib", reason="matplotlib, of the same extra, would be missed first")
    monkeypatch.setitem(sys.modules, module, None)
    result = run("demo")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert module.partition(".")[0] in result.output
    assert 'pip install "multisched[demo]"' in result.output
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_backend_that_is_not_installed(name, tmp_path):
    """The error, exit code 1, is one line with the pip command, and no traceback."""
    result = in_a_process(
        *("demo", "--backend", name),
        prelude=f"import sys\nsys.modules[{name!r}] = None",
        capture_output=True,
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: The backend {name!r} needs a package that is not installed")
    assert f'pip install "multisched[{name}]"' in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_may_not_be_written_to(run, monkeypatch):
    """A folder of others is refused before the training, not after it."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    result = run("demo", "--out", "plot.png")
    assert result.exit_code == 2
    assert "may not write" in result.output


def test_a_plot_that_cannot_be_saved(run, extra, monkeypatch):
    """If the disk is full when the plot is saved, the accuracies are there, and the error is one line, exit code 1."""

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multisched.cli.demo.save", full)
    result = run("demo", "--steps", "2")
    assert result.exit_code == 1
    assert "Test accuracy of the averaged weights" in result.output
    assert result.output.splitlines()[-1] == "Error: The plot cannot be saved: [Errno 28] No space left on device"
