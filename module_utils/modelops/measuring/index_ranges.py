"""The values that an input of indices may take: the rows of the table that it chooses from.

A seeded input is only worth measuring with when it means something: MiniLM's INT8 has a cosine of
0.9638 on token ids 0 and 1, and 0.9928 on real ones. Standard library only: a target knows it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..base.errors import ModelOpsError
from ..model import declared
from ..model.declared import INTEGERS, Message, element_kind, last
from .session import Setup

# Operators whose output holds the values of their first input, in another shape or type.
CARRYING = frozenset({
    "Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
# Inputs of EmbedLayerNormalization: words, segments and positions, each table and its indices.
EMBEDDED = ((2, 0), (4, 1), (3, 8))


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
    """Return [lowest, highest] of each input of integers that reaches a table as its indices.

    Those are the rows of its table, 0 to rows - 1, moved by what is added on the way (positions + 2
    of OPT). An input that chooses from several tables must fit them all; without such a value, it
    has no range.

    Raises:
        ModelOpsError: the graph file cannot be read.
    """
    ranges: dict[str, list[int]] = {}
    for graph in declared.parse(path).get("graph", []):
        for name, low, high in _Graph(graph).choices():
            known = ranges.get(name, [low, high])
            ranges[name] = [max(low, known[0]), min(high, known[1])]
    return {name: limits for name, limits in ranges.items() if limits[0] <= limits[1]}


class _Graph:
    """A graph's inputs of integers, its constants, and the nodes that make its values."""

    def __init__(self, graph: Message) -> None:
        self._nodes = graph.get("node", [])
        self._makers = {name: node for node in self._nodes for name in node.get("output", [])}
        self._inputs = {
            last(value, "name", ""): _limits(kind)
            for value in graph.get("input", [])
            if (kind := element_kind(value)) in INTEGERS
        }
        self._tensors = {last(tensor, "name", ""): tensor for tensor in graph.get("tensor", [])}
        for name, node in self._makers.items():
            held = [t for a in node.get("attribute", []) for t in a.get("tensor", [])]
            if last(node, "operator", "") == "Constant" and held:
                self._tensors[name] = held[-1]

    def choices(self) -> Iterator[tuple[str, int, int]]:
        """Yield an input, its lowest and its highest value, for each table that it reaches."""
        for table, indices, axis in self._lookups():
            sizes = self._tensors.get(table, {}).get("dim", [])
            if not -len(sizes) <= axis < len(sizes) or sizes[axis] <= 0:
                continue
            name, low, high = self._origin(indices, 0, sizes[axis] - 1)
            if name in self._inputs:
                least, most = self._inputs[name]
                yield name, max(low, least), min(high, most)

    def _lookups(self) -> Iterator[tuple[str, str, int]]:
        """Yield a table, its indices and the axis that they count, for each time it is read."""
        for node in self._nodes:
            given, operator = node.get("input", []), last(node, "operator", "")
            if operator == "Gather" and len(given) == 2:
                axes = [a for a in node.get("attribute", []) if last(a, "name", "") == "axis"]
                yield given[0], given[1], last(axes[-1], "number") if axes else 0
            if operator == "EmbedLayerNormalization":
                for table, indices in EMBEDDED:
                    if max(table, indices) < len(given):
                        yield given[table], given[indices], 0

    def _origin(self, name: str, low: int, high: int) -> tuple[str, int, int]:
        """Return where the values of `name` come from, and their limits there."""
        for _ in self._nodes:  # no way is longer, also in a graph that goes in circles
            node = self._makers.get(name, {})
            operator, given = last(node, "operator", ""), node.get("input", [])
            if operator in CARRYING and given:
                name = given[0]
                continue
            shifted = self._shifted(operator, given)
            if not shifted:
                break
            name, added = shifted
            low, high = low - min(added), high - max(added)
        return name, low, high

    def _shifted(self, operator: str, given: Sequence[str]) -> tuple[str, list[int]] | None:
        """Return the input of an Add or Sub that is no constant, and what is added to it."""
        if operator not in ("Add", "Sub") or len(given) != 2:
            return None
        if values := self._values(given[1]):
            return given[0], values if operator == "Add" else [-value for value in values]
        values = self._values(given[0]) if operator == "Add" else []
        return (given[1], values) if values else None

    def _values(self, name: str) -> list[int]:
        """Return the values of a small constant of integers; none where there is no such."""
        name = self._constant(name)
        if name in self._tensors:
            with suppress(ValueError, EOFError):
                return declared.integers(self._tensors[name])
            return []
        node = self._makers.get(name, {})
        if last(node, "operator", "") != "Constant":
            return []
        return [v for a in node.get("attribute", []) for v in a.get("numbers", a.get("number", []))]

    def _constant(self, name: str) -> str:
        for _ in self._nodes:
            node = self._makers.get(name, {})
            if last(node, "operator", "") not in CARRYING or not node.get("input"):
                break
            name = node["input"][0]
        return name


def _limits(kind: int) -> tuple[int, int]:
    signed, width = INTEGERS[kind]
    values = 1 << 8 * width
    return (-values // 2, values // 2 - 1) if signed else (0, values - 1)
