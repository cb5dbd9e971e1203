"""A weight on its way to the blocks of MatMulNBits, with 8 or 4 bits a value.

Layout (onnxruntime's ContribOperators.md, MatMulNBits): values [N, K / size, size * bits / 8], the
first of two 4-bit values in the lower half of a byte; scales [N, K / size]; zero points of 4 bits
[N, K / size / 2], a row beginning with a byte. K is filled up to whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..model.tensor_blocks import BLOCK_BYTES, F32, Block, Weight
from . import grids
from .int8 import I8, TINY, Buffer, in_order, on_grids, scales, transposed

U8 = npt.NDArray[np.uint8]


class BlockQuantizedWeight:
    """A weight on its way to blocks of 8 bits.

    Each run of `size` values along K has its own scale, absmax / 127; stored is rint(w / scale)
    + 128, the zero point that MatMulNBits takes when none is given.

    Args:
        weight: the FP32 matrix as stored, [K, N], or [N, K] with `turned`.
        size: values in a block, a power of two from 16.
        turned: the weight is stored as [N, K].
        scratch: the folder for the scratch file of a large transposition.
    """

    BITS = 8

    def __init__(self, weight: Weight, size: int, turned: bool, scratch: Path | None) -> None:
        self._weight, self._size, self._scratch = weight, size, scratch
        self._turned = turned
        k, self._n = (weight.rows, weight.columns)[:: -1 if turned else 1]
        self._blocks = -(-k // size)
        self._scale: F32 = np.ones((self._n, self._blocks), np.float32)

    @property
    def dims(self) -> tuple[int, int, int]:
        """The shape of the stored values."""
        return self._n, self._blocks, self._size * self.BITS // 8

    def scale_bytes(self) -> bytes:
        """The float32 scales [N, K / size], after `chunks` has run."""
        return self._scale.tobytes()

    def chunks(self, pool: ThreadPoolExecutor) -> Iterator[Buffer]:
        """Yield the stored values in the order of the data file.

        Raises:
            ModelOpsError: the weight holds NaN or Inf, or its file shrank.
        """
        weight = self._weight
        if self._turned:
            row_bytes = max(BLOCK_BYTES, 4 * weight.columns)
            for q in in_order(pool, self._quantize_rows, weight.blocks(row_bytes)):
                yield q.data.cast("B")
            return
        pack = 8 // self.BITS
        filled = (self._blocks * self._size // pack, weight.columns)
        aligned = weight.blocks(multiple=self._size)
        yield from transposed(pool, self._quantize_columns, aligned, filled, self._scratch, pack)

    def _quantize_rows(self, block: Block) -> I8:
        """[rows of N, K] to [rows, K filled up]."""
        x = np.zeros((block.rows, self._blocks * self._size), np.float32)
        x[:, : block.columns] = self._weight.read(block)
        parts = x.reshape(block.rows, self._blocks, self._size)
        q = self._quantize(np.moveaxis(parts, 2, 0), slice(block.row, block.row + block.rows))
        return np.ascontiguousarray(np.moveaxis(q, 0, 2)).reshape(block.rows, -1).view(np.int8)

    def _quantize_columns(self, block: Block) -> I8:
        """[rows of K, some of N] to [rows filled up, the same of N]."""
        count = -(-block.rows // self._size)
        x = np.zeros((count * self._size, block.columns), np.float32)
        x[: block.rows] = self._weight.read(block)
        parts = np.moveaxis(x.reshape(count, self._size, block.columns), 1, 0)
        columns = slice(block.column, block.column + block.columns)
        q = self._quantize(parts.swapaxes(1, 2), columns, block.row // self._size)
        return np.ascontiguousarray(q.transpose(2, 0, 1)).reshape(-1, block.columns).view(np.int8)

    def _quantize(self, x: F32, columns: slice, first: int = 0) -> U8:
        """Quantize blocks and keep their scales.

        Args:
            x: [size, some of N, some blocks].
            columns: which of N.
            first: the first of the blocks.

        Returns:
            Stored values [size * bits / 8, some of N, some blocks].
        """
        absmax = np.abs(x).max(axis=0)
        scale = scales(absmax, self._weight.name)
        scale = on_grids(x.reshape(self._size, -1), absmax.ravel(), scale.ravel())
        scale = scale.reshape(absmax.shape)
        # 0 for a block of zeros: MatMulNBits takes the zero point's share off in float, which
        # leaves a rest of 1e-4 or so of the scale, and 1 would be seen in the result.
        stored = np.where(absmax < scale, np.float32(0), scale)
        self._scale[columns, first : first + x.shape[2]] = stored
        q: U8 = (np.rint(x / scale) + np.float32(128)).astype(np.uint8)
        return q


class Blocks4(BlockQuantizedWeight):
    """A weight on its way to blocks of 4 bits, each with a scale and a zero point.

    Stored is rint(w / scale) + zero point, from 0 to 15. Of each block's possible scales the one
    with the smallest squared error is taken: symmetric around 0, from the smallest value to the
    largest, nearly so, and the step of a grid that the values lie on.
    """

    BITS = 4
    # A little less than the whole range: the ends are cut, the steps are finer. Measured on
    # bell-shaped weights: 2 % less error, and no more with further shares.
    SHARES = (1.0, 0.95)

    def __init__(self, weight: Weight, size: int, turned: bool, scratch: Path | None) -> None:
        super().__init__(weight, size, turned, scratch)
        self._zero: U8 = np.zeros((self._n, self._blocks), np.uint8)

    def zero_bytes(self) -> bytes:
        """The zero points [N, K / size / 2], after `chunks` has run."""
        even = np.zeros((self._n, self._blocks + self._blocks % 2), np.uint8)
        even[:, : self._blocks] = self._zero
        return _packed(even).tobytes()

    def _quantize(self, x: F32, columns: slice, first: int = 0) -> U8:
        blocks = slice(first, first + x.shape[2])
        flat = x.reshape(self._size, -1)
        scale, zero = self._best(flat)
        q = _stored(flat, scale, zero).astype(np.uint8)
        used = np.where(np.abs(flat).max(axis=0) > 0, scale, np.float32(0))
        self._scale[columns, blocks] = used.reshape(x.shape[1:])
        self._zero[columns, blocks] = zero.astype(np.uint8).reshape(x.shape[1:])
        packed: U8 = _packed(q.T).T.reshape(-1, *x.shape[1:])
        return packed

    def _best(self, x: F32) -> tuple[F32, F32]:
        """Return scales and zero points of blocks [size, blocks]."""
        low, high = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
        absmax = np.maximum(-low, high)
        scales(absmax, self._weight.name)  # refuses NaN and Inf
        best: tuple[F32, F32] | None = None
        least = np.zeros(0, np.float32)
        for scale, zero in self._candidates(x, low, high, absmax):
            off = (_stored(x, scale, zero) - zero) * scale - x
            error = np.einsum("ij,ij->j", off, off)
            if best is None:
                best, least = (scale, zero), error
                continue
            better = error < least
            best = np.where(better, scale, best[0]), np.where(better, zero, best[1])
            least = np.where(better, error, least)
        assert best is not None
        return best

    def _candidates(self, x: F32, low: F32, high: F32, absmax: F32) -> Iterator[tuple[F32, F32]]:
        yield _usable(absmax / np.float32(8)), np.where(high > -low, np.float32(7), np.float32(8))
        for share in self.SHARES:
            scale = _usable((high - low) * np.float32(share / 15))
            yield scale, np.rint(-low * np.float32(share) / scale)
        step = _usable(on_grids(x, absmax, _usable(absmax / np.float32(grids.LARGEST))))
        yield step, np.clip(np.rint(-low / step), 0, 15)


def _usable(scale: F32) -> F32:
    """Return scales that can be divided by."""
    usable: F32 = np.where(scale < TINY, np.float32(1), scale)
    return usable


def _packed(q: U8) -> U8:
    """Return two 4-bit values of the last dimension in a byte, the first in its lower half."""
    packed: U8 = q[..., 0::2] | np.left_shift(q[..., 1::2], np.uint8(4))
    return packed


def _stored(x: F32, scale: F32, zero: F32) -> F32:
    """Return what stands for values [size, blocks], before it is packed."""
    q: F32 = np.clip(np.rint(x / scale) + zero, 0, 15)
    return q
