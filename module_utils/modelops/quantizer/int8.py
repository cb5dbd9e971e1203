"""A weight on its way to INT8: scales, values and their order, computed by a pool of threads."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from ..base.errors import ModelOpsError
from ..model.tensor_blocks import F32, Block, Weight
from . import grids

I8 = npt.NDArray[np.int8]
Buffer = bytes | memoryview
T = TypeVar("T")
R = TypeVar("R")

# Scales below this are replaced by 1.0, as onnxruntime.quantization.compute_scale_zp does.
TINY = np.finfo(np.float32).tiny
# An INT8 weight up to this size is transposed in memory, a larger one through a scratch file.
TRANSPOSE_IN_MEMORY = 16 << 20


def require_finite(raw: Buffer, data_type: int, name: str) -> None:
    """Refuse NaN and Inf among the raw values of a weight; types without them pass.

    Raises:
        ModelOpsError: naming the tensor.
    """
    # The exponent is all ones in NaN and Inf, whatever the type: (bits of a value, exponent mask).
    masks: dict[int, tuple[str, int]] = {
        TensorProto.FLOAT: ("<u4", 0x7F800000),
        TensorProto.FLOAT16: ("<u2", 0x7C00),
        TensorProto.BFLOAT16: ("<u2", 0x7F80),
    }
    dtype, mask = masks.get(data_type, ("", 0))
    if dtype and ((np.frombuffer(raw, dtype) & mask) == mask).any():
        raise not_finite(name)


def not_finite(name: str) -> ModelOpsError:
    """Return the refusal of a weight that holds NaN or Inf."""
    return ModelOpsError(
        "the weight holds NaN or Inf",
        where=f"tensor {name!r}",
        remedy="Export the model again, or name its node in exclude_nodes.",
    )


class QuantizedWeight:
    """A weight on its way to symmetric INT8: q = rint(w / scale), scale = absmax / 127.

    Formula, rounding and the order of operations are those of onnxruntime.quantization
    (compute_scale_zp, quantize_nparray) for QInt8, symmetric, no reduce_range, so the bytes are
    the same: the scale is computed in float64 and stored as float32, the division is float32.
    Channels that lie on a grid have its step as their scale: see grids.

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

    def scale_bytes(self, pool: ThreadPoolExecutor, factor: float = 1.0) -> bytes:
        """The float32 scales; `factor` is multiplied in (Gemm's alpha).

        They are known once `chunks` has run, which it has not where the values are stored already.
        """
        if self._scale is None:
            for _ in self.chunks(pool):
                pass
        assert self._scale is not None
        return (self._scale * np.float32(factor)).tobytes()

    def chunks(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        """Yield the INT8 bytes in the order of the data file.

        Raises:
            ModelOpsError: the weight holds NaN or Inf, or its file shrank.
        """
        weight = self._weight
        if self._axis == 0:
            self._scale = np.ones(weight.rows, np.float32)
        else:
            absmax = self._absmax(pool)
            self._scale = self._on_grids(pool, absmax, scales(absmax, weight.name))
        if self._transpose:
            yield from transposed(
                pool, self._quantize, weight.blocks(), (weight.rows, weight.columns), self._scratch
            )
            return
        for q in in_order(pool, self._quantize, weight.blocks()):
            yield q.data.cast("B")

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
        largest: F32 = np.asarray(np.max(x, axis=None if self._axis is None else 0))
        return largest

    def _on_grids(self, pool: ThreadPoolExecutor, absmax: F32, scale: F32) -> F32:
        """The scales, with the steps of what lies on a grid; one more look where some may.

        Columns are looked at where a block holds whole rows.
        """
        weight, blocks = self._weight, list(self._weight.blocks())
        if not blocks or (self._axis == 1 and blocks[0].columns < weight.columns):
            return scale
        count = 1 if self._axis is None else weight.columns
        largest, scales_of = absmax.reshape(count), scale.reshape(count).copy()

        def channels(block: Block) -> F32:
            return weight.read(block).reshape(-1, count)

        first = replace(blocks[0], rows=min(blocks[0].rows, grids.SAMPLES))
        may = grids.plausible(channels(first), largest)
        if not len(may):
            return scale
        most, found = grids.most_levels(len(may)), np.zeros((1, len(may)), np.float32)
        for part in in_order(pool, lambda b: grids.levels(channels(b)[:, may], most), blocks):
            found = grids.levels(np.concatenate([found, part]), most)
        values = weight.rows * weight.columns // count
        scales_of[may] = grids.steps(found, values, scales_of[may], most)
        return scales_of.reshape(scale.shape)

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
        absmax = absmax.astype(np.float32)
        scale = scales(absmax, self._weight.name)
        if block.columns == self._weight.columns:
            scale = on_grids(x.T, absmax, scale)
        self._scale[block.row : block.row + block.rows] = scale
        return scale


class WindowWeight(QuantizedWeight):
    """A Conv's weight [N, C x kernel] on its way to INT8 [kernel x C, N], whole in memory.

    Args:
        weight, axis, scratch: as for QuantizedWeight.
        kernel: values that a window has of each channel.
    """

    def __init__(self, weight: Weight, axis: int | None, kernel: int, scratch: Path | None) -> None:
        super().__init__(weight, axis, True, scratch)
        self._shape = weight.columns // kernel, kernel, weight.rows

    def chunks(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        """Yield the INT8 bytes; raises as QuantizedWeight."""
        turned = b"".join(bytes(chunk) for chunk in super().chunks(pool))
        by_channel = np.frombuffer(turned, np.int8).reshape(self._shape)
        yield np.ascontiguousarray(by_channel.transpose(1, 0, 2)).data.cast("B")


def scales(absmax: F32, name: str) -> F32:
    """Return the scales for these largest values, as onnxruntime computes them.

    Raises:
        ModelOpsError: NaN or Inf; a maximum passes them on, so they tell of any in the weight.
    """
    if not np.isfinite(absmax).all():
        raise not_finite(name)
    scale = 2.0 * absmax.astype(np.float64) / 254.0
    return np.where(scale < TINY, 1.0, scale).astype(np.float32)


def on_grids(x: F32, absmax: F32, scale: F32) -> F32:
    """Return the scales of channels [values, channels], with the steps of those on a grid."""
    may = grids.plausible(x, absmax)
    if len(may):
        scale = scale.copy()
        found = grids.levels(x[:, may], grids.LARGEST)
        scale[may] = grids.steps(found, len(x), scale[may], grids.LARGEST)
    return scale


def transposed(
    pool: ThreadPoolExecutor,
    quantize: Callable[[Block], I8],
    blocks: Iterable[Block],
    shape: tuple[int, int],
    scratch: Path | None,
    pack: int = 1,
) -> Iterator[Buffer]:
    """Yield the transpose of a quantized matrix in the order of its bytes.

    A large one goes through a scratch file: each block is written transposed, then strips of
    output rows are gathered. The strips read contiguous pieces of every block, so this costs one
    more pass over the INT8 bytes and memory for one strip.

    Args:
        quantize: gives a block's values; it may give more rows than the block has, as padding.
        blocks: the parts of the matrix.
        shape: [rows, columns] of the quantized matrix before it is transposed.
        scratch: the folder of the scratch file; None takes the system's.
        pack: rows of the weight that one quantized row holds.
    """
    rows, columns = shape
    if rows * columns <= TRANSPOSE_IN_MEMORY:
        whole = np.empty((columns, rows), np.int8)

        def place(block: Block) -> None:
            q = quantize(block)
            across = slice(block.column, block.column + block.columns)
            first = block.row // pack
            whole[across, first : first + q.shape[0]] = q.T

        for _ in in_order(pool, place, blocks):
            pass
        yield whole.data.cast("B")
        return
    with tempfile.TemporaryFile(dir=scratch) as file:
        tiles: list[tuple[Block, int, int]] = []

        def tile(block: Block) -> tuple[Block, int, bytes]:
            q = quantize(block)
            return block, q.shape[0], q.T.tobytes()

        for block, height, content in in_order(pool, tile, blocks):
            tiles.append((block, height, file.tell()))
            file.write(content)
        strip = max(1, TRANSPOSE_IN_MEMORY // (2 * rows))
        for start in range(0, columns, strip):
            stop = min(columns, start + strip)
            result = np.empty((stop - start, rows), np.int8)
            for block, height, offset in tiles:
                low, high = max(start, block.column), min(stop, block.column + block.columns)
                if low >= high:
                    continue
                file.seek(offset + (low - block.column) * height)
                piece = np.frombuffer(file.read((high - low) * height), np.int8)
                across = slice(block.row // pack, block.row // pack + height)
                result[low - start : high - start, across] = piece.reshape(high - low, height)
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
