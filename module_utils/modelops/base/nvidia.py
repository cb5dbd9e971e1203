"""NVIDIA's GPUs of this machine, as its driver lists them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .programs import ask

SMI = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
TAIL = 300  # characters of what the program said
MIB = 1 << 20


def find_gpus(limit_s: float) -> tuple[list[tuple[str, int, str]], str]:
    """Return NVIDIA's GPUs here, or none and why."""
    beside = Path(os.environ.get("PROGRAMFILES", "/nowhere"), "NVIDIA Corporation", "NVSMI")
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=str(beside))
    if tool is None:
        return [], ""
    answer = ask([tool, *SMI], limit_s)
    found = parse_smi(answer.text) if answer.rc == 0 else []
    return found, "" if found else f"nvidia-smi: {answer.text[-TAIL:] or answer.rc}"


def parse_smi(text: str) -> list[tuple[str, int, str]]:
    """Return name, bytes of memory (0 where unknown) and driver of each GPU, a line each."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) == 3 and parts[0]:
            memory = int(parts[1]) * MIB if parts[1].isdigit() else 0
            found.append((parts[0], memory, parts[2]))
    return found
