"""Copy or move artifacts within one machine. Standard library only."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import CHUNK, remove, rename_durable, require_space, sha256_of, write_all
from ..base.opener import fresh, opened
from .manifest import verify

# The reason of a failure: a source is not what its entry says. roles/transfer asks for it.
DAMAGED = "damaged"
# Another file system, one that cannot, a kernel or a container that does not let it.
_NO_SYSTEM_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_pair(
    source: Path, dest: Path, files: Iterable[Mapping[str, Any]], check_mode: bool
) -> list[str]:
    """Copy the files of a manifest from folder to folder; those that are right already stay.

    Args:
        source: the folder to copy from.
        dest: the folder to copy to; it is made when it is missing.
        files: entries with name, size in bytes and sha256.
        check_mode: only say what would be copied.

    Returns:
        The names of the files copied.

    Raises:
        ModelOpsError: the disk has no room, or a source is not what its entry says.
    """
    wanted = list(files)
    right = {row["name"] for row in verify(dest, wanted) if row["ok"]}
    todo = [entry for entry in wanted if entry["name"] not in right]
    if todo and not check_mode:
        dest.mkdir(parents=True, exist_ok=True)
        require_space(dest, sum(entry["size"] for entry in todo), "the incoming artifacts")
        for entry in todo:
            copy_file(source / entry["name"], dest / entry["name"], entry)
    return [entry["name"] for entry in todo]


def move_files(
    source: Path, dest: Path, files: Iterable[Mapping[str, Any]], check_mode: bool
) -> list[str]:
    """Move the files of a manifest that are in a folder; those that are not there are passed over.

    On one file system a file is renamed and not read. From one to another it is copied, hashed on
    the way, and removed when the copy is durable.

    Returns:
        The names of the files moved, the graph's last: without it the others are no model.

    Raises:
        ModelOpsError: the other disk has no room, or a source is not what its entry says.
    """
    todo = [entry for entry in files if (source / entry["name"]).is_file()]
    todo.sort(key=lambda entry: str(entry["name"]), reverse=True)
    if todo and not check_mode:
        dest.mkdir(parents=True, exist_ok=True)
        for entry in todo:
            try:
                rename_durable(source / entry["name"], dest / entry["name"])
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                copy_pair(source, dest, [entry], check_mode)
                remove(source / entry["name"])
    return [entry["name"] for entry in todo]


def copy_file(source: Path, dest: Path, entry: Mapping[str, Any]) -> None:
    """Copy a file that others brought; `dest` may be its own name.

    The copy is a file of its own: of this account, mode 0644, with no name and no open descriptor
    of anybody else. Its own bytes are hashed, so it does not matter what the source becomes.

    Raises:
        ModelOpsError: the source is a link or no regular file, or is not what its entry says.
    """
    part = dest.with_name(f".{dest.name}.part")
    try:
        with opened(source) as reader, fresh(part) as writer:
            _copy(reader, writer, entry["size"])
            os.fsync(writer.fileno())
        with opened(part) as copied:
            found, size = sha256_of(copied, entry["size"]), os.fstat(copied.fileno()).st_size
        if (found, size) != (entry["sha256"], entry["size"]):
            raise ModelOpsError(
                f"SHA-256 {found} of {size} bytes instead of {entry['sha256']} of {entry['size']}",
                where=source,
                remedy="Run the quantize phase again; something changed the artifacts.",
                reason=DAMAGED,
            )
        rename_durable(part, dest)
    finally:
        part.unlink(missing_ok=True)


def _copy(reader: io.BufferedReader, writer: io.FileIO, size: int) -> None:
    """Copy at most `size` bytes and one more; by the file system alone where it can do that."""
    rest = size + 1
    try:
        while rest and (done := _by_system(reader, writer, rest)):
            rest -= done
    except OSError as error:
        if error.errno not in _NO_SYSTEM_COPY:
            raise
        while rest and (block := reader.read(min(rest, CHUNK))):
            write_all(writer, block)
            rest -= len(block)


def _by_system(reader: io.BufferedReader, writer: io.FileIO, count: int) -> int:
    if not hasattr(os, "copy_file_range"):  # Windows
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.copy_file_range(reader.fileno(), writer.fileno(), count)
