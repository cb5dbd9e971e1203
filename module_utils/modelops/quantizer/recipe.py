"""What the caller asks of the quantizer, and what became of each node."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from onnx import ModelProto, NodeProto

from ..base.errors import ModelOpsError
from ..model.walk import all_graphs
from .operators import QUANTIZABLE
from .recipes import FORMS, INT8, PER_CHANNEL, RECIPES

EXCLUDED = "exclude_nodes names it"
MEMORY = "memory"


@dataclass(frozen=True)
class Recipe:
    """What the caller asks for; it stands in the manifest.

    Attributes:
        name: which forms nodes get, see recipes.RECIPES.
        weight_type: `qint8`, symmetric signed 8-bit.
        granularity: `per_channel` (a scale for each output channel) or `per_tensor`, of the
            matrices that are multiplied in INT8.
        op_types: the operators to quantize.
        exclude_nodes: names of nodes to keep in FP32; see `meant`.
        forms: the form of single nodes by name, instead of the rule's.
        fold_inputs: make constants of the weights that are graph inputs too, which a caller could
            give anew (IR 4 and later).
        prefer: `memory` keeps weights in FP32 that would only shrink on disk and take more memory
            than FP32 at load; `size` stores them in INT8 all the same.

    Raises:
        ModelOpsError: there is no such form or recipe.
    """

    name: str = INT8
    weight_type: str = "qint8"
    granularity: str = PER_CHANNEL
    op_types: tuple[str, ...] = QUANTIZABLE
    exclude_nodes: tuple[str, ...] = ()
    forms: Mapping[str, str] = field(default_factory=dict)
    fold_inputs: bool = False
    prefer: str = MEMORY

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Recipe:
        """Make it from a module's options of the same names; no op_types means all."""
        return cls(
            name=params["recipe"],
            weight_type=params["weight_type"],
            granularity=params["granularity"],
            op_types=tuple(params["op_types"]) or QUANTIZABLE,
            exclude_nodes=tuple(params["exclude_nodes"]),
            forms=params["forms"],
            fold_inputs=params["fold_inputs"],
            prefer=params["prefer"],
        )

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise ModelOpsError(
                f"there is no recipe {self.name!r}", remedy=f"Choose among {', '.join(RECIPES)}."
            )
        wrong = [f"{form!r} of {node!r}" for node, form in self.forms.items() if form not in FORMS]
        if wrong:
            raise ModelOpsError(
                f"forms: there is no form {', '.join(wrong)}",
                remedy=f"Choose among {', '.join(FORMS)}.",
            )

    def excluded(self, model: ModelProto) -> set[str]:
        """Return the names of the nodes that are to stay in FP32."""
        names = node_names(model)
        return set().union(*(meant(pattern, names) for pattern in self.exclude_nodes))

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weight_type": self.weight_type,
            "granularity": self.granularity,
            "op_types": sorted(self.op_types),
            "exclude_nodes": sorted(self.exclude_nodes),
            "forms": dict(self.forms),
            "fold_inputs": self.fold_inputs,
            "prefer": self.prefer,
        }


@dataclass(frozen=True)
class Decision:
    """The form of one node and why.

    Attributes:
        weight: the tensors that it is about.
        matrix: [K, N] of what it multiplies with; None for other operators.
        shapes: of the weights, as the node reads them.
    """

    node: str
    op: str
    form: str
    reason: str
    weight: str
    matrix: tuple[int, int] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def elements(self) -> int:
        """Return how many values that matrix has, 0 without one."""
        return math.prod(self.matrix) if self.matrix else 0

    def as_dict(self) -> dict[str, str]:
        """Return what stands in the manifest."""
        names = ("node", "op", "form", "reason", "weight")
        return {name: getattr(self, name) for name in names}


def shown(node: NodeProto) -> str:
    """Return the name by which a node is listed, and which a recipe gives to mean it."""
    return node.name or next(iter(node.output), "")


def node_names(model: ModelProto) -> set[str]:
    """Return the names of all nodes, as `shown` gives them."""
    return {shown(node) for graph in all_graphs(model.graph) for node in graph.node}


def meant(pattern: str, names: Collection[str]) -> set[str]:
    """Return the names that a pattern means: the very one, or else what `*` and `?` match.

    Brackets stand for themselves, since exporters number nodes with them: `/layers[0]/MatMul`.
    """
    if pattern in names:
        return {pattern}
    plain = pattern.replace("[", "[[]")
    return {name for name in names if fnmatchcase(name, plain)}


def unknown_names(recipe: Recipe, model: ModelProto) -> str:
    """Say which names of a recipe no node has, and which ones there are like them; or nothing."""
    names = node_names(model)
    patterns = [pattern for pattern in recipe.exclude_nodes if not meant(pattern, names)]
    unknown = dict.fromkeys(patterns, "exclude_nodes")
    unknown |= {name: "forms" for name in recipe.forms if name not in names}
    if not unknown:
        return ""
    named = ", ".join(f"{name!r} ({option})" for name, option in unknown.items())
    like = sorted({name for text in unknown for name in get_close_matches(text, names)})
    return f"No node is called {named}.{' There are ' + ', '.join(like) + '.' if like else ''}"
