"""Weights that a loop only carries along, as tf2onnx writes the loops of TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnx import AttributeProto, NodeProto, helper

from .walk import all_graphs
from .weights import Constant, Derived, is_worth


def capture(node: NodeProto, constants: Mapping[str, Constant]) -> list[NodeProto]:
    """Let the body of a Loop read a weight from outside that each turn hands on as it came.

    The node is changed in place. Every other node is left as it is.

    Args:
        constants: those that the node sees, by name.

    Returns:
        Nodes that give what the Loop no longer does: such a weight, after the last turn.
    """
    bodies = [a.g for a in node.attribute if a.name == "body" and a.type == AttributeProto.GRAPH]
    if node.op_type != "Loop" or node.domain not in ("", "ai.onnx") or len(bodies) != 1:
        return []
    body = bodies[0]
    graphs = list(all_graphs(body))
    defined = Counter(value.name for graph in graphs for value in graph.input)
    defined.update(tensor.name for graph in graphs for tensor in graph.initializer)
    defined.update(name for graph in graphs for inner in graph.node for name in inner.output)
    given_out = Counter(value.name for graph in graphs for value in graph.output)
    copies = {
        name: inner.input[0]
        for inner in body.node
        if inner.op_type == "Identity" and len(inner.input) == 1
        for name in inner.output
    }
    nodes, outside = [], {}
    for slot in reversed(range(2, min(len(node.input), len(body.input), len(body.output) + 1))):
        outer, carried, turned = node.input[slot], body.input[slot].name, body.output[slot - 1].name
        weight = constants.get(outer)
        if weight is None or isinstance(weight, Derived) or not is_worth(weight):
            continue
        if carried not in (turned, copies.get(turned)):
            continue  # it changes
        if given_out[turned] > 1 or (turned != carried and given_out[carried]):
            continue  # the body gives it out a second time
        if defined[outer] or defined[carried] > 1:
            continue  # the name means something else within
        outside[carried] = outer
        if slot - 2 < len(node.output):
            if node.output[slot - 2]:
                nodes.append(helper.make_node("Identity", [outer], [node.output[slot - 2]]))
            del node.output[slot - 2]
        del node.input[slot], body.input[slot], body.output[slot - 1]
    for inner in (inner for graph in graphs if outside for inner in graph.node):
        for index, name in enumerate(inner.input):
            if name in outside:
                inner.input[index] = outside[name]
    return nodes
