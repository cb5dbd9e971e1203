"""Files that are either the old whole thing or the new whole thing. Standard library only."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from .errors import ModelOpsError
from .opener import fresh, opened

CHUNK = 1 << 20
FLUSH_EVERY = 64 << 20
# Windows refuses to rename over or remove a file that is open: ERROR_ACCESS_DENIED and
# ERROR_SHARING_VIOLATION. An antivirus or an indexer closes what it looks at within seconds.
IN_USE = (5, 32)
IN_USE_S = 5.0


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hex digits.

    Raises:
        ModelOpsError: it is no regular file.
        OSError: the file cannot be read.
    """
    with opened(path, follow=True) as handle:
        return sha256_of(handle, os.fstat(handle.fileno()).st_size)


def sha256_of(handle: io.BufferedReader, size: int) -> str:
    """Return the SHA-256 of an open file's next `size` bytes and one more, if there is one.

    Read in 1 MiB blocks. A file that somebody goes on writing has an end, too.
    """
    digest = hashlib.sha256()
    buffer, rest = bytearray(CHUNK), size + 1
    while rest and (count := handle.readinto(memoryview(buffer)[: min(rest, CHUNK)])):
        digest.update(memoryview(buffer)[:count])
        rest -= count
    return digest.hexdigest()


def fsync_dir(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def patiently(act: Callable[[], None], path: Path) -> None:
    """Do something to a file's name; on Windows wait a little for others to close the file.

    Raises:
        ModelOpsError: another program still has it open. Only Windows minds that.
    """
    deadline = time.monotonic() + IN_USE_S
    while True:
        try:
            act()
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in IN_USE:
                raise
            if time.monotonic() > deadline:
                raise ModelOpsError(
                    f"it is open in another program, or may not be changed ({error.strerror})",
                    where=path,
                    remedy="Close what has it open (a viewer, a model server, an antivirus), see"
                    " that it is not read-only, and run again.",
                ) from None
        time.sleep(0.1)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    patiently(lambda: path.unlink(missing_ok=True), path)


def rename_durable(source: Path, destination: Path) -> None:
    """Rename over whatever is there and make both folders durable."""
    patiently(lambda: os.replace(source, destination), destination)
    fsync_dir(destination.parent)
    if source.parent != destination.parent:
        fsync_dir(source.parent)


def give_access(path: Path, like: Path) -> None:
    """Let a file be read by whoever may read another one: its mode and, where allowed, its group.

    Only its owner may write it, whoever may write the other one. An account that is not root can
    give neither a file of another account nor a foreign group.
    """
    if os.name == "nt" or not like.is_file():
        return
    wanted = like.stat()
    with opened(path) as handle:
        for owner in (wanted.st_uid, -1):
            with suppress(PermissionError):
                os.chown(handle.fileno(), owner, wanted.st_gid)
                break
        with suppress(PermissionError):
            os.chmod(handle.fileno(), wanted.st_mode & 0o755)


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file beside its name, make it durable and rename it into place.

    The temporary name starts with a dot and ends in `.part`; one that a killed run left behind is
    overwritten by the next.
    """
    part = path.with_name(f".{path.name}.part")
    remove(part)
    with fresh(part, mode) as handle:
        write_all(handle, content)
        os.fsync(handle.fileno())
    rename_durable(part, path)


def write_all(handle: io.FileIO, content: bytes | memoryview) -> None:
    """Write all of it: a disk that becomes full first takes a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[handle.write(rest) :]


class DurableFile:
    """A new file whose bytes go to the disk while more are made, so that the last fsync is short.

    A context manager: leaving it without an error makes the file durable.
    """

    def __init__(self, path: Path) -> None:
        remove(path)
        self._file = fresh(path)
        self._flusher = ThreadPoolExecutor(1)
        self._flush: Future[None] | None = None
        self._unflushed = 0

    def write(self, chunk: bytes | memoryview) -> int:
        write_all(self._file, chunk)
        self._unflushed += len(chunk)
        if self._unflushed >= FLUSH_EVERY and (self._flush is None or self._flush.done()):
            self._settle()
            self._unflushed = 0
            self._flush = self._flusher.submit(os.fsync, self._file.fileno())
        return len(chunk)

    def _settle(self) -> None:
        # The system tells of a lost write only once, perhaps to one of these calls.
        if self._flush is not None:
            self._flush.result()

    def __enter__(self) -> DurableFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file, self._flusher:
            if kind is None:
                self._settle()
                os.fsync(self._file.fileno())


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse when `folder`, which may be made later, has less than `needed` bytes free.

    Raises:
        ModelOpsError: with `needed_bytes` and `free_bytes`.
    """
    free = shutil.disk_usage(folder if folder.is_dir() else folder.parent).free
    if free < needed:
        raise ModelOpsError(
            f"not enough disk space for {purpose}: {needed:,} bytes needed, {free:,} bytes free",
            where=folder,
            remedy="Free space on this disk or choose another destination.",
            needed_bytes=needed,
            free_bytes=free,
        )


def check_destination(dest: Path, dest_data: Path, sources: list[Path]) -> None:
    """Refuse names that artifacts cannot be written to; the source is never one.

    The folder itself may be missing: who writes makes it.

    Raises:
        ModelOpsError: the first cause found.
    """
    if dest.suffix != ".onnx":
        raise ModelOpsError(
            "the destination's name does not end in .onnx", where=dest, remedy="Name a .onnx file."
        )
    folder = dest.parent if dest.parent.exists() else dest.parent.parent
    if not folder.is_dir():
        raise ModelOpsError(
            "the destination folder does not exist", where=folder, remedy="Create it, then run."
        )
    if not os.access(folder, os.W_OK):
        raise ModelOpsError(
            "the destination folder is not writable for this user",
            where=folder,
            remedy="Give this user the right to write there, or choose another destination.",
        )
    try:
        dest.with_name(f".{dest.name}.part").lstat()  # the longest name that is needed
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ModelOpsError(
            f"the destination cannot be named so ({error.strerror})",
            where=dest,
            remedy="Choose a shorter name.",
        ) from None
    for target in (dest, dest_data):
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise ModelOpsError(
                "the destination exists and is not a regular file",
                where=target,
                remedy="Remove it or choose another destination.",
            )
        for source in sources:
            if target.exists() and target.samefile(source):
                raise ModelOpsError(
                    "the destination is a file of the source model",
                    where=target,
                    remedy="Choose another destination: the source is never written.",
                )
