"""Services that are no units of the system: a user's own unit, and commands such as nohup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bed import PYTHON
from fleet import ADOPT, CONFIG, ONE, Fleet, run_until, until, went_back
from rootfs import HERE, HOME

# No right of root is used: whoever asks for it fails.
NO_SUDO = {"ansible_become_exe": "/bin/false"}
USER_UNIT = {"sarai_service_manager": "systemd_user", **NO_SUDO}
APP = "app/service.py"
NOHUP = f"env ORT_DISABLE_TELEMETRY=1 nohup {PYTHON} /opt/sarai/{APP} {HOME}"
COMMANDS = {
    "sarai_service_manager": "command",
    "sarai_service_commands": {"start": NOHUP, "status": ["pgrep", "-f", APP]},
    **NO_SUDO,
}


@pytest.fixture
def user_unit(fleet) -> Iterator[Fleet]:
    """On h1 the service is a unit of a user who stays without a login."""
    fleet.bed.ssh("h1", "sudo systemctl disable --quiet --now sarai")
    fleet.bed.ssh("h1", "sudo loginctl enable-linger")
    unit = (HERE / "sarai/sarai.service").read_text().replace("User=noel\n", "")
    unit = unit.replace("multi-user.target", "default.target")
    fleet.bed.put("h1", unit, ".config/systemd/user/sarai.service")
    until(lambda: user(fleet, "daemon-reload"), 20, "there is no systemd of the user")
    assert user(fleet, "enable --quiet --now sarai")
    yield fleet
    user(fleet, "disable --now sarai modelops-revert@agi_audio_core.timer")
    fleet.bed.ssh("h1", "rm -r .config/systemd; sudo loginctl disable-linger")


def user(fleet: Fleet, command: str) -> bool:
    call = f"XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user {command}"
    return fleet.bed.ssh("h1", call, check=False).returncode == 0


@pytest.fixture
def by_hand(fleet) -> Iterator[Fleet]:
    """On h1 the owner has started the service by hand."""
    fleet.bed.ssh("h1", "sudo systemctl disable --quiet --now sarai")
    fleet.bed.ssh("h1", f"cd {HOME}; {NOHUP} > by-hand.log 2>&1 < /dev/null &")
    until(lambda: fleet.served("h1") == "fp32", 30, "the service does not start")
    yield fleet
    fleet.bed.ssh("h1", f"pkill -KILL -f {APP}; rm {HOME}/by-hand.log", check=False)


def out_and_back(fleet: Fleet, **manager: Any) -> None:
    """Release, release again, roll back; each proven by what the processes serve."""
    done = fleet.run("quantize.yml", *ONE, **ADOPT, **manager)
    assert done.returncode == 0, done.stdout
    assert "(mapped): its processes have the release mapped" in " ".join(done.stdout.split())
    assert (fleet.served("h1"), fleet.named("h1")) == ("int8", "int8")
    again = fleet.run("quantize.yml", *ONE, **ADOPT, **manager)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    back = fleet.run("rollback.yml", "--limit", "h1,localhost", **manager)
    assert back.returncode == 0, back.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)


def nobody_commits(fleet: Fleet, **manager: Any) -> None:
    """The controller is lost in the middle of a run: the target goes back by itself."""
    process = run_until(fleet, "validation", activate_confirm_s=8, **manager)
    process.kill()
    process.communicate()
    went_back(fleet)


def test_a_unit_of_the_user(user_unit):
    out_and_back(user_unit, **USER_UNIT)
    nobody_commits(user_unit, **USER_UNIT)


def test_a_service_that_commands_start(by_hand):
    out_and_back(by_hand, **COMMANDS)
    nobody_commits(by_hand, **COMMANDS)
