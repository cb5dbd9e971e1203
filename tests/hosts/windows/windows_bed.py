"""A builder that runs Windows: real Windows CPython under Wine, behind a WinRM server double.

    python tests/hosts/windows/windows_bed.py up | down | vars [--name NAME]

What is real and what is played stands in docs/windows-fidelity.md. The state of a bed is a folder:
`prefix` (drive C: is `prefix/drive_c`), `host.json`, `ca.pem`, `server.pem`, `expired.pem`,
`ssh_key`, `known_hosts`, `faults.json` (what a test breaks), `log` (what clients asked for, a JSON
list a line).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import credentials
import wine
from winrm_double.programs import Programs

HERE = Path(__file__).resolve().parent
STATES = Path("/var/tmp/modelops-bed")
USER = "sarai-builder"
# Changed in place by whoever runs in the prefix: everything else may be shared with the cache.
OWN = ("*.reg", ".update-timestamp")


def unavailable() -> str:
    """Return why there can be no bed on this machine, or an empty text."""
    if os.geteuid() != 0:
        return "the Windows test bed needs root"
    if not Path("/etc/debian_version").exists():
        return "the Windows test bed needs Debian"
    return ""


class WindowsBed:
    """One host, found again by its name whatever became of the process that started it.

    Args:
        netns: the network namespace that it lives in; without one this machine's loopback.
        address: where it listens.
    """

    python = rf"C:\{wine.PYTHON}\python.exe"

    def __init__(self, name: str = "win", netns: str = "", address: str = "127.0.0.1") -> None:
        self.name, self._netns, self._address = name, netns, address
        self.state = STATES / f"windows-{name}"
        self.prefix = self.state / "prefix"

    def up(self) -> None:
        """Build what is not cached, and start the host."""
        self.down()
        cache = wine.cached()
        while not self.state.exists():
            # Another bed that goes down removes the folder above when that is empty.
            with contextlib.suppress(FileNotFoundError):
                self.state.mkdir(parents=True)
        self.state.chmod(0o700)
        shutil.copytree(cache, self.prefix, symlinks=True, copy_function=_shared)
        credentials.certificates(self.state, self._address)
        credentials.ssh_keys(self.state)
        environment = wine.environment(self.prefix)
        host = {
            "user": USER, "password": secrets.token_urlsafe(18), "address": self._address,
            "environment": environment,
        }  # fmt: skip
        (self.state / "host.json").write_text(json.dumps(host))
        self._break(boot=0)
        # Wine's server opens all sockets: whoever starts it first decides in which network.
        inside = ["nsenter", f"--net=/run/netns/{self._netns}", "--"] if self._netns else []
        command = [*inside, sys.executable, "-m", "winrm_double", str(self.state)]
        with (self.state / "double.log").open("wb") as said:
            process = subprocess.Popen(
                command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        (self.state / "pid").write_text(f"{process.pid} {_started(process.pid)}")
        deadline = time.monotonic() + 60
        while not (self.state / "ports").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((self.state / "double.log").read_text())
            time.sleep(0.05)
        # Wine's services start with the first program, which the first call need not wait for.
        wine.run(*inside, "wine", self.python, "-c", "", env=environment)

    def down(self) -> None:
        """End everything that a bed of this name ever started, also after a kill."""
        with contextlib.suppress(OSError, ValueError):
            pid, started = (self.state / "pid").read_text().split()
            if _started(int(pid)) == started:
                os.kill(int(pid), signal.SIGKILL)
        if self.prefix.exists():
            self._end_programs()
            found = self.prefix.stat()  # Wine's server names its folder after the prefix
            own = f"*wine-*/server-{found.st_dev:x}-{found.st_ino:x}"
            for folder in Path(tempfile.gettempdir()).glob(own):
                shutil.rmtree(folder, ignore_errors=True)
        if self.state.exists():
            shutil.rmtree(self.state)
        with contextlib.suppress(OSError):
            STATES.rmdir()

    # -- talking to it

    def inventory_vars(self, scheme: str = "https") -> dict[str, Any]:
        """Return the variables with which Ansible reaches the host."""
        host = json.loads((self.state / "host.json").read_text())
        ports = json.loads((self.state / "ports").read_text())
        return {
            "ansible_connection": "winrm",
            "ansible_host": self._address,
            "ansible_port": ports[scheme == "http"],
            "ansible_winrm_scheme": scheme,
            "ansible_winrm_transport": ["ntlm"],
            "ansible_winrm_server_cert_validation": "validate",
            "ansible_winrm_ca_trust_path": str(self.state / "ca.pem"),
            "ansible_user": host["user"],
            "ansible_password": host["password"],
            "ansible_python_interpreter": self.python,
        }

    def ssh_vars(self) -> dict[str, Any]:
        """Return the variables with which Ansible reaches the host over SSH."""
        port = json.loads((self.state / "ports").read_text())[2]
        return {
            "ansible_connection": "ssh",
            "ansible_shell_type": "powershell",
            "ansible_host": self._address,
            "ansible_port": port,
            "ansible_user": "root",  # of this machine; in Wine everybody is
            "ansible_ssh_private_key_file": str(self.state / "ssh_key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.state / 'known_hosts'}",
            "ansible_python_interpreter": self.python,
        }

    def path(self, name: str) -> Path:
        """Return where a path of the host lies on this machine."""
        return Programs(self.prefix, {}, USER).path(name)

    def log(self) -> list[list[Any]]:
        """Return what clients asked for so far."""
        path = self.state / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # -- breaking it

    def drop(self, seconds: float) -> None:
        """Close every connection without an answer, for so long."""
        self._break(drop_until=time.time() + seconds)

    def slow(self, seconds: float) -> None:
        """Let every answer take so much longer."""
        self._break(slow_s=seconds)

    def quota(self, **quotas: int) -> None:
        """Set limits other than those of a stock Windows 11, such as MaxMemoryPerShellMB."""
        self._break(quotas=quotas)

    def certificate(self, name: str) -> None:
        """Show another certificate: `server`, `expired` or `stranger` (of another CA)."""
        self._break(certificate=name)
        time.sleep(0.3)

    def stop_service(self) -> None:
        self._break(stopped=True)
        time.sleep(0.3)

    def start_service(self) -> None:
        self._break(stopped=False)
        time.sleep(0.3)

    def reboot(self, seconds: float = 2) -> None:
        """End every program, lose every shell, and be gone for so long. Files stay as they are."""
        self._break(stopped=True, off=True)
        time.sleep(0.3)
        self._end_programs()
        time.sleep(seconds)
        self._break(boot=time.time(), stopped=False, off=False)
        time.sleep(0.5)

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Let nothing of it run or answer, as a PC that sleeps; then it goes on where it was."""
        pids = [int((self.state / "pid").read_text().split()[0]), *self._programs()]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def small_disk(self, name: str, megabytes: int) -> Iterator[None]:
        """Let a folder of the host be a disk of its own, of so many megabytes."""
        folder = self.path(name)
        command = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "bed", str(folder))
        subprocess.run(command, check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def mend(self) -> None:
        """Undo whatever was broken."""
        whole = {"drop_until": 0, "slow_s": 0, "quotas": {}, "certificate": "server"}
        whole |= {
            "stopped": False,
            "off": False,
            "refusals": [],
            "spanish": False,
            "pending": False,
        }
        if json.loads((self.state / "faults.json").read_text()).items() >= whole.items():
            return
        self._break(**whole)
        time.sleep(0.3)

    def speak_spanish(self, spanish: bool = True) -> None:
        """Let Windows speak Spanish where it speaks for itself."""
        self._break(spanish=spanish)

    def queue(self) -> None:
        """Let each command say first that it waits for its turn (CommandState/Pending)."""
        self._break(pending=True)

    def refuse(self, on: str, times: int = 1, **how: Any) -> None:
        """Let WinRM refuse an action (Create, Command, Send, Receive) some times.

        Args:
            how: the `code` of a fault (refusals.TEXTS; in `spanish`), or the status `http`.
        """
        self._break(refusals=[{"id": uuid.uuid4().hex, "on": on, "times": times, **how}])

    def _break(self, **faults: Any) -> None:
        path = self.state / "faults.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known | faults))
        part.replace(path)

    def _end_programs(self) -> None:
        environment = wine.environment(self.prefix)
        subprocess.run(["wineserver", "-k"], env=environment, check=False, timeout=60)
        subprocess.run(["wineserver", "-w"], env=environment, check=False, timeout=60)
        for pid in self._programs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _programs(self) -> list[int]:
        """Return the processes of the prefix."""
        mark, found = f"WINEPREFIX={self.prefix}\0".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found


@contextlib.contextmanager
def windows_bed(name: str, netns: str = "", address: str = "127.0.0.1") -> Iterator[WindowsBed]:
    """Give a host and leave nothing of it behind."""
    bed = WindowsBed(name, netns, address)
    try:
        bed.up()
        yield bed
    finally:
        bed.down()


def _shared(source: str, dest: str) -> None:
    """Share a file with the cache, unless Wine changes it in place."""
    if any(Path(source).match(pattern) for pattern in OWN):
        shutil.copy2(source, dest)
    else:
        os.link(source, dest)


def _started(pid: int) -> str:
    """Return when a process started, which with its id names it for good."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["up", "down", "vars"])
    parser.add_argument("--name", default="win")
    options = parser.parse_args()
    if not re.fullmatch(r"\w+", options.name):
        parser.error("a name is letters and digits")
    bed = WindowsBed(options.name)
    if options.do == "down":
        bed.down()
        return
    if options.do == "up":
        bed.up()
    print(json.dumps(bed.inventory_vars(), indent=1))


if __name__ == "__main__":
    main()
