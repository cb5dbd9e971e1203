"""Weights that are unpacked at load are left in FP32 where they would take more memory than it."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from modelops.quantizer import unpacking
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper


@pytest.fixture(autouse=True)
def _every_byte_counts(monkeypatch):
    monkeypatch.setattr(unpacking, "UNSEEN_BYTES", 0)


def model(path: Path, products: int) -> Path:
    """Two weights that are unpacked, [64, 64, 3, 3] each, and large matrices."""
    weights = {f"c{i}": models.random_weight(64, 64, 3, 3, seed=i) for i in range(2)}
    weights |= {f"m{i}": models.random_weight(400, 400, seed=9 + i) for i in range(products)}
    nodes = [helper.make_node("Conv", ["x", "c0"], ["h"], name="conv0")]
    nodes += [helper.make_node("Conv", ["h", "c1"], ["y"], name="conv1")]
    name = "z"
    for i in range(products):
        nodes.append(helper.make_node("MatMul", [name, f"m{i}"], [f"y{i}"], name=f"mm{i}"))
        name = f"y{i}"
    f = TensorProto.FLOAT
    outputs = {"y": (f, None)} | ({name: (f, None)} if products else {})
    return models.save(path, nodes, weights, {"x": (f, [1, 64, 9, 9]), "z": (f, [2, 400])}, outputs)


def forms(src: Path, **recipe) -> dict[str, str]:
    result = quantize(src, src.with_name("out.onnx"), Recipe(**recipe), force=True)
    return {d["node"]: d["form"] for d in result["manifest"]["nodes"] if d["node"][:4] == "conv"}


def test_alone_they_stay_in_fp32(tmp_path):
    src = model(tmp_path / "m.onnx", 0)
    assert set(forms(src).values()) == {"fp32"}
    assert set(forms(src, prefer="size").values()) == {"weight_int8"}
    assert forms(src, forms={"conv1": "weight_int8"}) == {"conv0": "fp32", "conv1": "weight_int8"}


def test_what_others_save_is_theirs(tmp_path):
    """A matrix of 400 x 400 saves 440 kB, a weight takes 184 kB more."""
    assert set(forms(model(tmp_path / "m.onnx", 1)).values()) == {"weight_int8"}


def test_the_reason_says_what_to_do(tmp_path):
    src = model(tmp_path / "m.onnx", 0)
    kept = quantize(src, tmp_path / "out.onnx", Recipe())["kept_fp32"]
    assert all("prefer: size" in row["reason"] for row in kept) and len(kept) == 2


def test_what_nobody_sees_shrinks(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "UNSEEN_BYTES", 400_000)
    assert set(forms(model(tmp_path / "m.onnx", 0)).values()) == {"weight_int8"}
