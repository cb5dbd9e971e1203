"""What strains a service on its host: deaths, swap, neighbours, processor. Standard library only.

Nothing is told by words: deaths come from the journal's fields, all else from /proc and /sys.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..base.finding import Finding, finding
from ..base.processor import cpu
from ..base.units import size
from ..target import processes, units

# "The unit ... has entered the 'failed' state with result" (sd-messages.h,
# SD_MESSAGE_UNIT_FAILURE_RESULT); the field UNIT_RESULT says with which.
FAILURE = "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c"
OOM = "oom-kill"
SYSTEM = Path("/sys")
# Swap that a service may have without anybody noticing: pages of its start that nothing reads.
LITTLE_SWAP_BYTES = 64 << 20
LONGEST_JOURNAL = 1 << 20  # characters


def deaths(name: str, days: int, user: bool = False) -> dict[str, int] | None:
    """Return how often a unit failed in so many days, by systemd's result; `oom-kill` is one.

    Reads the journal across boots. None where this user may not read it.
    """
    field = "USER_UNIT" if user else "UNIT"
    asked = [f"{field}={units.check(name)}.service", FAILURE, f"--since=-{int(days)}d"]
    done = units.run(
        "journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=UNIT_RESULT",
        "--lines=1000", *asked,
    )  # fmt: skip
    if done.returncode:
        return None
    found: Counter[str] = Counter()
    for line in done.stdout[-LONGEST_JOURNAL:].splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found[str(entry.get("UNIT_RESULT", "unknown"))[:40]] += 1
    return dict(found)


def swapped(pids: Iterable[int]) -> int:
    """Return the bytes that processes have in swap (VmSwap, proc_pid_status(5))."""
    return sum(processes.size(pid, "status", "VmSwap") or 0 for pid in pids)


def look(name: str, manager: str, pids: Iterable[int], days: int) -> list[Finding]:
    """Return the rows on a service's host.

    Args:
        name: the unit.
        manager: `systemd`, `systemd_user`, or what keeps no journal.
        pids: the processes of the service.
        days: how far back deaths count.
    """
    rows = [_swap(swapped(pids)), _load(), _governor()]
    if manager in ("systemd", "systemd_user"):
        rows = [*_deaths(deaths(name, days, manager == "systemd_user"), days), *rows]
    return [row for row in rows if row]


def _deaths(found: Mapping[str, int] | None, days: int) -> list[Finding]:
    if found is None:
        remedy = "Let this user read the journal: add it to the group systemd-journal."
        check = f"failures of the unit, {days} days"
        return [finding(check, False, "not readable", "0", remedy, "advice", "failures")]
    killed = found.get(OOM, 0)
    others = {result: count for result, count in found.items() if result != OOM}
    told = ", ".join(f"{count} x {result}" for result, count in sorted(others.items())) or "0"
    return [
        finding(
            f"kills for want of memory, {days} days", not killed, killed, "0",
            "INT8 takes a quarter of FP32: see which model is served. Else give the unit more"
            " (MemoryMax=), or find what else grew: journalctl --dmesg --grep oom.",
            name="oom",
        ),
        finding(
            f"failures of the unit, {days} days", not others, told, "0",
            "Read why: journalctl --unit of the service, around these times.",
            level="advice", name="failures",
        ),
    ]  # fmt: skip


def _swap(used: int) -> Finding:
    return finding(
        "the service in swap", used <= LITTLE_SWAP_BYTES, size(used),
        f"<= {size(LITTLE_SWAP_BYTES)}",
        "The memory is too small for all that runs here, and each answer waits for the disk. End"
        " what is not needed, or lower vm.swappiness.",
        level="advice", name="swap",
    )  # fmt: skip


def _load() -> Finding:
    """Compare the load of five minutes with the processors: above them, processes wait."""
    load, cores = os.getloadavg()[1], cpu()["cores"]
    return finding(
        "load of 5 minutes", load <= cores, f"{load:.1f} on {cores} processors", f"<= {cores}",
        "Something else takes the processors, so answers are slow: see top. Measure again when it"
        " is quiet.",
        level="advice", name="load",
    )  # fmt: skip


def _governor() -> Finding | None:
    """Look at the frequency governor; with intel_pstate and amd-pstate-epp powersave is normal."""
    folder = SYSTEM / "devices/system/cpu/cpu0/cpufreq"
    try:
        governor = (folder / "scaling_governor").read_text().strip()
        driver = (folder / "scaling_driver").read_text().strip()
    except OSError:
        return None  # a virtual machine, mostly
    slow = governor == "powersave" and driver not in ("intel_pstate", "amd-pstate-epp")
    return finding(
        "the processor's frequency", not slow, f"{governor} ({driver})", "it rises with the work",
        "Let it rise: cpupower frequency-set --governor schedutil",
        level="advice", name="governor",
    )  # fmt: skip
