"""The order of a graph's nodes: each behind those that give what it reads."""

from __future__ import annotations

import heapq

from onnx import GraphProto


def sort(graph: GraphProto, reads: list[set[str]]) -> None:
    """Sort the nodes of a graph topologically, as onnxruntime does at load.

    Nodes keep the order of the file where they may, so that a sorted graph stays as it is. Nodes
    that wait for each other in a circle, and those that read what these give, come last.

    Args:
        reads: the names that each node reads, within its nested graphs too.
    """
    givers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    waits = [{givers[name] for name in names if name in givers} for names in reads]
    if all(max(before, default=-1) < index for index, before in enumerate(waits)):
        return
    readers: dict[int, list[int]] = {}
    for index, before in enumerate(waits):
        for giver in before:
            readers.setdefault(giver, []).append(index)
    ready = [index for index, before in enumerate(waits) if not before]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers.get(order[-1], []):
            waits[reader].remove(order[-1])
            if not waits[reader]:
                heapq.heappush(ready, reader)
    order += sorted(set(range(len(waits))).difference(order))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)
