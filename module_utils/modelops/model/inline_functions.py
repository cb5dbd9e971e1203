"""Model-local functions, put in the place of their calls: the weights in them are weights too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from onnx import ModelProto, NodeProto, inliner

from ..base.errors import ModelOpsError

# Ten functions that call the next one ten times are a file of 1 KB and 10^10 nodes.
MOST_NODES = 1 << 18


def inlined(model: ModelProto, path: Path) -> ModelProto:
    """Return the model with the calls of its own functions replaced by their nodes.

    Functions of another opset that onnx cannot convert stay, as do their calls.

    Raises:
        ModelOpsError: the functions call each other in a circle, or expand to too much.
    """
    if not model.functions:
        return model
    try:
        if _expanded(model) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} nodes come of them")
        try:
            return inliner.inline_local_functions(model, True)
        except Exception:  # of the conversion: the library's C++ raises several kinds
            return inliner.inline_local_functions(model, False)
    except Exception as error:
        raise ModelOpsError(
            f"the model's functions cannot be put in the place of their calls: {error}",
            where=path,
            remedy="Export the model without functions (onnx.inliner tells more).",
        ) from None


def _expanded(model: ModelProto) -> int:
    """Count the nodes that the graph has when its functions' calls are replaced."""
    sizes: dict[tuple[str, str], int] = {}
    bodies = {(f.domain, f.name): f.node for f in model.functions}

    def size(nodes: Iterable[NodeProto], callers: frozenset[tuple[str, str]]) -> int:
        total = 0
        for called, count in _calls(nodes).items():
            if called in callers:
                raise ValueError(f"{called[0]}::{called[1]} calls itself")
            if called in bodies and called not in sizes:
                sizes[called] = size(bodies[called], callers | {called})
            total += count * sizes.get(called, 1)
        return total

    return size(model.graph.node, frozenset())


def _calls(nodes: Iterable[NodeProto]) -> Counter[tuple[str, str]]:
    """Count the operators of nodes and of the graphs that they carry."""
    found: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        found[node.domain, node.op_type] += 1
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found += _calls(graph.node)
    return found
