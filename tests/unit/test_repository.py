"""What the tree tells those who work on it: the workflow, the guide and the Makefile agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def made(text: str) -> set[str]:
    """The targets of `make TARGET TARGET` in a text, where a command can begin."""
    begin, end = r"(?:^|`|; |, )", r"(?=`|,|$| *#)"
    calls = re.findall(rf"{begin}make((?: [a-z]+(?:-[a-z]+)*)+){end}", text, re.MULTILINE)
    return {target for call in calls for target in call.split()}


@pytest.mark.parametrize("path", ["CONTRIBUTING.md", "CHANGELOG.md", "README.md", ".ci/run"])
def test_every_target_that_is_named_exists(path):
    named = made((ROOT / path).read_text("utf-8"))
    assert named
    assert named <= TARGETS


def test_the_workflow_runs_what_the_gate_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    calls = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    run = set(re.findall(r"^make ([a-z-]+)", calls, re.MULTILINE)) | set(
        jobs["bed"]["strategy"]["matrix"]["bed"]
    )
    assert run == made((ROOT / ".ci/run").read_text("utf-8"))
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_help_names_every_target():
    described = set(
        re.findall(r"make ([a-z-]+)", MAKEFILE.partition("help:\n")[2].partition("\n\n")[0])
    )
    assert described == TARGETS - {"help", "requirements"}


def test_hooks_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    for repo in config["repos"]:
        assert repo["repo"] == "local"
        assert {hook["language"] for hook in repo["hooks"]} == {"system"}
        assert all(hook["entry"].startswith(".venv/bin/") for hook in repo["hooks"])


def test_every_path_in_the_guide_exists():
    """NAME, FOLDER and the like stand for what a contributor chooses."""
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)(?:`| )", guide))
    named = {path for path in named if not re.search(r"[A-Z]{4}", path) and path[0] != "."}
    assert len(named) > 20
    beside = [ROOT, ROOT / "module_utils/modelops", ROOT / "roles/transfer"]
    missing = {path for path in named if not any((place / path).exists() for place in beside)}
    assert missing == set()
