"""Weights that a loop only carries along, as tf2onnx writes the loops of TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnx import AttributeProto, GraphProto, NodeProto, helper

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
    body = _Body(bodies[0])
    nodes, outside = [], {}
    graph = body.graph
    slots = min(len(node.input), len(graph.input), len(graph.output) + 1)
    for slot in reversed(range(2, slots)):
        outer = node.input[slot]
        carried, turned = graph.input[slot].name, graph.output[slot - 1].name
        weight = constants.get(outer)
        if weight is None or isinstance(weight, Derived) or not is_worth(weight):
            continue
        if not body.hands_on(outer, carried, turned):
            continue
        outside[carried] = outer
        if slot - 2 < len(node.output):
            if node.output[slot - 2]:
                nodes.append(helper.make_node("Identity", [outer], [node.output[slot - 2]]))
            del node.output[slot - 2]
        del node.input[slot], graph.input[slot], graph.output[slot - 1]
    body.read_from(outside)
    return nodes


class _Body:
    """The body of a loop, with the graphs that are nested in it."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self._graphs = list(all_graphs(graph))
        self._defined = Counter(value.name for graph in self._graphs for value in graph.input)
        self._defined.update(t.name for graph in self._graphs for t in graph.initializer)
        self._defined.update(
            name for graph in self._graphs for inner in graph.node for name in inner.output
        )
        self._given_out = Counter(value.name for graph in self._graphs for value in graph.output)
        self._copies = {
            name: inner.input[0]
            for inner in graph.node
            if inner.op_type == "Identity" and len(inner.input) == 1
            for name in inner.output
        }

    def hands_on(self, outer: str, carried: str, turned: str) -> bool:
        """Tell whether a turn only hands a value on, so that it can be read as `outer`.

        Args:
            outer: the value's name outside.
            carried: its name at the begin of a turn.
            turned: its name at the end.
        """
        if carried not in (turned, self._copies.get(turned)):
            return False  # it changes
        if self._given_out[turned] > 1 or (turned != carried and self._given_out[carried]):
            return False  # the body gives it out a second time
        # Else a name means something else within.
        return not self._defined[outer] and self._defined[carried] == 1

    def read_from(self, outside: Mapping[str, str]) -> None:
        """Let the nodes read values from outside, by the names that they had within."""
        for inner in (inner for graph in self._graphs if outside for inner in graph.node):
            for index, name in enumerate(inner.input):
                if name in outside:
                    inner.input[index] = outside[name]
