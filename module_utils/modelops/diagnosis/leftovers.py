"""What broken runs left on a target: half transfers. Standard library only."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

from ..base.finding import Finding, finding
from ..base.units import size
from ..pair import manifest
from ..target import run_lock
from ..target.store import INCOMING

# A push that lives writes all the time; a day is beyond any pause that a person makes.
OLD_S = 86400


class Half(NamedTuple):
    """A transfer that is no release: its folder, its bytes, seconds since its last byte."""

    folder: Path
    size: int
    age_s: float


def halves(root: Path) -> list[Half]:
    """Return the transfers in the folder of the models that nobody staged, the oldest first."""
    found = []
    incoming = root / INCOMING
    if not incoming.is_dir() or incoming.is_symlink():
        return []
    now = time.time()
    for folder in sorted(incoming.iterdir()):
        if (
            folder.is_symlink()
            or not folder.is_dir()
            or not manifest.RELEASE_ID.fullmatch(folder.name)
        ):
            continue  # what a person put there is his
        files = [path.lstat() for path in folder.rglob("*")] or [folder.lstat()]
        newest = max(about.st_mtime for about in files)
        found.append(Half(folder, sum(about.st_size for about in files), max(0.0, now - newest)))
    return sorted(found, key=lambda half: -half.age_s)


def rows(root: Path, name: str) -> list[Finding]:
    """Return the rows on half transfers and on the lock of a run."""
    lock = run_lock.holder(run_lock.place(root, name))
    alive = run_lock.is_alive(lock)
    left = halves(root)
    told = "; ".join(f"{h.folder}: {size(h.size)}, {h.age_s / 3600:.0f} h old" for h in left)
    return [
        finding(
            "half transfers", not left or alive, told or "none", "none",
            "The next run of quantize.yml goes on with them. What is older than a day is removed"
            " with diagnose_fix=true.",
            level="advice", name="half_transfer",
        ),
        _lock(lock, alive),
    ]  # fmt: skip


def _lock(lock: dict[str, object] | None, alive: bool) -> Finding:
    if lock is None:
        return finding("lock of a run", True, "none", "none", "", name="lock")
    remedy = (
        "A run is at work: what is told here may change. Wait for it to end."
        if alive
        else "A run was killed. The next run takes its lock: nothing needs to be done."
    )
    said = f"{lock['owner']}, {'alive' if alive else 'its time is up'}"
    return finding("lock of a run", False, said, "none", remedy, level="advice", name="lock")


def clear(root: Path, name: str, token: str, *, check_mode: bool) -> list[str]:
    """Remove half transfers older than OLD_S; return their folders.

    Args:
        token: of the run that holds the lock, so that nobody goes on with them meanwhile.

    Raises:
        ModelOpsError: this run does not hold the lock.
    """
    with run_lock.one_call(root):
        if not check_mode:
            run_lock.hold(run_lock.place(root, name), token)
        old = [half.folder for half in halves(root) if half.age_s > OLD_S]
        for folder in old if not check_mode else []:
            shutil.rmtree(folder)
    return [str(folder) for folder in old]
