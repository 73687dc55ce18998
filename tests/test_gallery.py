"""The gallery of docs/ is whole and true: its script is run here, and its page is read as a reader would."""

import importlib.util
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import multisched as ms
from multisched.schedules.catalogue import CATALOGUE, DIALECTS

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "gallery.md").read_text(encoding="utf-8")
FAMILIES = dict(family.split("\n", 1) for family in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:])
OWN = "Formulas that only a dialect has"
SECTIONS = {
    name: text
    for family in FAMILIES.values()
    for name, _, text in (section.partition("\n") for section in re.split(r"^### ", family, flags=re.MULTILINE)[1:])
}
ARITHMETIC = {"add", "subtract", "multiply", "divide", "pow", "negative", "abs"}


@pytest.fixture(scope="module")
def gallery():
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows():
    """`(section, name, call, what it builds)` of each row of a table."""
    for section, text in {**SECTIONS, OWN: FAMILIES[OWN]}.items():
        for call, built in re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", text, re.MULTILINE):
            yield section, call.partition("(")[0], call, built


# --- the page --------------------------------------------------------------------------------------------------------
def test_the_page_is_what_the_script_writes(gallery, capsys):
    """The page in the repository is up to date (else: `python docs/gallery.py --text`), and nothing was left out."""
    assert gallery.page() == TEXT
    assert capsys.readouterr().err == ""


def test_every_schedule_has_a_section():
    """Each public rule of the catalogue, the one for functions and that of a metric have one; arithmetic has one."""
    public = set(CATALOGUE) - ARITHMETIC
    assert public | {"arithmetic", "from_function", "plateau"} == set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_whole(name):
    """It says what the rule is, has a picture of that name, the formula of the docstring, and code that builds it."""
    text = SECTIONS[name]
    assert re.match(r"\n\S.*\.\n", text)
    assert f"![{name}](gallery/{name}.svg)" in text
    code = "\n".join(line[4:] for line in text.splitlines() if line[:4] in (">>> ", "... "))
    scope = {}
    exec(code, scope)
    built = scope["rule" if name == "plateau" else "lr"]
    if name == "arithmetic":
        assert "f(step) = x1(step) + x2(step)" in text
        assert {"+", "-", "*", "/"} <= set(repr(built).split())
        return
    assert repr(built).startswith(f"{name}(")
    doc = inspect.getdoc(getattr(ms, name))
    assert all(line in doc for line in re.search(r"```text\n(.*?)```", text, re.DOTALL)[1].splitlines())


# --- what other libraries call it ------------------------------------------------------------------------------------
def test_the_dialects_are_whole():
    """Every constructor of every dialect stands in some section, and no other name does."""
    assert {name for _, name, _, _ in rows()} == set(DIALECTS)


@pytest.mark.parametrize(("section", "name", "call", "built"), list(rows()), ids=lambda part: str(part)[:60])
def test_a_name_of_a_dialect(section, name, call, built):
    """The call that is shown builds what is shown beside it, which is of the rule of the section."""
    dialect = name.partition(".")[0]
    made = eval(call, {**CATALOGUE, dialect: import_module(f"multisched.dialects.{dialect}")})
    assert re.sub("<function .*? at 0x[0-9a-f]+>", "...", repr(made)) == built
    if section == OWN:
        assert re.search(r"\w\.\w+\(", built)
    else:
        assert (f"{section}(" in built) or (section == "arithmetic" and re.search(" [-+*/] ", built))


# --- the pictures ----------------------------------------------------------------------------------------------------
def points(path):
    """The points of an SVG path of lines, as an array of shape (points, 2)."""
    return np.asarray(re.sub("[MLz]", " ", path).split(), float).reshape(-1, 2)


def test_the_pictures_are_there():
    """The page shows every picture of the folder, and the folder holds every picture of the page."""
    shown = re.findall(r"\]\((.*?\.svg)\)", TEXT)
    assert sorted(shown) == sorted(f"gallery/{path.name}" for path in (DOCS / "gallery").iterdir())
    assert sum(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < 1_000_000


@pytest.mark.parametrize("name", SECTIONS)
def test_a_picture_shows_its_schedule(gallery, name):
    """The corners of the curve in the picture, read without matplotlib, are values of the schedule."""
    example = gallery.sections()[name]
    text = (DOCS / "gallery" / f"{name}.svg").read_text(encoding="utf-8")
    frame = points(re.search(r'<g id="patch_2">\n<path d="(.*?)"', text, re.DOTALL)[1])
    curve = points(re.search(r'<path d="([^"]*)" [^>]*stroke-width: 1.8', text)[1])
    steps = (curve[:, 0] - frame[:, 0].min()) / np.ptp(frame[:, 0]) * (example.steps - 1)
    assert len(steps) > 1
    assert np.allclose(steps, steps.round(), atol=1e-3 * example.steps)
    values = gallery.schedule(example)(steps.round())
    heights = curve[:, 1].max() - curve[:, 1]  # y grows downwards
    assert np.allclose(heights * np.ptp(values), (values - values.min()) * np.ptp(heights), atol=0.01 * np.ptp(values))


def test_the_pictures_are_what_the_script_draws(gallery, tmp_path):
    """Drawn anew by the matplotlib that drew them, the committed pictures come out the same (else: `nox -s docs`)."""
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, of the extra plot, is not installed")
    committed = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "gallery").iterdir()}
    (drawn_by,) = {text.splitlines()[-1] for text in committed.values()}
    if drawn_by != f"<!-- matplotlib {matplotlib.__version__} -->":
        pytest.skip("another version of matplotlib drew the pictures")
    gallery.draw(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == committed


def test_the_script_says_how_it_is_used():
    """`--help` explains it, and writes nothing."""
    before = (DOCS / "gallery.md").stat().st_mtime_ns
    command = [sys.executable, str(DOCS / "gallery.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--text" in result.stdout
    assert (DOCS / "gallery.md").stat().st_mtime_ns == before
