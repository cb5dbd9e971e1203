"""`pytest -k WORD` finds what tests a part that is tested in several places."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def missed(text: str, name: str, word: str) -> list[str]:
    """The parts of a test file that speak of a word and that `-k` of this word does not select."""
    parts = [(ast.get_source_segment(text, node) or "", node) for node in ast.parse(text).body]
    mark = f"mark.{word}"
    if word in name or any(part.startswith("pytestmark") and mark in part for part, _ in parts):
        return []
    found = []
    for part, node in parts:
        told = getattr(node, "name", "the file itself")
        marks = [ast.unparse(mark) for mark in getattr(node, "decorator_list", [])]
        selected = told.startswith("test_") and (word in told or any(mark in m for m in marks))
        found += [f"{name}: {told}"] if word in part.lower() and not selected else []
    return found


def test_k_sftp_selects_all_that_tests_the_push():
    """The module, the tasks and the strategy are all called sftp."""
    texts = {path: path.read_text("utf-8") for path in TESTS.rglob("test_*.py")}
    del texts[Path(__file__)]
    files = {path: text for path, text in texts.items() if "sftp" in text.lower()}
    found = [part for path, text in files.items() for part in missed(text, path.name, "sftp")]
    assert not found, "give the test, or the file (pytestmark), the mark pytest.mark.sftp"
    assert sum("mark.sftp" in text for text in files.values()) >= 7


def test_what_is_not_selected_is_found():
    alone = "import pytest\n\n\n{}def test_push():\n    run(transfer_strategy='sftp')\n"
    assert missed(alone.format(""), "test_a.py", "sftp") == ["test_a.py: test_push"]
    assert missed(alone.format("@pytest.mark.sftp\n"), "test_a.py", "sftp") == []
    assert missed(alone.format("pytestmark = pytest.mark.sftp\n"), "test_a.py", "sftp") == []
    assert missed(alone.format("WAY = 'SFTP'\n"), "test_a.py", "sftp")[0].endswith("itself")
    assert missed(alone.format(""), "test_sftp.py", "sftp") == []
