"""Parse a model without the bytes of its weights, also when they lie inside the graph file.

The protobuf library would hold an inline model whole (up to 2 GB). Here the wire format is walked,
every large `raw_data` of an initializer or a Constant node is left out, and the tensor is made to
point at its place in the graph file, as if it were external data. (Format: protobuf.dev,
"Encoding"; field numbers: onnx.proto.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from ..base import opener
from .wire import (
    DEEPEST,
    FIXED32,
    FIXED64,
    LARGEST_GRAPH,
    LENGTH,
    VARINT,
    encoded,
    exactly,
    field_tag,
    varint,
)

LARGE = 64 << 10  # smaller tensors are as well read at once
RAW_DATA = 9
# Message and field number -> the message that the field holds. Other fields are copied as they are.
NESTED = {
    ("model", 7): "graph", ("graph", 1): "node", ("graph", 5): "tensor", ("node", 5): "attribute",
    ("attribute", 6): "graph", ("attribute", 11): "graph",
    ("constant", 5): "value", ("value", 5): "tensor",
}  # fmt: skip
OPERATOR = 4


def load(path: Path) -> ModelProto:
    """Parse a model file; large inline initializers become external ones of the file itself.

    Raises:
        DecodeError: it is no protobuf message of that kind.
        ModelOpsError: it is no regular file, or larger than any.
    """
    try:
        with opener.opened(path, LARGEST_GRAPH, follow=True) as handle:
            size = os.fstat(handle.fileno()).st_size
            content = _scan(handle, size, "model", path.name, 0)
    except (ValueError, EOFError) as error:
        raise DecodeError(str(error)) from None
    model: ModelProto = ModelProto.FromString(bytes(content))
    return model


def _scan(handle: BinaryIO, end: int, message: str, name: str, depth: int) -> bytearray:
    """Return the bytes of a message up to `end`, without large raw data.

    Raises:
        ValueError, EOFError: it is no message.
    """
    if depth > DEEPEST:
        raise ValueError("too many messages within messages")
    kept = bytearray()
    place: tuple[int, int] | None = None
    position = handle.tell()
    while position < end:
        tag = field_tag(handle)
        field, wire = tag >> 3, tag & 7
        if wire != LENGTH:
            kept += encoded(tag) + _number(handle, wire)
            position = handle.tell()
            continue
        length = varint(handle)
        start = handle.tell()
        position = start + length
        if position > end:
            raise ValueError("a field is longer than its message")
        inner = NESTED.get((message, field))
        if message == "tensor" and field == RAW_DATA and length >= LARGE:
            place = start, length
        else:
            part = (
                _scan(handle, position, inner, name, depth + 1)
                if inner
                else exactly(handle, length)
            )
            kept += encoded(tag) + encoded(len(part)) + part
            # The operator stands before the attributes.
            if message == "node" and field == OPERATOR and part == b"Constant":
                message = "constant"
        handle.seek(position)
    if position != end:
        raise ValueError("a field is longer than its message")
    return kept + _pointer(name, *place) if place else kept


def _number(handle: BinaryIO, wire: int) -> bytes:
    """Return the bytes of a field that is a number."""
    if wire == VARINT:
        return encoded(varint(handle))
    if wire in (FIXED32, FIXED64):
        return exactly(handle, 4 if wire == FIXED32 else 8)
    raise ValueError(f"wire type {wire}")


def _pointer(name: str, offset: int, length: int) -> bytes:
    """Return the fields of a tensor whose bytes lie in a file.

    Fields that follow are merged into the message that they follow.
    """
    pointer = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in {"location": name, "offset": offset, "length": length}.items():
        pointer.external_data.add(key=key, value=str(value))
    content: bytes = pointer.SerializePartialToString()
    return content
