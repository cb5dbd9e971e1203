"""The data file of a quantized model: laid out first, then written and hashed in one pass.

Memory is bounded by the blocks in flight, whatever the model's size. The bytes do not depend on
the number of threads: blocks are computed by a pool and taken from it in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from onnx import TensorProto

from ..base import opener
from ..base.files import CHUNK
from ..model.locate import Extent
from ..model.tensor_blocks import read_exactly
from .int8 import Buffer, require_finite

LARGE = 64 << 10  # tensors from here on start at a page, so that a reader may map them
PAGE, WORD = 4096, 64


class Sink(Protocol):
    """Where the data file goes."""

    def write(self, chunk: Buffer, /) -> int: ...


class Segment(NamedTuple):
    """A tensor of the data file.

    Attributes:
        name, data_type, dims: what the graph says of it (`data_type` is a TensorProto.DataType).
        length: its bytes.
        chunks: makes its bytes, in order, in pieces of any size. Segments are asked in file order.
        content: what the bytes are of: equal for equal bytes, whatever the plan. Empty is unknown.
        extent: where the source has these very bytes, if it does in a data file.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    length: int
    chunks: Callable[[ThreadPoolExecutor], Iterator[Buffer]]
    content: tuple[Any, ...] = ()
    extent: Extent | None = None

    def at(self, location: str, offset: int) -> TensorProto:
        """Return the graph's tensor that points to a place in a data file."""
        tensor = TensorProto(
            name=self.name,
            data_type=self.data_type,
            dims=self.dims,
            data_location=TensorProto.EXTERNAL,
        )
        fields = {"location": location, "offset": offset, "length": self.length}
        for key, value in fields.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Layout:
    """Where each segment lies in the data file `location`.

    Attributes:
        segments: each with its offset.
        size: bytes of the data file.
        content_bytes: those of the tensors, wherever they lie.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.segments: list[tuple[int, Segment]] = []
        self.size = self.content_bytes = 0

    def add(self, segment: Segment) -> TensorProto:
        """Give a segment its place and return the graph's tensor that points there."""
        align = PAGE if segment.length >= LARGE else WORD
        offset = self.size + -self.size % align
        self.segments.append((offset, segment))
        self.size = offset + segment.length
        self.content_bytes += segment.length
        return segment.at(self.location, offset)

    def stream(
        self, out: Sink | None, threads: int, progress: Callable[[int], None] | None = None
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


def copied(
    extent: Extent, data_type: int, checked: str = ""
) -> Callable[[ThreadPoolExecutor | None], Iterator[Buffer]]:
    """The chunks of a tensor that is kept as it is.

    With `checked`, the tensor's name, NaN and Inf are refused as in a quantized weight.
    """

    def chunks(_pool: ThreadPoolExecutor | None) -> Iterator[Buffer]:
        buffer = memoryview(bytearray(min(CHUNK, max(1, extent.length))))
        with opener.unbuffered(extent.path, follow=True) as handle:
            handle.seek(extent.offset)
            for start in range(0, extent.length, len(buffer)):
                part = buffer[: min(len(buffer), extent.length - start)]
                read_exactly(handle, part, extent.path)
                if checked:
                    require_finite(part, data_type, checked)
                yield part

    return chunks


def constant(content: bytes) -> Callable[[ThreadPoolExecutor], Iterator[Buffer]]:
    """The chunks of a small tensor."""
    return lambda _pool: iter((content,))


def computed(
    make: Callable[[ThreadPoolExecutor], bytes],
) -> Callable[[ThreadPoolExecutor], Iterator[Buffer]]:
    """The chunks of a small tensor that is known when its turn comes."""
    return lambda pool: iter((make(pool),))
