"""Fixtures for the tests of all packages: which backends are tested, and a clean graph for each test."""

import gc
import importlib.util
import os
import warnings
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

import multisched as ms
import multisched.averages
import multisched.schedules  # else pytest, given one file of these, loads it a second time

ALL = ("numpy", "jax", "torch", "array_api_strict")

# The same examples at each run, so that CI tells of changes in the code alone; "thorough" draws anew.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("few", max_examples=5, derandomize=True, **_common)
settings.register_profile("quick", max_examples=25, derandomize=True, **_common)
settings.register_profile("thorough", max_examples=1000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default=None,
        help=f"comma-separated backends that must be tested, of {', '.join(ALL)}; by default all that are installed",
    )


def _installed(name):
    return importlib.util.find_spec(name) is not None


def tested_backends(config):
    """The backends named by --backends, which must be installed, or else all installed ones."""
    named = config.getoption("--backends")
    if named is None:
        return [name for name in ALL if _installed(name)]
    backends = named.split(",")
    if missing := [name for name in backends if name not in ALL or not _installed(name)]:
        raise pytest.UsageError(f"--backends names {missing}, which cannot be imported here")
    return backends


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", tested_backends(metafunc.config), indirect=True)


def pytest_collection_finish():
    """Whatever exists now stays to the end: spare the garbage collector its millions of objects.

    A full collection takes most of a second with all frameworks imported, and a few milliseconds without their objects.
    """
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


@pytest.fixture
def backend(request):
    """The name of a backend, which is in use during the test."""
    if request.param == "array_api_strict":
        import array_api_strict

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that a flag may change: the version tested is the newest
            array_api_strict.set_array_api_strict_flags(api_version="2024.12")
    with ms.use_backend(request.param):
        yield request.param


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
