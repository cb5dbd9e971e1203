"""Whether nobody but root and this account can change a file or put another in its place.

Standard library only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import ModelOpsError


def require(path: Path, why: str) -> None:
    """Refuse a file, there or to be made, that others may write or replace.

    Args:
        why: what they could do, for the error.

    Raises:
        ModelOpsError: the file, or the first folder on the way to it, that others may write.
    """
    if os.name == "nt":
        return
    # A link of root's may lead anywhere.
    for place in (path, *path.parents, *path.resolve().parents):
        try:
            found = place.stat()
        except FileNotFoundError:
            continue
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        shared = found.st_mode & 0o022 and not sticky
        if found.st_uid not in (0, os.geteuid()) or shared:
            raise ModelOpsError(
                why,
                where=place,
                remedy="Let it belong to root and take the right to write from all others.",
            )
