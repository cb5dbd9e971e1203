"""A deterministic look-alike of the real audio model, of any size, written as a stream.

`audio_codes` int64 [1, 16, steps], values 0..1023 -> `mel_features` float32
[1, 2048, steps * upsample]: sixteen embedded codebooks side by side, four transformer layers
(LayerNormalization, fused MatMul projections, attention, Gelu), a Gemm head, and each frame held
for `upsample` steps. MatMul and Gemm hold at least 85 % of the weights.

Equal arguments give equal bytes on every system: weights come from the raw stream of a bit
generator (which numpy keeps stable, unlike its distributions) by integer and plain IEEE arithmetic
(no exp or log, whose last bit differs between processors and C libraries).

Channels have a spread of scales and a few are outliers, as in real networks, so that one INT8 scale
for a whole tensor is too coarse. Measured with onnxruntime 1.32 (AVX-512 VNNI, two cores) at
200 MB, seed 0, other arguments default, `quantize_dynamic` with weight_type QInt8 against FP32, on
the two inputs of onnx_compare: lowest cosine 0.943 per tensor, 0.997 per channel (promised: 0.98).
To repeat:

    run sample_model with path=m.onnx megabytes=200
    quantize_dynamic("m.onnx", "q.onnx", weight_type=QuantType.QInt8, per_channel=...,
                     use_external_data_format=True)
    run onnx_compare with reference=m.onnx candidate=q.onnx ranges={"audio_codes": [0, 1023]}
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, remove, rename_durable, require_space
from .graph import CODEBOOK_SIZE, HEAD_WIDTH, LAYERS, MEL_BINS, GraphBuilder, Plan, Weights

MIN_MEGABYTES, MAX_MEGABYTES = 1, 4400


def plan(megabytes: int, steps: int = 128, upsample: int = 1) -> Plan:
    """Choose the widths for about `megabytes` (10^6 bytes) of FP32 weights.

    With width D and hidden width F there are 1024 D (embedding) + 2048 D (head) +
    4 layers * (4 D^2 + 2 D F) weights. D follows from F = 4 D, rounded down to whole heads; F then
    fills up the rest.

    Raises:
        ModelOpsError: an argument is out of range.
    """
    if not MIN_MEGABYTES <= megabytes <= MAX_MEGABYTES:
        raise ModelOpsError(
            f"megabytes is {megabytes}",
            where="sample_model",
            remedy=f"Use {MIN_MEGABYTES} to {MAX_MEGABYTES}.",
        )
    if steps < 1 or upsample < 1:
        raise ModelOpsError(
            f"steps is {steps} and upsample is {upsample}",
            where="sample_model",
            remedy="Use 1 or more for both.",
        )
    weights = megabytes * 250_000
    ends = CODEBOOK_SIZE + MEL_BINS
    width = (math.isqrt(ends**2 + 4 * 12 * LAYERS * weights) - ends) // (2 * 12 * LAYERS)
    width = max(HEAD_WIDTH, width // HEAD_WIDTH * HEAD_WIDTH)
    rest = weights - ends * width - LAYERS * 4 * width**2
    hidden = max(16, rest // (LAYERS * 2 * width) // 16 * 16)
    return Plan(width, hidden, steps, upsample)


def make_sample(
    path: Path,
    megabytes: int,
    seed: int = 0,
    steps: int = 128,
    upsample: int = 1,
    outlier: float = 6.0,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Write `path` (the graph) and `path` + ".data" (the weights) unless they are there already.

    Whether they are there is decided by making every block again and comparing it with the bytes on
    disk. New files are written as `.part` and renamed, data first; an old graph is removed before,
    so that it never meets new data.

    Args:
        path: the graph, ending in .onnx, in an existing folder.
        megabytes: size of the weights, 1 to 4400 (10^6 bytes).
        seed: not negative.
        steps: time steps of `audio_codes`.
        upsample: output frames per time step.
        outlier: how many times larger an outlier channel is than the others; 1 for none.
        check_mode: tell, but write nothing.

    Returns:
        `changed`, `artifacts` (of each file: path, size in bytes, SHA-256; the size and hash are
        None in check mode when it would be written), `width`, `hidden`, `layers`.

    Raises:
        ModelOpsError: an argument is out of range, or the disk is too small.
        OSError: a file cannot be written.
    """
    shape = plan(megabytes, steps, upsample)
    if path.suffix != ".onnx":
        raise ModelOpsError(
            "the path does not end in .onnx", where=path, remedy="Name the graph file NAME.onnx."
        )
    if seed < 0 or not (math.isfinite(outlier) and outlier >= 1):
        raise ModelOpsError(
            f"seed is {seed} and outlier is {outlier}",
            where=path,
            remedy="Use a seed of 0 or more and an outlier factor of 1 or more.",
        )
    data = path.with_name(path.name + ".data")
    result: dict[str, Any] = {"width": shape.width, "hidden": shape.hidden, "layers": LAYERS}
    present = _present(path, data, shape, seed, outlier)
    if present:
        return {**result, "changed": False, "artifacts": present}
    if check_mode:
        absent = [{"path": str(p), "size": None, "sha256": None} for p in (path, data)]
        return {**result, "changed": True, "artifacts": absent}
    artifacts = _write_pair(path, data, shape, seed, outlier, megabytes)
    return {**result, "changed": True, "artifacts": artifacts}


class _DiffersError(Exception):
    """The file on disk is not what would be written."""


class _FileStream:
    """Takes the blocks of the data file: hashes them and writes or compares them."""

    def __init__(self, handle: BinaryIO, compare: bool) -> None:
        self._handle = handle
        self._compare = compare
        self._digest = hashlib.sha256()
        self.size = 0

    def put(self, block: bytes | memoryview) -> None:
        if self._compare:
            if self._handle.read(len(block)) != block:
                raise _DiffersError
        else:
            self._handle.write(block)
        self._digest.update(block)
        self.size += len(block)

    def align(self, boundary: int) -> int:
        """Fill with zeros up to a multiple of `boundary` and return the offset reached."""
        self.put(bytes(-self.size % boundary))
        return self.size

    def finish(self) -> str:
        """Return the SHA-256 of everything put."""
        if self._compare and self._handle.read(1):
            raise _DiffersError
        return self._digest.hexdigest()


def _make(stream: _FileStream, data: Path, shape: Plan, seed: int, outlier: float) -> bytes:
    """Put all weights into the stream and return the bytes of the graph file."""
    graph = GraphBuilder(shape, Weights(stream, data.name, seed, outlier)).build()
    return bytes(graph.SerializeToString(deterministic=True))


def _artifact(path: Path, size: int, sha256: str) -> dict[str, Any]:
    return {"path": str(path), "size": size, "sha256": sha256}


def _present(
    path: Path, data: Path, shape: Plan, seed: int, outlier: float
) -> list[dict[str, Any]] | None:
    """Return the artifacts when the pair on disk is what would be written, else None."""
    if any(p.is_symlink() or not p.is_file() for p in (path, data)):
        return None
    try:
        with open(data, "rb") as handle:
            stream = _FileStream(handle, compare=True)
            graph = _make(stream, data, shape, seed, outlier)
            weights_hash = stream.finish()
    except _DiffersError:
        return None
    if path.read_bytes() != graph:
        return None
    graph_hash = hashlib.sha256(graph).hexdigest()
    return [_artifact(path, len(graph), graph_hash), _artifact(data, stream.size, weights_hash)]


@contextlib.contextmanager
def _parts(*parts: Path) -> Iterator[None]:
    """Remove what is left of `.part` files, whether the work in between succeeds or not."""
    try:
        yield
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _write_pair(
    path: Path, data: Path, shape: Plan, seed: int, outlier: float, megabytes: int
) -> list[dict[str, Any]]:
    require_space(path.parent, megabytes * 1_050_000, "the sample model")
    path_part, data_part = (p.with_name(f".{p.name}.part") for p in (path, data))
    for part in (path_part, data_part):
        remove(part)
    with _parts(path_part, data_part):
        with open(data_part, "wb") as handle:
            stream = _FileStream(handle, compare=False)
            graph = _make(stream, data, shape, seed, outlier)
            weights_hash = stream.finish()
            handle.flush()
            os.fsync(handle.fileno())
        path_part.write_bytes(graph)
        remove(path)
        fsync_dir(path.parent)
        rename_durable(data_part, data)
        rename_durable(path_part, path)
    graph_hash = hashlib.sha256(graph).hexdigest()
    return [_artifact(path, len(graph), graph_hash), _artifact(data, stream.size, weights_hash)]
