"""onnx_compare and onnx_benchmark: what is measured, recorded, recalled and judged."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import models
import numpy as np
import pytest
from modelops.execution import without_ansible
from onnx import TensorProto as Tp
from onnx import helper
from subprocesses import through_ansible

ROOT = Path(__file__).parents[3]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder for temporary files, which every test must leave empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A matrix product, and the same with slightly different weights."""
    return models.alike(tmp_path)


def unary(path: Path, op: str) -> Path:
    shape = (Tp.FLOAT, [8])
    node = helper.make_node(op, ["x"], ["y"])
    return models.save(path, [node], {}, {"x": shape}, {"y": shape}, external=False)


@pytest.fixture
def onnx_compare() -> ModuleType:
    return without_ansible.load("onnx_compare")


def options_of(module: ModuleType, pair, work: Path, **options) -> dict:
    defaults = {name: spec.get("default") for name, spec in module.MODULE["argument_spec"].items()}
    paths = {"reference": str(pair[0]), "candidate": str(pair[1]), "work_dir": str(work)}
    return {**defaults, **paths, "samples": 1, "runs": 2, "remeasure_limit": 0, **options}


def test_the_reference_may_run_elsewhere(onnx_compare, pair, work):
    asked = ["NoSuchExecutionProvider", "CPUExecutionProvider"]
    result = onnx_compare.run(
        options_of(onnx_compare, pair, work, reference_providers=asked), False
    )
    assert result["reference"]["providers_unused"] == ["NoSuchExecutionProvider"]
    assert result["candidate"]["providers_unused"] == []
    assert result["notes"][:-1] == [
        "The reference did not use NoSuchExecutionProvider, which was asked for."
    ]
    assert result["notes"][-1].startswith("Measured in mode both")


def test_a_record_spares_the_next_measurement(onnx_compare, pair, work, tmp_path):
    record = tmp_path / "verdict.json"
    close = {"name": "cosine_min", "op": ">", "threshold": 0.98}
    options = options_of(
        onnx_compare, pair, work, record=str(record), key={"a": "1"}, gates=[close]
    )

    foreseen = onnx_compare.run(options, True)
    assert (foreseen["changed"], foreseen["measured"]) == (True, False)
    assert foreseen["verdict"] == "inconclusive"
    assert not record.exists()

    first = onnx_compare.run(options, False)
    assert (first["changed"], first["measured"], first["verdict"]) == (True, True, "pass")
    bytes_kept = record.read_bytes()
    for check_mode in (False, True):
        again = onnx_compare.run(options, check_mode)
        assert again == {**first, "changed": False, "measured": False}
    strict = {**options, "gates": [{**close, "threshold": 1.0}]}
    assert onnx_compare.run(strict, False)["verdict"] == "fail"
    assert record.read_bytes() == bytes_kept

    for other in ({"key": {"a": "2"}}, {"seed": 1}, {"threads": 1}, {"remeasure": True}):
        assert onnx_compare.run({**options, **other}, False)["measured"], other
    record.write_text("{")
    renewed = onnx_compare.run(options, False)
    assert renewed["changed"]
    assert "not a usable record" in renewed["notes"][0]


def test_values_that_are_not_finite_fail_and_survive_json(onnx_compare, tmp_path, work):
    both = [unary(tmp_path / f"{op}.onnx", op) for op in ("Neg", "Log")]
    gates = [{"name": "mse", "op": "<", "threshold": 1.0}]
    result = onnx_compare.run(options_of(onnx_compare, both, work, gates=gates), False)
    assert (result["verdict"], result["mse"], result["changed"]) == ("fail", "nan", False)
    assert not result["candidate"]["finite"] and len(result["notes"]) == 1
    json.dumps(result, allow_nan=False)
    turned = onnx_compare.run(options_of(onnx_compare, both[::-1], work, gates=gates), False)
    assert turned["verdict"] == "fail" and "reference itself gives" in turned["notes"][0]


def test_bad_options_are_refused_before_anything_runs(onnx_compare, pair, work, tmp_path):
    paths = {"reference": tmp_path / "none", "candidate": tmp_path / "none"}
    for bad in ({"gates": [{"name": "mse"}]}, {"record": str(tmp_path / "r.json"), "key": {}}):
        with pytest.raises(Exception, match=r"malformed|needs a key"):
            onnx_compare.run({**options_of(onnx_compare, pair, work, **bad), **paths}, False)


def test_both_modules_through_ansible(pair, work):
    common = {"runs": 2, "work_dir": str(work), "shapes": {"x": [4, 64]}}
    measured = through_ansible("onnx_benchmark", {"path": str(pair[0]), **common})
    assert len(measured["samples"]) == 2
    assert not measured["changed"]
    gate = {"name": "cosine_min", "op": ">", "threshold": 0.9}
    paths = {"reference": str(pair[0]), "candidate": str(pair[1])}
    judged = through_ansible("onnx_compare", {**paths, **common, "samples": 1, "gates": [gate]})
    assert judged["verdict"] == "pass"
    assert judged["judged"][0]["figure"] == judged["cosine_min"]


def test_the_memory_in_turn_is_that_of_the_samples_that_a_file_has(
    onnx_compare, pair, work, tmp_path
):
    inputs = tmp_path / "real.npz"
    array = np.zeros((4, 64), np.float32)
    needed = {}
    for count in (1, 9):
        np.savez(inputs, **{f"input/{number}/x": array for number in range(count)})
        options = options_of(onnx_compare, pair, work, inputs=str(inputs), mode="in_turn")
        result = onnx_compare.run(options, False)
        assert len(result["similarity_rows"]) == count
        needed[count] = result["way"]["memory_needed_bytes"]
    assert needed[9] > needed[1]


def test_the_way_follows_the_memory_and_is_told(onnx_compare, pair, work, tmp_path, monkeypatch):
    from modelops.base import memory
    from modelops.measuring import golden
    from modelops.measuring.session import Setup

    data = tmp_path / "golden.npz"
    golden.make(pair[0], data, golden.wanted([], 2, 100, Setup()), Setup())
    gates = [
        {"name": "speedup", "op": ">=", "threshold": 0.0},
        {"name": "candidate_load_s", "op": "<", "threshold": 0.0, "required": False},
    ]
    options = options_of(onnx_compare, pair, work, golden=str(data), gates=gates)
    for free, mode in ((10**12, "both"), (260_000_000, "in_turn")):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free)
        result = onnx_compare.run(options, False)
        assert (result["way"]["mode"], result["way"]["memory_available_bytes"]) == (mode, free)
        assert (result["verdict"], len(result["judged"])) == ("pass", 2)
    # INT8 alone: the promise decides, and it is not kept.
    result = onnx_compare.run({**options, "mode": "golden"}, False)
    assert "reference" not in result
    assert [row["name"] for row in result["judged"]] == ["candidate_load_s"]
    assert result["verdict"] == "fail"
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(Exception, match="too little memory to measure"):
        onnx_compare.run(options, False)


def test_a_record_counts_whatever_memory_is_free(onnx_compare, pair, work, tmp_path, monkeypatch):
    from modelops.base import memory

    record = {"record": str(tmp_path / "verdict.json"), "key": {"a": "1"}}
    options = options_of(onnx_compare, pair, work, **record)
    assert onnx_compare.run(options, False)["measured"]
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert not onnx_compare.run(options, False)["measured"]


def test_token_ids_are_judged_by_agreement(onnx_compare, tmp_path, work):
    weight = np.eye(64, dtype=np.float32)
    paths = []
    for name, values in (("a", weight), ("b", weight[:, ::-1].copy())):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["l"]),
            helper.make_node("ArgMax", ["l"], ["y"], axis=-1, keepdims=0),
        ]
        paths.append(
            models.save(
                tmp_path / f"{name}.onnx",
                nodes,
                {"w": values},
                {"x": (Tp.FLOAT, [32, 64])},
                {"y": (Tp.INT64, [32])},
            )
        )
    gates = [{"name": "cosine_min", "op": ">", "threshold": 0.98}]
    for candidate, verdict in ((paths[1], "fail"), (paths[0], "pass")):
        both = [paths[0], candidate]
        result = onnx_compare.run(options_of(onnx_compare, both, work, gates=gates), False)
        assert result["verdict"] == verdict
        assert "cosine_min" not in result
        assert [row["name"] for row in result["judged"]] == ["cosine_min", "agreement_min"]
