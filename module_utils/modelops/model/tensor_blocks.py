"""Reading FP32 weights block by block, wherever the model keeps them.

Files are read with `readinto` and never mapped: mapped pages count as resident memory, and
`preadv` does not exist on Windows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from ..base import opener
from ..base.errors import ModelOpsError
from .locate import Extent, locate, unreadable
from .walk import element_count, is_external

F32 = npt.NDArray[np.float32]

# FP32 bytes handled at a time by one thread. Measured with `make bench`: the block and its INT8
# copy should stay in the L2/L3 cache between the passes over it.
BLOCK_BYTES = 2 << 20


class Files:
    """Open files, one handle a thread and file, so that threads do not share a file position."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._opened: list[BinaryIO] = []
        self._lock = threading.Lock()

    def handle(self, path: Path) -> BinaryIO:
        handles: dict[Path, BinaryIO] = self._local.__dict__.setdefault("handles", {})
        if path not in handles:
            handles[path] = opener.unbuffered(path, follow=True)
            with self._lock:
                self._opened.append(handles[path])
        return handles[path]

    def close(self) -> None:
        """Close every handle of every thread."""
        for handle in self._opened:
            handle.close()


@dataclass(frozen=True)
class Block:
    """A part of a weight seen as [rows, columns]: whole rows, or a part of one row."""

    row: int
    rows: int
    column: int
    columns: int


class Weight:
    """A floating-point tensor, or a part of it, as a matrix [rows, columns] read block by block.

    Args:
        tensor: the initializer, inline or external, FLOAT, FLOAT16, BFLOAT16 or DOUBLE.
        shape: the matrix to see it as.
        model: the graph file, beside which external data lies.
        files: the handles to read with.
        start: the element of the tensor that the matrix begins with.
    """

    def __init__(
        self,
        tensor: TensorProto,
        shape: tuple[int, int],
        model: Path,
        files: Files,
        start: int = 0,
    ) -> None:
        self.name = tensor.name
        self.rows, self.columns = shape
        assert start + self.rows * self.columns <= element_count(tensor)
        self._files = files
        self._start = start
        self._type = tensor.data_type
        self._extent: Extent | None = None
        self._inline: F32 | None = None
        if is_external(tensor):
            self._extent = locate(tensor, model)
        else:
            self._inline = numpy_helper.to_array(tensor).astype(np.float32, copy=False).reshape(-1)

    def blocks(self, block_bytes: int = BLOCK_BYTES, multiple: int = 1) -> Iterator[Block]:
        """Yield blocks that cover the weight in the order of its bytes, each contiguous.

        With `multiple`, every block but the last has a multiple of so many rows, and all columns.
        """
        if self.rows == 0 or self.columns == 0:
            return
        capacity = max(1, block_bytes // 4)
        if self.columns * multiple <= capacity or multiple > 1:
            step = max(1, capacity // self.columns // multiple) * multiple
            for row in range(0, self.rows, step):
                yield Block(row, min(step, self.rows - row), 0, self.columns)
            return
        for row in range(self.rows):
            for column in range(0, self.columns, capacity):
                yield Block(row, 1, column, min(capacity, self.columns - column))

    def read(self, block: Block) -> F32:
        """Return a block as float32 [rows, columns]: a buffer of this thread, valid until its next
        read and free to be overwritten.

        Raises:
            ModelOpsError: the file became shorter while it was read.
        """
        count = block.rows * block.columns
        start = self._start + block.row * self.columns + block.column
        buffer = _scratch("values", np.dtype(np.float32), count)
        if self._inline is not None:
            np.copyto(buffer, self._inline[start : start + count])
        elif self._type == TensorProto.FLOAT:
            self._read_raw(start, buffer)
        else:
            raw = _scratch("raw", _STORED[self._type], count)
            self._read_raw(start, raw)
            if self._type == TensorProto.BFLOAT16:
                # BF16 is the upper half of a float32.
                np.left_shift(raw, 16, out=buffer.view(np.uint32), dtype=np.uint32)
            else:
                np.copyto(buffer, raw, casting="same_kind")
        return buffer.reshape(block.rows, block.columns)

    def _read_raw(self, start: int, into: npt.NDArray[Any]) -> None:
        assert self._extent is not None
        handle = self._files.handle(self._extent.path)
        handle.seek(self._extent.offset + start * into.itemsize)
        read_exactly(handle, into.data.cast("B"), self._extent.path)


# How the types that Weight reads are stored; BF16 has no numpy type.
_STORED: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.BFLOAT16: np.dtype("<u2"),
    TensorProto.DOUBLE: np.dtype("<f8"),
}


def read_exactly(handle: BinaryIO, view: memoryview, path: Path) -> None:
    """Fill `view` from a raw file handle.

    Raises:
        ModelOpsError: the file ends before the view is full, or cannot be read.
    """
    while len(view):
        try:
            count: int = handle.readinto(view)  # type: ignore[attr-defined]
        except OSError as error:
            raise unreadable(path, error) from None
        if not count:
            raise ModelOpsError(
                "the file became shorter while it was read",
                where=path,
                remedy="Let nothing write to the model during the run, and run again.",
            )
        view = view[count:]


_buffers = threading.local()


def _scratch(use: str, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    """A buffer of this thread: reusing it saves a page fault for every 4 KiB read."""
    buffers: dict[tuple[str, str], npt.NDArray[Any]]
    buffers = _buffers.__dict__.setdefault("buffers", {})
    key = (use, dtype.str)
    if key not in buffers or buffers[key].size < count:
        buffers[key] = np.empty(max(count, BLOCK_BYTES // 4), dtype)
    return buffers[key][:count]
