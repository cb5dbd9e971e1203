"""The bed itself: each of its operations, and that nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bed import HOSTS, Bed, bed, unavailable
from rootfs import HERE, cached

if unavailable() and not os.environ.get("CI"):
    pytest.skip(unavailable(), allow_module_level=True)


def traces() -> dict[str, object]:
    """What a bed could leave behind on this machine."""
    groups = [p for p in Path("/sys/fs/cgroup").glob("*/*") if p.is_dir() and p.name[0] == "b"]
    return {
        "mounts": sorted(Path("/proc/self/mounts").read_text().splitlines()),
        "namespaces": subprocess.check_output(["ip", "netns"], text=True),
        "links": subprocess.check_output(["ip", "-brief", "link"], text=True),
        "routes": subprocess.check_output(["ip", "route", "show", "table", "all"], text=True),
        "loops": subprocess.check_output(["losetup", "--list", "--noheadings"], text=True),
        "cgroups": sorted(map(str, groups)),
        "processes": [
            p.name for p in Path("/proc").glob("[0-9]*") if b"bed-systemd" in _command(p)
        ],
    }


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_operations_and_traces():
    cached()  # what looks for traces is among what it installs
    before = traces()
    with bed(f"b{os.getpid()}") as own:
        assert own.ssh("h1", "cat /proc/1/comm").stdout.strip() == "systemd"
        assert "running" in own.ssh("h2", "systemctl is-system-running --wait").stdout
        own.ssh("h1", "sudo journalctl -n 1")
        own.cut("h2")
        assert own.ssh("h2", "true", check=False).returncode == 255
        assert own.ssh("h1", "true").returncode == 0
        own.heal("h2")
        own.wait("h2")
        own.ssh("h3", "echo kept > SARAi_v2/models/kept && sync")
        own.crash("h3")
        assert not own.alive("h3")
        own.boot("h3")
        assert own.ssh("h3", "cat SARAi_v2/models/kept").stdout == "kept\n"
        # A read-only disk that the kernel lets go of a moment after the host has ended.
        own.ssh("h3", "sudo mount -o remount,ro SARAi_v2/models")
        inside = (own.state / "h3.pid").read_text().split()[0]
        holder = subprocess.Popen(["nsenter", "--mount", "--target", inside, "sleep", "2"])
        time.sleep(0.5)
        own.crash("h3")
        own.boot("h3")
        own.ssh("h3", "touch SARAi_v2/models/kept")
        holder.wait()
        own.poweroff("h1")
        own.boot("h1")
        full = own.ssh("h1", "dd if=/dev/zero of=SARAi_v2/models/fill bs=1M", check=False)
        assert "No space left" in full.stderr
        own.slow("h1", "8mbit")
        started = time.monotonic()
        own.put("h1", bytes(2 << 20), "/tmp/slow")
        assert time.monotonic() - started > 1.5
        # Another name is not known to its strict list of host keys.
        options = ["-F", own.state / "ssh_config", "-o", "HostKeyAlias=other"]
        assert own.exec("ssh", *options, "h2", "true", check=False).returncode == 255
        ansible = str(Path(sys.executable).with_name("ansible"))
        ping = own.exec(ansible, "-i", own.inventory, "targets", "-m", "ansible.builtin.ping")
        assert ping.stdout.count("pong") == len(HOSTS)
    assert not own.state.exists()
    assert traces() == before


def test_a_killed_bed_is_found_again():
    before = traces()
    name = f"b{os.getpid()}k"
    starting = subprocess.Popen(
        [sys.executable, HERE / "bed.py", "--name", name, "up"], stderr=subprocess.DEVNULL
    )
    time.sleep(2.5)
    starting.kill()
    starting.wait()
    Bed(name).down()
    assert traces() == before
