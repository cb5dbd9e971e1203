"""Measure what each form of a node costs against FP32: the ground of the rule in plan.py.

    make bench, or .venv/bin/python tests/bench/forms.py     # about 4 minutes

Every figure is FP32's median latency by the form's, both in default sessions, run by run in turn:
above 1 the form is faster. A chain of equal matrices of 16 MB in all stands for each shape. Ends
with 1 when the form that the rule chooses is more than 5 % slower than FP32 at any number of rows.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from modelops.base.processor import cpu, shown  # noqa: E402
from modelops.measuring.compare import compare  # noqa: E402
from modelops.measuring.session import Setup  # noqa: E402
from modelops.quantizer import chains  # noqa: E402
from modelops.quantizer.quantize import quantize  # noqa: E402
from modelops.quantizer.recipe import Recipe  # noqa: E402
from modelops.quantizer.recipes import BLOCKWISE, BLOCKWISE4, DYNAMIC, WEIGHT_ONLY  # noqa: E402

SHAPES = [
    (128, 128), (256, 256), (384, 384), (512, 512), (1024, 1024), (2048, 2048),
    (64, 4096), (4096, 64), (32, 8192),
]  # fmt: skip
ROWS = (1, 16, 128, 512)
SLOWER_AT_MOST = 1.05
FLOAT = TensorProto.FLOAT


def conv(path: Path) -> None:
    """Write 16 convolutions, 64 channels to 64, 3 x 3, over 56 x 56."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    for layer in range(16):
        weight = rng.standard_normal((64, 64, 3, 3), np.float32) * np.float32((2 / 576) ** 0.5)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        inputs = [name, f"w{layer}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{layer}"], f"n{layer}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name = f"r{layer}"
    save(path, nodes, weights, [1, 64, 56, 56], name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shape: list[int | str],
    output: str,
) -> None:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def measured(fp32: Path, int8: Path, runs: int, shape: list[int] | None = None) -> dict[str, float]:
    """Return FP32's latency by INT8's: `value`, and `low` and `high` of its spread."""
    setup = Setup(shapes={"x": shape} if shape else {}, work_dir=fp32.parent)
    found: dict[str, float] = compare(fp32, int8, samples=1, runs=runs, setup=setup)["speedup"]
    return found


def is_slower(fp32: Path, int8: Path, runs: int, shape: list[int] | None = None) -> bool:
    """Measure again, longer, what looked slower: noise does that too."""
    return measured(fp32, int8, 4 * runs, shape)["high"] < 1 / SLOWER_AT_MOST


def matrices(folder: Path, runs: int) -> list[str]:
    """Print a table of the shapes, and return where the rule's choice is slower than FP32."""
    print(f"| matrix | form | rule | {' | '.join(f'{rows} rows' for rows in ROWS)} |")
    print("| --- | --- | --- |" + " --- |" * len(ROWS))
    missed = []
    for shape in SHAPES:
        fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
        nodes = chains.write(fp32, chains.Layer(chains.MATMUL, shape))
        chosen = quantize(fp32, int8, Recipe(), force=True)["manifest"]["nodes"][0]["form"]
        for form in (DYNAMIC, BLOCKWISE, BLOCKWISE4, WEIGHT_ONLY):
            quantize(fp32, int8, Recipe(forms=dict.fromkeys(nodes, form)), force=True)
            shapes = [[rows, shape[0]] for rows in ROWS]
            found = [measured(fp32, int8, runs, x)["value"] for x in shapes]
            mark = "chosen" if form == chosen else ""
            cells = " | ".join(f"{value:.2f}" for value in found)
            print(f"| {shape[0]} x {shape[1]} | {form} | {mark} | {cells} |", flush=True)
            for value, x in zip(found, shapes, strict=True):
                looks_slower = form == chosen and value < 1 / SLOWER_AT_MOST
                if looks_slower and is_slower(fp32, int8, runs, x):
                    missed.append(f"{shape[0]} x {shape[1]} as {form}, {x[0]} rows: {value:.2f}")
    return missed


def operators(folder: Path, runs: int) -> list[str]:
    """Print the forms of other operators than products, and return what is slower."""
    print("\n| operator | form | rule | of FP32's speed |\n| --- | --- | --- | --- |")
    missed = []
    layers = {
        "Conv over time": (chains.Layer(chains.CONV, (256, 256, 7)), 400),
        "Conv over images": (None, 0),
        "LSTM": (chains.Layer(chains.LSTM, (256, 256)), 64),
    }
    for name, (layer, steps) in layers.items():
        fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
        shape = layer.given(steps) if layer else None
        if layer:
            chains.write(fp32, layer)
        else:
            conv(fp32)
        decided = quantize(fp32, int8, Recipe(), force=True)["manifest"]["nodes"]
        chosen = decided[0]["form"]
        for form in sorted({WEIGHT_ONLY, chosen}):
            forms = {decision["node"]: form for decision in decided}
            quantize(fp32, int8, Recipe(forms=forms), force=True)
            found = measured(fp32, int8, runs, shape)["value"]
            mark = "chosen" if form == chosen else ""
            print(f"| {name} | {form} | {mark} | {found:.2f} |", flush=True)
            slower = form == chosen and found < 1 / SLOWER_AT_MOST
            if slower and is_slower(fp32, int8, runs, shape):
                missed.append(f"{name} as {form}: {found:.2f} of FP32's speed")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="pairs of runs a figure (15)")
    options = parser.parse_args()
    print(f"{shown(cpu())}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        missed = matrices(Path(folder), options.runs) + operators(Path(folder), options.runs)
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
