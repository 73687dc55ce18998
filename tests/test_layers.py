"""The code keeps to the import arrows of docs/design.md: between layers, between files, and inside functions."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
BLOCK = re.search(r"```layers\n(.*?)```", DESIGN, re.DOTALL)[1]
LAYERS = {name: height for height, line in enumerate(BLOCK.strip().splitlines()) for name in line.split()}
MODULES = sorted((ROOT / "multisched").rglob("*.py"))
ADAPTERS = sorted((ROOT / "backends" / "multisched_backends").glob("*.py"))
FRAMEWORKS = {
    *("jax", "jaxlib", "torch", "cupy", "dask", "optax", "keras", "flax", "tensorflow", "array_api_strict"),
    *("accelerate", "diffusers", "equinox", "lightning", "numba", "pytorch_lightning", "timm", "transformers"),
    "triton",
}
SLOW = {"importlib", "matplotlib", "ml_dtypes", "optree", "plotext", "sklearn"}
"""Besides frameworks: what is not always there, or takes long to import and is rarely needed."""

LAZY = {
    ("schedules.schedule", "schedules.compose"): "arithmetic of schedules makes schedules, by the decorator",
    ("schedules.schedule", "schedules.config"): "Schedule.to_config: names need every constructor",
    ("schedules.schedule", "schedules.plot"): "Schedule.plot: few programs draw",
    ("schedules.schedule", "schedules.text"): "repr: names need every constructor",
}
"""The files of multisched that another one imports inside a function, and why: at most eight."""


class Import(NamedTuple):
    """One module that a file imports."""

    module: str
    line: int
    names: tuple[str, ...]
    """The names that the import binds; none where it says `import a as a`, which exports the name."""
    inside: bool
    """Whether the import stands inside a function."""
    typing: bool
    """Whether it is for type checkers alone."""


def imports_of(tree):
    """Every import of a syntax tree, those inside functions and for type checking included."""
    stack = [(tree, False, False)]
    while stack:
        node, inside, typing = stack.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                names = () if alias.asname == alias.name else (alias.asname or alias.name.partition(".")[0],)
                whole = alias.name if isinstance(node, ast.Import) else f"{'.' * node.level}{node.module}.{alias.name}"
                yield Import(whole, node.lineno, names, inside, typing)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = typing or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        stack += [(child, inside, typing) for child in ast.iter_child_nodes(node)]


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def short(path):
    """A file of multisched as the lists above name it: `graph.tensor`; the package itself is ""."""
    parts = path.relative_to(ROOT / "multisched").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {short(path): parsed(path) for path in MODULES}


def own_file(module, files):
    """The file that `multisched.graph.tensor.Op` imports: `graph.tensor`; None for what is not of multisched."""
    root, _, rest = module.partition(".")
    if root != "multisched":
        return None
    return rest if rest in files else rest.rpartition(".")[0]


def arrows(files):
    """For each file the files that it imports, unless inside a function."""
    found = {}
    for name, tree in files.items():
        targets = {own_file(each.module, files) for each in imports_of(tree) if not each.inside}
        found[name] = {target for target in targets if target not in (None, name)}
    return found


def circle(files):
    """The files of one circle of imports, or None if there is none."""
    try:
        TopologicalSorter(arrows(files)).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def for_effect(name, tree, files):
    """The files of multisched that a file imports, of which it uses no name, nor exports one."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    exported = {"*"} | {
        element.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets)
        for element in ast.walk(node.value)
        if isinstance(element, ast.Constant)
    }
    for each in imports_of(tree):
        target = own_file(each.module, files)
        unused = each.names and not set(each.names) & (used | exported)
        if target is not None and unused and not each.typing:
            yield f"{name}:{each.line} imports {each.module} and does not use it"


def imported(path):
    """`(module, line)` of every import in a file; of `from multisched import name` the name as well."""
    for each in imports_of(parsed(path)):
        assert not each.module.startswith("."), f"{path}:{each.line} is relative"
        yield each.module, each.line


def layer_of(module):
    """The layer of `multisched.layer.module`, or None for names of the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "multisched" and len(parts) > 1 else None


def own_layer(path):
    parts = path.relative_to(ROOT / "multisched").parts
    return parts[0].removesuffix(".py")


def test_no_circles():
    """No file imports another one that leads back to it, be it for type checking alone."""
    assert circle(FILES) is None


def test_a_circle_is_found():
    """The test of circles sees one, also through the `__init__` of a package and under `if TYPE_CHECKING`."""
    planted = {
        "": "from multisched.a import one",
        "a": "from multisched.b.c import two",
        "b": "",
        "b.c": "if TYPE_CHECKING:\n    import multisched.a",
        "d": "def later():\n    import multisched.a",
    }
    files = {name: ast.parse(text) for name, text in planted.items()}
    assert set(circle(files)) == {"a", "b.c"}
    assert circle({**files, "b.c": ast.parse("")}) is None


@pytest.mark.parametrize("name", FILES)
def test_imports_inside_functions(name):
    """What is imported inside a function is a framework, slow or not always there, or on the short list."""
    for each in imports_of(FILES[name]):
        if each.inside:
            known = each.module.split(".")[0] in FRAMEWORKS | SLOW
            assert known or (name, own_file(each.module, FILES)) in LAZY, f"{name}:{each.line} {each.module}"


def test_the_list_of_late_imports_is_short_and_true():
    """At most eight files import another file of multisched inside a function; each on the list does."""
    late = {(name, own_file(e.module, FILES)) for name, tree in FILES.items() for e in imports_of(tree) if e.inside}
    assert set(LAZY) <= late
    assert len(LAZY) <= 8


@pytest.mark.parametrize("name", FILES)
def test_no_import_for_its_effect(name):
    """Each import is there for a name that is used or exported: files do nothing to others when they are imported."""
    assert list(for_effect(name, FILES[name], FILES)) == []


def test_an_import_for_its_effect_is_found():
    """The test of such imports sees them in each form, and passes what is used or exported."""
    planted = """
import multisched.a
from multisched.a import one
from multisched import a
from multisched.a import two, three as three
__all__ = ["two"]
"""
    files = {"": ast.parse(""), "a": ast.parse(""), "b": ast.parse(planted)}
    assert [text.partition(" ")[0] for text in for_effect("b", files["b"], files)] == ["b:4", "b:3", "b:2"]


def test_the_design_names_every_layer():
    """Each module and package of multisched is in the list of the design, and each name of the list exists."""
    found = {own_layer(path) for path in MODULES} - {"__init__"}
    assert found == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_up(path):
    """A module imports from its own layer and those before it; only the command line takes the package as a whole."""
    own = own_layer(path)
    if own == "__init__":
        pytest.skip("the package itself collects the names of all layers")
    for module, line in imported(path):
        if module == "multisched" or (module.startswith("multisched.") and layer_of(module) not in LAYERS):
            assert LAYERS[own] >= LAYERS["demo"], f"{path.name}:{line} imports {module}, the package as a whole"
        elif module.startswith("multisched."):
            assert LAYERS[layer_of(module)] <= LAYERS[own], f"{path.name}:{line} imports {module} from below"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_framework_and_no_adapter_by_name(path):
    """Multisched imports no framework and no adapter; what fits it into a library imports that one, in functions."""
    allowed = {path.stem} if own_layer(path) == "integrations" else set()
    roots = {module.split(".")[0] for module, _ in imported(path)}
    assert not roots & ((FRAMEWORKS | {"multisched_backends"}) - allowed)


def test_nothing_of_a_framework_is_imported_with_an_integration():
    """The imports of integrations stand inside functions, so that importing the module imports nothing."""
    for path in (ROOT / "multisched" / "integrations").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & FRAMEWORKS


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.name)
def test_adapters_know_little(path):
    """An adapter imports of multisched the contract, the names of dtypes and the errors; nothing of rules or graphs."""
    allowed = {"arrays", "errors", "runtime.protocol"}
    assert {own_file(module, FILES) for module, _ in imported(path)} <= {None, *allowed}


@pytest.mark.parametrize("path", [*MODULES, *ADAPTERS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_small_enough_to_hold_in_the_head(path):
    """About 300 lines as a rule, and under 600 in any case."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 600
