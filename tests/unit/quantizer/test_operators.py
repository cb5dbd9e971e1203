"""The one list of operators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import models
from modelops.execution import without_ansible
from modelops.quantizer.operators import FUSED, QUANTIZABLE, WEIGHTS

MODULE_UTILS = Path(__file__).resolve().parents[3] / "module_utils"


def test_an_empty_list_of_a_caller_means_all_of_them(tmp_path):
    module = without_ansible.load("onnx_quantize")
    spec = module.MODULE["argument_spec"]
    params = {name: option.get("default") for name, option in spec.items()}
    assert params["op_types"] == [] and spec["op_types"]["choices"] == list(QUANTIZABLE)
    paths = {
        "src": str(models.matmul(tmp_path / "m.onnx", 512, 512)),
        "dest": str(tmp_path / "m8.onnx"),
    }
    manifest = module.run(params | paths, check_mode=True)["manifest"]
    assert manifest["recipe"]["op_types"] == sorted(QUANTIZABLE)
    assert {*QUANTIZABLE, *FUSED} == set(WEIGHTS) and set(FUSED.values()) <= set(QUANTIZABLE)


def test_the_list_is_read_where_there_is_no_onnx():
    path = f"import sys; sys.path.insert(0, {str(MODULE_UTILS)!r})"
    code = f"{path}; import modelops.quantizer.operators, modelops.quantizer.recipes"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
