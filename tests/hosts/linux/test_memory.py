"""A host that has too little memory for the measurement: the service stands, the run says why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet import ADOPT, CONFIG, ONE, Fleet

# Twice what an Ansible module takes, less than two processes with onnxruntime and the module.
ROOM = 80_000_000


@pytest.fixture
def tight(fleet) -> Iterator[Fleet]:
    """Let h1 have little more memory than it takes while it serves."""
    fleet.bed.limit_memory("h1", fleet.bed.memory_in_use("h1") + ROOM)
    yield fleet
    fleet.bed.limit_memory("h1", None)


def test_the_measurement_dies_and_the_service_stands(tight):
    # Other tests kill the service on this host: only what this one does counts.
    begun = tight.bed.ssh("h1", "date +%s.%N").stdout.strip()
    # The way is asked for, so it is tried whatever memory there is.
    done = tight.run("quantize.yml", *ONE, **ADOPT, sarai_measure_mode="both")
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "was killed by signal 9 SIGKILL" in said, done.stdout
    assert "most likely by the kernel for want of memory" in said
    assert "h1: reverted to fp32: " in said, done.stdout
    assert (tight.served("h1"), tight.config("h1")) == ("fp32", CONFIG)
    assert tight.state("h1")["void"] == {}, "it is no fault of the release's"
    # The service itself was only restarted, never killed.
    log = tight.bed.ssh("h1", f"sudo journalctl --unit sarai --since @{begun}").stdout
    assert "serving agi_audio_core_int8.onnx" in log, "the journal tells of this run"
    assert "status=9/KILL" not in log and "oom-kill" not in log
