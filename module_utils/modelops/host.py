"""What a host must have before anything is touched. Standard library only."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import windows
from .errors import ModelOpsError

Finding = dict[str, Any]


def finding(check: str, ok: bool, value: object, threshold: object, remedy: str) -> Finding:
    """Return one row: what was looked at, whether it is right, and what to do when it is not."""
    return {
        "check": check,
        "ok": ok,
        "value": str(value),
        "threshold": str(threshold),
        "remedy": "" if ok else remedy,
    }


def check_python(minimum: str) -> Finding:
    """Check the version of the Python that runs this."""
    wanted = tuple(int(part) for part in minimum.split("."))
    return finding(
        "Python",
        sys.version_info[: len(wanted)] >= wanted,
        f"{platform.python_version()} ({sys.executable})",
        f">= {minimum}",
        "Install a newer Python and point ansible_python_interpreter at it.",
    )


def check_packages(names: Iterable[str]) -> list[Finding]:
    """Check that packages are installed for the Python that runs this."""
    rows = []
    for name in names:
        try:
            version, ok = importlib.metadata.version(name), True
        except importlib.metadata.PackageNotFoundError:
            version, ok = "not installed", False
        remedy = (
            f"Install it for {sys.executable}, as pinned in requirements/project.txt, or point"
            " ansible_python_interpreter at a Python that has it."
        )
        rows.append(finding(f"package {name}", ok, version, "installed", remedy))
    return rows


def available_memory() -> int | None:
    """Return the bytes that programs can still take without swapping; None where unknown."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return windows.available_memory()
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check_memory(minimum: int) -> Finding:
    """Check the memory that is available now, in bytes."""
    available = available_memory()
    return finding(
        "memory available",
        available is None or available >= minimum,
        "unknown" if available is None else f"{available:,} bytes",
        f">= {minimum:,} bytes",
        "Close other programs, or set sarai_measure_interleave to false: the two models are then"
        " measured one after the other.",
    )


def check_folder(path: Path, free: int) -> list[Finding]:
    """Check that a folder exists, is writable and has `free` bytes left on its disk."""
    if not path.is_dir():
        remedy = "Create it, or correct the inventory's path."
        return [finding(f"folder {path}", False, "missing", "a folder", remedy)]
    writable = os.access(path, os.W_OK | os.X_OK)
    left = shutil.disk_usage(path).free
    return [
        finding(
            f"folder {path}",
            writable,
            "writable" if writable else "not writable",
            "writable",
            "Give the user of this connection the right to write there.",
        ),
        finding(
            f"disk of {path}",
            left >= free,
            f"{left:,} bytes free",
            f">= {free:,} bytes",
            "Free space on this disk.",
        ),
    ]


def check_model(path: Path) -> Finding:
    """Check that an FP32 model is present and whole.

    Its graph is read where onnx is installed, and every tensor is found on disk then; elsewhere
    both files must be there and not empty. That its bytes are the right ones is known later, from
    the manifest's hashes.
    """
    remedy = "Copy the FP32 pair there again, both files."
    try:
        value = _whole(path)
    except ModelOpsError as error:
        return finding(f"FP32 model {path}", False, error, "present and whole", remedy)
    return finding(f"FP32 model {path}", True, value, "present and whole", remedy)


def _whole(path: Path) -> str:
    try:
        from .graph import read_model, validate
    except ImportError:
        pair = [path, path.with_name(f"{path.name}.data")]
        for file in pair:
            if file.is_symlink() or not file.is_file() or file.stat().st_size == 0:
                raise ModelOpsError("missing, empty or not a regular file", where=file) from None
        files = pair
    else:
        files = [path, *sorted(validate(read_model(path), path))]
    return ", ".join(f"{file.name} {file.stat().st_size:,} bytes" for file in files)


def model_bytes(path: Path) -> int:
    """Return the size of a pair in bytes; files that are missing count nothing."""
    pair = (path, path.with_name(f"{path.name}.data"))
    return sum(file.stat().st_size for file in pair if file.is_file())


def check_host(params: Mapping[str, Any]) -> list[Finding]:
    """Run every check that the parameters of the module host_check ask for."""
    model = Path(params["model"])
    fp32 = model_bytes(model)
    rows = [check_python(params["python"]), *check_packages(params["packages"])]
    rows.append(check_model(model))
    if params["memory_factor"]:
        rows.append(check_memory(int(fp32 * params["memory_factor"]) + params["memory_base"]))
    room = 0 if Path(params["spared_by"]).is_file() else int(fp32 * params["disk_factor"])
    rows += check_folder(Path(params["folder"]), room)
    return rows
