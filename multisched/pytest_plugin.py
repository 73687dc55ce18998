"""The pytest plugin of the library: the fixture `backend`, and `--backends` to choose what it runs over.

pytest loads this file wherever multisched is installed, so it imports no framework, and does nothing to tests that ask
for no fixture of that name or have one of their own.
"""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from multisched.runtime.registry import available_backends, get_backend, use_backend

_INI = "multisched_backends"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--backends` and the setting `multisched_backends`."""
    group = parser.getgroup("multisched")
    group.addoption(
        "--backends",
        default=None,
        help="comma-separated backends over which the fixture `backend` runs, all of which must be installed; by "
        f"default those of the setting {_INI} that are installed, or all registered ones that are",
    )
    parser.addini(_INI, "The backends over which the fixture `backend` runs.", type="args", default=[])


def tested_backends(config: pytest.Config) -> list[str]:
    """The backends that the fixture `backend` runs over.

    Raises `pytest.UsageError` if `--backends` names one that is not installed.
    """
    named = config.getoption("--backends")
    if named is None:
        wanted: list[str] = config.getini(_INI) or available_backends()
        return [name for name in wanted if _is_installed(name)]
    backends: list[str] = named.split(",")
    if missing := [name for name in backends if not _is_installed(name)]:
        raise pytest.UsageError(f"--backends names {missing}, which cannot be imported here")
    return backends


def _is_installed(name: str) -> bool:
    """Whether a backend can be used: without importing it, if a framework of that name is there."""
    if find_spec(name) is not None:
        return True
    try:
        get_backend(name)
    except (ImportError, ValueError):
        return False
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for the fixture `backend` of this plugin once for each backend."""
    if "backend" in metafunc.fixturenames and _is_ours(metafunc) and not _is_parametrized(metafunc):
        metafunc.parametrize("backend", tested_backends(metafunc.config), indirect=True)


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    """Whether the fixture `backend` of a test is that of this plugin, or one that overrides it and asks for it."""
    definitions: Any = getattr(metafunc, "_arg2fixturedefs", {}).get("backend", ())
    for definition in reversed(definitions):
        if definition.func.__module__ == __name__:
            return True
        if "backend" not in definition.argnames:
            return False
    return False


def _is_parametrized(metafunc: pytest.Metafunc) -> bool:
    named = (mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    return any("backend" in (re.split(r"[, ]+", names) if isinstance(names, str) else names) for names in named)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a backend, which is in use during the test."""
    with use_backend(request.param):
        yield request.param
