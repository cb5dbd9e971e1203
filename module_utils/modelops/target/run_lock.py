"""The lock of a run on the models of a host: who is at work, since when, until when at most.

Standard library only. A lock is a file that exists. A run has a random token, and whoever shows
the token of a lock holds it. Each call of the run renews the time of its lock, so a lock whose time
is up is that of a run that was killed, and the next run may take it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..base import file_lock, opener
from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, write_atomic

# Seconds that a lock outlives the last call of its run.
TTL_S = 600
# A lock is written again when this part of its time has passed: not at every call.
RENEW_AFTER = 0.25
LARGEST = 1 << 16  # bytes of a lock file

_UNKNOWN = {
    "run": "", "owner": "unknown", "process": "", "since": 0, "ttl_s": 0, "expires": 1 << 60,
}  # fmt: skip


def place(root: Path, name: str) -> Path:
    """Return the lock file of a model in a folder."""
    return root / f".modelops.{name}.lock"


def holder(path: Path) -> dict[str, Any] | None:
    """Return the lock in a lock file, or None; `run` is the token of the run that holds it."""
    try:
        found = {**_UNKNOWN, **opener.read_json(path, LARGEST)}
        numbers = {key: int(found[key]) for key in ("since", "ttl_s", "expires")}
        return {**found, **numbers, **{key: str(found[key]) for key in ("run", "owner", "process")}}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OverflowError, ModelOpsError, PermissionError):
        # Written whole or not at all, so somebody else wrote it: it holds until it is broken.
        return dict(_UNKNOWN)


def is_alive(lock: Mapping[str, Any] | None) -> bool:
    """Tell whether there is a lock, and its time is not up."""
    return lock is not None and int(time.time()) <= lock.get("expires", 0)


def told(lock: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what others may know of a lock: all but the token, which is the run's own."""
    return {key: value for key, value in lock.items() if key != "run"} if lock else None


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
        with file_lock.exclusive(root / ".modelops.lock.call", "a step of a run"):
            yield
        return
    import fcntl

    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def take(
    path: Path,
    run: Mapping[str, Any],
    ttl_s: int = TTL_S,
    *,
    force: bool = False,
    dead: str = "",
    check_mode: bool = False,
) -> None:
    """Take the lock for a run, or renew it where the run holds it. Inside of one_call.

    Args:
        run: `run` (its token), `owner` (a text for people), `process` (see controller.process).
        ttl_s: seconds that the lock outlives the last call of the run.
        force: take it even from a run that holds it.
        dead: take it from a run of this process, which is known to be dead.

    Raises:
        ModelOpsError: another run holds it, with the lock, without its token, as the fact `lock`.
    """
    now = int(time.time())
    found = holder(path)
    own = found is not None and found["run"] == run["run"]
    alive = is_alive(found)
    if found and alive and not own and not force and not (dead and dead == found["process"]):
        raise _taken(path, found)
    if check_mode:
        return
    since = found["since"] if found and own else now
    _write(path, {**run, "since": since, "ttl_s": ttl_s, "expires": now + ttl_s})


def hold(path: Path, token: str) -> None:
    """Make sure that a run still holds its lock, and renew it. Inside of one_call.

    A lock whose time is up is still the run's while nobody took it.

    Raises:
        ModelOpsError: the run has no lock, or lost it to another run.
    """
    found = holder(path)
    if not token:
        raise ModelOpsError(
            "this run holds no lock here, so it changes nothing",
            where=path,
            remedy="Let the playbook begin at its start (--tags release for the release alone):"
            " --start-at-task leaves out the task that takes the lock.",
        )
    if found is None:
        raise ModelOpsError(
            "the lock of this run is gone: another run took it over, did its work and ended",
            where=path,
            remedy="See what that run did (playbooks/status.yml), and run again.",
        )
    if found["run"] != token:
        raise _taken(path, found)
    now = int(time.time())
    if found["expires"] - now < found["ttl_s"] * (1 - RENEW_AFTER):
        with suppress(OSError):  # on a full disk the lock is still its own, for the time it has
            _write(path, {**found, "expires": now + found["ttl_s"]})


def give_back(path: Path, token: str) -> None:
    """Remove the lock where this run holds it. Inside of one_call."""
    found = holder(path)
    if found and token and found["run"] == token:
        path.unlink(missing_ok=True)
        fsync_dir(path.parent)


def _taken(path: Path, found: Mapping[str, Any]) -> ModelOpsError:
    def at(seconds: int) -> str:
        try:
            return datetime.fromtimestamp(seconds, UTC).isoformat()
        except (ValueError, OverflowError, OSError):  # somebody else wrote it
            return "an unknown time"

    free = ""
    if found["expires"] < _UNKNOWN["expires"]:
        free = f" Its lock ends at {at(found['expires'])} by itself, unless it goes on."
    return ModelOpsError(
        f"another run is at work here: {found['owner']}, since {at(found['since'])}",
        where=path,
        remedy=f"Wait for it to end.{free} If it is known to be dead: -e run_lock_break=true",
        lock=told(found),
    )


def _write(path: Path, lock: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(dict(lock), sort_keys=True).encode(), 0o600)
