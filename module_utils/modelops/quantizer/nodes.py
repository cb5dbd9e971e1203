"""New nodes and names in a graph: nodes in a row that stand for one node of the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onnx import GraphProto, NodeProto, helper

from ..model.learned import Made


class Names:
    """Gives names that nothing in a model has yet."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._counts: dict[str, int] = {}  # thousands of nodes may have the same name

    def fresh(self, wanted: str) -> str:
        name, count = wanted, self._counts.get(wanted, 1)
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._counts[wanted] = count
        self._taken.add(name)
        return name


class Chain:
    """Nodes that together stand for one node, each reading what earlier ones gave."""

    def __init__(self, base: str, names: Names) -> None:
        self.nodes: list[NodeProto] = []
        self.base, self._names = base, names

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(self, op: str, inputs: Iterable[str], count: int, **attributes: Any) -> list[str]:
        """Append a node with `count` outputs and return their names."""
        name = self._names.fresh(f"{self.base}_{op}")
        outputs = [self._names.fresh(f"{name}_output") for _ in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs

    def ending_in(self, node: NodeProto) -> list[NodeProto]:
        """Let the last node give what `node` gave and carry what it said of itself; return all."""
        last = self.nodes[-1]
        last.output[0] = node.output[0]
        if node.doc_string:
            last.doc_string = node.doc_string
        last.metadata_props.extend(node.metadata_props)
        return self.nodes


Quantized = tuple[str, str, str]  # the names of INT8 values, scales and zero points


class GraphState:
    """What the nodes of one graph share: values that were made once already, by what they hold.

    Attributes:
        ranks: how many dimensions values have, as far as the graph says it.
    """

    def __init__(self, outermost: bool, ranks: Mapping[str, int]) -> None:
        self.outermost, self.ranks = outermost, ranks
        self.quantized: dict[str, Quantized] = {}  # by the activation's name
        self.casts: dict[str, str] = {}  # value: the same in FP32
        self.unpacked: dict[Made, str] = {}  # its value


def ranks(graph: GraphProto) -> dict[str, int]:
    """Return how many dimensions the values have whose shape a graph declares."""
    declared = [*graph.input, *graph.value_info]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in declared
        if value.type.tensor_type.HasField("shape")
    }
