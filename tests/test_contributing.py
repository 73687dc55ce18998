"""What docs/contributing.md tells contributors to write works: its files are installed as a package and found."""

import math
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with the files of the page, and what an installer would make of its `pyproject.toml`."""
    folder = tmp_path_factory.mktemp("package")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    told = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{n} = {p}\n" for n, p in points.items())
        for group, points in project["entry-points"].items()
    )
    (told / "entry_points.txt").write_text("\n".join(groups))
    return folder


def python(package, *arguments):
    """What Python prints, with the package installed."""
    places = [str(package), str(ROOT), str(ROOT / "backends")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- rules -----------------------------------------------------------------------------------------------------------
SCHEDULE = """
import json, math, pickle
import multisched as ms
lr = ms.parse("0.5 * inverse_log(0.1, 20, begin=10)")
assert ms.from_config(json.loads(json.dumps(lr.to_config()))) == lr == pickle.loads(pickle.dumps(lr))
assert repr(lr) == "0.5 * inverse_log(0.1, 20, begin=10)"
for step in (0, 10, 11, 1000):
    assert math.isclose(lr(step), 0.05 / (1 + math.log(1 + max(step - 10, 0) / 20)))
from multisched.schedules.edges import edges
assert edges(lr, 100) == [10]
for wrong, error in (("inverse_log(0.1, 0)", "positive"), ("inverse_lag(0.1, 1)", "Did you mean 'inverse_log'?")):
    try:
        ms.parse(wrong)
    except ms.errors.MultischedError as raised:
        assert error in str(raised), raised
    else:
        raise AssertionError(wrong)
lr = ms.parse("acme.Ramp(0.1, 20)")
assert [lr(step) for step in (0, 10, 20, 60, 100)] == [0, 0.05, 0.1, 0.05, 0]
assert repr(lr) == "warmup(linear(0.1, 0, 80), 20)" and ms.from_config(lr.to_config()) == lr
assert lr == ms.from_config({"name": "acme.Ramp", "lr": 0.1, "warmup": 20}) == ms.parse("acme:Ramp(0.1, 20)")
for wrong, error in (("acme.Ramp(0.1, -1)", "non-negative"), ("acme.Romp(0.1, 1)", "Did you mean 'acme.Ramp'?")):
    try:
        ms.parse(wrong)
    except ms.errors.MultischedError as raised:
        assert error in str(raised), raised
    else:
        raise AssertionError(wrong)
"""


def test_a_schedule_and_a_dialect_are_read(package):
    """Expressions, configs and pickles know them, with errors and hints as for those of the library."""
    python(package, "-c", SCHEDULE)


STATISTIC = """
import json, pickle
import numpy as np
import multisched as ms
rule = ms.parse("paced(rising(3), every=2)").rule
assert repr(rule) == "rising(3)" and ms.from_config(json.loads(json.dumps(rule.to_config()))) == rule
assert pickle.loads(pickle.dumps(rule)) == rule != ms.parse("rising(2)")
values = [3.0, -1.0, 4.0, 1.0, 5.0]
expected = values[0]
for n, value in enumerate(values, 1):
    expected = (1 - 4 / (n + 3)) * expected + 4 / (n + 3) * value
state, weights = rule.init(np.float64(0)), {"w": np.zeros(2)}
followed = ms.Average(weights, rule)
for value in values:
    state, average = rule.step(state, np.float64(value))
    weights["w"][:] = value
    followed.update()
assert abs(average - expected) < 1e-14 and np.allclose(followed.value["w"], expected, rtol=1e-14)
for wrong in ("rising(-1)", "rising(True)", "rising()", "rising(3, 4)"):
    try:
        ms.parse(wrong)
    except ms.errors.MultischedError:
        continue
    raise AssertionError(wrong)
"""


def test_a_statistic_is_read_and_averages_models(package):
    """It has the values of the published formula, by itself and for a model, and is read as those of the library."""
    python(package, "-c", STATISTIC)


LAWS = """
import multisched as ms
from acme_rules.dialect import Ramp
from acme_rules.schedules import inverse_log
from acme_rules.statistics import rising
backends = {backends}
for example in (*inverse_log.examples, *Ramp.examples):
    ms.testing.check_schedule(ms.parse(example), backends=backends)
for example in rising.examples:
    ms.testing.check_statistic(ms.parse(example), backends=backends)
"""


def test_the_rules_keep_the_laws(package):
    """On NumPy, and on the strict namespace where it is installed."""
    strict = ["array_api_strict"] if find_spec("array_api_strict") else []
    python(package, "-W", "ignore:.*2024.12.*", "-c", LAWS.format(backends=["numpy", *strict]))


def test_the_command_line_shows_them(package):
    """`multisched table` takes their names."""
    command = ["-c", "from multisched.cli import main; main()", "table", "--every=40", "--steps=81"]
    shown = python(package, *command, "inverse_log(0.1, 40)", "acme.Ramp(0.1, 40, 80)")
    steps, values, ramp = zip(*(line.split(",") for line in shown.splitlines()[-3:]), strict=True)
    assert steps == ("0", "40", "80")
    assert [float(value) for value in values] == pytest.approx([0.1 / (1 + math.log(n)) for n in (1, 2, 3)])
    assert [float(value) for value in ramp] == [0, 0.1, 0]


def test_the_gallery_shows_them(package):
    """The gallery that is written while the package is installed has a section and a row for them."""
    place = str(ROOT / "docs")
    page = python(package, "-c", f"import sys; sys.path.insert(0, {place!r}); import gallery; print(gallery.page())")
    assert "### inverse_log" in page
    assert "from acme_rules.schedules import inverse_log" in page
    assert "| `acme.Ramp(0.1, 20)` | `warmup(linear(0.1, 0, 80), 20)` |" in page


# --- a backend -------------------------------------------------------------------------------------------------------
def test_a_backend_passes_the_suite(package):
    """The adapter is found by its name, and keeps to the contract."""
    pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    code = "import multisched.testing as testing; testing.check_backend('strict')"
    python(package, "-c", code)


def test_the_page_names_files_that_exist():
    """Each path of the repository that the page mentions is there."""
    for path in re.findall(r"`((?:multisched|backends|tests|docs)/[\w/]+(?:\.\w+)?)/?`", PAGE):
        assert (ROOT / path).exists(), path
