"""The lock of a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from modelops import lease
from modelops.errors import ModelOpsError


def run(name: str, pid: int | None = None, boot: str | None = None) -> dict:
    return {
        "run": name,
        "owner": f"noel at {name}",
        "pid": os.getpid() if pid is None else pid,
        "boot": lease.boot_id() if boot is None else boot,
    }


def dead_pid() -> int:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    return int(done.stdout)


def take(root, who, ttl_s=60, force=False, check_mode=False):
    lease.take(root, who, ttl_s, force, check_mode)


def test_the_second_is_told_who_holds_it(tmp_path):
    take(tmp_path, run("A"))
    take(tmp_path, run("A"))
    with pytest.raises(ModelOpsError, match="noel at A, since 20") as caught:
        take(tmp_path, run("B"))
    assert caught.value.facts["lock"]["run"] == "A"
    with pytest.raises(ModelOpsError):
        take(tmp_path, run("B"), check_mode=True)
    lease.give_back(tmp_path, "B", False)
    assert lease.holder(tmp_path)["run"] == "A"
    lease.give_back(tmp_path, "A", False)
    take(tmp_path, run("B"))
    assert [p.name for p in tmp_path.iterdir()] == [lease.NAME]


def test_check_mode_takes_nothing(tmp_path):
    take(tmp_path, run("A"), check_mode=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["expired", "dead process", "force"])
def test_an_abandoned_lock_is_taken_over(tmp_path, how):
    pid = dead_pid() if how == "dead process" else None
    take(tmp_path, run("A", pid), ttl_s=-1 if how == "expired" else 60)
    take(tmp_path, run("B"), force=how == "force")
    assert lease.holder(tmp_path)["run"] == "B"


def test_a_process_of_another_machine_is_not_known_to_be_dead(tmp_path):
    take(tmp_path, run("A", dead_pid(), boot="elsewhere"))
    with pytest.raises(ModelOpsError, match="another run"):
        take(tmp_path, run("B"))


def test_a_broken_lock_holds_until_it_is_broken(tmp_path):
    (tmp_path / lease.NAME).write_text("{")
    with pytest.raises(ModelOpsError, match="unknown"):
        take(tmp_path, run("B"))
    take(tmp_path, run("B"), force=True)
