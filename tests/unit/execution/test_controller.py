"""Who a run is, and whether the process of another run is dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from modelops.execution import controller


def test_each_run_has_a_token_of_its_own_and_names_its_process():
    one, other = controller.identity("agi"), controller.identity("agi")
    assert one["run"] != other["run"] and len(one["run"]) == 32
    assert f"(agi, process {os.getpid()})" in one["owner"]
    assert not controller.is_dead(one["process"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_a_process_that_has_ended_is_dead_and_what_is_unknown_is_not():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        named = controller.process(other.pid)
        assert named and not controller.is_dead(named)
        other.communicate(b"\n")
    assert controller.is_dead(named)
    place, pid, start = named.rsplit(" ", 2)
    for unknown in ("", "text", f"elsewhere {pid} {start}", f"{place} x {start}"):
        assert not controller.is_dead(unknown)
    assert controller.is_dead(f"{place} {os.getpid()} 1")  # the PID is another process's now
