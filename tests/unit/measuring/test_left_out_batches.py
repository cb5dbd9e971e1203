"""Golden data hold single samples: a report says that uneven rows were not compared."""

from __future__ import annotations

import models
import pytest
from modelops.execution import without_ansible
from modelops.measuring import golden
from modelops.measuring.session import Setup
from onnx import TensorProto, helper


def product(path, rows, seed):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": models.random_weight(64, 32, seed=seed)}
    x, y = ((TensorProto.FLOAT, [rows, size]) for size in (64, 32))
    return models.save(path, [node], weights, {"x": x}, {"y": y})


@pytest.mark.parametrize(("rows", "is_told"), [("batch", True), (4, False)])
def test_in_golden_mode_a_model_that_takes_batches_is_told_of(tmp_path, rows, is_told):
    fp32, other = (product(tmp_path / f"{seed}.onnx", rows, 0) for seed in "ab")
    data = tmp_path / "golden.npz"
    golden.make(fp32, data, golden.wanted([], 1, 100, Setup()), Setup())
    module = without_ansible.load("onnx_compare")
    options = {name: spec.get("default") for name, spec in module.MODULE["argument_spec"].items()}
    options |= {"candidate": str(other), "golden": str(data), "runs": 1, "mode": "golden"}
    notes = module.run({**options, "gates": []}, False)["notes"]
    assert any("uneven rows" in note for note in notes) == is_told
    both = {**options, "reference": str(fp32), "samples": 1, "mode": "both", "gates": []}
    notes = module.run({**both, "golden": None, "remeasure_limit": 0}, False)["notes"]
    assert not any("golden data" in note for note in notes)
