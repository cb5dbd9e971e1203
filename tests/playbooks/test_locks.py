"""The locks of a run: given back whatever fails, and never held by two runs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Site
from modelops.execution import controller
from modelops.target import run_lock

FP32 = "models/onnx/agi_audio_core.onnx"
NAME = "agi_audio_core"


def locks(site: Site) -> list[Path]:
    return list(site.folder.rglob(".modelops*.lock"))


def put_lock(site: Site, **fields: object) -> Path:
    path = run_lock.place(site.models(), NAME)
    run_lock.take(path, {"run": "other", "owner": "eva@elsewhere", "process": "", **fields}, 600)
    return path


def test_a_failure_on_the_builder_gives_every_lock_back(fresh):
    outcome = fresh.work(quantize_forms={"no_such_node": "bogus"})
    assert outcome.rc != 0 and "bogus" in outcome.output
    assert locks(fresh) == []
    assert not list(fresh.models().glob("*_int8*"))


def test_another_run_keeps_this_one_out_and_loses_nothing(live):
    path = put_lock(live)
    mine = path.read_bytes()
    before = live.tree()
    for playbook, arguments in (("quantize.yml", "--skip-tags preflight"), ("rollback.yml", "")):
        outcome = live.run(playbook, arguments)
        assert outcome.rc != 0
        assert "eva@elsewhere" in outcome.output and "run_lock_break=true" in outcome.output
        assert path.read_bytes() == mine
        assert locks(live) == [path]
    assert live.tree() == before


def test_a_run_of_this_controller_that_was_killed_keeps_nobody_out(live):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = controller.process(child.pid)
    if not process:
        pytest.skip("this system has no /proc")
    put_lock(live, process=process)
    assert "eva@elsewhere" in live.run("rollback.yml").output
    child.communicate(b"\n")
    outcome = live.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert live.named_model() == FP32
    assert locks(live) == []


def test_a_rollback_is_not_undone_by_a_run_that_goes_on(fresh):
    """The run is at its gate when somebody breaks its lock and rolls back."""
    waits, go = fresh.folder.parent / "waits", fresh.folder.parent / "go"
    python = fresh.folder.parent / "python"
    python.write_text(
        f"#!/bin/sh\n[ -e {go} ] || touch {waits}\n"
        f'while [ ! -e {go} ]; do sleep 0.1; done\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    outcomes = []
    builder = {"sarai_builder_python": str(python), "sarai_builder_base_python": ""}
    run = threading.Thread(
        target=lambda: outcomes.append(
            fresh.run(
                "quantize.yml", "--tags quantize,gate,release", sample_enabled=False, **builder
            )
        )
    )
    run.start()
    try:
        while run.is_alive() and not waits.exists():
            time.sleep(0.1)
        assert "another run is at work here" in fresh.run("rollback.yml").output
        back = fresh.run("rollback.yml", run_lock_break=True)
        assert back.rc == 0, back.output
    finally:
        go.touch()
        run.join()
    (outcome,) = outcomes
    assert outcome.rc != 0
    assert "another run took it over" in " ".join(outcome.output.split()), outcome.output
    assert fresh.named_model() == FP32 and not list(fresh.models().glob("*_int8*"))
    assert locks(fresh) == []
