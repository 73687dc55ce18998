"""A user's script over the whole public surface: it runs on every backend, and mypy finds it sound."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import multisched as ms

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "typing" / "user_script.py"


def used(tree):
    """The names that a program takes from `ms`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ms"
    }


def test_the_script_runs(backend):
    """The script runs on each backend, and its weights are those of the recursion done by hand."""
    spec = importlib.util.spec_from_file_location("user_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    left = 0.5 * 0.5 * 0.75 * 0.75 * 0.75  # of the error, after five steps
    assert script.main(backend) == [1 - left, 2 - 2 * left]


def test_the_script_uses_the_whole_public_surface():
    """Every public name is used in the script outside of `mistakes`, and it uses no other."""
    tree = ast.parse(SCRIPT.read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "mistakes"]
    assert used(tree) == set(ms.__all__)


def test_all_names_the_public_surface():
    """`__all__` is sorted by kind, has no doubles, and everything in it is there."""
    assert len(set(ms.__all__)) == len(ms.__all__)
    assert [name for name in ms.__all__ if not hasattr(ms, name)] == []


def test_the_script_type_checks():
    """Under `mypy --strict` the script has no error, and each of its `mistakes` is one (else its ignore is unused)."""
    pytest.importorskip("mypy", reason="mypy is not installed; the nox session `types` has it")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout.strip().startswith("Success"), checked.stdout + checked.stderr
