"""Whether the parts of a graph agree with each other, before anything relies on it.

The ONNX checker does not know all of this, wants the weights in memory, and stops at the first
problem. Here every kind of problem is named once, with an example.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from ..base.errors import ModelOpsError

# Bytes of one element as raw and external data store it, and elements of a byte where it is less.
ITEM_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2,
    TensorProto.INT8: 1, TensorProto.INT16: 2, TensorProto.INT32: 4, TensorProto.INT64: 8,
    TensorProto.UINT8: 1, TensorProto.UINT16: 2, TensorProto.UINT32: 4, TensorProto.UINT64: 8,
    TensorProto.BOOL: 1, TensorProto.COMPLEX64: 8, TensorProto.COMPLEX128: 16,
    TensorProto.FLOAT8E4M3FN: 1, TensorProto.FLOAT8E4M3FNUZ: 1, TensorProto.FLOAT8E5M2: 1,
    TensorProto.FLOAT8E5M2FNUZ: 1, TensorProto.FLOAT8E8M0: 1,
}  # fmt: skip
ITEMS_A_BYTE: dict[int, int] = {
    TensorProto.UINT4: 2, TensorProto.INT4: 2, TensorProto.FLOAT4E2M1: 2,
    TensorProto.UINT2: 4, TensorProto.INT2: 4,
}  # fmt: skip
COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
MOST_DIMENSIONS = 32  # numpy 1 has no more

# The operators that are rewritten or looked through: how many first inputs they cannot do without.
INPUTS = {
    "MatMul": 2, "Gemm": 2, "Gather": 2, "Conv": 2, "ConvTranspose": 2, "LSTM": 3, "GRU": 3,
    "RNN": 3, "Attention": 2, "Einsum": 1, "Identity": 1, "Transpose": 1, "Reshape": 1,
    "Constant": 0, "FusedMatMul": 2, "FusedGemm": 2, "FusedConv": 2,
}  # fmt: skip
MICROSOFT = "com.microsoft"
# Those among them that are onnxruntime's own.
CONTRIBUTED = frozenset({
    "Attention", "EmbedLayerNormalization", "FusedConv", "FusedGemm", "FusedMatMul",
})  # fmt: skip
SEVERAL_OUTPUTS = frozenset({"LSTM", "GRU", "RNN", "Attention"})
FLOAT, INT, INTS = AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.INTS
GEMM: dict[str, int] = {"alpha": FLOAT, "beta": FLOAT, "transA": INT, "transB": INT}
# The attributes that decide how a weight is read; MatMul and Gemm have no others.
ATTRIBUTES: dict[str, dict[str, int]] = {
    "MatMul": {},
    "Gemm": GEMM,
    "FusedGemm": {
        **GEMM, "activation": AttributeProto.STRING,
        **{f"activation_{name}": FLOAT for name in ("alpha", "beta", "gamma")},
    },
    "FusedMatMul": {
        "alpha": FLOAT,
        **dict.fromkeys(("transA", "transB", "transBatchA", "transBatchB"), INT),
    },
    "Gather": {"axis": INT},
    "Transpose": {"perm": INTS},
    "Reshape": {"allowzero": INT},
    "Constant": {"value": AttributeProto.TENSOR},
}  # fmt: skip
COMPLETE = ("MatMul", "Gemm", "FusedGemm", "FusedMatMul")

AGAIN = "Export the model again; onnx.checker.check_model tells more."


def is_known(node: NodeProto) -> bool:
    """Tell whether a node's operator is ONNX's, or one of onnxruntime's that is looked at here."""
    if node.domain == MICROSOFT:
        return node.op_type in CONTRIBUTED
    return node.domain in ("", "ai.onnx")


def stored_bytes(data_type: int, count: int) -> int | None:
    """Return the bytes that so many elements take as raw or external data, None for text."""
    if data_type in ITEMS_A_BYTE:
        return -(-count // ITEMS_A_BYTE[data_type])
    return count * ITEM_BYTES[data_type] if data_type in ITEM_BYTES else None


def is_text(message: Message) -> bool:
    """Tell whether all strings in a message are UTF-8; protobuf gives the others as bytes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, Message | str | bytes | int | float) else value
        if field.type == field.TYPE_MESSAGE and not all(map(is_text, values)):
            return False
        if field.type == field.TYPE_STRING and not all(isinstance(v, str) for v in values):
            return False
    return True


def find_problems(model: ModelProto, path: Path) -> list[ModelOpsError]:
    """Return what contradicts itself in a model's graphs: an error for each kind of problem."""
    check = _Check()
    check.graph(model.graph, frozenset())
    for function in model.functions:
        for node in function.node:
            check.tensors_of(node)
    return [
        ModelOpsError(
            examples[0] + (f" (and {len(examples) - 1} more such)" if len(examples) > 1 else ""),
            where=path,
            remedy=AGAIN,
        )
        for examples in check.found.values()
    ]


class _Check:
    """Walks the graphs and collects problems by kind."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def graph(self, graph: GraphProto, outer: Set[str]) -> None:
        """Check a graph; `outer` are the names that it sees from outside."""
        own: set[str] = {value.name for value in graph.input}
        for tensor in graph.initializer:
            self.tensor(tensor)
            own.add(tensor.name)
            if not tensor.name:
                self._add("tensor name", "a tensor has no name")
        for sparse in graph.sparse_initializer:
            own.add(sparse.values.name)
            self.inline(sparse.values)
            self.inline(sparse.indices)
        later = {name for node in graph.node for name in node.output}
        for node in graph.node:
            self._node(node, own, outer, later)
        for value in graph.output:
            if value.name not in own and value.name not in outer:
                self._add("output", f"no node gives the output {value.name!r} of its graph")

    def _node(self, node: NodeProto, own: set[str], outer: Set[str], later: Set[str]) -> None:
        who = f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})"
        for name in node.input:
            if name and name not in own and name not in outer:
                self._unread(who, name, later)
        self.tensors_of(node)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    self.graph(inner, own | outer)
        if not any(node.output):
            self._add("no output", f"{who} gives no output")
        for name in filter(None, node.output):
            if name in own:
                self._add("twice", f"{who} gives {name!r}, which is there already")
            own.add(name)
        if is_known(node):
            self._signature(node, who)

    def _unread(self, who: str, name: str, later: Set[str]) -> None:
        if name in later:
            # order.sort puts a node behind those that it reads, if that can be.
            text = "which waits for it in turn: the nodes go in a circle"
            self._add("circle", f"{who} reads {name!r}, {text}")
        else:
            self._add("input", f"{who} reads {name!r}, which nothing gives")

    def _signature(self, node: NodeProto, who: str) -> None:
        needed = INPUTS.get(node.op_type)
        if needed is None:
            return
        if len(node.input) < needed or not all(node.input[:needed]):
            self._add("inputs", f"{who} lacks one of the {needed} inputs that it needs")
        if node.op_type not in SEVERAL_OUTPUTS and not (len(node.output) == 1 and node.output[0]):
            self._add("outputs", f"{who} has {len(node.output)} outputs, not 1")
        known = ATTRIBUTES.get(node.op_type, {})
        for attribute in node.attribute:
            wanted = known.get(attribute.name)
            if wanted is not None and attribute.type != wanted:
                kind = AttributeProto.AttributeType.Name(wanted)
                self._add("attribute", f"{attribute.name} of {who} is not of the type {kind}")
            if wanted is None and node.op_type in COMPLETE:
                self._add("attribute", f"{who} has an attribute {attribute.name!r}, unknown there")

    def tensors_of(self, node: NodeProto) -> None:
        """Check the tensors among a node's attributes."""
        names = [attribute.name for attribute in node.attribute]
        if len(set(names)) < len(names):
            self._add("attributes", f"node {node.name!r} has two attributes of one name")
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                self.inline(tensor)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                for part in (sparse.values, sparse.indices):
                    if part.ByteSize():
                        self.inline(part)

    def inline(self, tensor: TensorProto) -> None:
        """Check a tensor that has to lie in the graph itself."""
        if tensor.data_location == TensorProto.EXTERNAL:
            text = "an attribute's tensor lies outside of the graph, which only weights may"
            self._add("external", f"{text} ({tensor.name!r})")
        self.tensor(tensor)

    def tensor(self, tensor: TensorProto) -> None:
        """Check that a tensor's type, shape and inline content agree."""
        name, dims = tensor.name, list(tensor.dims)
        if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
            self._add("type", f"tensor {name!r} has the data type {tensor.data_type}, unknown")
        elif min(dims, default=1) < 0 or len(dims) > MOST_DIMENSIONS:
            self._add("shape", f"tensor {name!r} has the shape {str(dims)[:200]}")
        elif tensor.HasField("segment"):
            self._add("segment", f"tensor {name!r} is stored in segments, which nobody reads")
        elif tensor.data_type in ITEM_BYTES and tensor.data_location != TensorProto.EXTERNAL:
            self._content(tensor)

    def _content(self, tensor: TensorProto) -> None:
        count = 1
        for size in tensor.dims:
            count *= size
        if tensor.HasField("raw_data"):
            needed, found = count * ITEM_BYTES[tensor.data_type], len(tensor.raw_data)
        else:
            needed = count * (2 if tensor.data_type in COMPLEX else 1)
            found = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
        if needed != found:
            unit = "bytes" if tensor.HasField("raw_data") else "values"
            self._add(
                "content",
                f"tensor {tensor.name!r} of shape {list(tensor.dims)} needs {needed:,} {unit}, but"
                f" holds {found:,}",
            )

    def _add(self, kind: str, example: str) -> None:
        self.found.setdefault(kind, []).append(example)
