"""The memory of this process, and what is free.

Runs in a measured child process too (measuring.session): it imports the standard library only.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Return the largest resident set of this process so far, in bytes; None where unknown."""
    try:
        return resident()[1]
    except (KeyError, OSError):  # a /proc without this figure, or no /proc
        return None


def available_bytes() -> int | None:
    """Return the bytes that this process may take now without swapping; None where unknown.

    On Linux MemAvailable, or what is left of the limit of a cgroup that this process is in.
    """
    if sys.platform != "linux":
        known = memory_status()
        return known[0] if known else None
    free = sizes(Path("/proc/meminfo")).get("MemAvailable")
    return None if free is None else min([free, *_left_in_cgroups()])


def of_host() -> dict[str, int]:
    """Return the bytes in `used` and in `total` of this Linux host; nothing where unknown.

    Used is what is not available: caches that can be dropped count as free.
    """
    fields = sizes(Path("/proc/meminfo"))
    if not {"MemTotal", "MemAvailable"} <= fields.keys():
        return {}
    return {"used": fields["MemTotal"] - fields["MemAvailable"], "total": fields["MemTotal"]}


def sizes(path: Path) -> dict[str, int]:
    """Return the bytes by name that a file of /proc has in kB: meminfo, or of a process its status.

    Raises:
        OSError: it cannot be read.
    """
    lines = path.read_text(errors="replace").splitlines()
    rows = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {row[1]: int(row[2]) * 1024 for row in rows if row}


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


def resident() -> tuple[int, int]:
    """Return this process's resident memory in bytes: now, and the highest so far.

    On Linux VmRSS and VmHWM of /proc/self/status. `ru_maxrss` would be wrong: a child inherits
    the figure of the process that started it. On Windows the working set.
    """
    if sys.platform == "win32":
        return _windows_resident()
    fields = sizes(Path("/proc/self/status"))
    return fields["VmRSS"], fields["VmHWM"]


def _windows_resident() -> tuple[int, int]:
    if sys.platform != "win32":  # written so for mypy
        raise OSError("this is not Windows")
    import ctypes
    from ctypes import wintypes

    sizes = "peak now peak_paged paged peak_nonpaged nonpaged pagefile peak_pagefile"

    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS of psapi.h
        _fields_ = [(name, wintypes.DWORD) for name in ("size", "page_faults")]
        _fields_ += [(name, ctypes.c_size_t) for name in sizes.split()]

    counters = Counters()
    counters.size = ctypes.sizeof(counters)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    get = kernel.K32GetProcessMemoryInfo
    get.argtypes = [wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD]
    if not get(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
        raise ctypes.WinError(ctypes.get_last_error())
    return int(counters.now), int(counters.peak)


def memory_status() -> tuple[int, int] | None:
    """Return the bytes of memory that are available, and those that are installed."""
    if sys.platform != "win32":
        return None
    import ctypes
    from ctypes import wintypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [("length", wintypes.DWORD), ("load", wintypes.DWORD)]
        _fields_ += [
            (name, ctypes.c_uint64)
            for name in ("total", "available", "page", "page_left", "virtual", "left", "extended")
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available), int(status.total)
