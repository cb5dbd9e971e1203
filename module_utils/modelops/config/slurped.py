"""What Ansible read of a configuration, as bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from . import byte_edits


def content(read: Mapping[str, Any]) -> bytes | None:
    """Return what was read: None without a file, no byte of one that could not be read."""
    if not read["stat"]["stat"]["exists"]:
        return None
    if int(read["stat"]["stat"].get("size", 0)) > byte_edits.LARGEST:
        # Nothing of it was read: the planner refuses it by its size.
        return b"#" * (byte_edits.LARGEST + 1)
    return base64.b64decode(read["slurped"].get("content", ""))
