"""Averages of arrays sharded over 8 devices of JAX, which a process of its own simulates."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker_sharded_jax.py")
CLAIMS = {
    node.name: ast.get_docstring(node)
    for node in ast.parse(WORKER.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each claim came to."""
    pytest.importorskip("jax", reason="the test is about jax, which is not installed")
    folder = tmp_path_factory.mktemp("sharded")
    run = subprocess.run([sys.executable, str(WORKER), str(folder)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("claim", CLAIMS)
def test_eight_devices(results, claim):
    """Each claim of worker_sharded_jax.py, in the docstring of its function, holds."""
    assert not results[claim], f"{CLAIMS[claim]}\nIt failed:\n{results[claim]}"
