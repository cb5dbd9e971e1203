"""Byte edits of a file, made on the controller and applied on the target.

Standard library only: `apply` runs on the target with the system's Python.

An edit is the JSON object `{"offset": int, "old": str, "new": str}`: at byte `offset` of the
original stands the UTF-8 text `old`, and it becomes `new`. The edits of a list ascend and do not
overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..base.errors import ModelOpsError

BREAKS = "\r\n\x85\u2028\u2029"  # what may end a line, in YAML 1.1 and elsewhere
# Bytes of a configuration: PyYAML reads some 40 KB a second, and each run reads it several times.
LARGEST = 256 << 10
Edit = dict[str, Any]  # {"offset": int (bytes), "old": str, "new": str}


class Change(NamedTuple):
    """`text[start:end]` becomes `new`. Positions count characters."""

    start: int
    end: int
    new: str


def require_size(size: int, where: object) -> None:
    """Refuse a configuration that would keep whoever reads it.

    Raises:
        ModelOpsError: it is larger than LARGEST.
    """
    if size > LARGEST:
        raise ModelOpsError(
            f"the configuration has {size:,} bytes or more, and may have {LARGEST:,} at most",
            where=where,
            remedy="See that sarai_config_file is the service's configuration, and shorten it.",
        )


def edits(text: str, changes: Iterable[Change]) -> list[Edit]:
    """Turn changes of characters, in the order of the text, into edits of its UTF-8 bytes.

    An insertion also names the text before it in its line: `old` then tells a file that has
    changed meanwhile also where nothing is replaced.
    """
    made: list[Edit] = []
    done = 0
    for change in changes:
        old = text[change.start : change.end]
        if old == change.new:
            continue
        start = change.start
        if not old:
            start = max(done, *(text.rfind(c, 0, start) + 1 for c in BREAKS))
        context = text[start : change.start]
        made.append(
            {
                "offset": len(text[:start].encode()),
                "old": context + old,
                "new": context + change.new,
            }
        )
        done = change.end
    return made


def apply(content: bytes, edits: Iterable[Mapping[str, Any]], where: object = "") -> bytes:
    """Return `content` with the edits made.

    Raises:
        ModelOpsError: an edit is malformed, out of order, or its `old` does not stand at its
            offset, because the file is not the one that the edits were made for.
    """
    parts: list[bytes] = []
    position = 0
    for edit in edits:
        offset, old, new = _fields(edit, where)
        if offset < position:
            raise _malformed(edit, "it overlaps the edit before it or is out of order", where)
        end = offset + len(old)
        if offset > len(content) or content[offset:end] != old:
            raise ModelOpsError(
                f"the file is not the one that was read: byte {offset} should start with {old!r},"
                f" but has {content[offset:end]!r}",
                where=where,
                remedy="Somebody changed it meanwhile, nothing was written. Run again.",
            )
        parts += [content[position:offset], new]
        position = end
    return b"".join([*parts, content[position:]])


def invert(edits: Iterable[Mapping[str, Any]]) -> list[Edit]:
    """Return the edits that turn the result of `apply` back into the original.

    Raises:
        ModelOpsError: an edit is malformed.
    """
    inverse: list[Edit] = []
    shift = 0
    for edit in edits:
        offset, old, new = _fields(edit, "")
        inverse.append({"offset": offset + shift, "old": edit["new"], "new": edit["old"]})
        shift += len(new) - len(old)
    return inverse


def _fields(edit: Mapping[str, Any], where: object) -> tuple[int, bytes, bytes]:
    try:
        offset, old, new = edit["offset"], edit["old"].encode(), edit["new"].encode()
    except (TypeError, KeyError, AttributeError, UnicodeEncodeError):
        raise _malformed(edit, "it needs an offset and the texts old and new", where) from None
    # bool is an int to Python, but no offset
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise _malformed(edit, "its offset is not a number of bytes", where)
    return offset, old, new


def _malformed(edit: object, why: str, where: object) -> ModelOpsError:
    return ModelOpsError(
        f"not a usable edit {edit!r}: {why}",
        where=where,
        remedy="Nothing was written. Plan the edits again with yaml_edit.plan.",
    )
