"""What a graph file says of itself, read with the standard library alone, and never its weights.

A target has no onnx package. The wire format is walked (protobuf.dev, "Encoding"; field numbers:
onnx.proto), and what is not asked for is passed over in the file: weights that lie inside of it
cost neither time nor memory.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from ..base import opener
from ..base.errors import ModelOpsError
from .wire import (
    DEEPEST,
    FIXED32,
    FIXED64,
    LARGEST_GRAPH,
    LENGTH,
    VARINT,
    exactly,
    field_tag,
    varint,
)

LONGEST = 1 << 20  # bytes of a name
LARGEST = 4096  # bytes of values that are kept: offsets, not weights
INTEGER, TEXT, BYTES = "integer", "text", "bytes"
# Message -> number of a field -> its name, and what it holds: a number, a text, bytes or a message.
FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    "model": {1: ("ir_version", INTEGER), 7: ("graph", "graph"), 8: ("opset", "opset")},
    "opset": {1: ("domain", TEXT), 2: ("version", INTEGER)},
    "graph": {
        1: ("node", "node"), 5: ("tensor", "tensor"), 11: ("input", "value"),
        12: ("output", "value"), 15: ("sparse", "sparse"),
    },
    "node": {
        1: ("input", TEXT), 2: ("output", TEXT), 4: ("operator", TEXT),
        5: ("attribute", "attribute"),
    },
    "attribute": {
        1: ("name", TEXT), 3: ("number", INTEGER),
        5: ("tensor", "tensor"), 6: ("graph", "graph"), 8: ("numbers", INTEGER),
        10: ("tensor", "tensor"),
        11: ("graph", "graph"), 22: ("sparse", "sparse"), 23: ("sparse", "sparse"),
    },
    "sparse": {1: ("tensor", "tensor"), 2: ("tensor", "tensor")},
    "tensor": {
        1: ("dim", INTEGER), 2: ("kind", INTEGER), 5: ("packed", BYTES), 7: ("packed", BYTES),
        8: ("name", TEXT), 9: ("raw", BYTES), 13: ("external", "entry"), 14: ("location", INTEGER),
    },
    "entry": {1: ("key", TEXT), 2: ("value", TEXT)},
    "value": {1: ("name", TEXT), 2: ("type", "type")},
    "type": {1: ("tensor", "tensor type")},
    "tensor type": {1: ("kind", INTEGER), 2: ("shape", "shape")},
    "shape": {1: ("dim", "dim")},
    "dim": {1: ("size", INTEGER), 2: ("symbol", TEXT)},
}  # fmt: skip
INT8, FLOAT16 = 3, 10  # TensorProto.DataType
# What FP32 adds to each stored byte: FP16 goes when its FP32 is there, INT8 stays beside it.
MORE_BYTES = {INT8: 4, FLOAT16: 1}
# Bytes of an element by data type (onnx.proto); four where it is another.
WIDTHS = {2: 1, 3: 1, 4: 2, 5: 2, 7: 8, 9: 1, 10: 2, 11: 8, 13: 8, 16: 2}
# TensorProto.DataType of integers -> signed, and bytes of a value.
INTEGERS = {
    2: (False, 1), 3: (True, 1), 4: (False, 2), 5: (True, 2), 6: (True, 4), 7: (True, 8),
    12: (False, 4), 13: (False, 8),
}  # fmt: skip
# TensorProto.DataType -> numpy's name.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "str", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
COPY_AGAIN = "Copy the FP32 model there again, all of its files."

Message = dict[str, list[Any]]
Dim = int | str | None


@dataclass
class Declared:
    """What a graph file declares.

    Attributes:
        opsets: version of each domain; that of the standard operators is `ai.onnx`.
        outputs: shape of each output; None without one. A dimension is a number, a symbol, or None.
        files: the data files, and for each the bytes that it must have at least.
        output_bytes: of the outputs whose shapes are numbers.
        row_bytes: of the others whose shapes are numbers but for the first dimension, for one row;
            0 where no input has a symbolic first dimension.
        unpacked_bytes: what FP32 weights that onnxruntime makes at load of smaller ones add.
        inputs: `dtype` (numpy's name) and `shape` of each input that is no weight.
    """

    ir_version: int
    opsets: dict[str, int]
    outputs: dict[str, list[Dim] | None]
    files: dict[str, int] = field(default_factory=dict)
    output_bytes: int = 0
    row_bytes: int = 0
    unpacked_bytes: int = 0
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)


def read(path: Path) -> Declared:
    """Read what a graph file declares.

    Raises:
        ModelOpsError: it is missing, cannot be read or is no ONNX file, or a data file that it
            names lies outside of its folder.
    """
    model = parse(path)
    graphs = model.get("graph", [])
    if not any(graph.get("node") for graph in graphs) or not last(model, "ir_version"):
        raise ModelOpsError(
            "not an ONNX file: it holds no graph with nodes", where=path, remedy=COPY_AGAIN
        )
    weights = {last(tensor, "name", "") for graph in graphs for tensor in graph.get("tensor", [])}
    outputs = [value for graph in graphs for value in graph.get("output", [])]
    inputs = [value for graph in graphs for value in graph.get("input", [])]
    inputs = [value for value in inputs if last(value, "name", "") not in weights]
    return Declared(
        last(model, "ir_version"),
        {
            last(opset, "domain", "") or "ai.onnx": last(opset, "version")
            for opset in model.get("opset", [])
        },
        {last(value, "name", ""): _shape(value) for value in outputs},
        _files(graphs, path),
        sum(map(_value_bytes, outputs)),
        sum(map(_row_bytes, outputs)) if any(map(_takes_rows, inputs)) else 0,
        _unpacked(graphs),
        {
            last(value, "name", ""): {
                "dtype": DTYPES.get(element_kind(value), ""),
                "shape": _shape(value),
            }
            for value in inputs
        },
    )


def parse(path: Path) -> Message:
    """Return the fields of a graph file that FIELDS names: a list of values, or messages, by name.

    Raises:
        ModelOpsError: it is missing, cannot be read or is no ONNX file.
    """
    try:
        with opener.opened(path, LARGEST_GRAPH, follow=True) as handle:
            model = _message(handle, os.fstat(handle.fileno()).st_size, "model", 0)
    except OSError as error:
        raise ModelOpsError(
            f"the graph file cannot be read ({error.strerror})", where=path, remedy=COPY_AGAIN
        ) from None
    except (ValueError, EOFError) as error:
        raise ModelOpsError(f"not an ONNX file ({error})", where=path, remedy=COPY_AGAIN) from None
    return model


def check_files(path: Path, declared: Declared) -> dict[str, int]:
    """Check that a model's files are there, regular files, and long enough.

    Returns:
        The size in bytes of each, by name.

    Raises:
        ModelOpsError: one is not.
    """
    sizes = {}
    for name, needed in {path.name: 1, **declared.files}.items():
        file = path.parent / name
        sizes[name] = _plain_file(path.parent, PurePosixPath(name)).st_size
        if sizes[name] < needed:
            raise ModelOpsError(
                f"it is truncated: {needed:,} bytes are needed, it has {sizes[name]:,}",
                where=file,
                remedy=COPY_AGAIN,
            )
    return sizes


def _plain_file(folder: Path, name: PurePosixPath) -> os.stat_result:
    """Return what the system knows of a regular file that no link leads to."""
    file = folder
    try:
        status = folder.stat()
        for part in name.parts:
            file = file / part
            status = file.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise ModelOpsError("a symbolic link", where=file, remedy=COPY_AGAIN)
    except OSError as error:
        raise ModelOpsError(
            f"it cannot be reached ({error.strerror})", where=file, remedy=COPY_AGAIN
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelOpsError("not a regular file", where=file, remedy=COPY_AGAIN)
    return status


def last(message: Message, name: str, otherwise: Any = 0) -> Any:
    """Return a field that is there once; of several the last one counts."""
    return message.get(name, [otherwise])[-1]


def integers(tensor: Message) -> list[int]:
    """Return the values of a small tensor of integers; none where they lie elsewhere.

    Raises:
        ValueError: its values are damaged.
    """
    signed, width = INTEGERS.get(last(tensor, "kind"), (True, 0))
    if not width:
        return []
    raw: bytes = last(tensor, "raw", b"")
    if raw:
        cut = (raw[at : at + width] for at in range(0, len(raw), width))
        return [int.from_bytes(part, "little", signed=signed) for part in cut]
    packed = io.BytesIO(last(tensor, "packed", b""))
    values = []
    while packed.tell() < len(packed.getbuffer()):
        values.append(_signed(varint(packed)))
    return values


def _shape(value: Message) -> list[Dim] | None:
    for kind in value.get("type", []):
        for tensor in kind.get("tensor", []):
            for shape in tensor.get("shape", []):
                return [_dim(dim) for dim in shape.get("dim", [])]
    return None


def element_kind(value: Message) -> int:
    """Return the TensorProto.DataType of a value; 0 where it is no tensor."""
    kinds = [tensor for kind in value.get("type", []) for tensor in kind.get("tensor", [])]
    return last(kinds[-1], "kind") if kinds else 0


def _value_bytes(value: Message) -> int:
    """Return the bytes of a tensor of static shape; 0 of any other."""
    shape = _shape(value)
    return 0 if shape is None else _bytes_of(shape, element_kind(value))


def _row_bytes(value: Message) -> int:
    """Return the bytes of a row of a tensor whose first dimension alone is no number; else 0."""
    shape = _shape(value)
    return _bytes_of(shape[1:], element_kind(value)) if shape and _takes_rows(value) else 0


def _takes_rows(value: Message) -> bool:
    shape = _shape(value)
    return bool(shape) and not isinstance((shape or [0])[0], int)


def _bytes_of(shape: list[Dim], kind: int) -> int:
    sizes = [size for size in shape if isinstance(size, int)]
    return math.prod(sizes) * WIDTHS.get(kind, 4) if len(sizes) == len(shape) else 0


def _unpacked(graphs: list[Message]) -> int:
    """Return the bytes that a Cast of weights to FP32 adds: onnxruntime folds it at load."""
    casts = {
        name
        for graph in graphs
        for node in graph.get("node", [])
        if last(node, "operator", "") == "Cast"
        for name in node.get("input", [])
    }
    total = 0
    for tensor in _tensors(graphs):
        if last(tensor, "name", "") in casts:
            length = int(_entries(tensor).get("length", "0"))
            total += MORE_BYTES.get(last(tensor, "kind"), 0) * length
    return total


def _entries(tensor: Message) -> dict[str, str]:
    return {last(e, "key", ""): last(e, "value", "") for e in tensor.get("external", [])}


def _dim(dim: Message) -> Dim:
    size: int = last(dim, "size", -1)
    return size if size >= 0 else last(dim, "symbol", None)


def _files(graphs: list[Message], path: Path) -> dict[str, int]:
    """Return the data files of all tensors, and how long each must be."""
    files: dict[str, int] = {}
    for tensor in _tensors(graphs):
        entries = _entries(tensor)
        if last(tensor, "location") != 1:  # TensorProto.EXTERNAL
            continue
        name, where = entries.get("location", ""), f"tensor {last(tensor, 'name', '')!r} in {path}"
        if not _is_inside(name):
            raise ModelOpsError(
                f"external data location {name!r} leads out of the model's folder",
                where=where,
                remedy="Such a file can read any file of this host; get the model from its maker.",
            )
        numbers = [entries.get("offset", "0"), entries.get("length", "0")]
        if not all(re.fullmatch("[0-9]{1,19}", number) for number in numbers):
            raise ModelOpsError(
                f"offset {numbers[0]!r} or length {numbers[1]!r} is no number",
                where=where,
                remedy=COPY_AGAIN,
            )
        files[name] = max(files.get(name, 1), sum(map(int, numbers)))
    return files


def _tensors(graphs: list[Message]) -> Iterator[Message]:
    """Yield the tensors of graphs, of their nodes' attributes, and of the graphs in these."""
    for graph in graphs:
        attributes = [a for node in graph.get("node", []) for a in node.get("attribute", [])]
        for holder in (graph, *attributes):
            yield from holder.get("tensor", [])
            yield from (t for sparse in holder.get("sparse", []) for t in sparse.get("tensor", []))
        yield from _tensors([inner for a in attributes for inner in a.get("graph", [])])


def _is_inside(location: str) -> bool:
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    return bool(location) and not (
        posix.is_absolute()
        or windows.drive
        or windows.root
        or ".." in (*posix.parts, *windows.parts)
        or "\0" in location
    )


def _message(handle: BinaryIO, end: int, kind: str, depth: int) -> Message:
    """Read the fields of a message that `FIELDS` names, up to `end`, and pass over the others."""
    if depth > DEEPEST:
        raise ValueError("too many messages within messages")
    found: Message = {}
    while (position := handle.tell()) < end:
        tag = field_tag(handle)
        name, holds = FIELDS[kind].get(tag >> 3, ("", ""))
        wire = tag & 7
        value: int | str | bytes | Message | None = None
        if wire == VARINT:
            number = _signed(varint(handle))
            value = number if holds == INTEGER else None
        elif wire == LENGTH:
            length = varint(handle)
            position = handle.tell() + length
            if position > end:
                raise ValueError("a field is longer than its message")
            value = _held(handle, length, holds, depth)
            handle.seek(position)
        elif wire in (FIXED32, FIXED64):
            handle.seek(4 if wire == FIXED32 else 8, os.SEEK_CUR)
        else:
            raise ValueError(f"wire type {wire}")
        if value is not None:
            found.setdefault(name, []).append(value)
    if position > end or handle.tell() != end:
        raise ValueError("a field is longer than its message")
    return found


def _held(handle: BinaryIO, length: int, holds: str, depth: int) -> str | bytes | Message | None:
    """Read a field of so many bytes; None where it is of no use, or larger than it can be."""
    if holds == TEXT and length <= LONGEST:
        return exactly(handle, length).decode()
    if holds == BYTES and length <= LARGEST:
        return exactly(handle, length)
    if holds in FIELDS:
        return _message(handle, handle.tell() + length, holds, depth + 1)
    return None


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
