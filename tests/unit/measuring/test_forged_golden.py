"""Golden data that somebody forged: they never overrule FP32, are made anew, and refused alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import models
import numpy as np
import pytest
from modelops.base import memory
from modelops.base.errors import ModelOpsError
from modelops.base.files import sha256_file
from modelops.execution import without_ansible
from modelops.measuring import golden, needs
from modelops.measuring.session import Setup
from modelops.quantizer.quantize import Proof, Recipe, quantize

GATES = [{"name": "cosine_min", "op": ">", "threshold": 0.98}]


def forge(path: Path) -> None:
    """Turn the outputs of golden data round; they go on describing themselves as they did."""
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    for name in arrays:
        if name.startswith("output/"):
            arrays[name] = -arrays[name]
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.write_bytes(content.getvalue())


@pytest.fixture
def made(tmp_path):
    """Two models that are alike, golden data of the first, and their SHA-256."""
    pair, path = models.alike(tmp_path), tmp_path / "golden.npz"
    meta = golden.wanted([], 1, 100, Setup())
    golden.make(pair[0], path, meta, Setup())
    return pair, path, sha256_file(path)


def options(module, **given):
    spec = module.MODULE["argument_spec"]
    return {name: each.get("default") for name, each in spec.items()} | given


@pytest.fixture
def compare(made, tmp_path):
    module, (pair, path, _) = without_ansible.load("onnx_compare"), made

    def run(**given):
        own = {"reference": str(pair[0]), "candidate": str(pair[1]), "golden": str(path)}
        short = {"samples": 1, "runs": 2, "remeasure_limit": 0, "gates": GATES}
        return module.run(options(module, **own | short | given), False)

    return run


@pytest.mark.parametrize("mode", ["auto", "both", "in_turn"])
def test_fp32_that_runs_is_never_overruled(made, compare, mode):
    forge(made[1])
    result = compare(mode=mode)
    assert result["verdict"] == "pass" and result["cosine_min"] > 0.98


def test_alone_they_count_only_as_the_controller_knows_them(made, compare, monkeypatch, tmp_path):
    pair, path, known = made
    record = {"record": str(tmp_path / "verdict.json"), "key": {"a": "1"}}
    assert compare(mode="golden", golden_known=[known], **record)["verdict"] == "pass"
    forge(path)
    forged = sha256_file(path)
    # Somebody had them measured before they were asked for: a record of it does not count.
    assert compare(mode="golden", **record)["verdict"] == "fail"
    with pytest.raises(ModelOpsError, match=f"not known from when.*{forged}.*quantize phase"):
        compare(mode="golden", golden_known=[known], **record)
    with monkeypatch.context() as patch:
        enough_for_it_alone = needs.of(pair[1]).running
        patch.setattr(memory, "available_bytes", lambda: enough_for_it_alone)
        with pytest.raises(ModelOpsError, match="not known from when"):
            compare(golden_known=[])
    with pytest.raises(ModelOpsError, match="not known from when"):
        compare(golden_known=[known], inputs=str(path))
    path.unlink()
    with pytest.raises(ModelOpsError, match="no such file"):
        compare(mode="golden", golden_known=[known])
    assert compare(mode="both", golden_known=[known], **record)["verdict"] == "pass"


def test_they_are_made_anew_unless_they_are_known(made, tmp_path):
    module, (pair, path, known) = without_ansible.load("onnx_golden"), made
    path.unlink()
    given = {"model": str(pair[0]), "dest": str(path), "source": [], "samples": 1}
    first = module.run(options(module, **given), False)
    assert first["changed"]
    right = [first["golden"]["sha256"]]
    assert not module.run(options(module, **given, known=right), False)["changed"]
    forge(path)
    foretold = module.run(options(module, **given, known=right), True)
    assert foretold == {"changed": True, "golden": {}}
    again = module.run(options(module, **given, known=right), False)
    assert again == {"changed": True, "golden": first["golden"]}
    # Nobody knows them: made anew, and equal.
    assert module.run(options(module, **given), False) == first | {"changed": False}
    assert module.run(options(module, **given, known=[known]), True)["changed"]


def test_what_fp32_answered_in_this_run_takes_the_place_of_what_lies_there(tmp_path):
    src, dest, path = (tmp_path / name for name in ("m.onnx", "m_int8.onnx", "golden.npz"))
    models.matmul(src, 512, 512)
    proof = Proof(quality={"cosine": 0.5}, samples=1, golden=path, positions=100)
    made = quantize(src, dest, Recipe(), proof=proof)
    right = path.read_bytes()
    forge(path)
    with np.load(path) as found:
        assert json.loads(found["meta"].tobytes())["samples"] == 1
    again = quantize(src, dest, Recipe(), proof=proof, force=True)
    assert again["golden"] == made["golden"] and path.read_bytes() == right
