"""Going through a graph: the graphs nested in it, and the names that its nodes read."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node carries as attributes (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph nested in it, outermost first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def names_read(graph: GraphProto) -> set[str]:
    """Return the names that a graph's nodes, outputs and nested graphs read."""
    return {value.name for value in graph.output}.union(*map(node_reads, graph.node))


def node_reads(node: NodeProto) -> set[str]:
    """Return the names that a node reads, within its nested graphs too."""
    return set(node.input).union(*map(free_names, subgraphs(node)))


def free_names(graph: GraphProto) -> set[str]:
    """Return the names that a graph reads from outside of it."""
    own = {value.name for value in graph.input}
    own.update(tensor.name for tensor in graph.initializer)
    own.update(sparse.values.name for sparse in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    return names_read(graph) - own


def all_names(model: ModelProto) -> set[str]:
    """Return every name of a value, tensor or node in a model."""
    names: set[str] = set()
    for graph in all_graphs(model.graph):
        names.update(value.name for value in (*graph.input, *graph.output))
        names.update(tensor.name for tensor in graph.initializer)
        names.update(sparse.values.name for sparse in graph.sparse_initializer)
        for node in graph.node:
            names.add(node.name)
            names.update(node.input)
            names.update(node.output)
    return names


def element_count(tensor: TensorProto) -> int:
    """Return the number of elements of a tensor; a scalar has one."""
    return math.prod(tensor.dims)


def is_external(tensor: TensorProto) -> bool:
    """Tell whether a tensor's bytes lie outside the graph file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)
