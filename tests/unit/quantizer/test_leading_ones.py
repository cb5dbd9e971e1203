"""Weights [1, K, N] of MatMul are matrices, and the result has the shape that it had."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from form_cases import FLOAT, W, decisions
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

K, N = 640, 512


def model(path: Path, ones: int, x: list[int | str], declared: bool = True, **kw) -> Path:
    """MatMul behind a node whose shape the graph does not declare, unless x is read as it is."""
    nodes = [helper.make_node("MatMul", ["x" if declared else "r", "w"], ["y"], name="n")]
    if not declared:
        nodes.insert(0, helper.make_node("Relu", ["x"], ["r"]))
    weight = W(K, N).reshape(*[1] * ones, K, N)
    return models.save(path, nodes, {"w": weight}, {"x": (FLOAT, x)}, {"y": (FLOAT, None)}, **kw)


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def same(src: Path, out: Path, x: np.ndarray, least: float) -> None:
    (was,), (now,) = models.run(src, x=x), models.run(out, x=x)
    assert was.shape == now.shape
    assert was.size == 0 or models.cosine(was, now) > least


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("ones", [1, 2])
@pytest.mark.parametrize("form", ["dynamic_int8", "blockwise_int8", "weight_int8"])
@pytest.mark.parametrize("shape", [(3, K), (0, K), (1, K), (2, 3, K), (2, 1, 3, K)])
def test_the_result_has_the_shape_that_it_had(tmp_path, shape, form, ones, declared):
    names: list[int | str] = [f"d{i}" for i in range(len(shape) - 1)]
    src = model(tmp_path / "m.onnx", ones, [*names, K], declared)
    out = tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe(forms={"n": form})))
    assert decision["form"] == form
    same(src, out, data(*shape), 0.999)


@pytest.mark.parametrize("declared", [True, False])
def test_a_vector_keeps_its_shape_too(tmp_path, declared):
    src, out = model(tmp_path / "m.onnx", 1, [K], declared), tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe()))
    assert decision["form"] == "dynamic_int8"
    same(src, out, data(K), 0.999)


def test_it_is_multiplied_in_int8_and_nothing_is_added_where_the_shape_is_known(tmp_path):
    src, out = model(tmp_path / "m.onnx", 1, ["b", "t", K]), tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe()))
    assert decision["form"] == "dynamic_int8" and "large" in decision["reason"]
    ops = [node.op_type for node in onnx.load(out).graph.node]
    assert ops == ["DynamicQuantizeLinear", "Mul", "MatMulInteger", "Cast", "Mul"]


@pytest.mark.parametrize("opset", [9, 10])
def test_an_opset_without_slice_by_inputs_stores_it_alone(tmp_path, opset):
    src, out = model(tmp_path / "m.onnx", 1, ["t", K], opset=opset), tmp_path / "out.onnx"
    forms = {"n": "blockwise_int8"}
    (decision,) = decisions(quantize(src, out, Recipe(forms=forms)))
    assert decision["form"] == ("blockwise_int8" if opset == 10 else "weight_int8")
    same(src, out, data(3, K), 0.999)


def test_half_precision(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["xh"], to=models.TensorProto.FLOAT16),
        helper.make_node("MatMul", ["xh", "w"], ["yh"], name="n"),
        helper.make_node("Cast", ["yh"], ["y"], to=FLOAT),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(1, K, N).astype(np.float16)},
        {"x": (FLOAT, ["t", K])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe()))
    assert decision["form"] == "dynamic_int8"
    same(src, out, data(3, K), 0.999)


def test_a_stack_of_several_matrices_is_none(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="n")
    src = models.save(
        tmp_path / "m.onnx", [node], {"w": W(2, K, N)}, {"x": (FLOAT, ["t", K])},
        {"y": (FLOAT, None)},
    )  # fmt: skip
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "weight_int8" and "stack" in decision["reason"]
    same(src, tmp_path / "out.onnx", data(3, K), 0.999)
