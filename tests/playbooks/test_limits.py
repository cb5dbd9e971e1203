"""Exit codes and limits tell the truth: who takes part, who is down, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import models
import pytest
from conftest import FAST, ROOT, Site

INT8 = "models/onnx/agi_audio_core_int8.onnx"
FP32 = "models/onnx/agi_audio_core.onnx"
# Nothing answers there: a host that is down.
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def said(outcome) -> str:
    return " ".join(outcome.output.split())


def tasks(outcome) -> set[str]:
    return {e["event_data"].get("task", "") for e in outcome.events}


@pytest.fixture
def second_is_down(fresh, monkeypatch) -> Site:
    """A site whose second target does not answer."""
    fresh.targets = 2
    inventory = fresh.inventory()
    inventory["all"]["children"]["targets"]["hosts"]["target2"] |= DOWN
    monkeypatch.setattr(Site, "inventory", lambda _: inventory)
    return fresh


@pytest.mark.parametrize(
    ("playbook", "arguments", "lacking"),
    [
        ("quantize.yml", "--limit builder", "targets"),
        ("quantize.yml", "--limit target1", "builder"),
        ("quantize.yml", "--limit 'targets:!target1' --tags release", "builder"),
        ("quantize.yml", "--limit target1 --tags quantize", "builder"),
        ("rollback.yml", "--limit builder", "targets"),
        ("playbooks/status.yml", "--limit builder", "targets"),
    ],
)
def test_a_limit_without_whom_the_run_needs_is_refused(site, playbook, arguments, lacking):
    site.targets = 2
    outcome = site.run(playbook, arguments)
    assert outcome.rc != 0
    assert f"leaves out the group {lacking} (" in said(outcome), outcome.output
    assert list(site.folder.iterdir()) == []


def test_what_the_gate_refused_keeps_fp32_and_is_told_under_a_limit(fresh):
    fresh.targets = 2
    config = fresh.config().read_bytes()
    untouched = models.tree(fresh.home(2))
    outcome = fresh.run(
        "quantize.yml",
        "--skip-tags preflight --limit 'all:!target2'",
        sarai_gate_cosine_min=0.99999,
        quantize_quality={},
    )
    assert outcome.rc != 0
    assert fresh.config().read_bytes() == config
    assert not list(fresh.models().glob("*_int8*"))
    assert "not released: the gate on the builder did not pass" in said(outcome)
    (report,) = (fresh.folder / "reports").glob("*/report.md")
    assert "target1: not released" in report.read_text() and "target2" not in report.read_text()
    for text in (outcome.output, report.read_text()):
        assert "changed from 0.98" in text and "cosine_min" in text
    assert models.tree(fresh.home(2)) == untouched
    assert not list(fresh.folder.rglob("*.lock"))


def test_who_is_down_is_left_for_the_next_run_and_told(second_is_down):
    site = second_is_down
    outcome = site.work()
    assert outcome.rc != 0
    assert "target2 (127.0.0.1:1): nothing listens at that port" in said(outcome)
    assert "Nothing was changed there. Run again" in said(outcome)
    assert site.named_model(1) == INT8
    (report,) = (site.folder / "reports").glob("*/report.md")
    assert "target1: in service" in report.read_text()
    # Outside of the limit it is nobody's business.
    again = site.run("quantize.yml", "--tags preflight --limit builder,target1")
    assert again.rc == 0, again.output
    status = site.run("playbooks/status.yml")
    assert status.rc != 0 and "target2" in status.output
    assert site.run("rollback.yml").rc != 0
    assert site.named_model(1) == FP32


def test_a_builder_that_is_down_stops_the_run(fresh, monkeypatch):
    inventory = fresh.inventory()
    inventory["all"]["children"]["builder"]["hosts"]["builder"] |= DOWN
    monkeypatch.setattr(Site, "inventory", lambda _: inventory)
    before = fresh.tree()
    outcome = fresh.run("quantize.yml")
    assert outcome.rc != 0
    assert "builder cannot be used (see above), and nothing can be done without" in said(outcome)
    assert fresh.tree() == before


def test_begun_in_the_middle_a_run_changes_nothing(live):
    before = live.tree()
    for task in ("Release to a batch of targets", "Make the artifacts and their manifest"):
        outcome = live.run("quantize.yml", f"--start-at-task '{task}'")
        assert outcome.rc != 0
        assert "--start-at-task left out the task that takes the lock" in said(outcome)
        assert {k: v for k, v in live.tree().items() if "reports" not in k} == {
            k: v for k, v in before.items() if "reports" not in k
        }


@pytest.mark.parametrize("playbook", ["quantize.yml", "rollback.yml", "playbooks/preflight.yml"])
def test_from_another_folder_it_says_where_to_run(tmp_path, playbook):
    tool = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    for inventory in (ROOT / "inventory" / "local", "inventory/local"):
        done = subprocess.run(
            [tool, "-i", str(inventory), str(ROOT / playbook)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        told = " ".join(done.stdout.split())
        assert "Run from the project's folder" in told and f"{ROOT}/ansible.cfg" in told, told
    assert list(tmp_path.iterdir()) == []


def test_words_that_belong_to_no_variable_are_not_lost(live):
    before = live.tree()
    outcome = live.run("rollback.yml", "-e 'rollback_reason=several words'")
    assert outcome.rc != 0
    assert "These words of -e belong to no variable: words" in said(outcome), outcome.output
    assert live.tree() == before
    told = live.run("rollback.yml", "-e 'rollback_reason=\"several words\"'")
    assert told.rc == 0, told.output
    assert live.state()["history"][-1]["reason"] == "several words"


def test_words_given_with_e_are_booleans(fresh):
    """`-e name=false` gives the text "false", which is true for Jinja."""
    assert FAST["sample_megabytes"]
    (fresh.builder / "agi_audio_core.onnx").unlink()
    outcome = fresh.run(
        "quantize.yml",
        "--tags sample,preflight -e sample_enabled=false -e quantize_force=false",
    )
    assert outcome.rc != 0 and "no such model file" in said(outcome)
