"""The code keeps to the import arrows of docs/design.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
BLOCK = re.search(r"```layers\n(.*?)```", DESIGN, re.DOTALL)[1]
LAYERS = {name: height for height, line in enumerate(BLOCK.strip().splitlines()) for name in line.split()}
MODULES = sorted((ROOT / "multisched").rglob("*.py"))
ADAPTERS = sorted((ROOT / "backends" / "multisched_backends").glob("*.py"))
FRAMEWORKS = {
    *("jax", "jaxlib", "torch", "cupy", "dask", "optax", "keras", "flax", "tensorflow", "array_api_strict"),
    *(
        "accelerate",
        "diffusers",
        "equinox",
        "lightning",
        "numba",
        "pytorch_lightning",
        "timm",
        "transformers",
        "triton",
    ),
}


def imported(path):
    """`(module, line)` of every import in a file, those inside functions and for type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is relative"
            whole = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "multisched" else []
            yield from ((name, node.lineno) for name in whole or [node.module])


def layer_of(module):
    """The layer of `multisched.layer.module`, or None for names of the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "multisched" and len(parts) > 1 else None


def own_layer(path):
    parts = path.relative_to(ROOT / "multisched").parts
    return parts[0].removesuffix(".py")


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
    allowed = {"multisched.arrays", "multisched.errors", "multisched.runtime.protocol"}
    assert {m for m, _ in imported(path) if m.startswith("multisched.")} <= allowed


@pytest.mark.parametrize("path", [*MODULES, *ADAPTERS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_small_enough_to_hold_in_the_head(path):
    """About 300 lines as a rule, and under 600 in any case."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 600
