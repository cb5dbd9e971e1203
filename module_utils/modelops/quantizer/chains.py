"""Models of one operator over and over, with random weights, that forms are timed on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

# Bytes of FP32 in a chain: more than a processor's cache holds, so that reading them counts.
BYTES = 16_000_000
MATMUL, CONV, LSTM = "MatMul", "Conv", "LSTM"
Dim = TypeVar("Dim", int, str)


class Layer(NamedTuple):
    """An operator and the shape of its weights.

    Attributes:
        op: MATMUL, CONV (over time) or LSTM (one direction).
        shape: [K, N] of a matrix, [N, C, kernel] of a Conv, [C, cells] of an LSTM.
    """

    op: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Return how many values its weights have."""
        if self.op != LSTM:
            return math.prod(self.shape)
        channels, cells = self.shape
        return 4 * cells * (channels + cells)

    @property
    def turned(self) -> Layer:
        """Return the layer that takes what this one gives, and gives what this one takes."""
        first, second, *rest = self.shape
        return self._replace(shape=(second, first, *rest))

    def given(self, rows: Dim) -> list[int | Dim]:
        """Return the shape of what it takes: so many rows of a matrix, or steps of a sequence."""
        if self.op == CONV:
            return [1, self.shape[1], rows]
        return [rows, 1, self.shape[0]] if self.op == LSTM else [rows, self.shape[0]]

    def weights(self) -> list[tuple[int, ...]]:
        """Return the shapes of its weights as ONNX has them."""
        if self.op != LSTM:
            return [self.shape]
        channels, cells = self.shape
        return [(1, 4 * cells, channels), (1, 4 * cells, cells)]

    def summed(self, dims: tuple[int, ...]) -> int:
        """Return how many products a value of an output adds up, with a weight of these `dims`."""
        return {MATMUL: dims[0], CONV: math.prod(dims[1:]), LSTM: dims[-1]}[self.op]


def write(path: Path, layer: Layer) -> list[str]:
    """Write x -> layer -> layer.turned -> layer -> ...: at least BYTES of weights, or two layers.

    Products and Convs have a Relu between them; a Conv keeps the number of steps.

    Returns:
        The names of its nodes with weights.
    """
    rng = np.random.default_rng(0)
    nodes: list[NodeProto] = []
    direction = numpy_helper.from_array(np.array([1], np.int64), "direction")
    tensors = [direction] if layer.op == LSTM else []
    name = "x"
    for number in range(max(2, BYTES // (4 * layer.elements))):
        own = layer if number % 2 == 0 else layer.turned
        for part, dims in enumerate(own.weights()):
            weight = rng.standard_normal(dims, np.float32) * np.float32(
                (2 / own.summed(dims)) ** 0.5
            )
            tensors.append(numpy_helper.from_array(weight, f"w{number}.{part}"))
        nodes += _nodes(own, name, number)
        name = nodes[-1].output[0]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "chain",
        [value("x", TensorProto.FLOAT, layer.given("rows"))],
        [value(name, TensorProto.FLOAT, None)],
        tensors,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return [node.name for node in nodes if node.op_type == layer.op]


def _nodes(layer: Layer, x: str, number: int) -> list[NodeProto]:
    """Return a layer's node, and the node that makes the next one's input of what it gives."""
    inputs = [x, *(f"w{number}.{part}" for part in range(len(layer.weights())))]
    node = helper.make_node(layer.op, inputs, [f"m{number}"], f"n{number}")
    if layer.op == CONV:
        pads = [(layer.shape[-1] - 1) // 2, layer.shape[-1] // 2]
        node.attribute.append(helper.make_attribute("pads", pads))
    if layer.op != LSTM:
        return [node, helper.make_node("Relu", [f"m{number}"], [f"r{number}"])]
    node.attribute.append(helper.make_attribute("hidden_size", layer.shape[1]))
    return [node, helper.make_node("Squeeze", [f"m{number}", "direction"], [f"r{number}"])]
