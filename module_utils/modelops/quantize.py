"""FP32 model to INT8 pair: read, plan, stream; the final names get the whole pair or stay as is."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from . import manifest
from .errors import ModelOpsError
from .files import fsync_dir, rename_durable, require_space, sha256_file
from .forms import FP32
from .graph import read_model, validate
from .locks import exclusive
from .memory import peak_rss_bytes
from .plan import Plan, Recipe
from .tensors import Files

# Raise it when equal input gives other bytes than before: it is one of the manifest's versions.
QUANTIZER_VERSION = "1"

Progress = Callable[[int, int], None]


def quantize(
    src: Path,
    dest: Path,
    recipe: Recipe,
    *,
    threads: int = 2,
    check_mode: bool = False,
    force: bool = False,
    hash_source: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Quantize the model `src` to the pair `dest` + `dest.data`.

    Nothing is believed from an earlier run: an existing pair is unchanged only when streaming the
    source again gives its very bytes. Check mode streams too, without writing, so that it names
    the exact result.

    Args:
        src: the FP32 graph; its weights inline or in data files of its folder.
        dest: the INT8 graph to be, ending in `.onnx`, in an existing folder.
        threads: threads that read and quantize.
        force: write even when the pair is right already.
        hash_source: give the SHA-256 of the source, which costs one more read of it.
        progress: called with the bytes of the data file done and in all.

    Returns:
        `changed`, `release_id`, `artifacts` and `source` (path, name, size in bytes, sha256),
        `quantized` (node names), `kept_fp32` (node and reason), `manifest`, `source_bytes`,
        `elapsed_s`, `peak_rss_bytes`.

    Raises:
        ModelOpsError: what the source, the destination or the disk does not allow.
    """
    started = time.monotonic()
    dest_data = dest.with_name(f"{dest.name}.data")
    model = read_model(src)
    sources = [src, *sorted(validate(model, src))]
    _check_destination(dest, dest_data, sources)
    before = _fingerprints(sources)
    # The hash runs beside the work: it reads the file into the cache that the work reads from.
    with ThreadPoolExecutor(1) as background, closing(Files()) as files:
        hashing = {p: background.submit(sha256_file, p) for p in sources if hash_source}
        scratch = None if check_mode else dest.parent
        plan = Plan(model, src.parent, dest_data.name, recipe, files, scratch)
        del model
        pair = {dest: len(plan.graph_bytes), dest_data: plan.layout.size}
        hashes = {dest: hashlib.sha256(plan.graph_bytes).hexdigest()}
        report = _reporter(progress, plan.layout.size)
        require_space(dest.parent, sum(pair.values()), f"the INT8 pair {dest.name}")
        sizes_fit = all(_is_file_of_size(path, size) for path, size in pair.items())
        changed = True
        if check_mode or (sizes_fit and not force):
            hashes[dest_data] = plan.layout.stream(None, threads, report)
            same = sizes_fit and all(sha256_file(path) == hashes[path] for path in pair)
            changed = force or not same
        if changed and not check_mode:
            hashes[dest_data] = _write(plan, dest, dest_data, threads, report, before)
        source_hashes = {path: future.result() for path, future in hashing.items()}
    _require_unchanged(before)
    artifacts = [_entry(path, pair[path], hashes[path]) for path in pair]
    source = [_entry(path, path.stat().st_size, source_hashes.get(path)) for path in sources]
    decisions = [asdict(decision) for decision in plan.decisions]
    return {
        "changed": changed,
        "release_id": manifest.release_id(artifacts),
        "artifacts": artifacts,
        "source": source,
        "source_bytes": sum(int(entry["size"]) for entry in source),
        "quantized": [d["node"] for d in decisions if d["form"] != FP32],
        "kept_fp32": [
            {"node": d["node"], "op": d["op"], "reason": d["reason"]}
            for d in decisions
            if d["form"] == FP32
        ],
        "manifest": manifest.build(artifacts, source, recipe.as_dict(), decisions, versions()),
        "elapsed_s": round(time.monotonic() - started, 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes the bits."""
    return {"quantizer": QUANTIZER_VERSION, "onnx": onnx.__version__, "numpy": np.__version__}


def _write(
    plan: Plan,
    dest: Path,
    dest_data: Path,
    threads: int,
    report: Callable[[int], None] | None,
    before: Mapping[Path, tuple[int, ...]],
) -> str:
    """Write both files beside their names, then rename; return the data file's SHA-256."""
    graph_part = dest.with_name(f"{dest.name}.part")
    data_part = dest_data.with_name(f"{dest_data.name}.part")
    with exclusive(dest.with_name(f".{dest.name}.lock"), f"quantizing to {dest.name}"):
        try:
            with data_part.open("wb", buffering=0) as out:
                digest = plan.layout.stream(out, threads, report)
                os.fsync(out.fileno())
            with graph_part.open("wb") as out:
                out.write(plan.graph_bytes)
                out.flush()
                os.fsync(out.fileno())
            _require_unchanged(before)
            # New data under an old graph would load and answer nonsense: the old graph goes first.
            dest.unlink(missing_ok=True)
            fsync_dir(dest.parent)
            rename_durable(data_part, dest_data)
            rename_durable(graph_part, dest)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ModelOpsError(
                "the disk became full while the INT8 pair was written",
                where=dest.parent,
                remedy="Free space and run again; nothing was put under the final names.",
            ) from None
        finally:
            graph_part.unlink(missing_ok=True)
            data_part.unlink(missing_ok=True)
    return digest


def _check_destination(dest: Path, dest_data: Path, sources: list[Path]) -> None:
    if dest.suffix != ".onnx":
        raise ModelOpsError(
            "the destination's name does not end in .onnx", where=dest, remedy="Name a .onnx file."
        )
    folder = dest.parent
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


def _is_file_of_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _fingerprints(paths: list[Path]) -> dict[Path, tuple[int, ...]]:
    stats = {path: path.stat() for path in paths}
    return {p: (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in stats.items()}


def _require_unchanged(before: Mapping[Path, tuple[int, ...]]) -> None:
    for path, fingerprint in _fingerprints(list(before)).items():
        if fingerprint != before[path]:
            raise ModelOpsError(
                "the source changed while it was read",
                where=path,
                remedy="Let nothing write to the model during the run, and run again.",
            )


def _entry(path: Path, size: int, sha256: str | None) -> dict[str, Any]:
    return {"path": str(path), "name": path.name, "size": size, "sha256": sha256}


def _reporter(progress: Progress | None, total: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda done: progress(done, total)
