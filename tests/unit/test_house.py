"""The folders of modelops: who may import whom, and what needs the standard library alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "module_utils" / "modelops"
MAY_IMPORT = {
    "acceptance": {"base", "judging", "target"},
    "base": set(),
    "model": {"base"},
    "judging": {"base"},
    "pair": {"base"},
    "config": {"base"},
    "environment": {"base"},
    "sample": {"base"},
    "measuring": {"base", "model"},
    "quantizer": {"base", "model", "measuring", "judging", "pair"},
    "signing": {"base", "pair"},
    "target": {"base", "model", "pair", "config", "signing"},
    "preflight": {"base", "model", "measuring", "judging"},
    "diagnosis": {"base", "pair", "target"},
    "reporting": {"acceptance", "base", "judging", "pair"},
    "execution": {"base", "judging"},
}
FOLDERS = sorted(path.name for path in HOUSE.iterdir() if (path / "__init__.py").is_file())


def test_every_folder_has_its_place():
    assert sorted(MAY_IMPORT) == FOLDERS
    loose = {path.name for path in HOUSE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}


def imported(path: Path) -> set[str]:
    """The other folders that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.partition(".")[0] for name in names}
        if isinstance(node, ast.ImportFrom | ast.Import) and not getattr(node, "level", 0):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            assert not any(name.startswith(("modelops", "ansible")) for name in names), path
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_it_may(folder):
    found = set().union(*(imported(path) for path in (HOUSE / folder).glob("*.py")))
    assert found == MAY_IMPORT[folder], "tell it in the docstring of its __init__.py, too"
    text = ast.get_docstring(ast.parse((HOUSE / folder / "__init__.py").read_text())) or ""
    assert "Imports" in text


@pytest.mark.parametrize("folder", ["base", "target", "diagnosis", "acceptance"])
def test_what_runs_on_a_target_needs_the_standard_library_alone(folder):
    """-S leaves the installed packages out."""
    names = [f"modelops.{folder}.{path.stem}" for path in sorted((HOUSE / folder).glob("*.py"))]
    code = f"import sys; sys.path.insert(0, {str(HOUSE.parent)!r}); import {', '.join(names)}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


FILES = subprocess.run(
    ["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]


def test_no_file_is_longer_than_400_lines_and_no_function_longer_than_60():
    """Tests too: a long file of tests is about several things, as any other."""
    long = []
    for name in filter(lambda name: (ROOT / name).is_file(), FILES):
        text = (ROOT / name).read_text(encoding="utf-8")
        long += [name] if len(text.splitlines()) > 400 else []
        long += [
            f"{name}: {node.name}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno >= 60
        ]
    assert FILES and not long


def test_no_rule_of_the_linter_is_ignored_on_a_line_for_being_complex():
    for name in filter(lambda name: (ROOT / name).is_file(), FILES):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"noqa: *[^#\n]*(?:C901|PLR)\d*", text), name


@pytest.mark.parametrize(
    "folders", [["unit", "playbooks"], ["browser"], ["hosts/linux"], ["hosts/windows"]]
)
def test_no_two_test_files_of_a_run_have_the_same_name(folders):
    """pytest imports them by name alone, so the second one would be an error."""
    files = [path for folder in folders for path in (ROOT / "tests" / folder).rglob("test_*.py")]
    names = sorted(path.name for path in files)
    assert names and sorted(set(names)) == names
