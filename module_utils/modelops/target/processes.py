"""The processes of a service, as Linux's /proc tells of them. Standard library only.

What is read of a process may be gone, or another's, the next moment: then it counts as nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..base import memory

PROC = Path("/proc")
# Where systemd's cgroups lie: cgroup v2, and v1 with its named hierarchy.
CGROUPS = (
    Path("/sys/fs/cgroup"),
    Path("/sys/fs/cgroup/systemd"),
    Path("/sys/fs/cgroup/unified"),
)
# Fields of /proc/PID/stat after the name, which may hold spaces (proc_pid_stat(5)).
_STATE, _PARENT, _SESSION, _STARTED = 0, 1, 3, 19


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name; empty when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def started(pid: int) -> int:
    """Return when a process began, in ticks since the boot; 0 when it is gone or a zombie."""
    fields = stat(pid)
    return int(fields[_STARTED]) if fields and fields[_STATE] not in "ZX" else 0


def boot() -> str:
    """Return what tells this boot of the host from others: process ids begin anew with each."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def every() -> list[int]:
    """Return all processes that can be seen."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def with_children(pids: Iterable[int]) -> set[int]:
    """Return processes that live, and all that they started, directly or not."""
    below: dict[int, list[int]] = {}
    for pid in every():
        if fields := stat(pid):
            below.setdefault(int(fields[_PARENT]), []).append(pid)
    found: set[int] = set()
    todo = [pid for pid in pids if started(pid)]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += below.get(pid, [])
    return found


def of_session(session: int) -> set[int]:
    """Return the processes of a session that live: what `setsid` started, and its children."""
    return {
        pid
        for pid in every()
        if (fields := stat(pid)) and int(fields[_SESSION]) == session and started(pid)
    }


def of_cgroup(group: str) -> set[int]:
    """Return the processes of a cgroup and of those below it.

    Args:
        group: as systemd's property ControlGroup names it; empty has none.
    """
    found: set[int] = set()
    for folder in (root / group.lstrip("/") for root in CGROUPS if group.strip("/")):
        for procs in folder.rglob("cgroup.procs"):
            try:
                found.update(int(line) for line in procs.read_text().split())
            except OSError:
                continue
    return found - {0}  # a process of another PID namespace


def owner(pid: int) -> int | None:
    """Return the user id that a process runs as."""
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def memory_bytes(pids: Iterable[int]) -> int | None:
    """Return the memory that processes hold together; None when it cannot be read of any.

    What several share counts once (Pss, proc_pid_smaps(5)); where that is not to be had, VmRSS.
    """
    found = [size for pid in pids if (size := _memory(pid)) is not None]
    return sum(found) if found else None


def _memory(pid: int) -> int | None:
    for name, field in (("smaps_rollup", "Pss"), ("status", "VmRSS")):
        if (found := size(pid, name, field)) is not None:
            return found
    return None


def size(pid: int, name: str, field: str) -> int | None:
    """Return a size in bytes that a file of a process tells; None where it does not."""
    with suppress(OSError):
        return memory.sizes(PROC / str(pid) / name).get(field)
    return None


def mapped(pid: int) -> set[tuple[int, int, str]]:
    """Return the files that a process has in its memory: device, inode and path of each."""
    try:
        lines = (PROC / str(pid) / "maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[4] != "0":
            major, minor = (int(number, 16) for number in parts[3].split(":"))
            path = parts[5].removesuffix(" (deleted)")
            found.add((os.makedev(major, minor), int(parts[4]), path))
    return found


def opened(pid: int) -> set[tuple[int, int, str]]:
    """Return the files that a process holds open: device, inode and path of each."""
    found = set()
    try:
        handles = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return set()
    for handle in handles:
        try:
            about, path = handle.stat(), os.readlink(handle)
        except OSError:
            continue
        found.add((about.st_dev, about.st_ino, path.removesuffix(" (deleted)")))
    return found
