"""How a measuring process keeps from hurting what else runs on its host. Standard library only.

Where systemd answers, the process runs in a scope of its own: a limit of memory, no swap, the
lowest weight of processor and disk. Everywhere on Linux it is the first that the kernel kills, with
the lowest priority (session_child.be_modest); on Windows its priority is below normal.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROBE_S = 10
SYSTEMD = Path("/run/systemd/system")
# Beyond what was computed: a limit is there to keep the host, not to be met.
SLACK = 1.25
LEAST = 256_000_000
FREE_SHARE = 0.8


def limit(needed: int, available: int | None = None, processes: int = 1) -> int:
    """Return the limit of memory in bytes for a process that should need so many.

    What a run needs beside weights and outputs of known shape is not known before: the process may
    take its part of what is free, of which the host keeps a fifth.
    """
    part = int((available or 0) * FREE_SHARE) // processes
    return max(int(needed * SLACK), needed + LEAST, part)


def scope(limit_bytes: int | None) -> list[str]:
    """Return what to put before a command so that it runs in a limited scope, if it can."""
    if not limit_bytes:
        return []
    manager = _manager()
    return _command(manager, limit_bytes) if manager else []


def protection(limit_bytes: int | None) -> str:
    """Say what protects the host."""
    if sys.platform == "win32":
        return "priority below normal"
    modest = "first to be killed, lowest priority"
    if scope(limit_bytes):
        return f"a cgroup of at most {limit_bytes} bytes of memory without swap, {modest}"
    return modest


def _command(manager: str, limit_bytes: int) -> list[str]:
    values = {
        "MemoryMax": limit_bytes, "MemorySwapMax": 0, "CPUWeight": 1, "IOWeight": 1,
    }  # fmt: skip
    options = [f"--property={name}={value}" for name, value in values.items()]
    program = shutil.which("systemd-run") or "systemd-run"
    return [program, manager, "--scope", "--quiet", "--collect", *options, "--"]


@functools.cache
def _manager() -> str:
    """Return the option of the systemd that takes a scope from this user; nothing without one."""
    if sys.platform != "linux" or not SYSTEMD.is_dir() or not shutil.which("systemd-run"):
        return ""
    manager = "--user"
    if sys.platform == "linux" and os.geteuid() == 0:
        manager = "--system"
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [*_command(manager, LEAST), "true"], timeout=PROBE_S, capture_output=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return manager if done.returncode == 0 else ""
