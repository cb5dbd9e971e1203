"""The peak memory of this process, and what is free."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from . import windows


def peak_rss_bytes() -> int | None:
    """Return the largest resident set of this process so far, in bytes; None where unknown.

    On Linux this is VmHWM of /proc/self/status and not ru_maxrss, because a child inherits the
    latter from its parent.
    """
    if sys.platform != "linux":
        return windows.peak_working_set()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def available_bytes() -> int | None:
    """Return the bytes that this process may take now without swapping; None where unknown.

    On Linux MemAvailable, or what is left of the limit of a cgroup that this process is in.
    """
    if sys.platform != "linux":
        return windows.available_memory()
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    if "MemAvailable" not in fields:
        return None
    return min([int(fields["MemAvailable"].split()[0]) * 1024, *_left_in_cgroups()])


def _left_in_cgroups(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what is left of each limit above this process (cgroup v2); cache can be dropped."""
    left: list[int] = []
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        group = root / own.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                most = int((folder / "memory.max").read_text())
                now = int((folder / "memory.current").read_text())
                stat = dict(li.split() for li in (folder / "memory.stat").read_text().splitlines())
                left.append(max(0, most - now + int(stat.get("inactive_file", 0))))
    return left
