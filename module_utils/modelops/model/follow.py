"""Which nodes give out a stored constant, as it is or in another shape.

Exporters put Identity, Cast, Reshape, Squeeze, Unsqueeze, Flatten and Transpose between a stored
tensor and the node that reads it. Such a node does not change the values, so the reader's weight is
the stored tensor itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from .learned import Learned
from .walk import is_external
from .weights import Constant, Derived, attribute, cast_to, constant

Shape = tuple[int, ...]

# A Constant node's attributes without a tensor, and what the values are.
_PLAIN_VALUES = {
    ("value_int", AttributeProto.INT): "int64", ("value_ints", AttributeProto.INTS): "int64",
    ("value_float", AttributeProto.FLOAT): "float32",
    ("value_floats", AttributeProto.FLOATS): "float32",
}  # fmt: skip


def follow(
    node: NodeProto, constants: Mapping[str, Constant], scope: str, learned: Learned
) -> Constant | None:
    """Return the constant that a node gives out: it is one, or only shows one differently."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Constant":
        value = _value(node)
        return None if value is None else constant(value, scope, learned)
    source = constants.get(node.input[0]) if node.input else None
    return (
        None if source is None or isinstance(source, Derived) else _shown(node, source, constants)
    )


def _shown(node: NodeProto, source: Constant, constants: Mapping[str, Constant]) -> Constant | None:
    """Return a constant as a node shows it; None when it makes another one of it."""
    if node.op_type == "Identity":
        return source
    if node.op_type == "Cast":
        kind = cast_to(node)
        return replace(source, cast=kind) if source.is_float and kind else None
    if node.op_type == "Transpose":
        return _turned(source, node)
    shape = _shape_after(node, source.shape, constants)
    fits = shape is not None and math.prod(shape) == math.prod(source.shape)
    return _reshaped(source, shape) if shape is not None and fits else None


def _value(node: NodeProto) -> TensorProto | None:
    """Return the value of a Constant node, in whichever of its attributes it stands.

    It has the name of the node's output. None where it is no tensor, or lies elsewhere.
    """
    for given in node.attribute:
        if given.name == "value" and given.type == AttributeProto.TENSOR:
            value = TensorProto()
            value.CopyFrom(given.t)
            value.name = node.output[0]
            return None if is_external(value) else value
        dtype = _PLAIN_VALUES.get((given.name, given.type))
        if dtype:
            array = np.array(helper.get_attribute_value(given), dtype)
            return numpy_helper.from_array(array, node.output[0])
    return None


def _turned(source: Constant, node: NodeProto) -> Constant | None:
    """Return a constant behind a Transpose; None where more than two of its dimensions move."""
    shape = source.shape
    order = attribute(node, "perm", [*range(len(shape))][::-1])
    if not isinstance(order, list) or sorted(order) != [*range(len(shape))]:
        return None
    wanted = tuple(shape[axis] for axis in order)
    long = [axis for axis in order if shape[axis] != 1]
    if long == sorted(long):  # dimensions of 1 move, which moves no value
        return _reshaped(source, wanted)
    if len(long) != 2 or len(_matrix(wanted)) != 2:
        return None
    rows, columns = wanted[-2:]
    dims = wanted if source.transposed else (*wanted[:-2], columns, rows)
    return replace(source, dims=dims, transposed=not source.transposed)


def _reshaped(source: Constant, wanted: Shape) -> Constant | None:
    """Return a constant in another shape of as many values.

    One that is turned stays it where it is the same matrix, with more or fewer dimensions of 1.
    """
    if not source.transposed:
        return replace(source, dims=wanted)
    if len(wanted) < 2 or _matrix(wanted) != _matrix(source.shape):
        return None
    return replace(source, dims=(*wanted[:-2], *wanted[:-3:-1]))


def _matrix(shape: Shape) -> Shape:
    """Return the dimensions from the last two on, or from the first that is not 1."""
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return shape[min(first, max(0, len(shape) - 2)) :]


def _shape_after(node: NodeProto, shape: Shape, constants: Mapping[str, Constant]) -> Shape | None:
    """Return the shape that a node gives a value of `shape`; None where that is not known."""
    if node.op_type == "Reshape":
        return _as_asked(shape, _numbers(node, "shape", constants), attribute(node, "allowzero", 0))
    if node.op_type == "Flatten":
        axis = attribute(node, "axis", 1)
        assert isinstance(axis, int)
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.op_type == "Squeeze":
        given = len(node.input) > 1 or any(a.name == "axes" for a in node.attribute)
        axes = _numbers(node, "axes", constants)
        if axes is None:
            return None if given else tuple(size for size in shape if size != 1)
        gone = {axis % max(1, len(shape)) for axis in axes}
        return tuple(size for axis, size in enumerate(shape) if axis not in gone)
    if node.op_type == "Unsqueeze":
        return _widened(shape, _numbers(node, "axes", constants))
    return None


def _numbers(node: NodeProto, name: str, constants: Mapping[str, Constant]) -> list[int] | None:
    """Return the integers of a node's second input, or of its attribute in older opsets."""
    if len(node.input) < 2:
        values = attribute(node, name, None)
        return [int(value) for value in values] if isinstance(values, list) else None
    found = constants.get(node.input[1])
    if found is None or is_external(found.tensor) or found.tensor.data_type != TensorProto.INT64:
        return None
    return [int(value) for value in numpy_helper.to_array(found.tensor).reshape(-1)]


def _as_asked(shape: Shape, wanted: Sequence[int] | None, allow_zero: object) -> Shape | None:
    """Return the shape after a Reshape: 0 keeps a dimension, -1 is what is left."""
    if wanted is None or allow_zero:
        return None if wanted is None or min(wanted, default=1) < 1 else tuple(wanted)
    dims = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted)]
    known = math.prod(size for size in dims if size > 0)
    if dims.count(-1) == 1 and known and math.prod(shape) % known == 0:
        dims[dims.index(-1)] = math.prod(shape) // known
    return tuple(dims) if min(dims, default=1) > 0 else None


def _widened(shape: Shape, axes: Sequence[int] | None) -> Shape | None:
    """Return a shape with dimensions of 1 at these axes of the result."""
    if axes is None:
        return None
    rank = len(shape) + len(axes)
    new = {axis % rank for axis in axes}
    if len(new) < len(axes):
        return None
    sizes = iter(shape)
    return tuple(1 if axis in new else next(sizes) for axis in range(rank))
