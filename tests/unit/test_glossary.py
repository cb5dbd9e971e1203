"""What is shown of a run says each thing with the one word of docs/glossary.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Words that are right in another sense: a version of a program, to undo a setting.
OTHER_SENSE = {"version", "undo", "confirm"}


def gone() -> list[str]:
    """The words that the glossary has given up: the column on the right."""
    rows = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    cells = [row.split("|")[3] for row in rows if row.startswith("| ")]
    words = {word.strip() for cell in cells for word in cell.split(",")}
    return sorted(words - OTHER_SENSE - {"", "---", "not", "or no longer"})


LINES = [
    f"{path.relative_to(ROOT).as_posix()}: {line.strip()}"
    for folder in ("roles", "playbooks")
    for path in sorted((ROOT / folder).rglob("*.yml"))
    for line in path.read_text(encoding="utf-8").splitlines()
]


def test_the_glossary_is_read():
    assert {"pair", "deadman", "lease", "go back"} <= set(gone())
    assert len(LINES) > 2000


@pytest.mark.parametrize("word", gone())
def test_no_role_and_no_playbook_says_a_word_that_is_gone(word):
    found = re.compile(rf"(?<![\w'-]){re.escape(word)}(?![\w-])", re.IGNORECASE)
    assert [line for line in LINES if found.search(line)] == []
