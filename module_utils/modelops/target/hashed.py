"""Which files a run has hashed already: 1.1 GB are hashed once, not by each call of the run.

Standard library only. The controller keeps this from call to call; on the target somebody could
write it. A file is taken for unchanged while its device, inode, size, mtime and ctime are: the
kernel sets ctime at every write, rename and change of mode, and nobody else can.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..pair import manifest

# A write in the same tick of the kernel's clock (at most 10 ms) as the last change leaves ctime as
# it is, so what changed within this time before it was hashed is hashed again.
SETTLED_NS = 1_000_000_000


class Hashed:
    """Files by their path, each with its SHA-256 and what tells that it is unchanged.

    Args:
        known: what `told` returned in an earlier call of the run.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = dict(known)

    @property
    def told(self) -> dict[str, Any]:
        """Return it for the run's next call."""
        return dict(self._known)

    def problems(self, folder: Path, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return what is wrong with files in a folder, by SHA-256; see manifest.verify."""
        wrong = []
        for entry in entries:
            path = folder / entry["name"]
            seen = _fingerprint(path)
            if seen and self._known.get(str(path)) == [*seen, entry["sha256"]]:
                continue
            (row,) = manifest.verify(folder, [entry])
            if not row["ok"]:
                wrong.append(f"{path}: {row['problem']}")
            elif seen and seen[-1] < time.time_ns() - SETTLED_NS:
                self._known[str(path)] = [*seen, entry["sha256"]]
        return wrong


def _fingerprint(path: Path) -> list[int]:
    """Return what changes with a file; nothing where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
