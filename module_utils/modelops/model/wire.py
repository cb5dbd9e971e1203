"""Numbers and bytes of protobuf's wire format (protobuf.dev, "Encoding"). Standard library only."""

from __future__ import annotations

from typing import BinaryIO

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # the wire types that onnx.proto needs
LARGEST_GRAPH = 1 << 31  # bytes; the protobuf library takes no more
DEEPEST = 100  # messages within messages, as the protobuf library limits them


def exactly(handle: BinaryIO, count: int) -> bytes:
    """Read so many bytes.

    Raises:
        EOFError: there are fewer.
    """
    content = handle.read(count)
    if len(content) != count:
        raise EOFError("the file ends within a field")
    return content


def varint(handle: BinaryIO) -> int:
    """Read a number.

    Raises:
        EOFError: the file ends within it.
        ValueError: it has more than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = exactly(handle, 1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("a number is too long")


def field_tag(handle: BinaryIO) -> int:
    """Read what begins a field: its number and wire type. A sparse file has nothing but number 0.

    Raises:
        EOFError, ValueError: as `varint`; there is no field 0.
    """
    tag = varint(handle)
    if not tag >> 3:
        raise ValueError("a field has the number 0")
    return tag


def encoded(value: int) -> bytes:
    """Return a number as it is written."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
