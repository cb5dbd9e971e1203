"""What a manifest says beside its files once a release of it is signed. Standard library only.

The section `signed` belongs to the bytes that the signature covers: of which model the release is,
its serial, which only rises, when it was signed, and what the builder's gate said. Source and
golden data stand in the manifest anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import opener

SECTION = "signed"
PASSED = "pass"
ENDING = ".sig"  # of the file beside a manifest that holds its signature
LONGEST = 4096  # characters of a signature; one by ed25519 has 318, by a hardware key some 600
LARGEST_SERIAL = 1 << 60
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_SIGNATURE = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END SSH SIGNATURE-----\n?"
)


def stamped(
    manifest: Mapping[str, Any], model: str, serial: int, signed_at: str, verdict: str
) -> dict[str, Any]:
    """Return a manifest with what is signed beside it, in place of what it said of that before."""
    said = {"model": model, "serial": serial, "signed_at": signed_at, "verdict": verdict}
    return {**without(manifest), SECTION: said}


def without(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as it was before anybody signed it."""
    return {key: value for key, value in manifest.items() if key != SECTION}


def problem(manifest: Mapping[str, Any]) -> str:
    """Say what is wrong with what a manifest says of its signing; nothing where it says nothing."""
    said = manifest.get(SECTION)
    if said is None:
        return ""
    if not isinstance(said, Mapping) or set(said) != {"model", "serial", "signed_at", "verdict"}:
        return "signed has not just model, serial, signed_at and verdict"
    if not is_serial(said["serial"]):
        return "signed: the serial is no whole number above 0"
    texts = said["model"], said["signed_at"], said["verdict"]
    if not all(isinstance(text, str) for text in texts) or not _TIME.fullmatch(said["signed_at"]):
        return "signed: model, signed_at (UTC, to the second) or verdict is malformed"
    return ""


def is_serial(value: Any) -> bool:
    """Tell whether a value is a serial; true is an integer to Python."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SERIAL


def serial(manifest: Mapping[str, Any]) -> int:
    """Return the serial of a manifest that `problem` finds right; 0 where nothing is signed."""
    said = manifest.get(SECTION)
    return int(said["serial"]) if said else 0


def beside(manifest_file: Path) -> str:
    """Return the signature that lies beside the file of a manifest; empty without one.

    Raises:
        ModelOpsError: it is no regular file, or larger than a signature.
    """
    try:
        content = opener.read(manifest_file.with_name(manifest_file.name + ENDING), LONGEST)
    except FileNotFoundError:
        return ""
    return content.decode("ascii", "replace").replace("\r\n", "\n")


def is_signature(value: Any) -> bool:
    """Tell whether a value is the text of a signature, or empty, which stands for none."""
    return value == "" or (
        isinstance(value, str) and len(value) <= LONGEST and bool(_SIGNATURE.fullmatch(value))
    )
