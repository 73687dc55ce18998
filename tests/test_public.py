"""The public surface: complete, documented, typed, and of one version."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import typing
from importlib import metadata
from pathlib import Path

import pytest

import multisched as ms

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FUNCTIONS = [name for name in ms.__all__ if inspect.isfunction(getattr(ms, name))]
CLASSES = [name for name in ms.__all__ if inspect.isclass(getattr(ms, name))]
MODULES = {"dialects", "errors", "integrations", "testing"}
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
    with pytest.raises(AttributeError, match="'multisched' has no attribute 'emma'") as raised:
        ms.emma  # noqa: B018
    assert raised.value.name == "emma"


def test_each_name_is_public_in_one_module():
    """No two modules that make their names public have one of the same name."""
    names = [name for home in ms._HOMES for name in importlib.import_module(home).__all__]
    assert len(names) == len(set(names))
    assert {"errors", *names} == set(ms.__all__)


def test_dir_lists_public_names_alone():
    """What completion offers are the names of `__all__` and the public modules."""
    assert {name for name in dir(ms) if not name.startswith("_")} == {*ms.__all__, *MODULES}
    assert {"__all__", "__doc__", "__version__"} <= set(dir(ms))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_public_modules_are_attributes(module):
    """`import multisched` is enough to use them."""
    script = f"import multisched as ms; print(ms.{module}.__name__)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [f"multisched.{module}"]


def test_type_checkers_see_the_names_where_they_are():
    """The stub, which type checkers read, passes on all names of the same modules."""
    stub = ast.parse(Path(ms.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    lines = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in lines if node.names[0].name == "*"} == set(ms._HOMES)
    assert {alias.asname for node in lines for alias in node.names} == {None, *MODULES}


def test_type_checkers_see_the_names_of_schedules():
    """The stub of schedules passes on the names of the same modules as the package."""
    path = Path(ms.__file__).parent / "schedules" / "__init__.py"
    code, stub = (ast.parse(p.read_text(encoding="utf-8")) for p in (path, path.with_suffix(".pyi")))
    module, typed = (
        {(n.module, a.name) for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        for tree in (code, stub)
    )
    assert typed == {(source, name) for source, name in module if source != "multisched.schedules"}


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


@pytest.mark.parametrize("name", [name for name in ms.__all__ if callable(getattr(ms, name))])
def test_type_hints_can_be_read(name):
    """`typing.get_type_hints`, which tools for validation and documentation call, finds every name in an annotation."""
    typing.get_type_hints(getattr(ms, name))


@pytest.mark.parametrize("name", ["torch.OneCycleLR", "schedules.curves", "no_such_name", "_hidden"])
def test_what_is_no_attribute(name):
    """It is an AttributeError, whatever characters the name has, so that `getattr` takes its default."""
    assert getattr(ms, name, None) is None


def test_a_module_that_needs_what_is_not_installed(monkeypatch):
    """Probing for an attribute does not fail: without pytest there is no plugin."""
    monkeypatch.delitem(sys.modules, "multisched.pytest_plugin", raising=False)
    monkeypatch.delattr(ms, "pytest_plugin", raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert not hasattr(ms, "pytest_plugin")


@pytest.mark.parametrize("dialect", [name for name in ms.dialects.__all__ if name[0] != "c" and name != "of_dialect"])
def test_a_dialect_lists_its_names(dialect):
    """A star import of a dialect brings its constructors, and nothing that they are built of."""
    module = getattr(ms.dialects, dialect)
    made = {name for name, f in vars(module).items() if getattr(f, "examples", ()) and f.__module__ == module.__name__}
    inner = {f"{dialect}.{name}" for name in made} & {"torch.by_cycle", "timm.k_decay_polynomial", "transformers.ahead"}
    assert made - {name.partition(".")[2] for name in inner} <= set(module.__all__)
    assert all(inspect.isfunction(getattr(module, name)) for name in module.__all__)
