"""Which releases the controller knows: of each the SHA-256 of its manifest. Standard library only.

They are kept on the controller, in one file for each model: a line for a manifest, with the id of
its release. A rollback has no manifest of its own, and holds what a target keeps against these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import manifest

_LINE = re.compile(r"([0-9a-f]{16}) ([0-9a-f]{64})")


def line(listed: Mapping[str, Any]) -> str:
    """Return the line of a manifest that was checked (manifest.check)."""
    return f"{listed['release_id']} {manifest.digest(listed)}"


def of(text: str) -> dict[str, list[str]]:
    """Return the SHA-256 of the manifests that a file's text knows, by release."""
    known: dict[str, list[str]] = {}
    for found in filter(None, map(_LINE.fullmatch, text.splitlines())):
        known.setdefault(found[1], []).append(found[2])
    return known
