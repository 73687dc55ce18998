"""The pytest plugin, in projects of other people: each test here runs pytest in a folder and a process of its own."""

import subprocess
import sys

import pytest

OURS = """
import sys
assert not {"jax", "torch"} & set(sys.modules), "the plugin imports no framework"

import multisched as ms
import pytest

@pytest.mark.parametrize("of_the_backend", [True])
def test_schedule(backend, of_the_backend):
    assert ms.get_backend().name == backend
    ms.testing.check_schedule(ms.linear(1.0, 0.0, 4), backends=[backend])
"""
THEIRS = """
import pytest

@pytest.fixture
def backend():
    return "their own"

def test_it(backend):
    assert backend == "their own"
"""
BESIDE = """
import pytest

@pytest.mark.parametrize("on_backend", [False, True])
def test_it(backend, on_backend):
    assert backend == "numpy"
"""
NARROWER = """
import pytest

@pytest.fixture
def backend(backend):
    return backend if backend == "numpy" else pytest.skip("only NumPy")

def test_it(backend):
    assert backend == "numpy"
"""
PARAMETRIZED = """
import pytest

@pytest.mark.parametrize("backend", ["left", "right"])
def test_it(backend):
    assert backend in ("left", "right")
"""


def ran(folder, text, *arguments):
    """The exit status and the output of pytest over one file."""
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "multisched.pytest_plugin"]
    result = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_the_fixture_runs_over_the_backends_that_are_named(tmp_path):
    """Once for each, and nothing is imported for it beforehand."""
    status, output = ran(tmp_path, OURS, "--backends=numpy,array_api_strict")
    assert (status, "test_schedule[numpy-True] PASSED" in output) == (0, True), output
    assert "test_schedule[array_api_strict-True] PASSED" in output


def test_other_parameters_do_not_matter(tmp_path):
    """A parameter whose name only contains the word is none of the plugin's business."""
    status, output = ran(tmp_path, BESIDE, "--backends=numpy")
    assert (status, "2 passed" in output) == (0, True), output


def test_a_setting_names_them_too(tmp_path):
    """`multisched_backends` in the configuration of pytest; what is not installed is left out."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmultisched_backends = array_api_strict no_such_backend\n")
    status, output = ran(tmp_path, OURS)
    assert (status, "1 passed" in output, "[array_api_strict-True] PASSED" in output) == (0, True, True), output


def test_a_backend_that_is_not_there_is_an_error(tmp_path):
    """Whoever names a backend wants it to be tested."""
    status, output = ran(tmp_path, OURS, "--backends=numpy,no_such_backend")
    assert (status, "no_such_backend" in output) == (2, True), output


@pytest.mark.parametrize(("text", "passed"), [(THEIRS, 1), (PARAMETRIZED, 2)], ids=["a fixture", "a parameter"])
def test_what_others_call_backend_is_left_alone(tmp_path, text, passed):
    """A project that has a fixture or a parameter of this name keeps it."""
    status, output = ran(tmp_path, text)
    assert (status, f"{passed} passed" in output) == (0, True), output


def test_a_fixture_that_asks_for_ours_runs_over_its_backends(tmp_path):
    """A project may override the fixture by one that asks for it, as to skip some backends."""
    status, output = ran(tmp_path, NARROWER, "--backends=numpy,array_api_strict")
    assert (status, "1 passed, 1 skipped" in output) == (0, True), output
