"""The graphs of a search's attempts."""

from __future__ import annotations

import models
import numpy as np
from modelops.quantizer.attempts import unpacked
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper, load


def test_only_fp32_weights_could_be_given_otherwise(tmp_path):
    """Blocks and their scales stay constants: else onnxruntime multiplies them in another way."""
    weights = {name: models.random_weight(1024, 1024, seed=i) for i, name in enumerate("ab")}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "b"], ["y"], name="second"),
    ]
    shape = (TensorProto.FLOAT, [2, 1024])
    src = models.save(tmp_path / "m.onnx", nodes, weights, {"x": shape}, {"y": shape})
    forms = {"first": "blockwise_int8", "second": "fp32"}
    quantize(src, tmp_path / "out.onnx", Recipe(forms=forms))
    x = np.random.default_rng(0).standard_normal((2, 1024)).astype(np.float32)
    (wanted,) = models.run(tmp_path / "out.onnx", x=x)

    graph = unpacked((tmp_path / "out.onnx").read_bytes())
    (tmp_path / "out.onnx").write_bytes(graph)
    inputs = [
        value.name for value in load(tmp_path / "out.onnx", load_external_data=False).graph.input
    ]
    assert inputs == ["x", "b"]
    np.testing.assert_allclose(
        models.run(tmp_path / "out.onnx", x=x)[0], wanted, rtol=1e-4, atol=1e-4
    )
