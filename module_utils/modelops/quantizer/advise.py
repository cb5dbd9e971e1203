"""What form is fastest here for the matrices of a model: each shape is measured, not guessed.

Which form wins differs between processors (AVX2, AVX512_VNNI, AMX, Arm's dotprod). So for each
shape [K, N] that a model multiplies with, a chain of equal random matrices is quantized in each
form, and timed against FP32, run by run in turn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..base.errors import ModelOpsError
from ..base.processor import cpu
from ..measuring.compare import compare
from ..measuring.session import Setup
from .quantize import quantize
from .recipe import Recipe
from .recipes import BLOCKWISE, DYNAMIC, FP32, PER_CHANNEL, PER_TENSOR, WEIGHT_ONLY
from .writer import Writer

# Bytes of FP32 in a chain: more than a processor's cache holds, so that reading them counts.
CHAIN_BYTES = 16_000_000
# What is measured, the more exact first: where two are as fast, the first is proposed.
FORMS: Mapping[str, tuple[str, str]] = {
    BLOCKWISE: (BLOCKWISE, PER_CHANNEL),
    f"{DYNAMIC} {PER_CHANNEL}": (DYNAMIC, PER_CHANNEL),
    f"{DYNAMIC} {PER_TENSOR}": (DYNAMIC, PER_TENSOR),
}
Shape = tuple[int, int]


def chain(path: Path, shape: Shape) -> list[str]:
    """Write x -> W -> Relu -> W' -> Relu -> ...: W is [K, N] and W' [N, K], of equal sizes.

    Returns:
        The names of the products.
    """
    rng = np.random.default_rng(0)
    count = max(2, CHAIN_BYTES // (4 * math.prod(shape)))
    nodes: list[NodeProto] = []
    weights, name = [], "x"
    for layer in range(count):
        k, n = shape if layer % 2 == 0 else shape[::-1]
        weight = rng.standard_normal((k, n), np.float32) * np.float32((2 / k) ** 0.5)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"], f"n{layer}"))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        name = f"r{layer}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "chain",
        [value("x", TensorProto.FLOAT, ["rows", shape[0]])],
        [value(name, TensorProto.FLOAT, None)],
        weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return [node.name for node in nodes if node.op_type == "MatMul"]


def shapes(src: Path, scratch: Path) -> dict[Shape, list[str]]:
    """Return the nodes of each shape [K, N] that a model multiplies with, most weights first."""
    found: dict[Shape, list[str]] = defaultdict(list)
    with closing(Writer(src, scratch / "planned.onnx", 1, None)) as writer:
        for decision in writer.plan(Recipe(), scratch).decisions:
            if decision.matrix:
                found[decision.matrix].append(decision.node)
    return dict(sorted(found.items(), key=lambda item: -math.prod(item[0]) * len(item[1])))


def advise(
    src: Path,
    rows: Sequence[int],
    runs: int,
    most: int,
    setup: Setup,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure the shapes of a model's matrices here and propose a form for each.

    Args:
        src: the FP32 graph; its weights are not read.
        rows: of the activations that a product is timed with.
        runs: timed pairs of runs a figure.
        most: so many shapes are measured, those with the most weights.
        tell: called with what is measured now.

    Returns:
        `cpu` (processor.cpu), `shapes`: rows with `shape` [K, N], `nodes` (names), `speedup`
        {form: {rows: {value, low, high}}}, FP32's P50 by the form's, and the `proposed` form;
        `granularity` and `forms` for a recipe; `unmeasured`, how many shapes were left out.

    Raises:
        ModelOpsError: the model has no such matrices, or cannot be read or run.
    """
    with setup.work_folder() as work:
        setup = replace(setup, work_dir=work)
        known = shapes(src, work)
        if not known:
            raise ModelOpsError(
                "the model multiplies with no constant matrix that INT8 could make smaller",
                where=src,
                remedy="Nothing is to be chosen: the default recipe is right.",
            )
        listed = []
        for shape, nodes in [*known.items()][:most]:
            tell(f"measuring {shape[0]} x {shape[1]}")
            speedup = _measured(shape, rows, runs, setup, work)
            listed.append({
                "shape": list(shape), "nodes": nodes, "speedup": speedup,
                "proposed": proposed(speedup),
            })  # fmt: skip
    return {
        "cpu": cpu(),
        "shapes": listed,
        **_recipe(listed),
        "unmeasured": max(0, len(known) - most),
    }


def proposed(speedup: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the form that is fastest at all numbers of rows together; WEIGHT_ONLY where none wins.

    The measure is the geometric mean of the speedups. A form that is slower than FP32 at some
    number of rows, the noise left out, is none.
    """
    means = {}
    for form, by_rows in speedup.items():
        if all(figure["high"] >= 1 for figure in by_rows.values()):
            logs = [math.log(figure["value"]) for figure in by_rows.values()]
            means[form] = math.exp(sum(logs) / len(logs))
    best = max(means, key=lambda form: means[form], default="")
    return best if best and means[best] > 1 else WEIGHT_ONLY


def _measured(
    shape: Shape, rows: Sequence[int], runs: int, setup: Setup, work: Path
) -> dict[str, dict[str, dict[str, float]]]:
    fp32, int8 = work / "fp32.onnx", work / "int8.onnx"
    products = chain(fp32, shape)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (form, granularity) in FORMS.items():
        recipe = Recipe(forms=dict.fromkeys(products, form), granularity=granularity)
        quantize(fp32, int8, recipe, force=True, hash_source=False)
        # A range, so that no batch with a row of Inf is compared: only times are wanted.
        own = [
            replace(setup, shapes={"x": [count, shape[0]]}, ranges={"x": (-3, 3)}) for count in rows
        ]
        found[name] = {
            str(count): compare(fp32, int8, samples=1, runs=runs, setup=one)["speedup"]
            for count, one in zip(rows, own, strict=True)
        }
    return found


def _recipe(listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the granularity and the forms that ask for what is proposed."""
    chosen = {row["proposed"] for row in listed}
    per_tensor = f"{DYNAMIC} {PER_TENSOR}" in chosen and f"{DYNAMIC} {PER_CHANNEL}" not in chosen
    forms = {node: row["proposed"].partition(" ")[0] for row in listed for node in row["nodes"]}
    assert FP32 not in chosen
    return {"granularity": PER_TENSOR if per_tensor else PER_CHANNEL, "forms": forms}
