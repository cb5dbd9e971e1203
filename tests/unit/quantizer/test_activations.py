"""Products whose activations take more memory in INT8 than their weights save stay in FP32."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from form_cases import FLOAT, W, decisions
from modelops.quantizer import unpacking
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

CHANNELS = 128


def conv(path: Path, steps: int | str) -> Path:
    """A Conv over so many steps, behind an operator whose result the graph does not declare."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("Conv", ["h", "w"], ["y"], name="n", pads=[1, 1]),
    ]
    value = {"x": (FLOAT, ["batch", CHANNELS, steps])}
    weight = {"w": W(CHANNELS, CHANNELS, 3)}
    return models.save(path, nodes, weight, value, {"y": (FLOAT, None)})


def product(path: Path, rows: int | str) -> Path:
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="n"),
    ]
    value = {"x": (FLOAT, [rows, 1024])}
    return models.save(path, nodes, {"w": W(1024, 64)}, value, {"y": (FLOAT, None)})


def form(src: Path, **recipe) -> str:
    (decision,) = decisions(quantize(src, src.with_name("out.onnx"), Recipe(**recipe)))
    return decision["form"]


@pytest.mark.parametrize(
    ("make", "few", "many"), [(conv, 500, 50_000), (product, 500, 10_000)], ids=["conv", "product"]
)
def test_many_steps_are_not_multiplied_in_int8(tmp_path, make, few, many):
    assert form(make(tmp_path / "few.onnx", few)) == "dynamic_int8"
    src = make(tmp_path / "many.onnx", many)
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "weight_int8" and "more memory" in decision["reason"]
    assert form(src, prefer="size") == "dynamic_int8"
    assert form(src, forms={"n": "dynamic_int8"}) == "dynamic_int8"


@pytest.mark.parametrize("make", [conv, product])
def test_steps_that_are_not_known_count_as_one(tmp_path, make, monkeypatch):
    monkeypatch.setattr(unpacking, "UNSEEN_ACTIVATION_BYTES", 0)
    assert form(make(tmp_path / "m.onnx", "steps")) == "dynamic_int8"


def test_what_other_weights_save_is_theirs(tmp_path):
    """50,000 steps take 77 MB, a matrix of 6,000 x 6,000 saves 99 MB."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="n", pads=[1, 1]),
        helper.make_node("MatMul", ["z", "m"], ["p"], name="other"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(CHANNELS, CHANNELS, 3), "m": W(6000, 6000)},
        {"x": (FLOAT, [1, CHANNELS, 50_000]), "z": (FLOAT, [1, 6000])},
        {"y": (FLOAT, None), "p": (FLOAT, None)},
    )  # fmt: skip
    found = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert {d["form"] for d in found} == {"dynamic_int8"}
