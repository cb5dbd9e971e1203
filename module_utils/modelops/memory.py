"""The peak memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path

from . import windows


def peak_rss_bytes() -> int | None:
    """Return the largest resident set of this process so far, in bytes; None where unknown.

    On Linux this is VmHWM of /proc/self/status and not ru_maxrss, because a child inherits the
    latter from its parent.
    """
    if sys.platform != "linux":
        return windows.peak_working_set()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
