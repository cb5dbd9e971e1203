"""What is proposed for the matrices of a model, and that each of its shapes is measured."""

from __future__ import annotations

import json

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from form_cases import FLOAT, W
from modelops.base.errors import ModelOpsError
from modelops.execution import cli
from modelops.measuring.session import Setup
from modelops.quantizer import advise, chains
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper, numpy_helper

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


@pytest.fixture
def made_up(monkeypatch):
    """Times that are made up: no model runs."""
    monkeypatch.setattr(chains, "BYTES", 50_000)
    figures = dict(zip(("value", "low", "high"), FAST, strict=True))
    monkeypatch.setattr(advise, "compare", lambda *_, **__: {"speedup": figures})


def test_each_shape_is_measured_once(tmp_path, made_up):
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


def sequences(path):
    """A Conv over time and an LSTM that are multiplied in INT8, and a Conv too small for that."""
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"], name="conv", pads=[1, 1]),
        helper.make_node("Conv", ["h", "d"], ["g"], name="small"),
        helper.make_node("Transpose", ["g"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "w", "r"], ["y"], name="lstm", hidden_size=128),
    ]
    weights = {"c": W(128, 192, 3), "d": W(96, 128, 1), "w": W(1, 512, 96), "r": W(1, 512, 128)}
    return models.save(path, nodes, weights, {"x": (FLOAT, [1, 192, 5])}, {"y": (FLOAT, None)})


def test_a_conv_over_time_and_an_lstm_are_measured_too(tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "BYTES", 50_000)
    src = sequences(tmp_path / "m.onnx")
    found = advise.advise(src, [2], 1, 8, Setup(work_dir=tmp_path, timeout_s=60))
    assert [(row["op"], row["shape"], row["nodes"]) for row in found["shapes"]] == [
        ("LSTM", [96, 128], ["lstm"]), ("Conv", [128, 192, 3], ["conv"]),
    ]  # fmt: skip
    assert all("blockwise_int8" not in row["speedup"] for row in found["shapes"])
    recipe = Recipe(forms=found["forms"], granularity=found["granularity"])
    nodes = quantize(src, tmp_path / "out.onnx", recipe)["manifest"]["nodes"]
    forms = {n["node"]: n["form"] for n in nodes}
    assert forms == {"small": "weight_int8", **found["forms"]}


LAYERS = [("MatMul", (64, 96)), ("Conv", (96, 64, 4)), ("Conv", (64, 96, 1)), ("LSTM", (64, 96))]


@pytest.mark.parametrize("layer", [chains.Layer(*layer) for layer in LAYERS])
def test_a_chain_runs_at_any_number_of_rows_and_holds_what_it_says(tmp_path, monkeypatch, layer):
    monkeypatch.setattr(chains, "BYTES", 200_000)
    path = tmp_path / "chain.onnx"
    names = chains.write(path, layer)
    model = onnx.load(path)
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    first = next(n for n in model.graph.node if n.name in names)
    assert sum(held[name].size for name in first.input[1:]) == layer.elements
    session = onnxruntime.InferenceSession(path)
    for rows in (1, 7):
        shape = layer.given(rows)
        (y,) = session.run(None, {"x": np.ones(shape, np.float32)})
        last = layer if len(names) % 2 else layer.turned
        assert y.shape == tuple(last.turned.given(rows)) and np.isfinite(y).all() and y.any()


def test_the_command_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chains, "BYTES", 50_000)
    src = str(model(tmp_path / "m.onnx"))
    asked = ["advise", src, "--rows", "2", "--runs", "2", "--most", "1", "--json"]
    assert cli.main(asked) == 0
    assert [*json.loads(capsys.readouterr().out)["shapes"][0]["speedup"]["blockwise_int8"]] == ["2"]


def test_the_command_says_what_was_measured(tmp_path, capsys, made_up):
    asked = ["advise", str(model(tmp_path / "m.onnx")), "--rows", "2", "--most", "1"]
    assert cli.main(asked) == 0
    text = capsys.readouterr().out
    assert (
        "MatMul 64 x 96, 2 nodes" in text
        and "proposed" in text
        and "1 shape was not measured" in text
    )


def test_a_model_without_matrices_is_told_so(tmp_path):
    src = models.save(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {},
        {"x": (FLOAT, [2])}, {"y": (FLOAT, None)}, external=False,
    )  # fmt: skip
    with pytest.raises(ModelOpsError, match="no matrix"):
        advise.advise(src, [1], 2, 8, Setup(work_dir=tmp_path))
    assert np.all([p.suffix == ".onnx" for p in tmp_path.iterdir()])
