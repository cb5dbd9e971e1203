"""Whether a release was made from the FP32 that the inventory pins. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_HASH = re.compile(r"[0-9a-f]{64}")


def problem(source: Iterable[Mapping[str, Any]], pins: Mapping[str, Any]) -> str:
    """Say how FP32 differs from what is pinned; empty where it does not, or nothing is pinned.

    Args:
        source: the entries of the FP32 files, as a manifest has them.
        pins: file name -> SHA-256, 64 hex digits: of all FP32 files, or of none.
    """
    if not isinstance(pins, Mapping):
        return f"sarai_fp32_sha256 is {type(pins).__name__}, not a SHA-256 for each FP32 file"
    if bad := [name for name, digest in pins.items() if not _HASH.fullmatch(str(digest).lower())]:
        return f"sarai_fp32_sha256 has no SHA-256 (64 hex digits) for {', '.join(map(str, bad))}"
    if not pins:
        return ""
    found = {entry["name"]: entry["sha256"] for entry in source}
    wanted = {str(name): str(digest).lower() for name, digest in pins.items()}
    wrong = [
        f"{name} has {found.get(name, 'no such file')}, {wanted.get(name, 'nothing')} is pinned"
        for name in sorted(found | wanted)
        if found.get(name) != wanted.get(name)
    ]
    if not wrong:
        return ""
    return (
        f"FP32 is not what sarai_fp32_sha256 pins: {'; '.join(wrong)}. Bring the right FP32 to the"
        " builder, or if you changed it on purpose, pin the new SHA-256."
    )
