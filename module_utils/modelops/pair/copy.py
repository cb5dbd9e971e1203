"""Copy or move artifacts within one machine. Standard library only."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import CHUNK, remove, rename_durable, require_space
from .manifest import verify

# The reason of a failure: a source is not what its entry says. roles/transfer asks for it.
DAMAGED = "damaged"


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
        require_space(dest, sum(entry["size"] for entry in todo), "the incoming pair")
        for entry in todo:
            _copy(source / entry["name"], dest / entry["name"], entry["sha256"])
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


def _copy(source: Path, dest: Path, sha256: str) -> None:
    part = dest.with_name(f"{dest.name}.part")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    try:
        with source.open("rb", buffering=0) as reader, part.open("wb", buffering=0) as writer:
            while count := reader.readinto(buffer):
                digest.update(buffer[:count])
                writer.write(buffer[:count])
            os.fsync(writer.fileno())
        if digest.hexdigest() != sha256:
            raise ModelOpsError(
                f"SHA-256 {digest.hexdigest()} instead of {sha256}",
                where=source,
                remedy="Run the quantize phase again; something changed the pair.",
                reason=DAMAGED,
            )
        rename_durable(part, dest)
    finally:
        part.unlink(missing_ok=True)
