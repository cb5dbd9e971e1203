"""The way back that needs no controller, run as the target's timer runs it; room on a full disk."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from modelops.target import change as moves
from modelops.target import self_revert, store
from target import Target


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(tmp_path)


def run(target: Target, command: str) -> subprocess.CompletedProcess[str]:
    """As in the unit file: isolated, so with nothing but the standard library and the archive."""
    archive = target.store.releases / self_revert.NAME
    self_revert.write(archive)
    arguments = [command, str(target.store.root), target.store.name]
    return subprocess.run(
        [sys.executable, "-I", "-S", str(archive), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_goes_back_from_what_nobody_confirmed(target):
    before = target.config.read_bytes()
    assert run(target, "due").returncode == 1
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    assert target.config.read_bytes() != before
    assert run(target, "due").returncode == 0
    done = run(target, "revert")
    assert done.returncode == 0 and "write state.json" in done.stdout, done.stderr
    assert target.config.read_bytes() == before
    last = target.store.load()["history"][-1]
    assert (last["event"], last["by"]) == ("reverted", "the target's timer")
    assert run(target, "due").returncode == 1
    assert "nothing to go back from" in run(target, "revert").stdout


def test_it_leaves_what_was_confirmed(target):
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    target.commit(listed["release_id"])
    config = target.config.read_bytes()
    assert run(target, "due").returncode == 1
    run(target, "revert")
    assert target.config.read_bytes() == config


@pytest.mark.parametrize("arguments", [[], ["due"], ["forward", "a", "b"]])
def test_wrong_usage(target, arguments, capsys):
    assert self_revert.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_a_broken_state_is_told(target, capsys):
    target.store.releases.mkdir(parents=True)
    target.store.state_file.write_text("{")
    assert self_revert.main(["revert", str(target.store.root), target.store.name]) == 3
    assert "state is not usable" in capsys.readouterr().err


def test_the_archive_is_written_once(target):
    archive = target.store.releases / self_revert.NAME
    self_revert.write(archive)
    first = archive.stat().st_mtime_ns
    self_revert.write(archive)
    assert archive.stat().st_mtime_ns == first


def test_a_full_disk_gives_its_reserve_to_the_way_back(target):
    target.store.keep_room()
    assert target.store.reserve.stat().st_size == store.RESERVE_BYTES
    change = moves.Change(target.store, target.store.load())

    def write() -> None:
        if target.store.reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(target.store.root / "written").touch()

    change.do("write", write)
    change.perform(False)
    assert (target.store.root / "written").exists()
    with pytest.raises(OSError, match="No space"):

        def always() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        change.do("write more", always)
        change.perform(False)
