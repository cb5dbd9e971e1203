"""What form is fastest here for the weights of a model: each shape is measured, not guessed.

Which form wins differs between processors (AVX2, AVX512_VNNI, AMX, Arm's dotprod). So for each
layer of a model (a matrix, a Conv over time or an LSTM, and its shape) a chain of random ones is
quantized in each form, and timed against FP32, run by run in turn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.processor import cpu
from ..measuring.compare import compare
from ..measuring.session import Setup
from . import chains
from .chains import Layer
from .quantize import quantize
from .recipe import Decision, Recipe
from .recipes import BLOCKWISE, DYNAMIC, FP32, PER_CHANNEL, PER_TENSOR, WEIGHT_ONLY
from .writer import Writer

# What is measured, the more exact first: where two are as fast, the first is proposed.
FORMS: Mapping[str, tuple[str, str]] = {
    BLOCKWISE: (BLOCKWISE, PER_CHANNEL),
    f"{DYNAMIC} {PER_CHANNEL}": (DYNAMIC, PER_CHANNEL),
    f"{DYNAMIC} {PER_TENSOR}": (DYNAMIC, PER_TENSOR),
}


def layers(src: Path, scratch: Path) -> dict[Layer, list[str]]:
    """Return the nodes of each layer of a model, most weights first."""
    found: dict[Layer, list[str]] = defaultdict(list)
    with closing(Writer(src, scratch / "planned.onnx", 1, None)) as writer:
        for decision in writer.plan(Recipe(), scratch).decisions:
            if layer := _layer(decision):
                found[layer].append(decision.node)
    return dict(sorted(found.items(), key=lambda item: -item[0].elements * len(item[1])))


def _layer(decision: Decision) -> Layer | None:
    """Return what can be timed of a node: a matrix, or what the rule multiplies in INT8."""
    if decision.matrix:
        return Layer(chains.MATMUL, decision.matrix)
    if decision.form != DYNAMIC or decision.op not in (chains.CONV, chains.LSTM):
        return None
    first = decision.shapes[0]
    return Layer(decision.op, (first[2], first[1] // 4) if decision.op == chains.LSTM else first)


def advise(
    src: Path,
    rows: Sequence[int],
    runs: int,
    most: int,
    setup: Setup,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure the layers of a model here and propose a form for each.

    Args:
        src: the FP32 graph; its weights are not read.
        rows: of the activations that a matrix is timed with; steps of a Conv or an LSTM.
        runs: timed pairs of runs a figure.
        most: so many layers are measured, those with the most weights.
        tell: called with what is measured now.

    Returns:
        `cpu` (processor.cpu), `shapes`: rows with `op` and `shape` (chains.Layer), `nodes` (names),
        `speedup` {form: {rows: {value, low, high}}}, FP32's P50 by the form's, and the `proposed`
        form; `granularity` and `forms` for a recipe; `unmeasured`, how many layers were left out.

    Raises:
        ModelOpsError: the model has no such layers, or cannot be read or run.
    """
    with setup.work_folder() as work:
        setup = replace(setup, work_dir=work)
        known = layers(src, work)
        if not known:
            raise ModelOpsError(
                "the model has no matrix, Conv over time or LSTM that INT8 could make faster",
                where=src,
                remedy="Nothing is to be chosen: the default recipe is right.",
            )
        listed = []
        for layer, nodes in [*known.items()][:most]:
            tell(f"measuring {layer.op} {' x '.join(map(str, layer.shape))}")
            speedup = _measured(layer, rows, runs, setup, work)
            listed.append({
                "op": layer.op, "shape": list(layer.shape), "nodes": nodes, "speedup": speedup,
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
    layer: Layer, rows: Sequence[int], runs: int, setup: Setup, work: Path
) -> dict[str, dict[str, dict[str, float]]]:
    fp32, int8 = work / "fp32.onnx", work / "int8.onnx"
    products = chains.write(fp32, layer)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (form, granularity) in FORMS.items():
        if form == BLOCKWISE and layer.op != chains.MATMUL:
            continue  # there are no blocks but of matrices
        recipe = Recipe(forms=dict.fromkeys(products, form), granularity=granularity)
        quantize(fp32, int8, recipe, force=True, hash_source=False)
        # A range, so that no batch with a row of Inf is compared: only times are wanted.
        own = [
            replace(setup, shapes={"x": layer.given(count)}, ranges={"x": (-3, 3)})
            for count in rows
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
