"""The INT8 forms that a node can take: the nodes that stand for it and the tensors they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .stream import Layout, QuantizedWeight, Segment, constant
from .tensors import Files, Weight

DYNAMIC, ROWS, FP32 = "dynamic_int8", "int8_rows", "fp32"


@dataclass(frozen=True)
class Constant:
    """An initializer that no graph input can override, under a key that is unique in the model."""

    key: str
    tensor: TensorProto


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


class Emitter:
    """Makes the nodes of the forms and lays out their tensors, one INT8 copy a weight.

    Args:
        layout: the data file to be.
        names: every name in the model; new ones are added.
        folder: where the model's external data lies.
        files: handles to read the weights with.
        scratch: folder for scratch files; None takes the system's.
        per_channel: a scale for each output channel, or one for the tensor.
    """

    def __init__(
        self,
        layout: Layout,
        names: set[str],
        folder: Path,
        files: Files,
        scratch: Path | None,
        per_channel: bool,
    ) -> None:
        self.tensors: list[TensorProto] = []  # initializers for the outermost graph, in file order
        self._layout, self._names = layout, names
        self._folder, self._files, self._scratch = folder, files, scratch
        self._per_channel = per_channel
        self._weights: dict[tuple[str, str], tuple[str, QuantizedWeight]] = {}
        self._scales: dict[tuple[str, float], str] = {}

    def dynamic(
        self, node: NodeProto, weight: Constant, activations: dict[str, tuple[str, ...]]
    ) -> Iterator[NodeProto]:
        """MatMul or Gemm as quantize_dynamic writes them; onnxruntime fuses these nodes at load.

        Args:
            node: the node; its second input is `weight`, of two dimensions.
            activations: the quantized activations of this graph so far, which nodes share.
        """
        base, x, y = node.name or node.output[0], node.input[0], node.output[0]
        bias = node.input[2] if len(node.input) > 2 else ""
        if attribute(node, "transA", 0):
            (transposed,) = self._fresh(x, "transposed")
            yield self._node("Transpose", base, [x], [transposed], perm=[1, 0])
            x = transposed
        if x not in activations:
            activations[x] = self._fresh(x, "quantized", "scale", "zero_point")
            yield self._node("DynamicQuantizeLinear", x, [x], activations[x])
        x_quantized, x_scale, x_zero = activations[x]
        w_quantized, w_scale, w_zero = self._matrix(
            weight, bool(attribute(node, "transB", 0)), float(attribute(node, "alpha", 1.0))
        )
        scales, integer, cast = self._fresh(y, "scales", "integer", "cast")
        product = self._fresh(y, "product")[0] if bias else y
        yield self._node("Mul", base, [x_scale, w_scale], [scales])
        yield self._node(
            "MatMulInteger", base, [x_quantized, w_quantized, x_zero, w_zero], [integer]
        )
        yield self._node("Cast", base, [integer], [cast], to=TensorProto.FLOAT)
        yield self._node("Mul", base, [cast, scales], [product])
        if not bias:
            return
        beta = float(attribute(node, "beta", 1.0))
        if beta != 1.0:
            factor, scaled = self._fresh(y, "beta", "bias")
            self.tensors.append(numpy_helper.from_array(np.array(beta, np.float32), factor))
            yield self._node("Mul", base, [bias, factor], [scaled])
            bias = scaled
        yield self._node("Add", base, [product, bias], [y])

    def gather_rows(self, node: NodeProto, weight: Constant) -> Iterator[NodeProto]:
        """Gather INT8 rows and their scales, then multiply: only the rows in use become FP32."""
        indices, y = node.input[1], node.output[0]
        base = node.name or y
        rows, columns = weight.tensor.dims
        name, quantized = self._int8(weight, "rows", (rows, columns), 0, False)
        scale = self._scale(name, quantized, (rows, 1), 1.0)
        row_values, row_scales, cast = self._fresh(y, "quantized", "scale", "cast")
        yield self._node("Gather", base, [name, indices], [row_values], axis=0)
        yield self._node("Gather", base, [scale, indices], [row_scales], axis=0)
        yield self._node("Cast", base, [row_values], [cast], to=TensorProto.FLOAT)
        yield self._node("Mul", base, [cast, row_scales], [y])

    def _matrix(self, weight: Constant, transposed: bool, alpha: float) -> tuple[str, str, str]:
        """INT8 [K, N] with the scales and zero points of its N output channels."""
        rows, columns = weight.tensor.dims
        channels = rows if transposed else columns
        axis = None
        if self._per_channel:
            axis = 0 if transposed else 1
        dims = (channels,) if self._per_channel else ()
        kind = "transposed" if transposed else "matrix"
        name, quantized = self._int8(weight, kind, (rows, columns), axis, transposed)
        scale = self._scale(name, quantized, dims, alpha)
        zero = f"{name}_zero_point"
        if zero not in self._names:
            self._names.add(zero)
            length = channels if self._per_channel else 1
            self._place(
                Segment(zero, TensorProto.INT8, dims, length, constant(lambda: bytes(length)))
            )
        return name, scale, zero

    def _int8(
        self, weight: Constant, kind: str, shape: tuple[int, int], axis: int | None, transpose: bool
    ) -> tuple[str, QuantizedWeight]:
        """Lay out a weight's INT8 values once for all nodes that use them in the same way."""
        key = (weight.key, kind)
        if key not in self._weights:
            tensor = weight.tensor
            (name,) = self._fresh(tensor.name, "quantized")
            source = Weight(tensor, shape, self._folder, self._files)
            quantized = QuantizedWeight(source, axis, transpose, self._scratch)
            dims = (shape[1], shape[0]) if transpose else tuple(tensor.dims)
            length = shape[0] * shape[1]
            self._place(Segment(name, TensorProto.INT8, dims, length, quantized.chunks))
            self._weights[key] = name, quantized
        return self._weights[key]

    def _scale(
        self, name: str, quantized: QuantizedWeight, dims: tuple[int, ...], factor: float
    ) -> str:
        """Lay out the scales of an INT8 weight, behind it: they are known when it was read."""
        if (name, factor) not in self._scales:
            (scale,) = self._fresh(name.removesuffix("_quantized"), "scale")
            length = 4 * int(np.prod(dims, dtype=np.int64))
            content = constant(lambda: quantized.scale_bytes(factor))
            self._place(Segment(scale, TensorProto.FLOAT, dims, length, content))
            self._scales[name, factor] = scale
        return self._scales[name, factor]

    def _place(self, segment: Segment) -> None:
        self.tensors.append(self._layout.add(segment))

    def _node(
        self, op: str, base: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any
    ) -> NodeProto:
        (name,) = self._fresh(base, op)
        return helper.make_node(op, list(inputs), list(outputs), name=name, **attributes)

    def _fresh(self, base: str, *parts: str) -> tuple[str, ...]:
        """Return names that nothing in the model has yet."""
        names = []
        for part in parts:
            name, count = f"{base}_{part}", 1
            while name in self._names:
                count += 1
                name = f"{base}_{part}_{count}"
            self._names.add(name)
            names.append(name)
        return tuple(names)
