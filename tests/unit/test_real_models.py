"""Real, public models of several kinds, quantized with the defaults: they load, answer, shrink."""

from __future__ import annotations

import pytest
from modelops.forms import FP32
from modelops.graph import all_graphs, read_model
from modelops.measure import Setup, compare
from modelops.plan import WEIGHTS, Recipe
from modelops.quantize import quantize
from real_models import DOMINATED, LARGEST, LEAST_COSINE, MODELS, RealModel, weight_share


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_real_model(tmp_path, model: RealModel):
    out = tmp_path / "int8.onnx"
    result = quantize(model.path, out, Recipe())

    ratio = sum(a["size"] for a in result["artifacts"]) / model.path.stat().st_size
    assert ratio <= (LARGEST if weight_share(model.path) >= DOMINATED else 0.5)

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
