"""The similarity that the gates demand is what the quantizer keeps."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.judging.gates import PASS, QUALITY, judge, kept_quality, overall
from modelops.measuring.session import Setup
from modelops.pair.manifest import dump
from modelops.pair.names import model_of, of
from modelops.quantizer.proof import Proof
from modelops.quantizer.quality import passes
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[3]
WRONG = {">": "<", ">=": ">", "<": ">="}


def role_gates() -> list[dict]:
    """Return the gates of roles/sarai with the thresholds that are promised."""
    text = yaml.safe_load((ROOT / "roles/sarai/vars/main.yml").read_text())
    promised = text["__sarai_promised"]
    gates = text["__sarai_default_similarity_gates"]
    for gate in gates:
        name = gate.pop("promised_threshold").split(".")[-1].removesuffix(" }}")
        gate["threshold"] = promised[name]
    return gates


def test_the_roles_gates_are_kept():
    assert kept_quality(role_gates()) == {
        "cosine": 0.98, "mse": 0.01, "mae": 0.05, "agreement": 0.98,
    }  # fmt: skip


def owner_gates() -> list[dict]:
    text = yaml.safe_load((ROOT / "roles/sarai/vars/main.yml").read_text())
    return list(text["__sarai_owner_similarity_gates"])


def test_the_owners_gates_are_kept():
    """What is above 0.98 is at least 0.98, and no sample is below the mean of all."""
    assert kept_quality(owner_gates()) == kept_quality(role_gates())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            figure: st.sampled_from([0.0, 0.0099, 0.01, 0.05, 0.98, 0.981, 1.0, float("nan")])
            for figure in ("cosine_min", "mse", "mae", "agreement_min")
        },
    )
)
def test_a_search_ends_where_the_gate_passes(figures):
    """Also at the threshold itself, with NaN, and for models that lack a kind of output."""
    gates = [gate for gate in role_gates() if gate["name"] in figures]
    passed = overall(judge(gates, figures)) == PASS if gates else True
    assert passes(figures, kept_quality(role_gates())) == passed


def test_promises_and_other_figures_are_not_kept():
    gates = [
        {"name": "mse", "op": "<", "threshold": 0.1, "required": False},
        {"name": "speedup", "op": ">=", "threshold": 1.0},
    ]
    assert kept_quality(gates) == {}


@pytest.mark.parametrize("name", QUALITY)
def test_a_gate_that_a_search_cannot_keep_is_refused(name):
    figure, op = QUALITY[name]
    with pytest.raises(ModelOpsError, match="by which the quantizer judges"):
        kept_quality([{"name": figure, "op": WRONG[op], "threshold": 0.5}])


def plain(path: Path, shape: list) -> Path:
    weight = {"w": models.random_weight(512, 512, seed=1, outlier=0)}
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"], name="mm"),
    ]
    return models.save(
        path, nodes, {**weight, "s": np.array([4, 512], np.int64)},
        {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, [4, 512])},
    )  # fmt: skip


def test_a_source_that_does_not_run_is_quantized_and_the_note_says_so(tmp_path):
    src = plain(tmp_path / "m.onnx", ["n"])  # one value does not fill [4, 512]
    proof = Proof(verify=True, quality={"cosine": 0.98}, setup=Setup(timeout_s=60), samples=1)
    result = quantize(src, tmp_path / "out.onnx", Recipe(), proof=proof)
    assert result["changed"] and not result["verified"]["ran"]
    assert any("not measured" in note for note in result["notes"])
    assert result["manifest"]["recipe"]["quality"] == {}


def test_forms_that_were_given_are_not_taken_for_found_ones(tmp_path):
    """A rerun with them measures nothing; without them the rule decides again."""
    src = plain(tmp_path / "m.onnx", [2048])
    dest = tmp_path / "out.onnx"
    proof = Proof(quality={"cosine": 0.9}, setup=Setup(timeout_s=60), samples=1)

    def go(forms: dict) -> dict:
        result = quantize(src, dest, Recipe(forms=forms), proof=proof)
        name = of(model_of([{"name": dest.name}])).manifest
        dest.with_name(name).write_bytes(dump(result["manifest"]))
        return result

    given_ones = {"mm": "blockwise_int8"}
    assert go(given_ones)["changed"]
    again = go(given_ones)
    assert not again["changed"] and again["quality_path"] == []
    without = go({})
    assert without["changed"]
    assert without["manifest"]["nodes"][0]["form"] == "dynamic_int8"


def test_what_cannot_be_kept_is_left_to_the_gate(tmp_path):
    """The rule's forms stay, measured; a rerun with the manifest changes nothing."""
    src = plain(tmp_path / "m.onnx", [2048])
    dest = tmp_path / "out.onnx"
    setup = Setup(timeout_s=60)
    proof = Proof(quality={"cosine": 2.0}, required=False, setup=setup, samples=1)
    result = quantize(src, dest, Recipe(), proof=proof)
    assert result["manifest"]["nodes"][0]["form"] == "dynamic_int8"
    assert "no mix of forms" in result["notes"][-1]
    assert result["quality_path"][0] == result["quality_path"][-1]
    dest.with_name(of(model_of([{"name": dest.name}])).manifest).write_bytes(
        dump(result["manifest"])
    )
    assert not quantize(src, dest, Recipe(), proof=proof)["changed"]


def test_a_mix_that_saves_next_to_nothing_is_refused(tmp_path):
    """Every node in FP32 keeps any quality: that is no INT8 model."""
    src = plain(tmp_path / "m.onnx", [2048])
    proof = Proof(quality={"cosine": 0.99999999}, setup=Setup(timeout_s=60), samples=1)
    before = models.tree(tmp_path)
    with pytest.raises(ModelOpsError, match="FP16 takes half"):
        quantize(src, tmp_path / "out.onnx", Recipe(), proof=proof)
    assert models.tree(tmp_path) == before
