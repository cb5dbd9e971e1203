"""The models that a search measures, written without writing their weights again.

A search tries many mixes of forms that differ in a few nodes. What they share is stored once: the
graph of an attempt points at the data of the pair that was written first, at what earlier attempts
added to it, and, for what is as in the source, at the source's own data file. onnxruntime reads no
data outside of the graph's folder, nor through links out of it. So the graph of an attempt lies
beside the source where the work is done somewhere below it; elsewhere what is as in the source is
written once, as all else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from ..base.files import remove
from ..model.locate import Extent
from .data_file import Layout, Segment, copied
from .plan import Plan

_LARGE = 1 << 20  # bytes of a weight that is worth it
Place = tuple[str, int]  # a data file, as seen from the graph's folder, and an offset in bytes


class Attempts:
    """Writes attempts. A context manager: it ends with their graph removed.

    Args:
        folder: a new folder for their data, on the file system of the first pair.
        source: the graph file of the source.
        first: the layout of the pair that was written first.
        data: its data file, which moves into the folder.
        threads: that read and quantize.
    """

    def __init__(self, folder: Path, source: Path, first: Layout, data: Path, threads: int) -> None:
        folder.mkdir()
        self._folder, self._threads = folder, threads
        beside = _is_below(folder, source.parent) and os.access(source.parent, os.W_OK)
        self._source = source.parent if beside else None
        self._graph = graph_beside(source) if beside else folder / source.name
        self._places: dict[tuple[Any, ...], Place] = {}
        self._count = 0
        os.replace(data, folder / "first.data")
        self._remember(first, self._location("first.data"))

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, *_: object) -> None:
        remove(self._graph)

    def layout(self) -> Layout:
        """Return the layout for the next attempt: it takes what is not stored yet."""
        self._count += 1
        return _Rest(self._location(f"added-{self._count}.data"), self._place)

    def pair(self, location: str) -> Layout:
        """Return the layout of the pair that was looked for: what is stored already is copied."""
        return _Copy(location, self._stored)

    def write(self, plan: Plan) -> Path:
        """Write the attempt of a plan with such a layout, and return its graph file."""
        data = self._graph.parent / plan.layout.location
        with data.open("wb") as out:
            plan.layout.stream(out, self._threads)
        self._remember(plan.layout, plan.layout.location)
        self._graph.write_bytes(unpacked(plan.graph_bytes))
        return self._graph

    def _location(self, name: str) -> str:
        """Return a data file of the folder as a graph names it."""
        folder = self._folder.resolve()
        return (folder / name).relative_to(self._graph.parent.resolve()).as_posix()

    def _remember(self, layout: Layout, location: str) -> None:
        for offset, segment in layout.segments:
            if segment.content:
                self._places[segment.content] = location, offset

    def _stored(self, segment: Segment) -> Extent | None:
        """Return where an attempt stored the bytes of a segment, if one did."""
        place = self._places.get(segment.content)
        return place and Extent(self._graph.parent / place[0], place[1], segment.length)

    def _place(self, segment: Segment) -> Place | None:
        """Return where the bytes of a segment are already, if they are."""
        extent = segment.extent
        if extent is not None and self._source and extent.path.is_relative_to(self._source):
            return extent.path.relative_to(self._source).as_posix(), extent.offset
        return self._places.get(segment.content)


def graph_beside(source: Path) -> Path:
    """Return the name of an attempt's graph beside the source; a killed run may leave it."""
    return source.with_name(f".{source.name}.attempt")


def unpacked(graph_bytes: bytes) -> bytes:
    """Return a graph whose large FP32 weights are inputs with a default.

    onnxruntime packs the constants that it multiplies with at load, one after the other, 2 seconds
    a GB. What could be given otherwise it leaves in the file's own pages. 8-bit blocks must be
    packed, for it multiplies others in another way: so no option of the session will do.
    """
    model = ModelProto.FromString(graph_bytes)
    stay = {value.name for value in model.graph.input}
    stay |= {x for node in model.graph.node if node.op_type == "MatMulNBits" for x in node.input}
    for tensor in model.graph.initializer:
        size = 4 * math.prod(tensor.dims)
        if tensor.data_type == TensorProto.FLOAT and size >= _LARGE and tensor.name not in stay:
            value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
            model.graph.input.append(value)
    return model.SerializeToString(deterministic=True)


def _is_below(folder: Path, above: Path) -> bool:
    return folder.resolve().is_relative_to(above.resolve())


class _Rest(Layout):
    """A layout of what is stored nowhere yet."""

    def __init__(self, location: str, place: Callable[[Segment], Place | None]) -> None:
        super().__init__(location)
        self._place = place

    def add(self, segment: Segment) -> TensorProto:
        """Point at the bytes where they are, or give them a place in this file."""
        place = self._place(segment)
        if place is None:
            return super().add(segment)
        self.content_bytes += segment.length
        return segment.at(*place)


class _Copy(Layout):
    """A layout whose bytes are taken from where they are stored already."""

    def __init__(self, location: str, stored: Callable[[Segment], Extent | None]) -> None:
        super().__init__(location)
        self._stored = stored

    def add(self, segment: Segment) -> TensorProto:
        """Give a segment its place, and the bytes that are there."""
        extent = self._stored(segment)
        if extent is not None:
            segment = segment._replace(chunks=copied(extent, segment.data_type))
        return super().add(segment)
