"""Outputs of a measured model: memory that the measuring process reads too, checks, positions.

Runs in the child process (see child.py): it imports the standard library and numpy only.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import secrets
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

BLOCK = 1 << 20  # elements that are checked at a time


class Shared:
    """Memory of this process that another process can read.

    On Linux an anonymous file (memfd), not /dev/shm, which is 64 MB in containers; on Windows a
    named mapping; elsewhere a file in a folder.

    Attributes:
        place: {"path"} of a file, or {"tag", "bytes"} of a named mapping. It is valid while this
            object is; a reader that has opened it may go on when it is closed.
    """

    def __init__(self, size: int, folder: str) -> None:
        """Take `size` bytes, 1 or more; `folder` is the last resort."""
        self._descriptor: int | None = None
        if sys.platform == "win32":
            tag = f"modelops-{os.getpid()}-{secrets.token_hex(8)}"
            self.place: dict[str, Any] = {"tag": tag, "bytes": size}
            self.memory = mmap.mmap(-1, size, tagname=tag)
            return
        self._descriptor, path = _anonymous() or tempfile.mkstemp(prefix="output-", dir=folder)
        self.place = {"path": path}
        os.ftruncate(self._descriptor, size)
        self.memory = mmap.mmap(self._descriptor, size)

    def array(self, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        """Return the memory as an array, which keeps it alive."""
        import numpy as np

        return np.frombuffer(self.memory, dtype, math.prod(shape)).reshape(shape)

    def close(self) -> None:
        """Let go of it; the memory itself lives as long as an array or a reader of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _anonymous() -> tuple[int, str] | None:
    """Return the descriptor and the path of an anonymous file, where there are some."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError):
        descriptor = os.memfd_create("modelops-output")
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        if os.path.exists(path):
            return descriptor, path
        os.close(descriptor)
    return None


class Outputs:
    """The buffers of a session's outputs, and what is told of an output.

    Outputs of static shape have a buffer that every run writes into. Others are copied into one
    when they are asked for.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._shared: dict[str, Shared] = {}
        self.arrays: Arrays = {}

    def prepare(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take new buffers for the outputs of static shape; the old ones are let go."""
        self.release()
        for row in rows:
            known = all(isinstance(size, int) for size in row["shape"])
            if known and row["dtype"] != "str" and math.prod(row["shape"]):
                self.arrays[row["name"]] = self._new(row["name"], row["dtype"], row["shape"])

    def release(self) -> None:
        """Let go of all buffers."""
        self.arrays = {}
        for shared in self._shared.values():
            shared.close()
        self._shared = {}

    def describe(self, name: str, array: NDArray[Any], share: bool) -> dict[str, Any]:
        """Return name, dtype, shape and bytes of an output, and its `place` when it is shared."""
        text = array.dtype.kind == "O"
        content = json.dumps(array.reshape(-1).tolist()).encode() if text else b""
        size = len(content) or array.nbytes
        dtype = "str" if text else array.dtype.name
        row = {"name": name, "dtype": dtype, "shape": list(array.shape), "bytes": size}
        if not share or not size:
            return row
        if self.arrays.get(name) is not array:
            if name in self._shared:
                self._shared.pop(name).close()
            if text:
                self._new(name, "uint8", [size])[:] = memoryview(content)
            else:
                self._new(name, array.dtype, array.shape)[...] = array
        return {**row, "place": self._shared[name].place}

    def _new(self, name: str, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        import numpy as np

        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._shared[name] = Shared(size, self._folder)
        return self._shared[name].array(dtype, shape)


def inspect_arrays(arrays: Arrays) -> dict[str, Any]:
    """Tell whether all values are finite, and a checksum of all bytes, block by block.

    The checksum only tells whether two runs gave the same, which nobody tampers with: CRC-32 is
    enough, and faster than a cryptographic hash.
    """
    import numpy as np

    finite, checksum = True, 0
    for array in arrays.values():
        if array.dtype.kind == "O":
            checksum = zlib.crc32(json.dumps(array.reshape(-1).tolist()).encode(), checksum)
            continue
        flat = np.ascontiguousarray(array).reshape(-1)
        for first in range(0, flat.size, BLOCK):
            block = flat[first : first + BLOCK]
            finite = finite and (block.dtype.kind != "f" or bool(np.isfinite(block).all()))
            checksum = zlib.crc32(block.view(np.uint8).data, checksum)
    return {"finite": finite, "checksum": checksum}


def positions(size: int, count: int, seed: int) -> NDArray[Any]:
    """Choose `count` of `size` elements: one seeded draw in each of `count` equal parts.

    Returns:
        int64 positions, ascending and all different; all of them when there are no more.
    """
    import numpy as np

    if size <= count:
        return np.arange(size)
    edges = np.arange(count + 1, dtype=np.int64) * size // count
    # Not a Generator: its streams may change with numpy's version, and positions are not shipped.
    drawn = np.random.RandomState(seed).random_sample(count)
    return edges[:-1] + (drawn * np.diff(edges)).astype(np.int64)


def take_values(array: NDArray[Any], take: Mapping[str, int]) -> NDArray[Any]:
    """Return the chosen values of an output, one-dimensional, in order of position."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    return np.asarray(flat[positions(flat.size, take["count"], take["seed"])])
