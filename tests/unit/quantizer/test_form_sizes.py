"""What the weights of each form take, before and now."""

from __future__ import annotations

import models
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from modelops.sample.sample import make_sample
from onnx import TensorProto, helper


def test_the_bytes_of_all_forms_are_those_of_the_files(tmp_path):
    source = tmp_path / "m.onnx"
    make_sample(source, 8)
    found = quantize(source, tmp_path / "m_int8.onnx", Recipe())
    before, now = (sum(both[i] for both in found["form_sizes"].values()) for i in (0, 1))
    whole_before = found["source_bytes"]
    whole_now = sum(file["size"] for file in found["artifacts"])
    # Beside the weights of nodes there are the graph and biases.
    assert 0.97 * whole_before < before <= whole_before
    assert 0.9 * whole_now < now <= whole_now
    for form, (was, is_) in found["form_sizes"].items():
        assert is_ == was if form == "fp32" else 0 < is_ < was / 2, form


def test_a_weight_of_two_nodes_counts_once(tmp_path):
    source = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", [x, "w"], [y]) for x, y in (("x", "h"), ("h", "y"))],
        {"w": models.random_weight(512, 512)},
        {"x": (TensorProto.FLOAT, [4, 512])},
        {"y": (TensorProto.FLOAT, [4, 512])},
    )
    found = quantize(source, tmp_path / "m_int8.onnx", Recipe())
    assert sum(was for was, _ in found["form_sizes"].values()) == 512 * 512 * 4
