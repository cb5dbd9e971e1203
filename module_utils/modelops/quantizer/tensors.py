"""The tensors of a quantized model: each weight is laid out once for all nodes that read it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from ..model.checks import ITEM_BYTES
from ..model.learned import Learned
from ..model.tensor_blocks import Files, Weight
from ..model.weights import Constant
from . import half
from .blocks import BlockQuantizedWeight, Blocks4
from .data_file import Layout, Segment, computed, constant
from .int8 import QuantizedWeight, WindowWeight
from .nodes import Names
from .operators import LAST

# Values of a block along K: 64 keeps the scales at 1/16 of the INT8 bytes' FP32 (26.6 % in all).
BLOCK_SIZE = 64


class Tensors:
    """Lays out what the nodes of the forms read.

    Args:
        layout: the data file to be.
        names: every name in the model; new ones are added.
        model: the graph file, beside which external data lies.
        files: handles to read the weights with.
        scratch: folder for scratch files; None takes the system's.
        per_channel: a scale for each output channel of a dynamic matrix, or one.
        learned: by the plans before.

    Attributes:
        initializers: for the outermost graph, in file order.
    """

    def __init__(
        self,
        layout: Layout,
        names: Names,
        model: Path,
        files: Files,
        scratch: Path | None,
        per_channel: bool,
        learned: Learned,
    ) -> None:
        self.initializers: list[TensorProto] = []
        self._layout, self._names = layout, names
        self._model, self._files, self._scratch = model, files, scratch
        self._per_channel, self._before = per_channel, learned
        self._placed: dict[tuple[Any, ...], str] = {}
        self._contents: dict[str, tuple[Any, ...]] = {}  # of a placed tensor, by name
        self._weights: dict[str, list[QuantizedWeight]] = {}
        self._owners: dict[str, str] = {}  # the key of the weight that a placed tensor is of
        self._stored: Counter[str] = Counter()  # bytes in INT8 by the weight's key
        self._sizes: dict[str, int] = {}  # bytes in the source by the weight's key

    def learned(self, in_fp32: Collection[str]) -> Learned:
        """Return which weights are stored twice with the same scales, and where INT8 saves nothing.

        Args:
            in_fp32: keys of the weights that are still read as they were.
        """
        stored = {
            key: {k[:-1] for k in self._placed if k[-1] == key} for key in ("matrix", "stack")
        }
        twice = stored["matrix"] & stored["stack"] if self._per_channel else set()
        larger = {key for key, size in self._stored.items() if size > self._sizes[key]}
        return Learned(
            frozenset(twice), frozenset(self._stored.keys() & in_fp32), frozenset(larger)
        )

    def is_tied(self, weight: Constant, leading: int) -> bool:
        """Tell whether a matrix's rows or columns are stored, or will be, with the same scales.

        So are those of an embedding that is the last matrix too.
        """
        layer = weight.key, weight.dims, leading
        return self._per_channel and (
            (*layer, "stack") in self._placed or layer in self._before.tied
        )

    def matrix(self, weight: Constant, turn: bool, alpha: float) -> tuple[str, str, str]:
        """INT8 [K, N] with the scales and zero points of its N output channels.

        A matrix that is tied is INT8 as stored, [N, K] where it is to be turned.

        Args:
            turn: the weight is stored as [N, K].
            alpha: what the scales are multiplied with.
        """
        leading = 1 if turn else LAST
        channels = weight.dims[0 if turn else 1]
        axis = (0 if turn else 1) if self._per_channel else None
        dims = (channels,) if self._per_channel else ()

        def make() -> list[QuantizedWeight]:
            source = self._source(weight, (weight.dims[0], weight.dims[1]))
            return [QuantizedWeight(source, axis, turn, self._scratch)]

        if self.is_tied(weight, leading):
            value, _ = self.stack(weight, leading)
        else:
            shape = weight.dims[::-1] if turn else weight.dims
            value = self._int8((weight.key, weight.dims, leading, "matrix"), weight, shape, make)
        zero = self._zero(value, dims)
        return value, self._scale(value, dims, alpha), zero

    def windows(self, weight: Constant) -> tuple[str, str, str]:
        """INT8 [kernel x C, N] of a Conv's weight [N, C, kernel], its scales and zero points."""
        n, channels, kernel = weight.dims
        axis, dims = (0, (n,)) if self._per_channel else (None, ())

        def make() -> list[QuantizedWeight]:
            source = self._source(weight, (n, channels * kernel))
            return [WindowWeight(source, axis, kernel, self._scratch)]

        key = (weight.key, weight.dims, "windows")
        value = self._int8(key, weight, (kernel * channels, n), make)
        zero = self._zero(value, dims)
        return value, self._scale(value, dims, 1.0), zero

    def gates(self, weight: Constant) -> tuple[str, str, str]:
        """INT8 [D, K, N] of an LSTM's weight [D, N, K], its scales and zero points."""
        directions, n, k = weight.dims
        axis, dims = (0, (directions, n)) if self._per_channel else (None, (directions,))

        def make() -> list[QuantizedWeight]:
            parts = (self._source(weight, (n, k), i * n * k) for i in range(directions))
            return [QuantizedWeight(part, axis, True, self._scratch) for part in parts]

        value = self._int8((weight.key, weight.dims, "gates"), weight, (directions, k, n), make)
        zero = self._zero(value, dims)
        return value, self._scale(value, dims, 1.0), zero

    def stack(self, weight: Constant, leading: int) -> tuple[str, str]:
        """INT8 in the weight's own shape, and scales that multiply it back by broadcasting."""
        dims = weight.dims
        if leading == LAST:
            rows, columns = dims[-2], dims[-1]
            stack, axis, scale_dims = math.prod(dims[:-2]), 1, (*dims[:-2], 1, columns)
        else:
            rows, columns = math.prod(dims[:leading]), math.prod(dims[leading:])
            stack, axis, scale_dims = 1, 0, (*dims[:leading], *(1 for _ in dims[leading:]))

        def make() -> list[QuantizedWeight]:
            size = rows * columns
            parts = (self._source(weight, (rows, columns), i * size) for i in range(stack))
            return [QuantizedWeight(part, axis, False, self._scratch) for part in parts]

        value = self._int8((weight.key, dims, leading, "stack"), weight, dims, make)
        return value, self._scale(value, scale_dims, 1.0)

    def blocks(self, weight: Constant, turn: bool, bits: int) -> tuple[list[str], int, int]:
        """The blocks of MatMulNBits, their scales and zero points, if any, and N and K.

        Args:
            turn: as for `matrix`.
            bits: 4 or 8.
        """
        k, n = weight.dims[::-1] if turn else weight.dims
        kind = "blocks" if bits == 8 else "blocks4"
        key = (weight.key, kind, weight.dims, turn)
        parts = ["value", "scale", *(["zero"] if bits == 4 else [])]
        if (*key, "value") not in self._placed:
            source = self._source(weight, (weight.dims[0], weight.dims[1]))
            made = (BlockQuantizedWeight if bits == 8 else Blocks4)(
                source, BLOCK_SIZE, turn, self._scratch
            )
            segments = _segments(made, f"{weight.tensor.name}_{kind}")
            for part, segment in zip(parts, segments, strict=True):
                self._once((*key, part), segment._replace)
        return [self._placed[(*key, part)] for part in parts], n, k

    def half(self, weight: Constant) -> str:
        """FP16 in the weight's own shape."""
        size = math.prod(weight.dims)

        def make() -> Segment:
            chunks = half.chunks(self._source(weight, (1, size)))
            name = f"{weight.tensor.name}_half"
            return Segment(name, TensorProto.FLOAT16, weight.dims, 2 * size, chunks)

        return self._once((weight.key, weight.dims, "half"), make)

    def _source(self, weight: Constant, shape: tuple[int, int], start: int = 0) -> Weight:
        size = math.prod(weight.tensor.dims) * ITEM_BYTES[weight.tensor.data_type]
        self._sizes[weight.key] = size
        return Weight(weight.tensor, shape, self._model, self._files, start)

    def _int8(
        self,
        key: tuple[Any, ...],
        weight: Constant,
        dims: tuple[int, ...],
        make: Callable[[], list[QuantizedWeight]],
    ) -> str:
        """Lay out a weight's INT8 values once for all nodes that use them in the same way."""
        if key not in self._placed:
            parts = make()
            name = self._once(
                key,
                lambda: Segment(
                    f"{weight.tensor.name}_quantized", TensorProto.INT8, dims, math.prod(dims),
                    lambda pool: (chunk for part in parts for chunk in part.chunks(pool)),
                ),
            )  # fmt: skip
            self._weights[name] = parts
        return self._placed[key]

    def _scale(self, value: str, dims: tuple[int, ...], factor: float) -> str:
        """Lay out the scales of an INT8 weight, behind it: they are known when it was read."""
        parts = self._weights[value]
        return self._once(
            ("scale", value, dims, factor),
            lambda: Segment(
                f"{value.removesuffix('_quantized')}_scale", TensorProto.FLOAT, dims,
                4 * math.prod(dims),
                computed(lambda pool: b"".join(part.scale_bytes(pool, factor) for part in parts)),
            ),
        )  # fmt: skip

    def _zero(self, value: str, dims: tuple[int, ...]) -> str:
        """Lay out the zero points of an INT8 weight, which are 0."""
        zeros = bytes(math.prod(dims))
        return self._once(
            ("zero point", value),
            lambda: Segment(
                f"{value}_zero_point", TensorProto.INT8, dims, len(zeros), constant(zeros)
            ),
        )

    def _once(self, key: tuple[Any, ...], make: Callable[[], Segment]) -> str:
        """Place the segment of a key at its first use, and return its tensor's name."""
        if key not in self._placed:
            segment = make()
            name = self._names.fresh(segment.name)
            # A tensor's name may be another one in the next plan, what it holds is not.
            content = tuple(self._contents.get(str(part), part) for part in key)
            self.initializers.append(self._layout.add(segment._replace(name=name, content=content)))
            self._placed[key], self._contents[name] = name, content
            # Scales and zero points are told by the INT8 values that they are of.
            self._owners[name] = self._owners.get(str(key[1]), str(key[0]))
            self._stored[self._owners[name]] += segment.length
        return self._placed[key]

    def integers(self, *values: int) -> str:
        """A vector of INT64; it is small and stays in the graph."""
        key = ("integers", *values)
        if key not in self._placed:
            name = self._placed[key] = self._names.fresh("_".join(map(str, ("integers", *values))))
            self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return self._placed[key]

    def number(self, value: float) -> str:
        """A scalar constant; it is small and stays in the graph."""
        key = ("number", value)
        if key not in self._placed:
            name = self._placed[key] = self._names.fresh(f"number_{value}")
            self.initializers.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return self._placed[key]


def _segments(blocks: BlockQuantizedWeight, name: str) -> list[Segment]:
    """Return what MatMulNBits reads: the values, and behind them what is known when they are."""
    dims, unsigned = blocks.dims, TensorProto.UINT8
    count, pairs = dims[0] * dims[1], dims[0] * -(-dims[1] // 2)
    segments = [
        Segment(name, unsigned, dims, math.prod(dims), blocks.chunks),
        Segment(
            f"{name}_scale", TensorProto.FLOAT, (count,), 4 * count,
            computed(lambda _pool: blocks.scale_bytes()),
        ),
    ]  # fmt: skip
    if isinstance(blocks, Blocks4):
        zeros = computed(lambda _pool: blocks.zero_bytes())
        segments.append(Segment(f"{name}_zero_point", unsigned, (pairs,), pairs, zeros))
    return segments
