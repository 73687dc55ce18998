"""The public surface: complete, documented, typed, and of one version."""

import ast
import inspect
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import multisched as ms

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FUNCTIONS = [name for name in ms.__all__ if inspect.isfunction(getattr(ms, name))]
CLASSES = [name for name in ms.__all__ if inspect.isclass(getattr(ms, name))]
NO_EXAMPLE = {  # shown by the doctest of another
    "add_updates": "get_updates",
    "available_backends": "get_backend",
    "average_of": "needs optax; tests/integrations has its examples",
    "current_graph": "Graph",
    "current_scope": "Scope",
    "drive": "needs torch, which doctests of the library do without; tests/integrations has its examples",
    "get_ops": "get_updates",
    "get_placeholders": "get_updates",
    "get_variables": "get_updates",
    "load": "save",
    "load_variables": "tests/frontend/test_checkpoint.py: it needs a file",
    "reset_variables": "Variable",
    "save_variables": "tests/frontend/test_checkpoint.py: it needs a file",
}


def test_all_is_sorted_and_complete():
    """`__all__` is sorted, has no name twice, and has every public name of the package."""
    assert ms.__all__ == sorted(set(ms.__all__))
    assert all(hasattr(ms, name) for name in ms.__all__)
    assert set(ms.__all__) <= set(dir(ms))
    with pytest.raises(AttributeError, match="'multisched' has no attribute 'emma'"):
        ms.emma  # noqa: B018


def test_type_checkers_see_the_names_where_they_are():
    """The stub, which type checkers read, has the public names, and each from the module that it is imported from."""
    stub = ast.parse(Path(ms.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    lines = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in lines for alias in node.names}
    assert seen == {**ms._HOME, "errors": "multisched"}


@pytest.mark.parametrize("name", FUNCTIONS + CLASSES)
def test_every_name_is_documented(name):
    """Each public function and class says what it is, in a docstring of its own."""
    doc = getattr(ms, name).__doc__
    assert doc
    assert not doc.startswith(f"{name}(")  # what NamedTuple and dataclass write by themselves


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name):
    """Each public function has a doctest, or a reason why another's shows it."""
    assert (">>>" in getattr(ms, name).__doc__) != (name in NO_EXAMPLE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_typed(name):
    """Each parameter has a type, and so has what comes back."""
    function = inspect.unwrap(getattr(ms, name))
    parameters = inspect.signature(function).parameters.values()
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    assert "return" in function.__annotations__


def test_the_version_is_that_of_the_package():
    """`__version__`, pyproject.toml and the installed metadata agree."""
    assert ms.__version__ == PROJECT["version"] == metadata.version("multisched")


def test_the_package_is_marked_as_typed():
    """`py.typed` is installed with it, so that type checkers read its types."""
    files = {str(f) for f in metadata.files("multisched") or []}
    assert (Path(ms.__file__).parent / "py.typed").is_file() or any(re.search("py.typed$", f) for f in files)
