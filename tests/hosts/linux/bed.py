"""Real Debian hosts on this machine: systemd as PID 1, sshd, sudo, journald. Needs root and Debian.

    python tests/hosts/linux/bed.py up | down | status | ssh HOST COMMAND... | exec COMMAND...
    python tests/hosts/linux/bed.py cut | heal | crash | poweroff | boot HOST, slow HOST RATE

Three systemd-nspawn hosts h1 to h3 hang on a bridge in a network namespace of their own: nothing
outside of it is addressed, and whatever talks to them runs in it (`exec`). Each host has a disk for
the models, an ext4 image of DISK_MB on a loop device, so that a full disk is a real one.
rootfs.py builds what they boot from.

The hosts share this machine's kernel. `crash` kills every process of a host at once, as a power cut
does; what it had handed to the kernel survives, so lost writes are not shown here
(tests/unit/test_quantize_faults.py and test_release_crash.py model those).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from kernel import is_running, namespaces, remove_cgroup, start_of, until
from rootfs import HERE, HOME, USER, cached, run

STATES = Path("/var/tmp/modelops-bed")  # not /tmp: guests have one of their own
NAMESPACES = Path("/run/netns")
HOSTS = ("h1", "h2", "h3")
DISK_MB = 400
PYTHON = "/opt/sarai/venv/bin/python"
NET = "10.77.0"  # inside the namespace only


def unavailable() -> str:
    """Return why there can be no bed on this machine, or an empty text."""
    if os.geteuid() != 0:
        return "the test bed needs root"
    if not Path("/etc/debian_version").exists():
        return "the test bed needs Debian"
    return ""


class Bed:
    """Three hosts, found again by their name whatever became of the process that started them."""

    def __init__(self, name: str = "bed") -> None:
        self.name = name
        self.state = STATES / name
        self.namespace = f"{name}-ctl"
        self.inventory = self.state / "hosts.yml"

    # -- the whole bed

    def up(self) -> None:
        """Build what is not cached, start the hosts and wait for their sshd."""
        self.down()
        rootfs, site = cached()
        while not self.state.exists():
            # Another bed that goes down removes the folder above when that is empty.
            with contextlib.suppress(FileNotFoundError):
                self.state.mkdir(parents=True)
        (self.state / "rootfs").symlink_to(rootfs)
        (self.state / "site").symlink_to(site)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bed", "-f", self.state / "id")
        self._network()
        for host in HOSTS:
            self._configure(host)
        (self.state / "ssh_config").write_text(self._ssh_config())
        self.inventory.write_text(yaml.safe_dump(self._inventory()))
        for host in HOSTS:
            self._start(host)
        for host in HOSTS:
            self.wait(host)

    def down(self) -> None:
        """End everything that a bed of this name ever started, also after a kill."""
        for host in HOSTS:
            with contextlib.suppress(SystemExit):
                self.crash(host)
        if (NAMESPACES / self.namespace).exists():
            # Shared SSH connections outlive the playbook that opened them.
            for pid in run("ip", "netns", "pids", self.namespace).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for name in (*(f"{self.name}-{host}" for host in HOSTS), self.namespace):
            if (NAMESPACES / name).exists():
                run("ip", "netns", "delete", name, check=False)
        with namespaces():
            # The first `ip netns add` of a machine makes this a mount of its own.
            if NAMESPACES.exists() and not any(NAMESPACES.iterdir()):
                run("umount", NAMESPACES, check=False)
        for group in Path("/sys/fs/cgroup").glob(f"*/{self.name}"):
            remove_cgroup(group)
        if self.state.exists():
            shutil.rmtree(self.state)
        with contextlib.suppress(OSError):
            STATES.rmdir()

    # -- one host

    def alive(self, host: str) -> bool:
        pid = self._pid(host)
        return pid is not None and is_running(pid)

    def boot(self, host: str) -> None:
        """Start a host that was crashed or powered off; its disks are as they were."""
        self._start(host)
        self.wait(host)

    def crash(self, host: str) -> None:
        """Pull the power: every process of the host ends at once."""
        pid = self._pid(host)
        if pid is not None and is_running(pid):
            os.kill(pid, signal.SIGKILL)  # the host's PID namespace goes with it
        until(lambda: self._is_off(host), 20, f"{host} does not end")

    def poweroff(self, host: str) -> None:
        self.ssh(host, "sudo systemctl poweroff", check=False)
        until(lambda: self._is_off(host), 60, f"{host} does not power off")

    def cut(self, host: str) -> None:
        self._ip("link", "set", host, "down")

    def heal(self, host: str) -> None:
        self._ip("link", "set", host, "up")
        run("tc", "-n", self.namespace, "qdisc", "del", "dev", host, "root", check=False)

    def slow(self, host: str, rate: str) -> None:
        """Limit the link to a rate such as 40mbit."""
        run(
            "tc", "-n", self.namespace, "qdisc", "replace", "dev", host, "root",
            "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms",
        )  # fmt: skip

    def memory_in_use(self, host: str) -> int:
        """Return the bytes that a host holds and cannot give back: all but its pages of files.

        Sockets, tables of pages and files in memory count: the kernel's limit counts them too.
        """
        for group in self._memory_groups(host):
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            old = "total_inactive_file" in stat  # cgroup version 1
            used = group / ("memory.usage_in_bytes" if old else "memory.current")
            names = ("inactive_file", "active_file", "slab_reclaimable")
            back = sum(int(stat.get(f"total_{name}" if old else name, 0)) for name in names)
            return int(used.read_text()) - back
        raise SystemExit(f"no cgroup of {host} counts memory")

    def limit_memory(self, host: str, limit: int | None) -> None:
        """Let a host have so many bytes of memory; None lets it have all again."""
        for group in self._memory_groups(host):
            for name, none in (("memory.limit_in_bytes", "-1"), ("memory.max", "max")):
                if (group / name).exists():
                    (group / name).write_text(none if limit is None else str(limit))

    def set_clock(self, host: str, days: int) -> None:
        """Set every process that starts from now on so many days off, sshd's included; 0 mends it.

        The hosts share this kernel's clock, so it is libfaketime that lies to them, not the kernel.
        """
        library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
        lie = f"echo {days:+d}d > /etc/faketimerc; echo {library} > /etc/ld.so.preload"
        command = lie if days else "rm -f /etc/ld.so.preload"
        self.ssh(host, f"sudo sh -c '{command}; systemctl restart ssh'")

    def wait(self, host: str) -> None:
        """Wait until a host can be logged in to."""

        def there() -> bool:
            if not self.alive(host):
                console = (self.state / f"{host}.console").read_text(errors="replace")
                raise SystemExit(f"{host} died:\n{console[-2000:]}")
            return self.ssh(host, "true", check=False).returncode == 0

        until(there, 90, f"no login on {host}")

    # -- talking to them

    def command(self, *command: object) -> list[str]:
        """Return a command line that runs in the bed's network."""
        net = f"--net={NAMESPACES / self.namespace}"
        return ["nsenter", net, "--", *(str(part) for part in command)]

    def exec(self, *command: object, check: bool = True, **options: object):
        return run(*self.command(*command), check=check, **options)

    def ssh(self, host: str, command: str, check: bool = True, **options: object):
        arguments = ["ssh", "-F", self.state / "ssh_config", host, command]
        return self.exec(*arguments, check=check, **options)

    def put(self, host: str, content: str | bytes, path: str) -> None:
        """Write a file as the owner of the models."""
        data = content.encode() if isinstance(content, str) else content
        command = f"mkdir -p $(dirname {path}) && cat > {path}"
        self.ssh(host, command, input=data, text=False, stdin=None)

    def address(self, host: str) -> str:
        return f"{NET}.{10 + int(host[1:])}"

    # -- how it is made

    def _memory_groups(self, host: str) -> list[Path]:
        found = list(Path("/sys/fs/cgroup").glob(f"*/{self.name}/{host}"))
        return [group for group in found if (group / "memory.stat").exists()]

    def _pid(self, host: str) -> int | None:
        path = self.state / f"{host}.pid"
        if not path.exists():
            return None
        pid, started = path.read_text().split()
        return int(pid) if start_of(int(pid)) == started else None

    def _is_off(self, host: str) -> bool:
        """Return whether a host has ended and its disk is free.

        The kernel unmounts the disk some time after the last process of the host is gone. A host
        that starts before that gets the disk as it is mounted, or none when that is read-only.
        """
        if self.alive(host):
            return False
        disk = str(self.state / f"{host}.img")
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):  # let go meanwhile
                if backing.read_text().strip().removesuffix(" (deleted)") == disk:
                    return False
        return True

    def _ip(self, *arguments: object) -> None:
        run("ip", "-n", self.namespace, *arguments)

    def _network(self) -> None:
        with namespaces():
            run("ip", "netns", "add", self.namespace)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "br0", "type", "bridge")
        self._ip("addr", "add", f"{NET}.1/24", "dev", "br0")
        self._ip("link", "set", "br0", "up")
        for host in HOSTS:
            own = f"{self.name}-{host}"
            run("ip", "netns", "add", own)
            veth = ["link", "add", host, "type", "veth", "peer", "name", "host0", "netns", own]
            self._ip(*veth)
            for command in (
                ["link", "set", "lo", "up"],
                ["addr", "add", f"{self.address(host)}/24", "dev", "host0"],
                ["link", "set", "host0", "up"],
            ):
                run("ip", "-n", own, *command)
            self._ip("link", "set", host, "master", "br0")
            self._ip("link", "set", host, "up")

    def _configure(self, host: str) -> None:
        folder = self.state / f"{host}.d"
        folder.mkdir()
        key = folder / "ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", key)
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        with (self.state / "known_hosts").open("a") as known:
            known.write(f"{self.address(host)} {public}\n")
        shutil.copy(self.state / "id.pub", folder / "authorized_keys")
        names = "\n".join(f"{self.address(other)} {other}" for other in HOSTS)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host}\n{names}\n")
        (folder / "hostname").write_text(f"{host}\n")
        image = self.state / f"{host}.img"
        with image.open("wb") as disk:
            disk.truncate(DISK_MB << 20)
        run("mkfs.ext4", "-q", "-m", "0", image)

    def _start(self, host: str) -> None:
        environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "BED": self.name, "BED_HOST": host,
            "BED_STATE": str(self.state), "BED_HOME": HOME,
            "BED_ROOTFS": str((self.state / "rootfs").resolve()),
            "BED_SITE": str((self.state / "site").resolve()), "BED_APP": str(HERE / "sarai"),
        }  # fmt: skip
        isolation = ["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private"]
        with (self.state / f"{host}.console").open("ab") as console:
            process = subprocess.Popen(
                ["unshare", *isolation, "--mount-proc", "bash", HERE / "boot.sh"],
                env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                start_new_session=True,
            )  # fmt: skip
        text = f"{process.pid} {start_of(process.pid)}"
        (self.state / f"{host}.pid").write_text(text)

    def _ssh_config(self) -> str:
        lines = [
            "Host *", f"  User {USER}", f"  IdentityFile {self.state}/id", "  IdentitiesOnly yes",
            f"  UserKnownHostsFile {self.state}/known_hosts", "  StrictHostKeyChecking yes",
            "  BatchMode yes", "  LogLevel ERROR", "  ConnectTimeout 5",
            "  ServerAliveInterval 5", "  ServerAliveCountMax 2",
        ]  # fmt: skip
        for host in HOSTS:
            lines += [f"Host {host}", f"  HostName {self.address(host)}"]
        return "\n".join(lines) + "\n"

    def _inventory(self) -> dict:
        hosts = {host: {"ansible_host": self.address(host)} for host in HOSTS}
        common = f"-F {self.state}/ssh_config"
        return {
            "all": {
                "vars": {"sarai_home": HOME},
                "children": {
                    "builder": {
                        "hosts": {
                            "control": {
                                "ansible_connection": "local",
                                "ansible_python_interpreter": sys.executable,
                                "sarai_builder_python": sys.executable,
                                "sarai_builder_dir": str(self.state / "builder"),
                            }
                        }
                    },
                    "targets": {
                        "hosts": hosts,
                        "vars": {
                            "ansible_user": USER,
                            "ansible_python_interpreter": "/usr/bin/python3",
                            "ansible_ssh_common_args": common,
                            "ansible_ssh_private_key_file": str(self.state / "id"),
                            "sarai_python": PYTHON,
                            "sarai_service_manager": "systemd",
                        },
                    },
                },
            }
        }


@contextlib.contextmanager
def bed(name: str = "bed") -> Iterator[Bed]:
    """Give a bed that is up, and take it down whatever happens."""
    own = Bed(name)
    try:
        own.up()
        yield own
    finally:
        own.down()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.add_argument("--name", default="bed")
    given = parser.parse_args()
    why = unavailable()
    if why:
        raise SystemExit(why)
    own = Bed(given.name)
    if given.command == "status":
        for host in HOSTS:
            print(host, "up" if own.alive(host) else "down")
        return 0
    if given.command in ("ssh", "exec"):
        arguments = given.arguments
        if given.command == "ssh":
            arguments = ["ssh", "-F", str(own.state / "ssh_config"), *arguments]
        return subprocess.run(own.command(*arguments), check=False).returncode
    if given.command not in ("up", "down", "cut", "heal", "slow", "crash", "poweroff", "boot"):
        parser.error(f"unknown command {given.command}")
    getattr(own, given.command)(*given.arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
