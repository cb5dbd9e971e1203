"""Real, public models of several kinds, quantized with the defaults: they load, answer, shrink."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
from examples import some
from modelops.measuring.compare import Setup, compare
from modelops.model.reader import read_model
from modelops.model.walk import all_graphs
from modelops.quantizer.operators import WEIGHTS
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from modelops.quantizer.recipes import DYNAMIC, FP32, ROWS
from real_models import DOMINATED, LARGEST, LEAST_COSINE, MODELS, RealModel, weight_share


@pytest.fixture(autouse=True, scope="module")
def memory_has_no_say() -> None:
    """Here it has."""


def ops_at_work(path: Path, folder: Path) -> Counter[str]:
    """The operators that a default session runs, after all that it does at load."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine only
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graphs = all_graphs(onnx.load(folder / "optimized.onnx").graph)
    return Counter(node.op_type for graph in graphs for node in graph.node)


@pytest.mark.parametrize("model", some(MODELS, 4), ids=lambda model: model.name)
def test_real_model(tmp_path, model: RealModel):
    out = tmp_path / "int8.onnx"
    result = quantize(model.path, out, Recipe())

    ratio = sum(a["size"] for a in result["artifacts"]) / model.path.stat().st_size
    assert ratio <= (
        LARGEST if weight_share(model.path, model.path.stat().st_size) >= DOMINATED else 0.5
    )

    listed = result["manifest"]["nodes"]
    ops = [
        node.op_type for graph in all_graphs(read_model(model.path).graph) for node in graph.node
    ]
    for op in WEIGHTS:
        assert sum(entry["op"] == op for entry in listed) == ops.count(op)
    assert all(entry["reason"] for entry in result["kept_fp32"])
    assert len(result["kept_fp32"]) == sum(entry["form"] == FP32 for entry in listed)

    setup = Setup(inputs=model.save_inputs(tmp_path / "inputs.npz"))
    found = compare(model.path, out, runs=1, setup=setup)
    assert found["candidate"]["finite"]
    assert found["similarity"]["cosine_min"] >= LEAST_COSINE

    # No time is measured here (tests/bench/real_models.py does): where no node computes in INT8 the
    # session runs the very operators that it runs for FP32.
    if not {DYNAMIC, ROWS} & {entry["form"] for entry in listed}:
        assert ops_at_work(out, tmp_path) == ops_at_work(model.path, tmp_path)
