"""The threat model names tests: each of them exists, and each threat has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text("utf-8")


def test_the_tests_that_are_named_exist():
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", TEXT)
    assert len(named) > 20
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_each_threat_has_a_test():
    rows = [line for line in TEXT.partition("## What stops them")[2].splitlines() if "|" in line]
    for row in rows[2:]:
        assert "::test_" in row, row


def test_files_that_are_named_exist():
    for path in set(re.findall(r"`([a-z_]+/[a-z_]+)`", TEXT)):
        assert (ROOT / "module_utils/modelops" / f"{path}.py").exists(), path
