"""Every block of code in the documentation runs and prints what is printed there, section by section."""

import doctest
import re
from pathlib import Path

import pytest

import multisched as ms

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, *sorted((ROOT / "benchmarks").glob("*.md"))]
OPTIONAL = ("jax", "torch", "optax", "matplotlib")


def sections():
    """`(page, title, text)` of each section that shows code, names carrying over within a section only."""
    for page in DOCS:
        for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            title = section.partition("\n")[0]
            if ">>> " in section:
                yield pytest.param(section, id=f"{page.stem}: {title}")


def outside_fences(text):
    """The lines of a page that are not code between two fences."""
    return "\n".join(re.split(r"^```.*$", text, flags=re.MULTILINE)[::2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_are_fenced(page):
    """No prompt begins a line outside a fence, where a repository page would show it as a quotation; fences close."""
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    assert not re.search(r"^\s*>>>", outside_fences(text), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Each relative link leads to a file of the repository, and its anchor to a heading of that page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_fences(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], target


def test_the_design_names_files_that_exist():
    """The files that the table of layers names are in the folder of the layer, but for public names."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/`.*? \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 5
    for folder, names in rows:
        for name in re.findall(r"`([a-z_/]+)(?:\.py)?`", names):
            places = [ROOT / "multisched" / folder / name, ROOT / "multisched" / folder / "drive" / name]
            found = any(place.exists() or place.with_suffix(".py").exists() for place in places)
            assert found or name in ms.__all__ or name == "as_keras", f"{folder}/{name}"


@pytest.mark.parametrize("section", list(sections()))
def test_the_page_says_what_happens(section, capsys):
    """The examples of a section, run in their order, print what the page shows."""
    for framework in OPTIONAL:
        if re.search(rf">>> import {framework}\b", section):
            pytest.importorskip(framework, reason=f"the section is about {framework}, which is not installed")
    title = section.partition("\n")[0]
    examples = doctest.DocTestParser().get_doctest(section, {}, title, "docs", 0)
    with ms.use_backend("numpy"):
        failures, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples)
    assert tried > 0
    assert failures == 0, capsys.readouterr().out
