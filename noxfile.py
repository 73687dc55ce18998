"""The CI matrix: `nox` runs the default sessions, `nox -l` lists all of them.

Every session installs the built package into an environment of its own, so that what is tested is what users get.
"""

import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False  # a Python that is not here is skipped, with a word
nox.options.sessions = ["lint", "types", "minimums", "tensorflow", "tests"]

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PROJECT["dependency-groups"]
PYTHONS = ["3.11", "3.12", "3.13"]
TORCH = "torch==2.13.0"  # pinned for tests alone; users choose
TORCH_PYTHON = "3.11"

BACKENDS = {  # what is installed, and which backends must then be tested
    "numpy": (["."], "numpy"),
    "array_api_strict": (["."], "array_api_strict"),
    "jax": ([".[jax]"], "jax"),
    "torch": ([TORCH, "."], "torch"),
    "all": ([TORCH, ".[jax,demo,plot]"], "numpy,jax,torch,array_api_strict"),
}


def run_tests(session, backends, *args, profile="quick"):
    """The tests, and the doctests of the package as installed."""
    environment = {"MPLBACKEND": "Agg", "JAX_PLATFORMS": "cpu", "HYPOTHESIS_PROFILE": profile, "PYTHONSAFEPATH": "1"}
    arguments = ["--pyargs", "tests", "multisched", "README.md", f"--backends={backends}", "--numprocesses=auto"]
    session.run("pytest", *arguments, *args, *session.posargs, env=environment)


@nox.session(python=PYTHONS)
@nox.parametrize("backend", list(BACKENDS))
def tests(session, backend):
    """The test suite, in an environment that has this backend alone, or all of them.

    The property tests draw most examples where all backends are. Environments with one backend show what is missed when
    the others are absent, and other Pythons what depends on the language: they draw fewer.
    """
    install, tested = BACKENDS[backend]
    profile = "quick" if backend == "all" else "few"
    if session.python != TORCH_PYTHON:
        if TORCH in install:
            session.skip(f"the pinned torch is tested on Python {TORCH_PYTHON}")
        if backend != "jax":
            session.skip(f"on Python {session.python} the session of jax tests this backend, too")
        tested = "numpy,jax,array_api_strict"
    peers = GROUPS["peers"] if backend == "all" else []
    session.install(*install, *GROUPS["test"], *peers)
    if peers:
        session.install("--no-deps", *GROUPS["peers-alone"])
    run_tests(session, tested, profile=profile)


@nox.session(python=TORCH_PYTHON)
def minimums(session):
    """The test suite with the lowest versions that pyproject.toml allows; torch stays at the pin."""
    project, extras = PROJECT["project"], PROJECT["project"]["optional-dependencies"]
    required = [*project["dependencies"], *extras["jax"], *GROUPS["test"]]
    lowest = [requirement.replace(">=", "==") for requirement in required]
    session.install(TORCH, *lowest)
    session.install("--no-deps", ".")
    run_tests(session, "numpy,jax,torch,array_api_strict", profile="few")


@nox.session(python=TORCH_PYTHON)
def tensorflow(session):
    """Schedules in Keras on TensorFlow, apart from the other frameworks, whose tests it would change."""
    session.install(".", *GROUPS["test"], *GROUPS["peers-tensorflow"])
    session.run("pytest", "tests/integrations/test_keras_schedule.py", "--backends=numpy", env={"PYTHONSAFEPATH": "1"})


@nox.session(python=TORCH_PYTHON)
def thorough(session):
    """The property tests with many more examples; not among the default sessions."""
    install, tested = BACKENDS["all"]
    session.install(*install, *GROUPS["test"], *GROUPS["peers"])
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
    """Mypy, strict, over the packages and over a user's script."""
    session.install(TORCH, ".[jax]", *GROUPS["types"])
    session.run("mypy")


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
