"""Every block of code in the documentation runs and prints what is printed there, section by section."""

import doctest
import re
from pathlib import Path

import pytest

import multisched as ms

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
OPTIONAL = ("jax", "torch", "optax", "matplotlib")


def sections():
    """`(page, title, text)` of each section that shows code, names carrying over within a section only."""
    for page in DOCS:
        for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            title = section.partition("\n")[0]
            if ">>> " in section:
                yield pytest.param(section, id=f"{page.stem}: {title}")


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
