"""The folder of reports on the controller: one a release, and an index over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..pair import manifest, received
from . import gather, junit, page, text

MODE = 0o640
FILE = "report.json"
# What only the run that released could see, by host: a later run keeps it.
SEEN_ONCE = ("notes", "freed", "transfers", "host_memory")


def merged(found: Mapping[str, Any], kept: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return the document of a run with what only an earlier run of this release could see.

    Args:
        kept: the document of an earlier run; empty without one.
        check_mode: this run saw nothing of the hosts' own: what an earlier one saw stands.
    """
    made = dict(found)
    for name in (*SEEN_ONCE, *(("outcomes",) if check_mode else ())):
        before, now = kept.get(name) or {}, found[name]
        made[name] = {**now, **before} if check_mode else {**before, **now}
    for name in ("timeline", "form_sizes"):
        made[name] = found[name] or kept.get(name) or found[name]
    for name in ("checklist",) if check_mode else ():
        made[name] = kept.get(name) or found[name]
    return made


def wanted(
    root: Path, found: Mapping[str, Any], templates: Path, check_mode: bool
) -> tuple[dict[str, Any], dict[Path, bytes]]:
    """Return the document of a release, and the files that its report is.

    Args:
        root: the folder that has a folder a release.
        found: what this run gathered (gather.report).
        templates: the folder of the page's templates.

    Returns:
        No files where there is no release, or where a run that only measured on the builder would
        replace the report of one that released.

    Raises:
        ModelOpsError: the id of the release is none.
    """
    if not found["release"]:
        return dict(found), {}
    folder = root / received.release_id(found["release"])
    kept = document(folder / FILE)
    made = merged(found, kept, check_mode)
    if not found["outcomes"] and kept.get("outcomes"):
        return made, {}
    others = [document for document in all_of(root) if document["release"] != made["release"]]
    history = [*others, made]
    return made, {
        folder / FILE: (json.dumps(made, indent=1, sort_keys=True) + "\n").encode(),
        folder / "report.md": text.markdown(made).encode(),
        folder / "report.html": page.report(made, history, templates).encode(),
        folder / "junit.xml": junit.xml(made),
        root / "index.html": page.index(history, templates).encode(),
    }


def all_of(root: Path) -> list[dict[str, Any]]:
    """Return the documents of all releases in a folder that this version can read."""
    folders = sorted(path for path in root.glob("*") if manifest.RELEASE_ID.fullmatch(path.name))
    found = [document(folder / FILE) for folder in folders]
    return [made for made in found if made.get("schema") == gather.SCHEMA]


def document(path: Path) -> dict[str, Any]:
    """Return the document of a release; empty where there is none that can be read."""
    try:
        found = opener.read_json(path)
    except (OSError, ModelOpsError):
        return {}
    return found if isinstance(found, dict) else {}


def write(files: Mapping[Path, bytes], check_mode: bool) -> list[dict[str, Any]]:
    """Write the files that are not what they should be; each is the old or the new whole one.

    Returns:
        A diff a file that was (in check mode: would be) written: `before`, `after` and their
        headers.

    Raises:
        OSError: one cannot be written.
    """
    diffs = []
    for path, content in files.items():
        before = opener.read(path, opener.LARGEST_JSON) if path.exists() else b""
        if before == content and path.stat().st_mode & 0o777 == MODE:
            continue
        diffs.append(_diff(path, before, content))
        if not check_mode:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(path, content, MODE)
    return diffs


def _diff(path: Path, before: bytes, after: bytes) -> dict[str, Any]:
    """Return a diff of what people read; of the others only that they change."""
    shown = {"before_header": str(path), "after_header": str(path)}
    if path.suffix == ".md":
        return {**shown, "before": before.decode(errors="replace"), "after": after.decode()}
    return {**shown, "before": "", "after": f"{len(after)} bytes\n"}
