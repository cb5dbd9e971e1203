"""One writer at a time: a lock that the operating system drops when its holder dies."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from .errors import ModelOpsError
from .opener import REMEDY

# A process that its holder was just starting keeps the lock for a moment when that was killed.
GRACE_S = 1.0


@contextmanager
def exclusive(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file `path`, which exists only while somebody holds it.

    Raises:
        ModelOpsError: somebody else holds it; the message says who, since when and for what.
    """
    descriptor = _acquire(path)
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now}: {purpose}"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
        yield
    finally:
        # Unlinked while held, so that nobody can lock a file that is about to lose its name.
        # Windows refuses to unlink what is open: it goes there afterwards, unless somebody else
        # has opened it by then.
        try:
            if sys.platform != "win32":
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        if sys.platform == "win32":
            with suppress(OSError):
                path.unlink()


def is_held(path: Path) -> bool:
    """Tell whether somebody holds the lock file. Not for one that is about to be taken."""
    try:
        descriptor = _opened(path)
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path) -> int:
    deadline = time.monotonic() + GRACE_S
    while True:
        descriptor = _opened(path, os.O_CREAT)
        try:
            _lock(descriptor)
        except OSError:
            holder = os.read(descriptor, 500).decode(errors="replace")
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise ModelOpsError(
                f"another run is at work here ({holder or 'it has not said who it is yet'})",
                where=path,
                remedy="Wait for it to end, or end it, and run again.",
            ) from None
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder removed the file between our open and our lock


def _opened(path: Path, also: int = 0) -> int:
    wanted = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, wanted | also, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelOpsError("the lock is not a regular file", where=path, remedy=REMEDY)
    return descriptor


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # Far behind the text, because a Windows lock also keeps others from reading.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
