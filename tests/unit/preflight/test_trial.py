"""Sessions of a tiny model that is stamped as the real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
from modelops.base import programs
from modelops.model.declared import Declared
from modelops.preflight import trial
from modelops.quantizer.forms import ACCURACY_LEVEL
from modelops.quantizer.tensors import BLOCK_SIZE

PYTHON = Path(sys.executable)
SAID = {
    "version": "1.17.3",
    "numpy": "1.26.4",
    "listed": ["CPUExecutionProvider"],
    "used": [],
    "why": "",
    "refused": "",
    "blockwise": "",
}


def answer(**said: object) -> programs.Answer:
    return programs.Answer(0, f"{trial.MARK}{json.dumps(SAID | said)}\n")


def test_the_stamps():
    stamped = trial.model(12, {"ai.onnx": 24, "ai.onnx.ml": 5, "some.domain": 3})
    model = onnx.ModelProto.FromString(stamped)
    onnx.checker.check_model(model)
    assert model.ir_version == 12
    assert {o.domain: o.version for o in model.opset_import} == {"": 24, "ai.onnx.ml": 5}


def test_the_block_wise_node_is_the_quantizers():
    model = onnx.ModelProto.FromString(trial.model(7, {"com.microsoft": 1}, trial.BLOCKWISE))
    (node,) = model.graph.node
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert (node.op_type, found["bits"]) == ("MatMulNBits", 8)
    assert (found["block_size"], found["accuracy_level"]) == (BLOCK_SIZE, ACCURACY_LEVEL)


def test_this_onnxruntime_runs_what_it_knows():
    good = Declared(10, {"ai.onnx": 20, "com.microsoft": 1}, {})
    (row,) = trial.check_session(PYTHON, good, False, False, 60)
    assert row["level"] == "ok", row
    assert onnxruntime.__version__ in row["value"]
    assert row["threshold"].startswith("runs IR version 10 and opset ai.onnx 20, com.microsoft 1")


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        ((10**6, 20), "Unsupported model IR version"),
        ((10, 10**6), "official support for domain"),
    ],
)
def test_what_this_onnxruntime_cannot_run_it_says_itself(stamps, words):
    model = Declared(stamps[0], {"ai.onnx": stamps[1]}, {})
    (row,) = trial.check_session(PYTHON, model, False, False, 60)
    assert (row["id"], row["level"]) == (trial.REFUSED, "problem")
    assert words in row["value"] and "Install a newer onnxruntime" in row["remedy"]


def test_the_version_to_install_is_named():
    refused = "Unsupported model IR version: 10, max supported IR version: 9"
    (row,) = trial.judge(answer(refused=refused), Declared(10, {"ai.onnx": 20}, {}), False, False)
    assert row["level"] == "problem"
    assert row["value"] == f"1.17.3 with numpy 1.26.4: {refused}"
    assert "Install onnxruntime 1.18 or newer" in row["remedy"]


@pytest.mark.parametrize(
    ("ir_version", "opset", "since"),
    [
        (8, 17, "1.0"), (9, 20, "1.17"), (10, 20, "1.18"), (10, 22, "1.21"), (11, 9, "1.23"),
        (13, 26, "1.25"), (14, 28, "1.32"), (10, 99, ""), (99, 13, ""),
    ],
)  # fmt: skip
def test_the_oldest_onnxruntime(ir_version, opset, since):
    assert trial.oldest(Declared(ir_version, {"ai.onnx": opset}, {})) == since


def test_an_onnxruntime_without_blocks_of_8_bits_is_advised_about():
    _, row = trial.judge(answer(blockwise="bits must be 4"), None, False, False)
    assert (row["id"], row["level"]) == (trial.NO_BLOCKWISE, "advice")
    assert "onnxruntime 1.22 or newer" in row["remedy"]


def test_packages_that_do_not_work_together(tmp_path):
    """As onnxruntime 1.18 and numpy 2: both are installed, and the import fails."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: numpy.core.multiarray failed' >&2; exit 1\n")
    python.chmod(0o755)
    (row,) = trial.check_session(python, None, False, False, 60)
    assert row["level"] == "problem" and "multiarray" in row["value"]
    assert "numpy 2 needs onnxruntime 1.19" in row["remedy"]
