"""The manifest and the SHA256SUMS of a model's artifacts. Standard library only, for targets too.

A manifest is deterministic: equal input, recipe and versions give equal bytes. Measured figures
never enter it; they live in the record of verdicts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import sha256_file, sha256_of
from . import names, signed

SCHEMA = 1
# In the folder of a release; beside other models the names are those of names.Names. Until models
# could share a folder, these were the names there, too: a person may still bring them.
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
RELEASE_ID = re.compile(r"[0-9a-f]{16}")
LARGEST_SUMS = 1 << 20  # bytes; a line has some 100
_HASH = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[^/\\:.-][^/\\:]{0,199}")
# What people read of the artifacts of each recipe (quantizer.recipes); the first ones named none.
KINDS = {"int8": "INT8", "fp16": "FP16", "int4": "INT4"}
OTHER = "release"
LARGEST = 1 << 40  # bytes of a file: no model that a host holds is larger

FileEntry = dict[str, Any]  # {"name": str, "size": int (bytes), "sha256": str (64 hex digits)}


def release_id(artifacts: Iterable[Mapping[str, Any]]) -> str:
    """Derive a release's id from the names and SHA-256 of its artifacts: equal bits, equal id.

    Returns:
        The first 16 hex digits of the SHA-256 over the lines of SHA256SUMS.
    """
    return hashlib.sha256(sums(artifacts).encode()).hexdigest()[:16]


def sums(artifacts: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of SHA256SUMS: one `HASH  NAME` line a file, as `sha256sum -c` reads it."""
    return "".join(
        f"{a['sha256']}  {a['name']}\n" for a in sorted(artifacts, key=lambda a: str(a["name"]))
    )


def files(manifest: Mapping[str, Any]) -> list[FileEntry]:
    """Return the entries of all that travels: the artifacts, and the golden data if there is some.

    The golden data is not part of the release's id: what serves is the same with or without it.
    """
    golden = manifest.get("golden")
    return [*manifest["artifacts"], *([golden] if golden else [])]


def kind(recipe: Any) -> str:
    """Return what people read of the artifacts of a recipe: INT8, FP16 or INT4.

    A recipe that this version does not know gives OTHER: the text may be a host's.
    """
    name = recipe.get("name", "int8") if isinstance(recipe, Mapping) else None
    return KINDS.get(name, OTHER) if isinstance(name, str) else OTHER


def build(
    artifacts: Iterable[Mapping[str, Any]],
    source: Iterable[Mapping[str, Any]],
    recipe: Mapping[str, Any],
    nodes: Iterable[Mapping[str, Any]],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return the manifest of artifacts as a dictionary."""
    files = [_entry(a) for a in artifacts]
    return {
        "schema": SCHEMA,
        "release_id": release_id(files),
        "artifacts": files,
        "source": [_entry(s) for s in source],
        "recipe": dict(recipe),
        "nodes": [dict(n) for n in nodes],
        "versions": dict(versions),
    }


def dump(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes of a manifest's file, equal for equal manifests."""
    return (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's file: of all that it says, where the id covers artifacts.

    Returns:
        64 hex digits.
    """
    return hashlib.sha256(dump(manifest)).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """Read and check the file of a manifest.

    Raises:
        ModelOpsError: it is missing, not JSON, of another schema, or its id does not follow from
            its hashes.
    """
    try:
        return check(opener.read_json(path), where=path)
    except FileNotFoundError:
        raise ModelOpsError(
            "there is no manifest", where=path, remedy="Run the quantize phase again."
        ) from None


def find(folder: Path, model: str | None = None) -> Path:
    """Return the file that holds a model's manifest; of the only model there when none is named.

    Raises:
        ModelOpsError: there is none, or it is not clear which one is meant.
    """
    if model:
        own, plain = folder / names.of(model).manifest, folder / MANIFEST
        if own.exists() or not plain.exists():
            return own
        if (found := names.model_of(load(plain)["artifacts"])) == model:
            return plain
        raise ModelOpsError(
            f"there is no manifest of {model}; {MANIFEST} is that of {found}",
            where=own,
            remedy="Run the quantize phase again, or bring the files of this model.",
        )
    there = sorted(folder.glob(f"*.{MANIFEST}"))
    if len(there) > 1:
        raise ModelOpsError(
            f"several models lie here: {', '.join(path.name for path in there)}",
            where=folder,
            remedy="Say by its name which one is meant.",
        )
    return there[0] if there else folder / MANIFEST


def plain_files(folder: Path, model: str) -> list[Path]:
    """Return what versions before left of a model under plain names: its manifest tells whose."""
    try:
        if names.model_of(load(folder / MANIFEST)["artifacts"]) != model:
            return []
    except ModelOpsError:
        return []
    plain = (folder / name for name in (SUMS, "golden.npz", "verdict.json", MANIFEST))
    return [path for path in plain if path.is_file()]


def is_file_name(value: Any) -> bool:
    """Tell whether a value is a plain file name, whose every character is seen."""
    return isinstance(value, str) and bool(_FILE_NAME.fullmatch(value)) and value.isprintable()


def is_size(value: Any) -> bool:
    """Tell whether a value is a file's size in bytes; true and false are integers to Python."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def is_entry(value: Any) -> bool:
    """Tell whether a value is the entry of a file."""
    return isinstance(value, Mapping) and not entry_problem(value)


def entry_problem(entry: Any) -> str:
    """Say what is wrong with the entry of a file; empty when nothing is."""
    try:
        name, size, digest = entry["name"], entry["size"], entry["sha256"]
    except (TypeError, KeyError):
        return "lacks name, size or sha256"
    if not is_file_name(name):
        return f"{name!r} is not a plain file name"
    if not is_size(size) or not isinstance(digest, str) or not _HASH.fullmatch(digest):
        return f"size or sha256 of {name!r} is malformed"
    return ""


def check(manifest: Any, where: object = "manifest", model: str = "") -> dict[str, Any]:
    """Check the shape of a manifest that came from a file or from another host.

    Args:
        model: the model that it must be of: no other files are listed then.

    Raises:
        ModelOpsError: a field is missing or malformed, a name is a path or another model's, or the
            id does not fit.
    """

    def bad(why: str) -> ModelOpsError:
        return ModelOpsError(
            f"not a usable manifest: {why}",
            where=where,
            remedy="Remove it and run the quantize phase again.",
        )

    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise bad(f"schema {SCHEMA} is expected")
    for group in ("artifacts", "source", "golden"):
        if why := _group_problem(manifest, group):
            raise bad(why)
    listed = [entry["name"] for entry in files(manifest)]
    if len(set(listed)) != len(listed) or not names.model_of(manifest["artifacts"]):
        raise bad("it does not list one graph (.onnx), and each file once")
    if manifest.get("release_id") != release_id(manifest["artifacts"]):
        raise bad("its release id does not follow from its hashes")
    if not _are_nodes(manifest.get("nodes", [])):
        raise bad("its nodes are not a list of texts by name")
    if why := signed.problem(manifest):
        raise bad(why)
    if model and (foreign := _foreign(manifest, model)):
        raise bad(f"it lists what is no file of {model}: {', '.join(foreign)}")
    return manifest


def _group_problem(manifest: Mapping[str, Any], group: str) -> str:
    """Say what is wrong with the files that a manifest lists in a group; golden data may lack."""
    listed = manifest.get(group)
    if group == "golden":
        listed = [listed] if listed else []
    elif not listed:
        return f"it lists no {group}"
    if not isinstance(listed, list):
        return f"it lists no {group}"
    problems = (entry_problem(entry) for entry in listed)
    return next((f"an entry of {group}: {why}" for why in problems if why), "")


def _are_nodes(nodes: Any) -> bool:
    return isinstance(nodes, list) and all(
        isinstance(node, dict)
        and all(isinstance(node.get(name, ""), str) for name in ("node", "op", "form", "reason"))
        for node in nodes
    )


def _foreign(manifest: Mapping[str, Any], model: str) -> list[str]:
    """Return what a manifest lists that no release of a model has."""
    called = names.of(names.check(model))
    # Until models could share a folder, the golden data had a plain name.
    own = [(manifest["artifacts"], (called.int8, called.int8_data))]
    own += [
        ([golden], (called.golden, "golden.npz")) for golden in [manifest.get("golden")] if golden
    ]
    return [e["name"] for entries, fits in own for e in entries if e["name"] not in fits]


def verify(folder: Path, files: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare files on disk with their entries, each file, whatever the others are.

    Returns:
        A row a file: `name`, `ok`, `problem` (empty when ok), and the `size` and `sha256` found.
        A file of the wrong size is not hashed.
    """
    rows = []
    for entry in files:
        row: dict[str, Any] = {"name": entry["name"], "ok": False, "size": None, "sha256": None}
        try:
            with opener.opened(folder / entry["name"]) as handle:
                row["size"] = size = os.fstat(handle.fileno()).st_size
                row["sha256"] = sha256_of(handle, size) if size == entry["size"] else None
            row["problem"] = _difference(row, entry)
        except (FileNotFoundError, NotADirectoryError):
            row["problem"] = "missing"
        except ModelOpsError as error:
            row["problem"] = error.what
        rows.append({**row, "ok": not row["problem"]})
    return rows


def _difference(row: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if row["size"] != entry["size"]:
        return f"{row['size']} bytes instead of {entry['size']}"
    if row["sha256"] != entry["sha256"]:
        return f"SHA-256 {row['sha256']} instead of {entry['sha256']}"
    return ""


def standing(
    folder: Path,
    places: Iterable[Path],
    entries: Sequence[Mapping[str, Any]],
    *,
    verified: bool = True,
) -> Path | None:
    """Return the first folder in which files are what their entries say.

    Args:
        folder: where they are looked for first.
        places: other folders, each with the releases in it, where they may have been moved to.
        verified: whether by their SHA-256, or by their sizes alone.
    """

    def fits(place: Path) -> bool:
        if verified:
            return all(row["ok"] for row in verify(place, entries))
        paths = [(place / entry["name"], entry["size"]) for entry in entries]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    others = list(places)
    inside = (path for place in others if place.is_dir() for path in sorted(place.iterdir()))
    others += [path for path in inside if RELEASE_ID.fullmatch(path.name)]
    return next((place for place in (folder, *others) if fits(place)), None)


def sums_problems(folder: Path, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return where a SHA256SUMS, if there is one, says something else than the manifest.

    One that is named after no model says something only when it lists a file of this one.
    """
    wanted = {entry["name"]: entry["sha256"] for entry in entries}
    path = folder / names.of(names.model_of(entries)).sums
    if not path.exists():
        path = folder / SUMS
    if not path.exists():
        return []
    try:
        text = opener.read(path, LARGEST_SUMS).decode("utf-8-sig", errors="replace")
    except ModelOpsError as error:
        return [str(error)]
    listed = {}
    for line in text.splitlines():
        digest, _, name = line.partition(" ")
        listed[name.lstrip(" *").removeprefix("./")] = digest.lower()
    if path.name == SUMS and not set(listed) & set(wanted):
        return []
    return [
        f"{path}: lists {listed.get(name, 'nothing')} for {name}"
        for name, digest in wanted.items()
        if listed.get(name) != digest
    ]


def describe(path: Path) -> FileEntry:
    """Return the entry of a file on disk: name, size, SHA-256."""
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256_file(path)}


def _entry(entry: Mapping[str, Any]) -> FileEntry:
    return {"name": entry["name"], "size": entry["size"], "sha256": entry["sha256"]}
