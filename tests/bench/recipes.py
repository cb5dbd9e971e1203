"""Measure what each recipe gives on a look-alike of the model: size, memory, speed, similarity.

    make bench, or .venv/bin/python tests/bench/recipes.py     # about 2 minutes, 600 MB of disk

INT4 is measured by accuracy level of MatMulNBits too: 4 multiplies in INT8, 0 and 1 in FP32. Ends
with 1 when a recipe gives less than roles/sarai promises of its size, or FP16 takes more memory
than its gate allows.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from unittest import mock

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from modelops.measuring.compare import compare, cpu  # noqa: E402
from modelops.measuring.session import Setup  # noqa: E402
from modelops.quantizer import forms  # noqa: E402
from modelops.quantizer.quantize import quantize  # noqa: E402
from modelops.quantizer.recipe import Recipe  # noqa: E402
from modelops.quantizer.recipes import FP16, INT4, RECIPES  # noqa: E402
from modelops.sample.sample import make_sample  # noqa: E402

GATES = yaml.safe_load((ROOT / "roles/sarai/vars/main.yml").read_text())["__sarai_recipes"]
COLUMNS = ("recipe", "accuracy level", "size", "peak memory", "load", "speed", "cosine", "MSE")


def measured(source: Path, name: str, level: int, runs: int) -> tuple[str, list[str]]:
    """Return a row of the table, and what is missed."""
    pair = source.with_name(f"{name}.onnx")
    with mock.patch.object(forms, "ACCURACY_LEVEL", level):
        made = quantize(source, pair, Recipe(name=name), force=True, hash_source=False)
    setup = Setup(ranges={"audio_codes": [0, 1023]}, work_dir=source.parent)
    found = compare(source, pair, samples=2, runs=runs, setup=setup)
    size = sum(file["size"] for file in made["artifacts"]) / made["source_bytes"]
    memory, alike, speed = found["rss_ratio"], found["similarity"], found["speedup"]
    cells = (
        name, str(level), f"{size:.3f}", f"{memory:.2f}", f"{found['load_ratio']:.2f}",
        f"{speed['value']:.2f} ({speed['low']:.2f} to {speed['high']:.2f})",
        f"{alike['cosine_min']:.5f}", f"{alike['mse']:.2g}",
    )  # fmt: skip
    missed = []
    if 1 - size < GATES[name]["promised_reduction"]:
        missed.append(f"{name}: {size:.3f} of FP32's size")
    if name == FP16 and memory > GATES[name]["rss_ratio_max"]:
        missed.append(f"{name}: {memory:.2f} of FP32's memory")
    return f"| {' | '.join(cells)} |", missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="pairs of runs a figure (15)")
    parser.add_argument("--megabytes", type=int, default=200, help="of FP32 (200)")
    options = parser.parse_args()
    machine, missed = cpu(), []
    print(f"{machine['cores']} x {machine['model']}, Python {platform.python_version()}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source = Path(folder) / "model.onnx"
        make_sample(source, options.megabytes)
        for name in RECIPES:
            for level in (0, 1, 4) if name == INT4 else (forms.ACCURACY_LEVEL,):
                row, lacking = measured(source, name, level, options.runs)
                print(row, flush=True)
                missed += lacking
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
