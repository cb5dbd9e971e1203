"""What the module config_read read of a configuration, as bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def content(read: Mapping[str, Any]) -> bytes | None:
    """Return what was read: None without a file, no byte of one that could not be read."""
    found = read.get("content", "")
    return None if found is None else base64.b64decode(found)
