"""The processor: its name, how many cores this process may use, and what makes INT8 fast there."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
# As Linux calls them: vectors, and products of INT8 on them. asimddp is Arm's dotprod.
X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
ARM = ("asimddp", "i8mm")
# Those that multiply and add up four INT8 values in one step. With avx2 alone INT8 was 2.0 times as
# fast as FP32 at 128 steps, with avx512_vnni 2.4 to 6 times (docs/benchmarks.md).
FAST = ("avx_vnni", "avx512_vnni", "amx_int8", *ARM)


def cpu() -> dict[str, Any]:
    """Return the processor's `model` and the `cores` that this process may use.

    Also its `features`, those of X86 and ARM, where the system tells them (Windows does not).
    """
    told = _told()
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    model = told.get("model name") or platform.processor() or platform.machine()
    words = (told.get("flags") or told.get("Features") or "").split()
    features = {"features": [name for name in (*X86, *ARM) if name in words]} if words else {}
    return {"model": model, "cores": cores, **features}


def _told() -> dict[str, str]:
    """Return what the kernel says of the first core."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def lacking(features: Collection[str]) -> list[str]:
    """Return those features that a processor of this kind could have and has not."""
    kind = ARM if any(name in ARM for name in features) else X86
    return [name for name in kind if name not in features]


def shown(machine: Mapping[str, Any]) -> str:
    """Return the processor in one line for people."""
    features = ", ".join(machine.get("features", [])) or "no features known"
    return f"{machine['cores']} x {machine['model']} ({features})"
