"""Open what others may have made: a regular file, no link, no longer than it may be.

A FIFO would keep a reader for ever, a link leads to another file, a sparse file of 8 GB fits on any
disk. Standard library only.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from .errors import ModelOpsError

LARGEST_JSON = 16 << 20  # bytes; a manifest has some 200 for each node of the graph
DEEPEST_JSON = 64  # values within values; ours have less than 20
# Windows has neither, and no FIFOs in its folders.
_FLAGS = (
    getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
REMEDY = "Look who put it there, and put the file itself in its place."


def opened(
    path: str | os.PathLike[str],
    limit: int | None = None,
    *,
    follow: bool = False,
) -> io.BufferedReader:
    """Open a file for reading.

    Args:
        limit: the bytes that it may have; None where whoever reads it knows when to stop.
        follow: whether a symbolic link may lead to it, where the owner may have put one.

    Raises:
        ModelOpsError: it is a link, no regular file, or larger.
        OSError: it is not there, or may not be read.
    """
    return open(_descriptor(path, limit, follow), "rb")


def unbuffered(path: str | os.PathLike[str], *, follow: bool = False) -> io.FileIO:
    """Open a file as `opened` does, for whoever reads it in large blocks."""
    return open(_descriptor(path, None, follow), "rb", buffering=0)


def _descriptor(path: str | os.PathLike[str], limit: int | None, follow: bool) -> int:
    """Open a file that is what it may be; see `opened`."""
    if not (_NO_LINK or follow) and os.path.islink(path):
        raise _refused(path, "not a regular file but a symbolic link")
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS | (0 if follow else _NO_LINK))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "not a regular file but a symbolic link") from None
        if error.errno == errno.ENXIO or os.path.isdir(path):  # a socket; Windows opens no folder
            raise _refused(path, "not a regular file") from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "not a regular file")
        if limit is not None and found.st_size > limit:
            raise _too_large(path, found.st_size, limit)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: str | os.PathLike[str], limit: int, *, follow: bool = False) -> bytes:
    """Return all bytes of a file that has at most `limit`.

    Raises:
        ModelOpsError, OSError: as `opened`.
    """
    with opened(path, limit, follow=follow) as handle:
        parts, rest = [], limit + 1  # it may grow while it is read
        while rest and (part := handle.read(min(rest, 1 << 20))):
            parts.append(part)
            rest -= len(part)
    if not rest:
        raise _too_large(path, limit + 1, limit)
    return b"".join(parts)


def holds(path: Path, content: bytes) -> bool:
    """Tell whether a file holds just this content."""
    try:
        return read(path, len(content)) == content
    except (OSError, ModelOpsError):
        return False


def read_json(path: str | os.PathLike[str], limit: int = LARGEST_JSON) -> Any:
    """Return the value in a JSON file.

    Raises:
        ModelOpsError: as `opened`; it is no JSON, or nested deeper than anything of ours.
        OSError: it is not there, or may not be read.
    """
    try:
        return parsed(read(path, limit))
    except ValueError as error:
        raise _refused(path, f"not JSON ({error})", "Remove it and run again.") from None


def parsed(text: bytes | str) -> Any:
    """Return the value that a JSON text holds.

    Raises:
        ValueError: it is no JSON, has more than LARGEST_JSON bytes or characters, or is nested too
            deeply.
    """
    if len(text) > LARGEST_JSON:
        raise ValueError(f"{len(text):,} bytes, where {LARGEST_JSON:,} may be")
    too_deep = ValueError(f"values within values, deeper than {DEEPEST_JSON}")
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    level, depth = [value], 0
    while level := [
        item
        for outer in level
        if isinstance(outer, dict | list)
        for item in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
        if depth > DEEPEST_JSON:
            raise too_deep
    return value


def fresh(path: Path, mode: int = 0o644) -> io.FileIO:
    """Open a new file for writing, whatever had its name, without a buffer.

    It is a file of its own, of this account, with just this mode whatever the umask is.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | _NO_LINK
    descriptor = os.open(path, flags, mode)
    if os.name != "nt":
        os.fchmod(descriptor, mode)
    return open(descriptor, "wb", buffering=0)


def is_own(path: Path, like: Path | None = None) -> bool:
    """Tell whether nobody else can write a file: its inode may be kept. One that is missing is.

    It has one name. Its owner is root, this account, the folder's owner, who could replace it
    anyway, or that of the file `like`. Whoever made a file may have it open for ever, whatever
    owner and mode it is given later.
    """
    if os.name == "nt":
        return True
    try:
        found, trusted = path.lstat(), {0, os.geteuid(), path.parent.stat().st_uid}
    except FileNotFoundError:
        return True
    if like is not None and like.exists():
        trusted.add(like.lstat().st_uid)
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and found.st_uid in trusted
        and not found.st_mode & _OTHERS_WRITE
    )


def _refused(path: object, what: str, remedy: str = REMEDY) -> ModelOpsError:
    return ModelOpsError(what, where=path, remedy=remedy)


def _too_large(path: object, size: int, limit: int) -> ModelOpsError:
    what = f"it has {size:,} bytes or more, and may have {limit:,} at most"
    return _refused(path, what, "Look what wrote it; remove it, or put the right file there.")
