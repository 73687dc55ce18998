"""Fixtures for the tests of all packages: which backends are tested, and a clean graph for each test."""

import gc
import importlib.util
import os
import warnings
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

import multisched as ms
import multisched.averages
import multisched.schedules  # else pytest, given one file of these, loads it a second time

pytest_plugins = ["multisched.pytest_plugin"]  # where the package is not installed, too

# The same examples at each run, so that CI tells of changes in the code alone; "thorough" draws anew.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("few", max_examples=5, derandomize=True, **_common)
settings.register_profile("quick", max_examples=25, derandomize=True, **_common)
settings.register_profile("thorough", max_examples=1000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish():
    """Whatever exists now stays to the end: spare the garbage collector its millions of objects.

    A full collection takes most of a second with all frameworks imported, and a few milliseconds without their objects.
    """
    given(none())(lambda _: None)()  # hypothesis looks for who holds NumPy's random state, and finds nobody once frozen
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """One line for each reason to skip tests, however many tests and files give it."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped).most_common():
        terminalreporter.write_line(f"SKIPPED [{count}] {reason}")


@pytest.fixture(scope="session", autouse=True)
def unsynced():
    """The files of tests need not reach the disk. Processes that tests start write theirs as users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def newest_standard():
    """array_api_strict keeps to one version of the standard."""
    if importlib.util.find_spec("array_api_strict") is None:
        return
    import array_api_strict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that a flag may change: the version tested is the newest
        array_api_strict.set_array_api_strict_flags(api_version="2024.12")


@pytest.fixture(autouse=True)
def graph():
    """A graph of its own for each test."""
    with ms.Graph("test") as graph:
        yield graph


@pytest.fixture
def jax():
    return pytest.importorskip("jax", reason="the test is about jax, which is not installed")


@pytest.fixture
def torch():
    """Torch, with nothing compiled yet."""
    torch = pytest.importorskip("torch", reason="the test is about torch, which is not installed")
    torch._dynamo.reset()
    return torch
