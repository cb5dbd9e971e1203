"""Which weights a graph's nodes hold, behind whatever the exporter put between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from .graph import element_count, is_external

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})


@dataclass(frozen=True)
class Constant:
    """A constant tensor as a node sees it.

    Attributes:
        key: unique in the model for the stored tensor, however a node reaches it.
        tensor: the stored tensor: an initializer or a Constant node's value.
        dims: the shape that the stored values have after any Reshape.
        transposed: whether the node sees them, of two dimensions, transposed.
    """

    key: str
    tensor: TensorProto
    dims: tuple[int, ...]
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the node sees."""
        return self.dims[::-1] if self.transposed else self.dims

    @property
    def is_float(self) -> bool:
        return self.tensor.data_type in FLOATS


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Return the value of a node's attribute, or the default."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


def initializers(graph: GraphProto, scope: str) -> dict[str, Constant]:
    """Return a graph's own initializers; one that a graph input can override is no constant."""
    overridable = {value.name for value in graph.input}
    return {
        tensor.name: Constant(f"{scope}/{tensor.name}", tensor, tuple(tensor.dims))
        for tensor in graph.initializer
        if tensor.name not in overridable
    }


def follow(node: NodeProto, constants: Mapping[str, Constant], scope: str) -> Constant | None:
    """Return the constant that a node gives out: it is one, or only shows one differently."""
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        value = attribute(node, "value", None)
        if isinstance(value, TensorProto) and not is_external(value):
            named = TensorProto()
            named.CopyFrom(value)
            named.name = node.output[0]
            return Constant(f"{scope}/{node.output[0]}", named, tuple(named.dims))
        return None
    source = constants.get(node.input[0]) if node.input else None
    if source is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Identity":
        return source
    if node.op_type == "Transpose" and len(source.dims) == 2:
        order = attribute(node, "perm", [1, 0])
        if order == [1, 0]:
            return replace(source, transposed=not source.transposed)
        return source if order == [0, 1] else None
    if node.op_type == "Reshape" and not source.transposed and len(node.input) > 1:
        wanted = constants.get(node.input[1])
        dims = _reshaped(source, wanted, bool(attribute(node, "allowzero", 0)))
        return replace(source, dims=dims) if dims else None
    return None


def _reshaped(
    source: Constant, wanted: Constant | None, allow_zero: bool
) -> tuple[int, ...] | None:
    """Return the shape after a Reshape to a known shape; None when it is not known."""
    if wanted is None or is_external(wanted.tensor) or allow_zero:
        return None
    if wanted.tensor.data_type != TensorProto.INT64:
        return None
    dims = [int(d) for d in numpy_helper.to_array(wanted.tensor).reshape(-1)]
    dims = [source.dims[i] if d == 0 and i < len(source.dims) else d for i, d in enumerate(dims)]
    known = 1
    for d in dims:
        known *= d if d > 0 else 1
    total = element_count(source.tensor)
    if dims.count(-1) == 1 and known and total % known == 0:
        dims[dims.index(-1)] = total // known
    product = 1
    for d in dims:
        product *= d
    return tuple(dims) if product == total and min(dims, default=1) > 0 else None
