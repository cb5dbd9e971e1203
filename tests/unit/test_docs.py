"""What the pages tell people to type exists: commands, options, variables, links, rows."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml
from modelops.execution import cli
from role_docs import ROLES, ROOT, options

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What belongs to no role: playbooks ask for it themselves.
OF_PLAYBOOKS = {
    "ansible_become_password", "diagnose_fix", "diagnose_json", "vault_builder_password",
    "verify_by_controller",
}  # fmt: skip
VARIABLES = {name for role in ROLES for name in options(role)} | OF_PLAYBOOKS


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(page: Path) -> list[list[str]]:
    """Return what a page gives to type: lines of its blocks, and code in its text."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [shlex.split(line, comments=True) for line in lines if line.startswith(".venv/bin/")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_its_commands_can_be_typed(page):
    for command in commands(page):
        tool, rest = Path(command[0]).name, command[1:]
        if tool == "ansible-playbook":
            playbook(rest, page)
        elif rest[:2] == ["-m", "modelops"]:
            cli._parser().parse_args(rest[2:])
        elif tool == "python":
            assert (ROOT / rest[0]).exists(), command


def playbook(arguments: list[str], page: Path) -> None:
    """Check the playbook, the inventory and the variables of a command."""
    path = next(word for word in arguments if word.endswith(".yml"))
    assert (ROOT / path).is_file(), path
    if "-i" in arguments:
        inventory = arguments[arguments.index("-i") + 1]
        made = f"cp -r inventory/production {inventory}" in page.read_text("utf-8")
        assert made or (ROOT / inventory).is_dir(), inventory
    for option, value in itertools.pairwise(arguments):
        if option == "-e":
            given = yaml.safe_load(value) if value.startswith("{") else [value.partition("=")[0]]
            assert set(given) <= VARIABLES, value
        if option == "--tags":
            text = "".join(one.read_text("utf-8") for one in (ROOT / "playbooks").glob("*.yml"))
            known = {
                tag for tags in re.findall(r"tags: \[(.*)\]", text) for tag in tags.split(", ")
            }
            assert set(value.split(",")) <= known, value


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_its_variables_exist(page):
    """A name that begins as a role's variables do is one of them."""
    prefixes = "|".join(sorted({role.removeprefix("sarai_") for role in ROLES} | {"sarai"}))
    text = page.read_text("utf-8")
    named = re.findall(rf"`((?:{prefixes})_[a-z0-9_]+)[`:=]", text)
    named += re.findall(r"-e '?(\w+)=", text)
    others = {path.stem for path in (ROOT / "library").glob("*.py")} | {"quantize_dynamic"}
    assert set(named) - VARIABLES - others - set(ROLES) == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}, target


def rows() -> set[str]:
    """Return the ids of the rows of the diagnosis, as its source names them."""
    found = set()
    for path in (ROOT / "module_utils/modelops/diagnosis").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "finding":
                named = [word.value for word in call.keywords if word.arg == "name"] or call.args[
                    6:
                ]
                found |= {one.value for one in named if isinstance(one, ast.Constant)}
    return found


@pytest.mark.parametrize("page", ["docs/troubleshooting.md", "docs/es/troubleshooting.md"])
def test_each_row_of_the_diagnosis_is_explained(page):
    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / page).read_text("utf-8"), re.MULTILINE))
    assert told == rows() | {"drift_int8", "drift_fp32"}


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text("utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index and "adr/" not in page} == set()
