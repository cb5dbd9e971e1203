"""What is proposed for the matrices of a model, and that each of its shapes is measured."""

from __future__ import annotations

import json

import models
import numpy as np
import pytest
from form_cases import FLOAT, W
from modelops.base.errors import ModelOpsError
from modelops.execution import cli
from modelops.measuring.session import Setup
from modelops.quantizer import advise
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

FAST, SLOW, OPEN = (1.5, 1.4, 1.6), (0.5, 0.4, 0.6), (0.95, 0.8, 1.2)


def by_rows(*figures: tuple[float, float, float]) -> dict:
    return {
        str(i): dict(zip(("value", "low", "high"), f, strict=True)) for i, f in enumerate(figures)
    }


@pytest.mark.parametrize(
    ("speedup", "wanted"),
    [
        ({"a": by_rows(FAST, FAST), "b": by_rows(FAST, OPEN)}, "a"),
        ({"a": by_rows(FAST, SLOW), "b": by_rows(FAST, OPEN)}, "b"),
        ({"a": by_rows(FAST), "b": by_rows(FAST)}, "a"),
        ({"a": by_rows(SLOW), "b": by_rows(OPEN)}, "weight_int8"),
        ({"a": by_rows(FAST, SLOW), "b": by_rows(SLOW, FAST)}, "weight_int8"),
    ],
)
def test_the_fastest_form_that_is_slower_nowhere(speedup, wanted):
    assert advise.proposed(speedup) == wanted


def model(path):
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "b"], ["g"], name="second", transB=1),
        helper.make_node("MatMul", ["g", "c"], ["y"], name="third"),
    ]
    weights = {"a": W(64, 96), "b": W(64, 96), "c": W(64, 96)}
    return models.save(path, nodes, weights, {"x": (FLOAT, [2, 64])}, {"y": (FLOAT, None)})


def test_each_shape_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(advise, "CHAIN_BYTES", 50_000)
    src = model(tmp_path / "m.onnx")
    found = advise.advise(src, [1, 4], 2, 8, Setup(work_dir=tmp_path, timeout_s=60))
    rows = {tuple(row["shape"]): row for row in found["shapes"]}
    assert {shape: row["nodes"] for shape, row in rows.items()} == {
        (64, 96): ["first", "third"], (96, 64): ["second"],
    }  # fmt: skip
    for row in rows.values():
        assert set(row["speedup"]) == set(advise.FORMS)
        assert all(set(figures) == {"1", "4"} for figures in row["speedup"].values())
    assert set(found["forms"]) == {"first", "second", "third"} and not found["unmeasured"]
    recipe = Recipe(forms=found["forms"], granularity=found["granularity"])
    result = quantize(src, tmp_path / "out.onnx", recipe)
    assert {n["node"]: n["form"] for n in result["manifest"]["nodes"]} == found["forms"]


def test_the_command_says_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(advise, "CHAIN_BYTES", 50_000)
    src = str(model(tmp_path / "m.onnx"))
    asked = ["advise", src, "--rows", "2", "--runs", "2", "--most", "1"]
    assert cli.main([*asked, "--json"]) == 0
    assert [*json.loads(capsys.readouterr().out)["shapes"][0]["speedup"]["blockwise_int8"]] == ["2"]
    assert cli.main(asked) == 0
    text = capsys.readouterr().out
    assert "64 x 96, 2 nodes" in text and "proposed" in text and "1 shape was not measured" in text


def test_a_model_without_matrices_is_told_so(tmp_path):
    src = models.save(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {},
        {"x": (FLOAT, [2])}, {"y": (FLOAT, None)}, external=False,
    )  # fmt: skip
    with pytest.raises(ModelOpsError, match="no constant matrix"):
        advise.advise(src, [1], 2, 8, Setup(work_dir=tmp_path))
    assert np.all([p.suffix == ".onnx" for p in tmp_path.iterdir()])
