"""From `backend=` to an adapter: by name, module or import name, by a third party's door, and which one is in use."""

import importlib
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import array_api_compat
import numpy as np
import pytest

import multisched as ms
from multisched.demo import EXAMPLES
from multisched.errors import BackendMismatch, BackendNotInstalled, MultischedError, UnknownBackend
from multisched.runtime.protocol import PROTOCOL

TOY = Path(__file__).parents[1] / "packages" / "toy"


def python(script, path=None, **environment):
    """What a fresh process prints that runs `script`, warnings being errors, with `path` among those of packages."""
    clean = {name: value for name, value in os.environ.items() if name != "MULTISCHED_BACKEND"}
    if path is not None:
        clean["PYTHONPATH"] = os.pathsep.join(filter(None, [str(path), clean.get("PYTHONPATH", "")]))
    run = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(run, env=clean | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def no_environment(monkeypatch):
    monkeypatch.delenv("MULTISCHED_BACKEND", raising=False)


# --- what names a backend --------------------------------------------------------------------------------------------
NAMES = {  # the module that must be there, what is given, the name of the backend found
    "name": ("numpy", "numpy", "numpy"),
    "module": ("numpy", np, "numpy"),
    "compatible module": ("numpy", array_api_compat.array_namespace(np.ones(1)), "numpy"),
    "import name of a compatible module": ("numpy", "array_api_compat.numpy", "numpy"),
    "jax": ("jax", "jax", "jax"),
    "import name inside jax": ("jax", "jax.numpy", "jax"),
    "torch": ("torch", "torch", "torch"),
    "import name of torch, compatible": ("torch", "array_api_compat.torch", "torch"),
    "any namespace": ("array_api_strict", "array_api_strict", "array_api_strict"),
}


@pytest.mark.parametrize(("needed", "given", "name"), NAMES.values(), ids=NAMES)
def test_what_names_a_backend(needed, given, name):
    """A registered name, a module, an import name: each leads to the one adapter, which is kept."""
    pytest.importorskip(needed, reason=f"{needed} is not installed")
    backend = ms.get_backend(given)
    assert backend.name == name
    assert ms.get_backend(name) is backend
    assert ms.get_backend(backend) is backend


def test_a_module_and_its_name_are_one_backend(backend):
    """The namespace of a backend's arrays leads to the adapter, as a module, and tensors of both meet in one graph."""
    adapter = ms.get_backend(backend)
    module = importlib.import_module(adapter.xp.__name__)
    assert ms.get_backend(module) is adapter
    total = ms.Variable(1.0, backend=backend) + ms.Variable(2.0, backend=module)
    assert float(ms.function(outputs=total)()) == 3.0


UNKNOWN = {
    "no such name": ("cupid", "'cupid'"),
    "empty path": ("numpy.", "'numpy.'"),
    "no such module of a backend": ("numpy.nowhere", "'numpy.nowhere'"),
    "a module of a backend that is no namespace": ("numpy.random", "numpy.random"),
    "relative": (".numpy", "'.numpy'"),
    "no text at all": ("not a name", "'not a name'"),
    "a module that is no namespace": (math, "math"),
    "an import name of no namespace": ("json", "lacks asarray"),
    "number": (3, "3"),
    "class": (np.ndarray, "ndarray"),
    "list": (["numpy"], "numpy"),
}


@pytest.mark.parametrize(("given", "said"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_names_none(given, said):
    """Anything else is an `UnknownBackend`, a `ValueError`, that says what was given and which names there are."""
    with pytest.raises(UnknownBackend) as raised:
        ms.get_backend(given)
    assert isinstance(raised.value, ValueError)
    assert said in str(raised.value)
    assert all(repr(name) in str(raised.value) for name in ms.available_backends())


def test_the_names_of_a_fresh_installation():
    """The registered backends are listed, installed or not, and without the adapter that serves all others."""
    assert ms.available_backends() == ["jax", "numpy", "torch"]


@pytest.mark.parametrize(
    ("version", "outdated"), [(0, "adapter"), (2, "multisched"), (True, "adapter"), ("1", "adapter")]
)
def test_an_adapter_of_another_version_of_the_contract(version, outdated):
    """It is refused when it is looked up, and the message says which side is to be updated."""
    adapter = type("Other", (type(ms.get_backend("numpy")),), {"protocol": version})
    with pytest.raises(UnknownBackend, match=rf"version {version!r} of the contract.*version 1. Update .*{outdated}"):
        ms.get_backend(adapter())


def test_an_adapter_that_names_no_version():
    """It counts as one that was written for version 1, as those made for multisched 0.1 are."""
    adapter = ms.get_backend("numpy")
    assert PROTOCOL == 1
    assert not hasattr(adapter, "protocol")
    assert ms.get_backend(adapter) is adapter


WITHOUT = """
import sys
sys.modules[{name!r}] = None  # as if it were not installed
import multisched as ms
print(ms.available_backends())
for _ in range(2):
    try:
        ms.Variable(0.0, backend={name!r})
    except ImportError as error:
        print(type(error).__name__, isinstance(error, ms.errors.MultischedError), error)
print(float(ms.Variable(1.5).value))
"""


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_framework_that_is_not_installed(name):
    """The error is an `ImportError` with the pip command, at each try; the other backends work."""
    printed = python(WITHOUT.format(name=name))
    assert printed.splitlines()[0] == "['jax', 'numpy', 'torch']"
    assert printed.count("BackendNotInstalled True") == 2
    assert printed.count(f'pip install "multisched[{name}]"') == 2
    assert printed.splitlines()[-1] == "1.5"
    assert issubclass(BackendNotInstalled, ImportError | MultischedError)


# --- a third party ---------------------------------------------------------------------------------------------------
def test_a_third_party_backend_passes_the_suite():
    """An adapter that an installed package registers is found by name and can be checked as ours are."""
    printed = python(
        "import multisched as ms, sys\n"
        "assert 'toy' not in sys.modules and 'toy' in ms.available_backends(), ms.available_backends()\n"
        "from multisched.testing import check_backend\n"
        "check_backend('toy')\n"
        "import toy\n"
        "print(ms.get_backend(toy) is ms.get_backend('toy') is ms.get_backend(), type(ms.get_backend()).__module__)",
        TOY,
        MULTISCHED_BACKEND="toy",
    )
    assert printed == "True toy.adapter\n"


def test_a_third_party_backend_runs_the_documented_example():
    """With `backend="toy"` the documented example prints what it prints on NumPy, its arrays being toy's."""
    declared = EXAMPLES["PiecewiseConstant"].replace("8: 2})", '8: 2}, backend="toy")')
    assert "toy" in declared
    tail = "import toy; assert type(f()) is toy.Array\n"
    assert python(declared + tail, TOY) == python(EXAMPLES["PiecewiseConstant"])


FOREIGN = """
import multisched as ms
try:
    ms.get_backend("toy")
except ms.errors.BackendNotInstalled as error:
    print(error)
"""


def test_a_third_party_backend_that_cannot_be_imported(tmp_path):
    """The error names what is missing and the package that registered it, and not an extra that does not exist."""
    info = tmp_path / "toy_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[multisched.backends]\ntoy = toy_adapter:ToyBackend\n")
    (tmp_path / "toy_adapter.py").write_text("import toy_framework\n")
    printed = python(FOREIGN, tmp_path)
    assert "toy_framework" in printed
    assert "toy-adapter" in printed
    assert "multisched[toy]" not in printed


# --- which one is in use ---------------------------------------------------------------------------------------------
def test_numpy_if_nothing_is_said(no_environment):
    """Without a choice the backend is NumPy."""
    assert ms.get_backend().name == "numpy"
    assert ms.Variable(0.0).backend.name == "numpy"


def test_use_backend_nests(no_environment):
    """Inside `with` the backend is that of the innermost block; afterwards, errors included, the one before again."""
    strict = pytest.importorskip("array_api_strict", reason="the second backend of this test")
    with ms.use_backend(strict):
        with ms.use_backend("numpy"):
            assert ms.get_backend().name == "numpy"
        assert ms.get_backend().name == "array_api_strict"
        with pytest.raises(UnknownBackend), ms.use_backend("cupid"):
            pass
        with pytest.raises(ZeroDivisionError), ms.use_backend("numpy"):
            1 / 0  # noqa: B018
        assert ms.get_backend().name == "array_api_strict"
    assert ms.get_backend().name == "numpy"


def test_use_backend_without_with(no_environment):
    """Called as a function it holds from then on, in this context, and not in threads of their own."""
    pytest.importorskip("array_api_strict", reason="the second backend of this test")
    seen = []
    with ms.use_backend("numpy"):
        ms.use_backend("array_api_strict")
        assert ms.get_backend().name == "array_api_strict"
        thread = threading.Thread(target=lambda: seen.append(ms.get_backend().name))
        thread.start()
        thread.join()
    assert seen == ["numpy"]
    assert ms.get_backend().name == "numpy"  # the block gives back what it found


@pytest.mark.parametrize(
    ("environment", "used", "argument", "name"),
    [
        ("array_api_strict", None, None, "array_api_strict"),
        ("array_api_strict", "numpy", None, "numpy"),
        ("numpy", "numpy", "array_api_strict", "array_api_strict"),
        ("", None, None, "numpy"),
        (None, "array_api_strict", None, "array_api_strict"),
    ],
)
def test_the_argument_goes_before_use_backend_before_the_environment(environment, used, argument, name):
    """`backend=` rules, then `use_backend`, then MULTISCHED_BACKEND if it is not empty, then NumPy."""
    pytest.importorskip("array_api_strict", reason="the second backend of this test")
    use = f"ms.use_backend({used!r})" if used else ""
    script = f"import multisched as ms; {use}\nprint(ms.Variable(0.0, backend={argument!r}).backend.name)"
    variables = {} if environment is None else {"MULTISCHED_BACKEND": environment}
    assert python(script.replace("ms; ", "ms\n"), **variables) == f"{name}\n"


def test_the_environment_is_checked_when_it_is_needed(monkeypatch):
    """A MULTISCHED_BACKEND that is no backend is an error where a backend is needed, and nowhere else."""
    monkeypatch.setenv("MULTISCHED_BACKEND", "cupid")
    assert ms.piecewise_constant(0.1, {4: 1})(4) == 1.0
    assert ms.Variable(0.0, backend="numpy").backend.name == "numpy"
    with pytest.raises(UnknownBackend, match="cupid"):
        ms.Variable(0.0)


def test_tensors_go_before_the_backend_in_use(backend):
    """What is declared of a tensor is of the tensor's backend, whichever is in use."""
    value = ms.Placeholder(())
    other = "numpy" if backend != "numpy" else "array_api_strict"
    pytest.importorskip(other, reason="the second backend of this test")
    with ms.use_backend(other):
        latest, _ = ms.ExponentialMovingAverage(value, 0.5)
        assert {v.backend.name for v in ms.get_variables()} == {backend}
        f = ms.function(value, outputs=latest)
        assert ms.get_backend(backend).owns(f(2.0))


def test_two_backends_in_one_expression(backend):
    """Tensors of two backends in one expression are an error that names both."""
    other = "numpy" if backend != "numpy" else "array_api_strict"
    pytest.importorskip(other, reason="the second backend of this test")
    a, b = ms.Variable(0.0, backend=backend), ms.Variable(0.0, backend=other)
    for expression in (lambda: a + b, lambda: b * a, lambda: a.__array_namespace__().where(a > 0, a, b)):
        with pytest.raises(BackendMismatch) as raised:
            expression()
        assert repr(backend) in str(raised.value)
        assert repr(other) in str(raised.value)


def test_adapters_are_made_once_by_many_threads():
    """Threads that ask for a backend for the first time at once get one and the same adapter."""
    printed = python(
        "import threading, multisched as ms\n"
        "start, found = threading.Barrier(16), []\n"
        "def ask():\n"
        "    start.wait()\n"
        "    found.append(ms.get_backend('numpy'))\n"
        "threads = [threading.Thread(target=ask) for _ in range(16)]\n"
        "[t.start() for t in threads], [t.join() for t in threads]\n"
        "print(len(found), len(set(map(id, found))))"
    )
    assert printed == "16 1\n"
