"""Measure real models as INT8 against FP32, interleaved, in fresh default sessions.

    .venv/bin/python tests/bench/real_models.py [--models NAME ...]

Ends with 1 when a promise is missed: cosine, size where the weights dominate, P50, peak memory. A
P50 that looks missed is measured again with as many interleaved runs as there are already, before
it counts. Memory is the least of SEEDS processes on each side.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports onnxruntime
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT / "tests")]

from modelops.measuring.compare import Setup, compare, cpu  # noqa: E402
from modelops.quantizer.quantize import quantize  # noqa: E402
from modelops.quantizer.recipe import Recipe  # noqa: E402
from real_models import (  # noqa: E402
    DOMINATED,
    LARGEST,
    LEAST_COSINE,
    MODELS,
    SLOWEST,
    RealModel,
    weight_share,
)

RUN_SECONDS = 4.0  # of the first round of each model, both sides together
SEEDS = 3
MORE_ROUNDS = 4
# Of FP32's peak memory, with the noise of small models: 60 of their 70 MB are the interpreter's.
MOST_MEMORY = 1.05


def p50_ratio(comparison: Mapping[str, Any]) -> float:
    return 1 / float(comparison["speedup"]["value"])


def least(found: Sequence[Mapping[str, Any]], figure: str) -> float:
    """Return INT8's figure by FP32's, the least of several measurements on each side."""
    int8, fp32 = (min(one[side][figure] for one in found) for side in ("candidate", "reference"))
    return float(int8 / fp32)


def bench(model: RealModel, folder: Path) -> tuple[str, list[str]]:
    """Return the table's row for one model, and what was missed."""
    out = folder / "int8.onnx"
    result = quantize(model.path, out, Recipe(), hash_source=False)
    before = model.path.stat().st_size
    size = sum(artifact["size"] for artifact in result["artifacts"]) / before
    setups = [
        Setup(inputs=model.save_inputs(folder / f"{seed}.npz", seed)) for seed in range(SEEDS)
    ]
    short = [compare(model.path, out, runs=10, setup=setup) for setup in setups]
    cosine = min(found["similarity"]["cosine_min"] for found in short)
    pair_s = short[0]["reference"]["p50_s"] + short[0]["candidate"]["p50_s"]
    found = compare(
        model.path, out, runs=max(30, min(1000, round(RUN_SECONDS / pair_s))), setup=setups[0],
        more_rounds=MORE_ROUNDS, settled=lambda c: p50_ratio(c) <= SLOWEST,
    )  # fmt: skip
    memory, load = least(short, "peak_rss_bytes"), least(short, "load_s")
    ratio, share = p50_ratio(found), weight_share(model.path)
    low, high = 1 / found["speedup"]["high"], 1 / found["speedup"]["low"]
    reference = found["reference"]
    cells = [model.name, model.kind, f"{before / 1e6:.2f} MB", f"{share:.2f}", f"{size:.3f}"]
    cells += [f"{cosine:.4f}", f"{1e3 * reference['p50_s']:.2f} ms"]
    cells += [f"{ratio:.2f} ({low:.2f} to {high:.2f})", str(len(reference["samples"]))]
    cells += [f"{memory:.2f}", f"{load:.2f}"]
    missed = []
    if cosine < LEAST_COSINE:
        missed.append(f"{model.name}: cosine {cosine:.4f}, {LEAST_COSINE} wanted")
    if share >= DOMINATED and size > LARGEST:
        missed.append(f"{model.name}: {size:.3f} of the size, {LARGEST} wanted")
    if memory > MOST_MEMORY:
        missed.append(f"{model.name}: {memory:.3f} of FP32's memory, {MOST_MEMORY} wanted")
    if ratio > SLOWEST:
        missed.append(f"{model.name}: P50 {ratio:.3f} of FP32's, {SLOWEST} wanted")
    return "| " + " | ".join(cells) + " |", missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    options = parser.parse_args()
    machine = cpu()
    print(f"{machine['cores']} x {machine['model']}, Python {platform.python_version()}")
    columns = [
        "model",
        "kind",
        "FP32",
        "weights",
        "size",
        "cosine",
        "FP32 P50",
        "INT8 P50",
        "runs",
        "memory",
        "load",
    ]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    missed = []
    for model in MODELS:
        if model.name in options.models:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                row, wrong = bench(model, Path(folder))
            print(row, flush=True)
            missed += wrong
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
