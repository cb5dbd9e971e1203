"""Weights that a loop only carries along, as tf2onnx writes the loops of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import AttributeProto, GraphProto, NodeProto, helper

from .constants import Constant, Derived, is_worth
from .graph import all_graphs


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
    body, nodes = bodies[0], []
    carried = min(len(node.input), len(body.input), len(body.output) + 1)
    for slot in reversed(range(2, carried)):
        weight = constants.get(node.input[slot])
        if weight is None or isinstance(weight, Derived) or not is_worth(weight):
            continue
        if not _let_go(node.input[slot], body, slot):
            continue
        if slot - 2 < len(node.output):
            if node.output[slot - 2]:
                given = [node.input[slot]], [node.output[slot - 2]]
                nodes.append(helper.make_node("Identity", *given))
            del node.output[slot - 2]
        del node.input[slot]
    return nodes


def _let_go(outer: str, body: GraphProto, slot: int) -> bool:
    """Name a carried value as it is called outside, if it is one that no turn changes."""
    inner, turned = body.input[slot].name, body.output[slot - 1].name
    copies = (n for n in body.node if n.op_type == "Identity" and list(n.input) == [inner])
    same = {inner, *(name for copy in copies for name in copy.output)}
    graphs = list(all_graphs(body))
    defined = [value.name for graph in graphs for value in graph.input]
    defined += [tensor.name for graph in graphs for tensor in graph.initializer]
    defined += [name for graph in graphs for node in graph.node for name in node.output]
    given_out = [value.name for graph in graphs for value in graph.output]
    if turned not in same or given_out.count(turned) > 1 or inner in {*given_out} - {turned}:
        return False  # it changes, or the body gives it out a second time
    if outer in defined or defined.count(inner) > 1:
        return False  # the name means something else within
    for graph in graphs:
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == inner:
                    node.input[index] = outer
    del body.input[slot]
    del body.output[slot - 1]
    return True
