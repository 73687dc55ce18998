"""The CI matrix: `nox` runs the default sessions, `nox -l` lists all of them.

Every session installs the built package into an environment of its own, so that what is tested is what users get.
"""

import json
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False  # a Python that is not here is skipped, with a word
nox.options.sessions = [  # those that tell most in least time come first
    *("tests(numpy)", "lint", "types", "tests(torch)", "tests(all)", "minimums", "tensorflow"),
    *("tests(python3.12)", "tests(python3.13)"),
]

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
GROUPS, EXTRAS = PROJECT["dependency-groups"], PROJECT["project"]["optional-dependencies"]
TORCH = "torch==2.13.0"  # pinned for tests alone; users choose
TORCH_PYTHON = "3.11"
TYPED = 0.95  # the least share of public symbols whose types are known

BACKENDS = {  # what is installed, and which backends must then be tested
    "numpy": ([".[test]"], "numpy,array_api_strict"),
    "torch": ([TORCH, ".[test]"], "torch"),
    "jax": ([".[jax,test]"], "numpy,jax,array_api_strict"),
    "all": ([TORCH, ".[jax,demo,plot,test]"], "numpy,jax,torch,array_api_strict"),
}
MATRIX = [  # the Python, and what is installed
    *(nox.param(TORCH_PYTHON, backend, id=backend) for backend in ("numpy", "torch", "all")),
    *(nox.param(python, "jax", id=f"python{python}") for python in ("3.12", "3.13")),
]


def run_tests(session, backends, *args, profile="quick"):
    """The tests, and the doctests of the package as installed; each process computes in one thread."""
    environment = {"MPLBACKEND": "Agg", "JAX_PLATFORMS": "cpu", "HYPOTHESIS_PROFILE": profile, "PYTHONSAFEPATH": "1"}
    environment |= {"OMP_NUM_THREADS": "1"}
    arguments = ["--pyargs", "tests", "multisched", "README.md", f"--backends={backends}", "--numprocesses=auto"]
    session.run("pytest", *arguments, "--dist=worksteal", *args, *session.posargs, env=environment)


@nox.session
@nox.parametrize(("python", "backend"), MATRIX)
def tests(session, backend):
    """The test suite, where one backend is installed, or all of them.

    In `all` every test runs, the property tests with the most examples. An environment without the others shows what
    is missed when they are absent: NumPy's, torch's, and for JAX `minimums`. The tests themselves need
    array_api_strict, so that it is tested together with NumPy. Other Pythons show what depends on the language; torch,
    which is pinned for one Python, is left out there.
    """
    install, tested = BACKENDS[backend]
    peers = GROUPS["peers"] if backend == "all" else []
    session.install(*install, *peers)
    if peers:
        session.install("--no-deps", *GROUPS["peers-alone"])
    run_tests(session, tested, profile="quick" if backend == "all" else "few")


@nox.session(python=TORCH_PYTHON)
def minimums(session):
    """The test suite with the lowest versions that pyproject.toml allows; torch, whose version is pinned, is absent."""
    required = [*PROJECT["project"]["dependencies"], *EXTRAS["jax"], *EXTRAS["test"]]
    session.install(*(requirement.replace(">=", "==") for requirement in required))
    session.install("--no-deps", ".")
    run_tests(session, "numpy,jax,array_api_strict", profile="few")


@nox.session(python=TORCH_PYTHON)
def tensorflow(session):
    """Schedules in Keras on TensorFlow, apart from the other frameworks, whose tests it would change."""
    session.install(".[test]", *GROUPS["peers-tensorflow"])
    session.run("pytest", "tests/integrations/test_keras_schedule.py", "--backends=numpy", env={"PYTHONSAFEPATH": "1"})


@nox.session(python=TORCH_PYTHON)
def thorough(session):
    """The property tests with many more examples; not among the default sessions."""
    install, tested = BACKENDS["all"]
    session.install(*install, *GROUPS["peers"])
    session.install("--no-deps", *GROUPS["peers-alone"])
    run_tests(session, tested, profile="thorough")


@nox.session(python=TORCH_PYTHON)
def lint(session):
    """Ruff: rules and format."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=TORCH_PYTHON)
def types(session):
    """Mypy, strict, over the packages and over a user's script; and how much of the public interface has types."""
    session.install(TORCH, ".[jax,test]", *GROUPS["types"])
    session.run("mypy")
    arguments = ["--verifytypes", "multisched", "--ignoreexternal", "--outputjson"]
    report = json.loads(session.run("basedpyright", *arguments, silent=True, success_codes=[0, 1]))
    score = report["typeCompleteness"]["completenessScore"]
    session.log(f"{score:.1%} of the public symbols have known types; TYPED is {TYPED:.0%}")
    if score < TYPED:
        session.error("`basedpyright --verifytypes multisched --ignoreexternal` lists the others")


@nox.session(python=TORCH_PYTHON)
def bench(session):
    """The benchmarks, side by side with what they are compared with; writes benchmarks/RESULTS.md."""
    session.install(TORCH, ".[jax]", *GROUPS["bench"])
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(python=TORCH_PYTHON)
def docs(session):
    """The gallery: writes docs/gallery.md, and draws its pictures into docs/gallery."""
    session.install(".[plot]")
    session.run("python", "docs/gallery.py", *session.posargs)
