"""Each error says what to do now."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = [*ROOT.glob("module_utils/modelops/**/*.py"), *ROOT.glob("library/*.py")]
# These pass on a text that says it itself.
WHOLE = {"raise_all", "roll_back"}


def without_remedy(source: str) -> list[int]:
    """The lines on which a ModelOpsError is made without one."""
    tree = ast.parse(source)
    passed_on = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in WHOLE
        for node in ast.walk(function)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "ModelOpsError"
        and id(node) not in passed_on
        and not {keyword.arg for keyword in node.keywords} & {"remedy", None}  # None: **facts
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_error_has_a_remedy(path):
    assert without_remedy(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("raise ModelOpsError('x', where='y')", [1]),
        ("\nraise ModelOpsError('x', remedy='y')", []),
        ("def f():\n raise ModelOpsError('x')", [2]),
        ("def raise_all():\n raise ModelOpsError('x')", []),
    ],
)
def test_one_without_is_found(source, lines):
    assert without_remedy(source) == lines
