"""The lock of a whole run on a host: who is at work, since when, until when at most.

Standard library only. A lock is a file that exists; it is abandoned when its time is up, or when
its process is known to be dead because it ran on this very machine since its last boot.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import locks
from .errors import ModelOpsError
from .files import fsync_dir, write_atomic

NAME = ".modelops.lock"


def holder(root: Path) -> dict[str, Any] | None:
    """Return the lock on a folder, or None."""
    try:
        found = json.loads((root / NAME).read_bytes())
        return {**_UNKNOWN, **found, "pid": int(found["pid"]), "expires": found["expires"] + 0}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Written whole or not at all, so somebody else wrote it: it holds until it is broken.
        return dict(_UNKNOWN)


_UNKNOWN = {"owner": "unknown", "run": "", "boot": "", "pid": 0, "since": 0, "expires": 1 << 60}


@contextmanager
def one_call(root: Path, wait_s: float = 120.0) -> Iterator[None]:
    """Let one call at a time look at a folder and change it.

    The folder itself is locked (flock): that needs no file, so it works on a full disk. On Windows,
    where a folder cannot be locked, it is a file. The system drops both when the process dies.

    Raises:
        ModelOpsError: another call held it for all of `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(_held(root))
                break
            except (BlockingIOError, ModelOpsError):
                if time.monotonic() >= deadline:
                    raise ModelOpsError(
                        "another call is at work in this folder",
                        where=root,
                        remedy="Wait for it to end and run again.",
                    ) from None
                time.sleep(0.05)
        yield


@contextmanager
def _held(root: Path) -> Iterator[None]:
    if sys.platform == "win32":
        with locks.exclusive(root / f"{NAME}.call", "a step of a run"):
            yield
        return
    import fcntl

    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def abandoned(lock: Mapping[str, Any], boot: str) -> bool:
    """Tell whether nobody holds a lock any more, as far as the machine with `boot` can know."""
    if time.time() > lock["expires"]:
        return True
    if not boot or lock["boot"] != boot:
        return False
    try:
        os.kill(int(lock["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def take(root: Path, run: Mapping[str, Any], ttl_s: int, force: bool, check_mode: bool) -> None:
    """Take or refresh the lock of a run.

    Args:
        run: `run` (its id), `owner` (a text for people), `boot` and `pid` of its process.
        ttl_s: seconds after which it counts as abandoned.
        force: take it even from a run that holds it.

    Raises:
        ModelOpsError: another run holds it, with the lock as the fact `lock`.
    """
    path = root / NAME
    lock = {**run, "since": int(time.time()), "expires": int(time.time()) + ttl_s}
    found = holder(root)
    if found and found["run"] == run["run"]:
        lock["since"] = found["since"]
    elif found and not force and not abandoned(found, boot_id()):
        since = datetime.fromtimestamp(found["since"], UTC).isoformat()
        raise ModelOpsError(
            f"another run is at work here: {found['owner']}, since {since}",
            where=root,
            remedy="Wait for it to end. If it is known to be dead: -e run_lock_break=true",
            lock=found,
        )
    if check_mode:
        return
    if found:
        write_atomic(path, _dump(lock), 0o600)
        return
    part = path.with_name(f"{NAME}.{os.getpid()}")
    write_atomic(part, _dump(lock), 0o600)
    try:
        os.link(part, path)  # fails when somebody was faster, unlike a rename
        fsync_dir(root)
    except FileExistsError:
        take(root, run, ttl_s, force, check_mode)
    finally:
        part.unlink()


def give_back(root: Path, run_id: str, check_mode: bool) -> None:
    """Remove the lock, when this run holds it."""
    found = holder(root)
    if found and found["run"] == run_id and not check_mode:
        (root / NAME).unlink(missing_ok=True)
        fsync_dir(root)


def boot_id() -> str:
    """Return what tells this boot of this machine from any other; empty where unknown."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _dump(lock: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(lock), sort_keys=True).encode()
