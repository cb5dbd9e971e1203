"""The values that an input of indices may take: the rows of the table that it chooses from.

A seeded input is only worth measuring with when it means something: MiniLM's INT8 has a cosine of
0.9638 on token ids 0 and 1, and 0.9928 on real ones. Standard library only: a target knows it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..base.errors import ModelOpsError
from ..model import declared
from ..model.declared import Message, last
from .session import Setup

# Operators whose output holds the values of their first input, in another shape or type.
CARRYING = frozenset({
    "Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # TensorProto.DataType


def meaningful(setup: Setup, path: Path) -> Setup:
    """Return options in which inputs of indices have the ranges of their tables.

    A range that was given stays as it is.

    Args:
        path: the FP32 model, where two are compared: both must be given the same inputs.
    """
    if setup.inputs is not None:
        return setup
    found: dict[str, list[int]] = {}
    with suppress(ModelOpsError):  # the session says what is wrong with the file
        found = of(path)
    return replace(setup, ranges={**found, **setup.ranges})


def of(path: Path) -> dict[str, list[int]]:
    """Return [0, rows - 1] of each input of integers that reaches a Gather as its indices.

    Of several tables the shortest counts.

    Raises:
        ModelOpsError: the graph file cannot be read.
    """
    ranges: dict[str, list[int]] = {}
    for graph in declared.parse(path).get("graph", []):
        for name, rows in _rows(graph):
            ranges[name] = [0, min(rows - 1, ranges.get(name, [0, rows - 1])[1])]
    return ranges


def _rows(graph: Message) -> Iterator[tuple[str, int]]:
    """Yield an input and the number of rows of a table, for each Gather that it reaches."""
    tables = {last(tensor, "name", ""): tensor.get("dim", []) for tensor in graph.get("tensor", [])}
    nodes = graph.get("node", [])
    carried = {
        node["output"][0]: node["input"][0]
        for node in nodes
        if last(node, "operator", "") in CARRYING and node.get("input") and node.get("output")
    }
    inputs = {last(value, "name", "") for value in graph.get("input", []) if _is_integer(value)}
    for node in nodes:
        given = node.get("input", [])
        if last(node, "operator", "") != "Gather" or len(given) != 2:
            continue
        name = given[1]
        for _ in range(len(carried)):  # no way is longer, also in a graph that goes in circles
            if name not in carried:
                break
            name = carried[name]
        axis = next(
            (last(a, "number") for a in node.get("attribute", []) if last(a, "name", "") == "axis"),
            0,
        )
        sizes = tables.get(given[0], [])
        if name in inputs and -len(sizes) <= axis < len(sizes) and sizes[axis] > 0:
            yield name, sizes[axis]


def _is_integer(value: Message) -> bool:
    kinds = [tensor for kind in value.get("type", []) for tensor in kind.get("tensor", [])]
    return bool(kinds) and last(kinds[-1], "kind") in INTEGERS
