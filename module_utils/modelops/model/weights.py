"""Which weights a graph's nodes hold, behind whatever the exporter put between."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from onnx import GraphProto, NodeProto, TensorProto, helper

from .checks import ITEM_BYTES
from .learned import Learned
from .walk import node_reads

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
# What stands between stored floats and a weight: exporters move values (the gates of an LSTM), and
# models normalize them (g * v / |v|). onnxruntime runs these once, at load, on constants.
MOVERS = frozenset({
    "Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
REDUCERS = frozenset({"ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
DERIVING = MOVERS | REDUCERS | {
    "Add", "Cast", "Clip", "Div", "Max", "Mul", "Reciprocal", "Sqrt", "Sub",
}  # fmt: skip
# The input that they divide by.
_DIVISORS = {"Div": 1, "Reciprocal": 0}
# Below this a weight stays FP32: its scales and names would take what INT8 saves.
SMALLEST_ELEMENTS = 1024
SHORTEST_ROW = 16
# Longer ways of a weight from its place to its node, and more parts of it, are not followed.
LONGEST_WAY = 16
MOST_PARTS = 64


@dataclass(frozen=True)
class Constant:
    """A constant tensor as a node sees it.

    Attributes:
        key: unique in the model for the stored tensor, however a node reaches it.
        tensor: the stored tensor: an initializer or a Constant node's value.
        dims: the shape that the stored values have after any Reshape.
        transposed: whether the node sees the last two dimensions in turn; all before are 1 then.
        cast: the floating-point type that the node sees, where it is not the stored one.
        kept: whether it stays in FP32, since INT8 would save nothing or harm.
    """

    key: str
    tensor: TensorProto
    dims: tuple[int, ...]
    transposed: bool = False
    cast: int = 0
    kept: bool = False

    @property
    def kind(self) -> int:
        """The type that the node sees."""
        return self.cast or int(self.tensor.data_type)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the node sees."""
        return (*self.dims[:-2], *self.dims[:-3:-1]) if self.transposed else self.dims

    @property
    def matrix(self) -> Constant | None:
        """This as a matrix, without leading dimensions of 1; None where it is none."""
        if len(self.dims) < 2 or any(d != 1 for d in self.dims[:-2]):
            return None
        return replace(self, dims=self.dims[-2:])

    @property
    def is_float(self) -> bool:
        return self.tensor.data_type in FLOATS

    @property
    def stored(self) -> tuple[Constant, ...]:
        """The constants whose values these are."""
        return (self,)

    @property
    def rounded(self) -> bool:
        """Whether each value is one stored value's, which INT8 may have made 0."""
        return shrinks(self)


@dataclass(frozen=True)
class Derived(Constant):
    """What nodes make of stored floats before it is used: see DERIVING.

    `tensor` and `dims` are those of its first part; its own shape is not known.

    Attributes:
        node: what gives the value out.
        parts: the float constants that the node reads, by the names of its inputs.
        origins: what is stored, behind all those nodes.
        way: how many nodes a value went through.
    """

    node: NodeProto = field(default_factory=NodeProto)
    parts: Mapping[str, Constant] = field(default_factory=dict)
    origins: tuple[Constant, ...] = ()
    way: int = 1
    rounded: bool = False

    @property
    def matrix(self) -> Constant | None:
        """None: its shape is not known."""
        return None

    @property
    def stored(self) -> tuple[Constant, ...]:
        return self.origins


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Return the value of a node's attribute, or the default."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


def constant(tensor: TensorProto, scope: str, learned: Learned) -> Constant:
    """Return a stored tensor of the graph `scope` as a constant."""
    key = f"{scope}/{tensor.name}"
    return Constant(key, tensor, tuple(tensor.dims), kept=learned.keeps(key))


def initializers(graph: GraphProto, scope: str, learned: Learned) -> dict[str, Constant]:
    """Return a graph's own initializers; one that a graph input can override is no constant."""
    overridable = {value.name for value in graph.input}
    return {
        tensor.name: constant(tensor, scope, learned)
        for tensor in graph.initializer
        if tensor.name not in overridable
    }


def is_worth(weight: Constant) -> bool:
    """Tell whether a stored weight is smaller in INT8."""
    large = len(weight.dims) > 1 and math.prod(weight.dims) >= SMALLEST_ELEMENTS
    return weight.is_float and large and not weight.kept


def rows(weight: Constant) -> int:
    """Return how many leading dimensions have a scale for each element, whatever reads the weight.

    As many as leave rows of SHORTEST_ROW values, so that the scales stay small beside them.
    """
    leading = len(weight.dims) - 1
    while leading > 1 and math.prod(weight.dims[leading:]) < SHORTEST_ROW:
        leading -= 1
    return leading


def shrinks(weight: Constant) -> bool:
    """Tell whether a stored weight is smaller in INT8 with a scale for each of its `rows`."""
    return is_worth(weight) and saves(weight, math.prod(weight.dims[rows(weight) :]))


def saves(weight: Constant, values: int) -> bool:
    """Tell whether INT8 is smaller with a scale for so many values each."""
    return values + 4 < values * ITEM_BYTES[weight.tensor.data_type]


def cast_to(node: NodeProto) -> int:
    """Return the floating-point type that a Cast gives; 0 when it is another."""
    kind = attribute(node, "to", 0)
    return kind if isinstance(kind, int) and kind in FLOATS else 0


def derived(node: NodeProto, constants: Mapping[str, Constant]) -> dict[str, Constant]:
    """Return what a node gives out by name when it only moves or normalizes constant floats.

    What divides by rounded values is not followed: a small one may have become 0. A norm of theirs
    is none.
    """
    if node.op_type not in DERIVING or node.domain not in ("", "ai.onnx"):
        return {}
    read = {name: constants[name] for name in node.input if name in constants}
    parts = {name: constant for name, constant in read.items() if constant.is_float}
    way = 1 + max((part.way for part in parts.values() if isinstance(part, Derived)), default=0)
    origins = {inner.key: inner for part in parts.values() for inner in part.stored}
    computed = len(read) < len({*node.input} - {""})
    if not parts or computed or way > LONGEST_WAY or len(origins) > MOST_PARTS:
        return {}
    rounded = {name for name, part in parts.items() if part.rounded}
    divisor = _DIVISORS.get(node.op_type)
    if divisor is not None and rounded.intersection(node.input[divisor : divisor + 1]):
        return {}
    first, stored = next(iter(parts.values())), tuple(origins.values())
    kind = cast_to(node) if node.op_type == "Cast" else first.kind
    if not kind:
        return {}
    return {
        name: Derived(
            f"{first.key}/{name}", first.tensor, first.dims, cast=kind, node=node,
            parts=parts, origins=stored, way=way,
            rounded=bool(rounded) and node.op_type not in REDUCERS,
        )
        for name in node.output
        if name
    }  # fmt: skip


def without_dead_constants(
    nodes: list[NodeProto], graph: GraphProto, givers: Collection[int]
) -> list[NodeProto]:
    """Drop the nodes that only brought weights to nodes that now read them as INT8.

    Args:
        nodes: of the graph to be.
        graph: the graph as it was.
        givers: the ids of the nodes that give out constants.
    """
    used = {value.name for value in graph.output}
    alive = []
    for node in reversed(nodes):  # whoever reads a value stands behind whoever gives it
        if id(node) in givers and not any(name in used for name in node.output):
            continue
        alive.append(node)
        used |= node_reads(node)
    return alive[::-1]
