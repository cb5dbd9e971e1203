"""Arrays in an .npz file, which others may have made: sizes are seen before anything is read.

An .npz file is a ZIP of .npy files: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
Its entries may be packed a thousandfold, and a header may claim an array of any size. Runs in the
child process too (see session.py): the standard library, and numpy to read arrays.
"""

from __future__ import annotations

import ast
import math
import os
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.opener import opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000  # bytes, as numpy has it
LARGEST = 4 << 30  # bytes of a file
LARGEST_PACKED = 1 << 28  # bytes of the arrays that a file has packed
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}

# What is wrong with a file, beside ModelOpsError: for whoever says what it was to be.
UNUSABLE = (
    OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, SyntaxError, EOFError, IndexError,
    NotImplementedError, RuntimeError, RecursionError, MemoryError, struct.error,
)  # fmt: skip

Described = dict[str, dict[str, Any]]  # by name of an array: its `dtype` and its `shape`


def described(path: Path) -> Described:
    """Return what the headers of a file say.

    Raises:
        ModelOpsError, or one of UNUSABLE: it is no such file, or says what is not true.
    """
    with opened(path, LARGEST) as handle, zipfile.ZipFile(handle) as archive:
        return _checked(archive, os.fstat(handle.fileno()).st_size)


def arrays(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of a file, all of them by default, after a look at what they say of themselves.

    Raises:
        ModelOpsError, or one of UNUSABLE: as `described`; an array is damaged.
    """
    import numpy as np

    with opened(path, LARGEST) as handle:
        with zipfile.ZipFile(handle) as archive:
            _checked(archive, os.fstat(handle.fileno()).st_size)
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if names is None or name in names}


def _checked(archive: zipfile.ZipFile, size_of_file: int) -> Described:
    found: Described = {}
    entries = archive.infolist()
    packed = sum(e.file_size for e in entries if e.compress_type != zipfile.ZIP_STORED)
    plain = sum(e.file_size for e in entries) - packed
    for size, limit in ((plain, size_of_file), (packed, LARGEST_PACKED)):
        if size > limit:
            raise ValueError(f"its arrays have {size:,} bytes, and may have {limit:,}")
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"{name} is there twice")
        with archive.open(entry) as content:
            found[name], size = header(content.read(LONGEST_HEADER + 12))
        if size != entry.file_size:
            raise ValueError(f"{name} claims {size:,} bytes and has {entry.file_size:,}")
    return found


def header(content: bytes) -> tuple[dict[str, Any], int]:
    """Return `dtype` and `shape` of an array, and the bytes of its whole file, by its beginning.

    Raises:
        ValueError, SyntaxError, KeyError: it is no array, or needs pickle.
    """
    if not content.startswith(MAGIC):
        raise ValueError("an entry is no array")
    size = "<H" if content[6] == 1 else "<I"
    start = 8 + struct.calcsize(size)
    (length,) = struct.unpack(size, content[8:start])
    if length > LONGEST_HEADER:
        raise ValueError("the header of an array is too long")
    said = ast.literal_eval(content[start : start + length].decode("latin-1"))
    dtype, shape = str(said["descr"]), [int(dim) for dim in said["shape"]]
    kind, count = dtype[1:2], dtype[2:]
    if not count.isdecimal() or kind not in {"U", *_KINDS} or any(dim < 0 for dim in shape):
        raise ValueError(f"an array is of type {dtype} and shape {shape}")
    width = int(count) * (4 if kind == "U" else 1)
    name = "str" if kind == "U" else _KINDS[kind] + ("" if kind == "b" else str(8 * width))
    return {"dtype": name, "shape": shape}, start + length + width * math.prod(shape)
