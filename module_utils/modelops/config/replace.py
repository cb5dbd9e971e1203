"""Replace the owner's configuration file: the old whole text or the new whole text.

Standard library only. The edits were planned on the controller (yaml_edit); here they are applied
to the very bytes that they were planned for.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, rename_durable
from . import byte_edits

LARGEST = 16 << 20  # bytes of a file that can be replaced, also where no edit is planned in it


def digest(content: bytes | None) -> str:
    """Return the SHA-256 of a text; an empty text for a file that does not exist."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


def read(path: Path) -> bytes | None:
    """Return a file's bytes, or None when it does not exist.

    Raises:
        ModelOpsError: it is a link, no file or too large, or this user may not read it.
    """
    try:
        return opener.read(path, LARGEST)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ModelOpsError(
            "this user may not read the configuration",
            where=path,
            remedy="Let it read and write the file.",
        ) from None


class Plan:
    """The texts that a configuration file takes: as it is, naming FP32, naming INT8.

    Args:
        option: `path`, `sha256` of the file that the edits are for (empty when it must not
            exist), `fp32` and `int8` (lists of edits; `int8` None where it must not be named),
            and `content`, the text of a new file.

    Raises:
        ModelOpsError: the file is not the one that the edits were planned for.
    """

    def __init__(self, option: Mapping[str, Any]) -> None:
        self.path = Path(option["path"])
        self.before = read(self.path)
        if digest(self.before) != option["sha256"]:
            raise ModelOpsError(
                "the configuration changed while this run was at work",
                where=self.path,
                remedy="Run again: the change is then planned on the file as it is now.",
                config_changed=True,
            )
        base = self.before if self.before is not None else str(option["content"]).encode()
        self.fp32 = byte_edits.apply(base, option["fp32"], where=self.path)
        self._int8 = None
        if option["int8"] is not None:
            self._int8 = byte_edits.apply(base, option["int8"], where=self.path)

    @property
    def int8(self) -> bytes:
        """The text that names INT8; raises ModelOpsError where it must not."""
        if self._int8 is None:
            raise ModelOpsError(
                "the configuration as it is now cannot be made to name the release",
                where=self.path,
                remedy="playbooks/preflight.yml says why. Roll back to fp32, or correct the file.",
            )
        return self._int8


def replace(path: Path, content: bytes, expected: str) -> None:
    """Replace a configuration file, keeping its mode, owner, ACLs and extended attributes.

    Args:
        expected: the SHA-256 that the file must still have; empty when it must not exist.

    Raises:
        ModelOpsError: somebody changed the file meanwhile, or its rights cannot be kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _written(path, content, like=path)
    if digest(read(path)) != expected:
        part.unlink()
        raise ModelOpsError(
            "the configuration changed while this run was at work",
            where=path,
            remedy="Run again: the change is then planned on the file as it is now.",
        )
    rename_durable(part, path)


def require_replaceable(path: Path) -> None:
    """See that a file can be replaced and its rights kept, before anything depends on it.

    Raises:
        ModelOpsError: they cannot be kept.
    """
    if path.exists():
        _written(path, b"", like=path).unlink()


def keep_copy(path: Path, content: bytes, copy: Path) -> None:
    """Write the text of a configuration beside it, for nobody who may not read the file itself."""
    rename_durable(_written(copy, content, like=path), copy)


def keep_aside(path: Path, aside: Path) -> None:
    """Give the file as it is a second name, so that nothing of it is lost when it is replaced."""
    os.link(path, aside)
    fsync_dir(aside.parent)


def _written(path: Path, content: bytes, like: Path) -> Path:
    """Write a text under a temporary name, with the rights of a file where there is one."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    old = like.stat() if like.exists() else None
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            if old is None:
                os.fchmod(handle.fileno(), 0o644)
            else:
                _take_rights(handle.fileno(), like, old)
            os.fsync(handle.fileno())
    except BaseException:
        part.unlink()
        raise
    return part


def _take_rights(descriptor: int, like: Path, old: os.stat_result) -> None:
    """Give a new file, which is its owner's alone, the owner and rights of another.

    The owner comes first and the mode last: at no time may anybody read it who may not read the
    other. An ACL is the extended attribute `system.posix_acl_access`.
    """
    mine = os.fstat(descriptor)
    try:
        if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    except PermissionError:
        raise _not_kept(like, f"its owner {old.st_uid}:{old.st_gid}") from None
    wanted, there = _attributes(like), _attributes(descriptor)
    for name in sorted(wanted.keys() | there.keys()):
        try:
            if name not in wanted:  # such as an ACL that the folder gives to every new file
                os.removexattr(descriptor, name)
            elif wanted[name] != there.get(name):
                os.setxattr(descriptor, name, wanted[name])
        except OSError as error:
            raise _not_kept(like, f"its attribute {name} ({error.strerror})") from None
    os.fchmod(descriptor, old.st_mode & 0o7777)


def _attributes(file: Path | int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(file, name) for name in os.listxattr(file)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system that has none
            return {}
        raise


def _not_kept(path: Path, what: str) -> ModelOpsError:
    return ModelOpsError(
        f"{what} cannot be kept when the configuration is replaced",
        where=path,
        remedy="Run as the file's owner or as root, or take that off the file.",
    )


def carry_over(content: bytes, source: bytes, target: bytes) -> bytes | None:
    """Make the change from `source` to `target` in `content`, an edited `source`.

    Another model's run may have changed its own block of the same file, and its lines may read as
    ours do: a group of lines is found by where it stands between those that nobody edited, and only
    where it reads as no other by its text.

    Returns:
        The new text; None when a group is not found, or not the only one, and not changed already.
    """
    lines, old, new = (text.splitlines(keepends=True) for text in (content, source, target))
    at = _alignment(old, lines)
    edits = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            continue
        group, changed = old[i:i_end], new[j:j_end]
        start = at[i] if i < i_end else at[i - 1] + 1 if i else 0
        stands = [at[n] for n in range(i, i_end)] == list(range(start, start + len(group)))
        if start >= 0 and stands and (group or start == at[i_end]):
            edits.append((start, group, changed))
        elif len(_places(old, group)) == 1 == len(_places(lines, group)):
            edits.append((_places(lines, group)[0], group, changed))
        elif not changed or len(_places(lines, changed)) != 1 or _places(lines, group):
            return None
    for start, group, changed in sorted(edits, reverse=True):
        lines[start : start + len(group)] = changed
    return b"".join(lines)


def _alignment(old: list[bytes], lines: list[bytes]) -> dict[int, int]:
    """Return where each line of an older text stands now: -9 for none, so that none follows it."""
    at = dict.fromkeys(range(len(old)), -9)
    matcher = difflib.SequenceMatcher(None, old, lines, autojunk=False)
    for i, j, size in matcher.get_matching_blocks():
        at |= {i + n: j + n for n in range(size)}
    return at | {len(old): len(lines)}


def _places(lines: list[bytes], group: list[bytes]) -> list[int]:
    size = len(group)
    if not size:
        return []
    return [n for n in range(len(lines) - size + 1) if lines[n : n + size] == group]


def without_int8(content: bytes, name: str, path: Path) -> bytes:
    """Let a text that nobody planned edits for name FP32: the last resort without a controller.

    Only the name of the file is replaced, in whatever spelling of its path; comments stay.

    Raises:
        ModelOpsError: it names the INT8 model at more than one place.
    """
    int8, fp32 = f"{name}_int8.onnx".encode(), f"{name}.onnx".encode()
    # Not a part of a longer name, such as that of its data file or of another model.
    named = re.compile(rb"(?<![\w.-])" + re.escape(int8) + rb"(?![\w.-])")
    lines = content.splitlines(keepends=True)
    places = [
        (number, found)
        for number, line in enumerate(lines)
        for found in named.finditer(line)
        if not _in_comment(line, found.start())
    ]
    if len(places) > 1:
        numbers = ", ".join(str(number + 1) for number, _ in places)
        raise ModelOpsError(
            f"the configuration was edited by hand and names {int8.decode()} at several places"
            f" (lines {numbers})",
            where=path,
            remedy=f"Let it name {fp32.decode()} and restart the service.",
        )
    for number, found in places:
        line = lines[number]
        lines[number] = line[: found.start()] + fp32 + line[found.end() :]
    return b"".join(lines)


def _in_comment(line: bytes, position: int) -> bool:
    """Tell whether a place of a line is in a comment, in YAML and in an environment file."""
    before = line[:position]
    return before.lstrip().startswith((b"#", b";")) or re.search(rb"\s#", before) is not None
