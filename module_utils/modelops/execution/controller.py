"""Which process of this controller a run is, and whether that of another run is dead.

Standard library only. It tells at once of a run that was killed on this very machine. Where it does
not know (another machine, another container, no /proc) the time of the lock decides.
"""

from __future__ import annotations

import getpass
import multiprocessing
import os
import secrets
import socket
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identity(name: str) -> dict[str, Any]:
    """Return who a run of ansible-playbook is: `run` is random, so a run asks once and keeps it.

    Args:
        name: what the run is about, for people.
    """
    pid = process_id()
    return {
        "run": secrets.token_hex(16),
        "owner": f"{getpass.getuser()}@{socket.gethostname()} ({name}, process {pid})",
        "process": process(pid),
    }


def process_id() -> int:
    """Return the pid of ansible-playbook: a task's worker is a child of it."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent and parent.pid else os.getpid()


def process(pid: int) -> str:
    """Return what tells a living process from any other one: boot, PID namespace, PID, start.

    Two containers may have the boot and the PID in common, and a PID is used again. Empty where
    there is no such process, or no /proc.
    """
    place, start = _place(), _start(pid)
    return f"{place} {pid} {start}" if place and start else ""


def is_dead(said: str) -> bool:
    """Tell whether a process, as `process` named it, is known to be dead."""
    place, _, rest = said.rpartition(" ")[0].rpartition(" ")
    if not place or place != _place() or not rest.isdecimal():
        return False
    return process(int(rest)) != said


def _place() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start(pid: int) -> str:
    """Return when a process began, in ticks since boot (proc(5), field 22 of stat)."""
    try:
        # Its name, the second field, is in parentheses and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
