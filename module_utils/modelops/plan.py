"""Which node gets which form, and the quantized graph that follows from it. No weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from .errors import ModelOpsError
from .forms import DYNAMIC, FP32, ROWS, Constant, Emitter, attribute
from .graph import all_graphs, element_count, is_external, locate, subgraphs
from .stream import Layout, Segment, constant, copied
from .tensors import Files

# The inputs of each operator that can be weights: a reader expects to see each such node
# quantized, or to be told why it is not.
WEIGHT_INPUTS = {
    "MatMul": (1, 0), "Gemm": (1,), "Gather": (0,), "Conv": (1,), "ConvTranspose": (1,),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2), "Attention": (1,),
}  # fmt: skip
QUANTIZABLE = ("MatMul", "Gemm", "Gather")
# Kept initializers up to this many bytes stay in the graph file, where shape inference sees them.
INLINE_BYTES = 1024
# A node of any other operator is listed when it holds a matrix of at least this many elements.
LISTED_ELEMENTS = 256


@dataclass(frozen=True)
class Recipe:
    """What the caller asks for; it stands in the manifest.

    Attributes:
        weight_type: `qint8`, symmetric signed 8-bit.
        granularity: `per_channel` (a scale for each output channel) or `per_tensor`.
        op_types: the operators to quantize.
        exclude_nodes: names of nodes to keep in FP32; `*` and `?` match as in file names.
    """

    weight_type: str = "qint8"
    granularity: str = "per_channel"
    op_types: tuple[str, ...] = QUANTIZABLE
    exclude_nodes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "weight_type": self.weight_type,
            "granularity": self.granularity,
            "op_types": sorted(self.op_types),
            "exclude_nodes": sorted(self.exclude_nodes),
        }


@dataclass(frozen=True)
class Decision:
    """The form of one node and why; `weight` names the initializer that it is about."""

    node: str
    op: str
    form: str
    reason: str
    weight: str


class Plan:
    """A model's graph rewritten to INT8, and the layout of its data file.

    Args:
        model: the graph as read; it is rewritten in place.
        folder: where its external data lies.
        location: the name of the data file to be.
        recipe: what to do.
        files: handles to read the weights with.
        scratch: folder for scratch files; None takes the system's.

    Attributes:
        layout: the data file.
        decisions: every node that holds a weight, in graph order.
        graph_bytes: the graph file, equal for equal input.

    Raises:
        ModelOpsError: the model's opset has no dynamic quantization.
    """

    def __init__(
        self,
        model: ModelProto,
        folder: Path,
        location: str,
        recipe: Recipe,
        files: Files,
        scratch: Path | None,
    ) -> None:
        _require_opset(model)
        self.layout = Layout(location)
        self.decisions: list[Decision] = []
        self._folder, self._recipe = folder, recipe
        self._emitter = Emitter(
            self.layout, _all_names(model), folder, files, scratch,
            per_channel=recipe.granularity == "per_channel",
        )  # fmt: skip
        self._rewrite(model.graph, {}, "")
        self._keep_rest(model)
        model.graph.initializer.extend(self._emitter.tensors)
        model.producer_name, model.producer_version = "modelops", ""
        self.graph_bytes: bytes = model.SerializeToString(deterministic=True)

    def _rewrite(self, graph: GraphProto, outer: dict[str, Constant], scope: str) -> None:
        """Rewrite a graph and those nested in it; `outer` are the constants seen from outside."""
        overridable = {value.name for value in graph.input}
        constants = outer | {
            tensor.name: Constant(f"{scope}/{tensor.name}", tensor)
            for tensor in graph.initializer
            if tensor.name not in overridable
        }
        activations: dict[str, tuple[str, ...]] = {}
        nodes: list[NodeProto] = []
        for index, node in enumerate(graph.node):
            for branch, inner in enumerate(subgraphs(node)):
                self._rewrite(inner, constants, f"{scope}/{index}.{branch}")
            nodes.extend(self._rewrite_node(node, constants, activations))
        del graph.node[:]
        graph.node.extend(nodes)

    def _rewrite_node(
        self,
        node: NodeProto,
        constants: dict[str, Constant],
        activations: dict[str, tuple[str, ...]],
    ) -> Iterator[NodeProto]:
        weight = _weight_of(node, constants)
        if weight is None and node.op_type not in WEIGHT_INPUTS:
            yield node
            return
        form, reason = self._decide(node, weight)
        name = node.name or next(iter(node.output), "")
        held = weight.tensor.name if weight else ""
        self.decisions.append(Decision(name, node.op_type, form, reason, held))
        if form == DYNAMIC and weight:
            yield from self._emitter.dynamic(node, weight, activations)
        elif form == ROWS and weight:
            yield from self._emitter.gather_rows(node, weight)
        else:
            yield node

    def _decide(self, node: NodeProto, weight: Constant | None) -> tuple[str, str]:
        """Return the form of a node and the reason."""
        op = node.op_type
        if weight is None:
            return FP32, "it has no constant weight: its operands are computed"
        tensor = weight.tensor
        if node.domain not in ("", "ai.onnx") or op not in QUANTIZABLE:
            return FP32, f"{op} has no INT8 form in this version"
        if op not in self._recipe.op_types:
            return FP32, f"op_types does not name {op}"
        if any(fnmatchcase(node.name, pattern) for pattern in self._recipe.exclude_nodes):
            return FP32, "exclude_nodes names it"
        if tensor.data_type != TensorProto.FLOAT:
            return FP32, f"its weight is {TensorProto.DataType.Name(tensor.data_type)}, not FLOAT"
        if len(tensor.dims) != 2:
            return FP32, f"its weight has {len(tensor.dims)} dimensions, not 2"
        if element_count(tensor) == 0:
            return FP32, "its weight is empty"
        if op == "MatMul" and node.input[1] != tensor.name:
            return FP32, "its constant weight is the left operand"
        if op != "Gather":
            return DYNAMIC, "constant weight of two dimensions"
        if attribute(node, "axis", 0) not in (0, -2):
            return FP32, "it gathers along another axis than the rows"
        return ROWS, "embedding rows, a scale a row"

    def _keep_rest(self, model: ModelProto) -> None:
        """Copy what is still read in FP32 to the data file, and drop what nothing reads."""
        graphs = list(all_graphs(model.graph))
        used = {name for graph in graphs for node in graph.node for name in node.input}
        used |= {value.name for graph in graphs for value in graph.output}
        used |= {value.name for graph in graphs for value in graph.input}
        for graph in graphs:
            kept = [self._keep(tensor) for tensor in graph.initializer if tensor.name in used]
            del graph.initializer[:]
            graph.initializer.extend(kept)

    def _keep(self, tensor: TensorProto) -> TensorProto:
        dims = tuple(tensor.dims)
        if is_external(tensor):
            extent = locate(tensor, self._folder)
            chunks, length = copied(extent), extent.length
            if length <= INLINE_BYTES:
                # Shape inference needs the values of small tensors, and cannot read them elsewhere.
                raw = b"".join(bytes(chunk) for chunk in chunks(None))
                return TensorProto(
                    name=tensor.name, data_type=tensor.data_type, dims=dims, raw_data=raw
                )
        elif len(tensor.raw_data) > INLINE_BYTES:
            raw = tensor.raw_data
            chunks, length = constant(lambda: raw), len(raw)
        else:
            return tensor
        return self.layout.add(Segment(tensor.name, tensor.data_type, dims, length, chunks))


def _weight_of(node: NodeProto, constants: dict[str, Constant]) -> Constant | None:
    """Return the weight that a node holds, if any."""
    known = WEIGHT_INPUTS.get(node.op_type)
    for index in known if known is not None else range(len(node.input)):
        found = constants.get(node.input[index]) if index < len(node.input) else None
        if found is None:
            continue
        tensor = found.tensor
        large_matrix = len(tensor.dims) > 1 and element_count(tensor) >= LISTED_ELEMENTS
        if known is not None or (tensor.data_type == TensorProto.FLOAT and large_matrix):
            return found
    return None


def _all_names(model: ModelProto) -> set[str]:
    names: set[str] = set()
    for graph in all_graphs(model.graph):
        names.update(value.name for value in (*graph.input, *graph.output))
        names.update(tensor.name for tensor in graph.initializer)
        for node in graph.node:
            names.add(node.name)
            names.update(node.input)
            names.update(node.output)
    return names


def _require_opset(model: ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < 11:
            raise ModelOpsError(
                f"the model's opset is {opset.version}; INT8 needs 11 or newer",
                remedy="Export the model with a newer opset, or convert it with"
                " onnx.version_converter.",
            )
