"""The process that goes back where commands run the service: the real archive, the real process."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.target import commands, processes, self_revert, watcher
from target import Target

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="targets are Linux")


@pytest.fixture
def target(tmp_path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    watching(target, False)
    commands.Commands("sarai", given(target))._end()


def given(target: Target) -> dict:
    """Commands of a service that writes what the configuration names, and stays."""
    program = f"import sys, time; print(open({str(target.config)!r}).read()); time.sleep(600)"
    return {
        "start": f"exec {shlex.quote(sys.executable)} -u -c {shlex.quote(program)}",
        "folder": str(target.home),
        "log": str(target.home / "service.log"),
        "record": str(target.store.releases / "service.json"),
    }


def start(target: Target, confirm_s: float) -> None:
    self_revert.write(target.store.releases / self_revert.NAME)
    service = {"name": "sarai", "commands": given(target)}
    watcher.start(target.store, self_revert.NAME, service, confirm_s)


def release(target: Target, word: str = "A") -> str:
    listed = target.arrive(word)
    target.stage(listed)
    target.activate(listed["release_id"])
    return listed["release_id"]


def watching(target: Target, wanted: bool) -> list[int]:
    """Return the processes that wait in the model's folder; ask them to go when none is wanted."""
    if not wanted:
        (target.store.releases / watcher.ORDER).unlink(missing_ok=True)
    found = [pid for pid in processes.every() if folder(pid) == target.store.releases.resolve()]
    return [pid for pid in found if processes.started(pid)]


def folder(pid: int) -> Path | None:
    try:
        return (processes.PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def test_it_goes_back_and_restarts_the_service(target):
    before = target.config.read_bytes()
    start(target, 3)
    release(target)
    assert target.config.read_bytes() != before
    until(lambda: target.config.read_bytes() == before)
    assert target.store.load()["history"][-1]["by"] == "the target's timer"
    until((target.home / "service.log").is_file)
    until(lambda: b"models/onnx/m.onnx" in (target.home / "service.log").read_bytes())
    until(lambda: not watching(target, True))
    assert commands.Commands("sarai", given(target)).look().active == "active"


def test_it_ends_with_the_commit(target):
    start(target, 600)
    released = release(target)
    until(lambda: watching(target, True))
    time.sleep(2 * watcher.POLL_S)  # it has seen that a commit is due
    target.commit(released)
    until(lambda: not watching(target, True))
    assert not (target.home / "service.log").exists(), "nobody restarted the service"


def test_a_later_one_takes_its_place(target):
    start(target, 600)
    first = watching(target, True)
    assert len(first) == 1
    start(target, 600)
    until(lambda: len(watching(target, True)) == 1 and watching(target, True) != first)


def test_its_command_line_names_neither_the_service_nor_the_model(target):
    """The owner's `pgrep -f` must not find it."""
    start(target, 600)
    (pid,) = watching(target, True)
    said = (processes.PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    assert said[1:5] == [b"-I", b"revert.pyz", b"watch", b"watch.json"]
    assert re.fullmatch(rb"[0-9a-f]{16}", said[5]) and said[6:] == [b""]


def test_commands_that_cannot_be_run_are_refused_at_the_start(target):
    self_revert.write(target.store.releases / self_revert.NAME)
    with pytest.raises(ModelOpsError, match="cannot be run"):
        watcher.start(
            target.store,
            self_revert.NAME,
            {"name": "sarai", "commands": given(target) | {"start": "'"}},
            1,
        )
    assert not watching(target, True)


def test_a_state_that_breaks_while_it_waits_leads_to_fp32(target):
    release(target)
    start(target, 2)
    target.store.state_file.write_text("{")
    until(lambda: "m.onnx'" in service_says(target))
    assert target.in_service() == "fp32"
    log = (target.store.releases / watcher.LOG).read_text()
    assert "state is not usable" in log and "write state.json" in log


def test_a_broken_state_without_a_known_way_back_is_told_in_its_log(target):
    target.store.releases.mkdir(parents=True)
    target.store.state_file.write_text(json.dumps("not a state"))
    start(target, 0)
    until(lambda: "state is not usable" in (target.store.releases / watcher.LOG).read_text())
    until(lambda: not watching(target, True))


def service_says(target: Target) -> str:
    log = target.home / "service.log"
    return log.read_text() if log.exists() else ""
