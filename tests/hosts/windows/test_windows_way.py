"""The whole way: a Windows builder over WinRM or SSH, three Linux hosts with systemd, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from bed import HOSTS, NET, bed
from fleet import CONFIG, MODELS, Fleet
from rootfs import ROOT
from windows_bed import WindowsBed, windows_bed

HOME = r"C:\SARAi_v2"
PAIR = ("agi_audio_core_int8.onnx", "agi_audio_core_int8.onnx.data")


class Site:
    """A Windows builder in the network of three Linux targets."""

    def __init__(self, fleet: Fleet, windows: WindowsBed, reached: dict[str, Any]) -> None:
        self.fleet, self.windows, self._reached = fleet, windows, reached
        self.models = windows.path(rf"{HOME}\models\onnx")

    def provision(self) -> None:
        """Give every host the FP32 pair, and the targets a service on it."""
        self.models.mkdir(parents=True)
        for file in self.fleet.builder.iterdir():
            file.rename(self.models / file.name)
        self.fleet.builder = self.models
        for host in HOSTS:
            self.fleet.provision(host)
        known = yaml.safe_load(self.fleet.bed.inventory.read_text())
        # As staging has it, but for where the bed is. The bed's Python has the packages already:
        # test_windows_runtime.py makes environments.
        builder = yaml.safe_load(
            (ROOT / "inventory/staging/group_vars/builder/main.yml").read_text()
        )
        kept = {key: value for key, value in builder.items() if not key.startswith("ansible_")}
        kept["ansible_python_interpreter"] = builder["ansible_python_interpreter"]
        del self._reached["ansible_python_interpreter"]
        builder = (
            kept
            | self._reached
            | {
                "sarai_builder_python": self.windows.python,
                "sarai_builder_base_python": self.windows.python,
            }
        )
        known["all"]["children"]["builder"]["hosts"] = {"pc": builder}
        self.fleet.bed.inventory.write_text(yaml.safe_dump(known))


@pytest.fixture(scope="module", params=["winrm", "ssh"])
def site(available, request) -> Iterator[Site]:
    name = f"w{os.getpid()}"
    with bed(name) as own, windows_bed(name, own.namespace, f"{NET}.1") as windows:
        by = {"winrm": windows.inventory_vars, "ssh": windows.ssh_vars}[request.param]
        site = Site(Fleet(own), windows, by())
        site.provision()
        yield site


@pytest.mark.sftp
def test_from_windows_to_three_hosts_and_back_without_it(site):
    fleet = site.fleet
    wanted = {"transfer_strategy": "sftp", "transfer_progress_s": 0.1, "quantize_progress_s": 0.5}
    no_runtime = "--skip-tags", "runtime"
    told = fleet.run("quantize.yml", *no_runtime, "--check", "--diff", **wanted)
    assert told.returncode == 0, told.stdout
    assert not (site.models / PAIR[0]).exists()
    assert {fleet.served(host) for host in HOSTS} == {"fp32"}
    # Slow enough to be seen: the pair has 2 MB.
    done = fleet.run("quantize.yml", *no_runtime, **wanted, transfer_rate=4e5)
    assert done.returncode == 0, done.stdout
    assert "measured on pc" in done.stdout
    assert "The reference did not use CUDAExecutionProvider" in done.stdout
    for host in HOSTS:
        assert (fleet.served(host), fleet.named(host)) == ("int8", "int8")
        for name in PAIR:
            there = fleet.bed.ssh(host, f"cat {MODELS}/{name}", text=False).stdout
            assert there == (site.models / name).read_bytes()
        assert f"sending to {fleet.bed.address(host)}" in done.stdout
        left = fleet.bed.ssh(host, "sudo find /var/lib/sarai-upload -type f -size +0").stdout
        assert left == ""
    again = fleet.run("quantize.yml", *no_runtime, **wanted)
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    for line in again.stdout.splitlines():
        assert "changed=" not in line or "changed=0" in line, again.stdout
    site.windows.down()
    back = fleet.run("rollback.yml")
    assert back.returncode == 0, back.stdout
    for host in HOSTS:
        assert (fleet.served(host), fleet.config(host)) == ("fp32", CONFIG)
