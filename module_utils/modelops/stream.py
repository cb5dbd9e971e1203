"""The data file of a quantized model: laid out first, then written and hashed in one pass.

Memory is bounded by the blocks in flight, whatever the model's size. The bytes do not depend on
the number of threads: blocks are computed by a pool and taken from it in order.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from .errors import ModelOpsError
from .files import CHUNK
from .graph import Extent
from .tensors import F32, Block, Weight, read_exactly

I8 = npt.NDArray[np.int8]
Buffer = bytes | memoryview
T = TypeVar("T")
R = TypeVar("R")

# Scales below this are replaced by 1.0, as onnxruntime.quantization.compute_scale_zp does.
TINY = np.finfo(np.float32).tiny
# An INT8 weight up to this size is transposed in memory, a larger one through a scratch file.
TRANSPOSE_IN_MEMORY = 16 << 20
LARGE = 64 << 10  # tensors from here on start at a page, so that a reader may map them
PAGE, WORD = 4096, 64


@dataclass(frozen=True)
class Segment:
    """A tensor of the data file.

    Attributes:
        name, data_type, dims: what the graph says of it (`data_type` is a TensorProto.DataType).
        length: its bytes.
        chunks: makes its bytes, in order, in pieces of any size. Segments are asked in file order.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    length: int
    chunks: Callable[[ThreadPoolExecutor], Iterator[Buffer]]


class Layout:
    """Where each segment lies in the data file `location`."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.segments: list[tuple[int, Segment]] = []
        self.size = 0

    def add(self, segment: Segment) -> TensorProto:
        """Give a segment its place and return the graph's tensor that points there."""
        align = PAGE if segment.length >= LARGE else WORD
        offset = self.size + -self.size % align
        self.segments.append((offset, segment))
        self.size = offset + segment.length
        tensor = TensorProto(
            name=segment.name,
            data_type=segment.data_type,
            dims=segment.dims,
            data_location=TensorProto.EXTERNAL,
        )
        fields = {"location": self.location, "offset": offset, "length": segment.length}
        for key, value in fields.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def stream(
        self, out: BinaryIO | None, threads: int, progress: Callable[[int], None] | None = None
    ) -> str:
        """Produce the data file once, in order, and return its SHA-256.

        Args:
            out: where to write; None only computes the hash (check mode, comparison).
            threads: threads that read and quantize; writing and hashing have the caller's.
            progress: called with the bytes produced so far.
        """
        digest = hashlib.sha256()
        position = 0

        def put(chunk: Buffer) -> None:
            nonlocal position
            digest.update(chunk)
            if out is not None:
                out.write(chunk)
            position += len(chunk)

        with ThreadPoolExecutor(threads) as pool:
            for offset, segment in self.segments:
                put(bytes(offset - position))
                for chunk in segment.chunks(pool):
                    put(chunk)
                    if progress is not None:
                        progress(position)
                assert position == offset + segment.length, segment.name
        return digest.hexdigest()


def copied(extent: Extent) -> Callable[[ThreadPoolExecutor | None], Iterator[Buffer]]:
    """The chunks of a tensor that is kept as it is."""

    def chunks(_pool: ThreadPoolExecutor | None) -> Iterator[Buffer]:
        buffer = memoryview(bytearray(min(CHUNK, max(1, extent.length))))
        with extent.path.open("rb", buffering=0) as handle:
            handle.seek(extent.offset)
            for start in range(0, extent.length, len(buffer)):
                part = buffer[: min(len(buffer), extent.length - start)]
                read_exactly(handle, part, extent.path)
                yield part

    return chunks


def constant(
    content: Callable[[], bytes],
) -> Callable[[ThreadPoolExecutor | None], Iterator[Buffer]]:
    """The chunks of a small tensor that is known when its turn comes."""
    return lambda _pool: iter((content(),))


class QuantizedWeight:
    """A weight on its way to symmetric INT8: q = rint(w / scale), scale = absmax / 127.

    Formula, rounding and the order of operations are those of onnxruntime.quantization
    (compute_scale_zp, quantize_nparray) for QInt8, symmetric, no reduce_range, so the bytes are
    the same: the scale is computed in float64 and stored as float32, the division is float32.

    Args:
        weight: the FP32 matrix [rows, columns] as stored.
        axis: 0 for a scale a row, 1 for a scale a column, None for one scale.
        transpose: whether the INT8 matrix is written as [columns, rows].
        scratch: the folder for the scratch file of a large transposition.
    """

    def __init__(
        self, weight: Weight, axis: int | None, transpose: bool, scratch: Path | None
    ) -> None:
        self._weight = weight
        self._axis = axis
        self._transpose = transpose
        self._scratch = scratch
        self._scale: F32 | None = None

    def scale_bytes(self, factor: float = 1.0) -> bytes:
        """The float32 scales, after `chunks` has run; `factor` is multiplied in (Gemm's alpha)."""
        assert self._scale is not None
        return (self._scale * np.float32(factor)).tobytes()

    def chunks(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        """Yield the INT8 bytes in the order of the data file.

        Raises:
            ModelOpsError: the weight holds NaN or Inf, or its file shrank.
        """
        if self._axis == 0:
            self._scale = np.ones(self._weight.rows, np.float32)
        else:
            self._scale = self._scales(self._absmax(pool))
        if not self._transpose:
            for q in in_order(pool, self._quantize, self._weight.blocks()):
                yield q.data.cast("B")
        elif self._weight.rows * self._weight.columns <= TRANSPOSE_IN_MEMORY:
            yield from self._transposed_in_memory(pool)
        else:
            yield from self._transposed_through_file(pool)

    def _absmax(self, pool: ThreadPoolExecutor) -> F32:
        """The largest |w| of the whole weight [] or of each column [columns]."""
        result = np.zeros(() if self._axis is None else self._weight.columns, np.float32)
        blocks = self._weight.blocks()
        for block, found in in_order(pool, lambda b: (b, self._block_absmax(b)), blocks):
            if self._axis is None:
                result = np.maximum(result, found)
            else:
                part = result[block.column : block.column + block.columns]
                np.maximum(part, found, out=part)
        return result

    def _block_absmax(self, block: Block) -> F32:
        x = self._weight.read(block)
        np.abs(x, out=x)
        largest: F32 = np.asarray(x.max() if self._axis is None else x.max(axis=0))
        return largest

    def _scales(self, absmax: F32) -> F32:
        # A maximum passes NaN and Inf on, so the largest values tell of any in the weight.
        if not np.isfinite(absmax).all():
            raise ModelOpsError(
                "the weight holds NaN or Inf",
                where=f"tensor {self._weight.name!r}",
                remedy="Export the model again, or name its node in exclude_nodes.",
            )
        scale = 2.0 * absmax.astype(np.float64) / 254.0
        return np.where(scale < TINY, 1.0, scale).astype(np.float32)

    def _quantize(self, block: Block) -> I8:
        x = self._weight.read(block)
        assert self._scale is not None
        if self._axis == 0:
            # A row may come in several blocks, when it is longer than one: read it whole then.
            scale = self._row_scales(block, x)
            x = x if block.columns == self._weight.columns else self._weight.read(block)
            np.divide(x, scale[:, None], out=x)
        elif self._axis == 1:
            np.divide(x, self._scale[block.column : block.column + block.columns], out=x)
        else:
            np.divide(x, self._scale, out=x)
        np.rint(x, out=x)
        return x.astype(np.int8)

    def _row_scales(self, block: Block, x: F32) -> F32:
        """A row's scale needs that row only, so one pass over the file is enough."""
        assert self._scale is not None
        if block.columns == self._weight.columns:
            absmax = np.maximum(x.max(axis=1), -x.min(axis=1))
        else:
            row_blocks = (b for b in self._weight.blocks() if b.row == block.row)
            absmax = np.array([max(float(np.abs(self._weight.read(b)).max()) for b in row_blocks)])
        scale = self._scales(absmax.astype(np.float32))
        self._scale[block.row : block.row + block.rows] = scale
        return scale

    def _transposed_in_memory(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        result = np.empty((self._weight.columns, self._weight.rows), np.int8)

        def place(block: Block) -> None:
            columns = slice(block.column, block.column + block.columns)
            result[columns, block.row : block.row + block.rows] = self._quantize(block).T

        for _ in in_order(pool, place, self._weight.blocks()):
            pass
        yield result.data.cast("B")

    def _transposed_through_file(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        """Write each block transposed to a scratch file, then gather strips of output rows.

        The strips read contiguous pieces of every block, so this costs one more pass over the
        INT8 bytes and memory for one strip.
        """
        rows, columns = self._weight.rows, self._weight.columns
        with tempfile.TemporaryFile(dir=self._scratch) as scratch:
            tiles: list[tuple[Block, int]] = []

            def tile(block: Block) -> tuple[Block, bytes]:
                return block, self._quantize(block).T.tobytes()

            for block, content in in_order(pool, tile, self._weight.blocks()):
                tiles.append((block, scratch.tell()))
                scratch.write(content)
            strip = max(1, TRANSPOSE_IN_MEMORY // (2 * rows))
            for start in range(0, columns, strip):
                stop = min(columns, start + strip)
                result = np.empty((stop - start, rows), np.int8)
                for block, offset in tiles:
                    low, high = max(start, block.column), min(stop, block.column + block.columns)
                    if low >= high:
                        continue
                    scratch.seek(offset + (low - block.column) * block.rows)
                    piece = scratch.read((high - low) * block.rows)
                    result[low - start : high - start, block.row : block.row + block.rows] = (
                        np.frombuffer(piece, np.int8).reshape(high - low, block.rows)
                    )
                yield result.data.cast("B")


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int = 4
) -> Iterator[R]:
    """Map with a pool, keep the order, and hold no more than `ahead` results at a time."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
