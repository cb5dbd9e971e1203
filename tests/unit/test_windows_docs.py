"""The pages on Windows: what they name is there, and the Spanish ones say as much."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = ("windows-setup.md", "windows-fidelity.md")
BED = ROOT / "tests/hosts/windows"


def rows(page: Path) -> list[list[str]]:
    """The cells of a page's tables."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [re.split(r"\s*\|\s*", line)[1:-1] for line in lines]


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_have_the_same_parts(name):
    english, spanish = DOCS / name, DOCS / "es" / name
    texts = [page.read_text() for page in (english, spanish)]
    assert f"(es/{name})" in texts[0] and f"(../{name})" in texts[1]
    for parts in (r"(?s)```\n.*?\n```", r"(?m)^(#+) ", r"(?m)^(\d+)\. ", r"(?m)^(-) "):
        assert re.findall(parts, texts[0]) == re.findall(parts, texts[1]), parts
    assert [len(row) for row in rows(english)] == [len(row) for row in rows(spanish)]


def test_both_languages_name_the_same_tests_and_settings():
    """Of a table's row what is code, and in the set-up the name of the setting, is in both."""
    for name, cell in (("windows-fidelity.md", 2), ("windows-setup.md", None)):
        for one, other in zip(rows(DOCS / name), rows(DOCS / "es" / name), strict=True):
            if cell is None and one[0] not in ("setting", "the controller says"):
                assert one[0] == other[0]
            elif cell and one[cell] != "by":
                assert one[cell] == other[cell]


def test_the_tests_that_prove_it_are_there():
    text = (DOCS / "windows-fidelity.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    for name in named:
        assert (ROOT / name if "/" in name else BED / name).is_file(), name
    assert {path.name for path in BED.glob("test_*.py")} <= named
