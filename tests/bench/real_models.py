"""Measure real models as INT8 against FP32, interleaved, in fresh default sessions.

    .venv/bin/python tests/bench/real_models.py [--models NAME ...]

Ends with 1 when a promise is missed: cosine, size where the weights dominate, the mean size of the
models that the rule was not made with (tests/held_out.py), and P50 and peak memory, which may be
FP32's and the noise. The noise is measured for each model: FP32 against itself in the same way.
A P50 that looks missed is measured again with as many interleaved runs as there are already,
before it counts. Memory is the least of SEEDS processes or more on each side.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports onnxruntime
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT / "tests")]

from held_out import HELD_OUT  # noqa: E402
from modelops.base.processor import cpu, shown  # noqa: E402
from modelops.measuring.compare import Setup, compare  # noqa: E402
from modelops.quantizer.quantize import quantize  # noqa: E402
from modelops.quantizer.recipe import Recipe  # noqa: E402
from real_models import (  # noqa: E402
    DOMINATED,
    LARGEST,
    LEAST_COSINE,
    MODELS,
    RealModel,
    weight_share,
)

RUN_SECONDS = 4.0  # of the first round of each model, both sides together
SEEDS = 3
NAMES = [model.name for model in (*MODELS, *HELD_OUT)]
MORE_ROUNDS = 4
COLUMNS = (
    "model", "kind", "FP32", "weights", "size", "cosine", "FP32 P50", "INT8 P50", "noise", "runs",
    "memory", "noise", "load",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What was measured of a model; ratios are INT8's by FP32's."""

    size: float
    weights: float
    cosine: float
    p50: float
    p50_low: float
    p50_high: float
    p50_noise: float
    memory: float
    memory_noise: float

    def missed(self, memory_noise: float) -> list[str]:
        """Return what is worse than promised.

        Args:
            memory_noise: the largest of all models: it is the process's, five peaks tell little.
        """
        worse = {
            f"cosine {self.cosine:.4f}, {LEAST_COSINE} wanted": self.cosine < LEAST_COSINE,
            f"{self.size:.3f} of the size, {LARGEST} wanted": self.weights >= DOMINATED
            and self.size > LARGEST,
            f"{self.memory:.3f} of FP32's memory, FP32's own noise is {memory_noise:.3f}": (
                self.memory > 1 + memory_noise
            ),
            f"P50 {self.p50:.3f} of FP32's, at least {self.p50_low:.3f}, FP32's own noise is"
            f" {self.p50_noise:.3f}": self.p50_low > 1 + self.p50_noise,
        }
        return [text for text, is_worse in worse.items() if is_worse]


def slower(comparison: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the candidate's P50 by the reference's, and the ends of its 95 % interval."""
    speedup = comparison["speedup"]
    return 1 / speedup["value"], 1 / speedup["high"], 1 / speedup["low"]


def peaks(found: Iterable[Mapping[str, Any]], *sides: str) -> list[float]:
    return [float(one[side]["peak_rss_bytes"]) for one in found for side in sides]


def bench(model: RealModel, folder: Path) -> tuple[str, Figures]:
    """Return the table's row for one model, and its figures."""
    out = folder / "int8.onnx"
    result = quantize(model.path, out, Recipe(), hash_source=False)
    before = result["source_bytes"]
    setups = [
        Setup(inputs=model.save_inputs(folder / f"{seed}.npz", seed)) for seed in range(SEEDS)
    ]
    short = [compare(model.path, out, runs=10, setup=setup) for setup in setups]
    pair_s = short[0]["reference"]["p50_s"] + short[0]["candidate"]["p50_s"]
    runs = max(30, min(1000, round(RUN_SECONDS / pair_s)))
    itself = compare(model.path, model.path, runs=runs, setup=setups[0])
    noise = max(abs(ratio - 1) for ratio in slower(itself))
    found = compare(
        model.path, out, runs=runs, setup=setups[0],
        more_rounds=MORE_ROUNDS, settled=lambda c: slower(c)[1] <= 1 + noise,
    )  # fmt: skip
    fp32 = [*peaks([*short, found], "reference"), *peaks([itself], "reference", "candidate")]
    load = [min(one[side]["load_s"] for one in short) for side in ("candidate", "reference")]
    ratio, low, high = slower(found)
    figures = Figures(
        size=sum(artifact["size"] for artifact in result["artifacts"]) / before,
        weights=weight_share(model.path, before),
        cosine=min(one["similarity"]["cosine_min"] for one in short),
        p50=ratio, p50_low=low, p50_high=high, p50_noise=noise,
        memory=min(peaks([*short, found], "candidate")) / min(fp32),
        memory_noise=max(fp32) / min(fp32) - 1,
    )  # fmt: skip
    reference = found["reference"]
    cells = [model.name, model.kind, f"{before / 1e6:.2f} MB", f"{figures.weights:.2f}"]
    cells += [f"{figures.size:.3f}", f"{figures.cosine:.4f}", f"{1e3 * reference['p50_s']:.2f} ms"]
    cells += [f"{ratio:.2f} ({low:.2f} to {high:.2f})", f"{noise:.2f}"]
    cells += [str(len(reference["samples"])), f"{figures.memory:.3f}"]
    cells += [f"{figures.memory_noise:.3f}", f"{load[0] / load[1]:.2f}"]
    return "| " + " | ".join(cells) + " |", figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=NAMES)
    options = parser.parse_args()
    print(f"{shown(cpu())}, Python {platform.python_version()}")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    found: dict[str, Figures] = {}
    for model in (*MODELS, *HELD_OUT):
        if model.name in options.models:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                row, found[model.name] = bench(model, Path(folder))
            print(row, flush=True)
    noise = max((figures.memory_noise for figures in found.values()), default=0.0)
    missed = [f"{name}: {text}" for name, f in found.items() for text in f.missed(noise)]
    sizes = [found[model.name].size for model in HELD_OUT if model.name in found]
    if sizes:
        mean = sum(sizes) / len(sizes)
        print(f"\nThe mean size of those that the rule was not made with: {mean:.3f}")
        if mean > LARGEST:
            missed.append(f"a mean size of {mean:.3f}, {LARGEST} wanted")
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
