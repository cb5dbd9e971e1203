"""Graphs that onnxruntime saved optimized: its fused operators hold weights too."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from form_cases import FLOAT, W, decisions
from modelops.base.errors import ModelOpsError
from modelops.measuring.index_ranges import of
from modelops.quantizer.operators import QUANTIZABLE
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

make = helper.make_node
INT = models.TensorProto.INT64
BIG, SMALL = 512, 64


def saved(src: Path) -> Path:
    """What onnxruntime saves of a model at the level EXTENDED, as SARAi loads it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(src.with_name("saved.onnx"))
    options.log_severity_level = 3  # it warns that the graph is this machine's
    onnxruntime.InferenceSession(str(src), options, providers=["CPUExecutionProvider"])
    return src.with_name("saved.onnx")


def check(src: Path, recipe: Recipe, least: float = 0.999, **inputs: np.ndarray) -> dict[str, str]:
    """Quantize what onnxruntime saved of a model; the outputs are alike. The forms by operator."""
    optimized, out = saved(src), src.with_name("out.onnx")
    result = quantize(optimized, out, recipe)
    for was, now in zip(models.run(src, **inputs), models.run(out, **inputs), strict=True):
        assert was.shape == now.shape
        assert models.cosine(was, now) > least
    return {entry["op"]: entry["form"] for entry in decisions(result)}


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("form", ["", "blockwise_int8", "weight_int8"])
@pytest.mark.parametrize("size", [BIG, SMALL])
@pytest.mark.parametrize("turned", [False, True])
def test_a_scaled_product(tmp_path, size, turned, form):
    """MatMul and a factor; with a Transpose of the weight that stands in the way of folding."""
    nodes = [make("MatMul", ["x", "w"], ["m"], name="n"), make("Mul", ["m", "half"], ["y"])]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(size, size), "half": np.array(0.5, np.float32)},
        {"x": (FLOAT, [2, 3, size])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    if turned:  # what onnxruntime writes where it does not fold the constant
        model = onnx.load(saved(src))
        (node,) = model.graph.node
        (weight,) = (t for t in model.graph.initializer if t.name == node.input[1])
        turned_weight = onnx.numpy_helper.to_array(weight).T.copy()
        weight.CopyFrom(onnx.numpy_helper.from_array(turned_weight, weight.name))
        next(a for a in node.attribute if a.name == "transB").i = 1
        onnx.save(model, src)
    (name,) = (n.name for n in onnx.load(saved(src)).graph.node)
    forms = check(src, Recipe(forms={name: form} if form else {}), x=data(2, 3, size))
    assert forms == {"FusedMatMul": form or ("dynamic_int8" if size == BIG else "weight_int8")}


def test_a_product_of_what_is_turned_is_stored_alone(tmp_path):
    nodes = [
        make("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        make("MatMul", ["t", "w"], ["y"], name="n"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(BIG, BIG)}, {"x": (FLOAT, [2, BIG, 3])},
        {"y": (FLOAT, None)},
    )  # fmt: skip
    assert check(src, Recipe(), x=data(2, BIG, 3)) == {"FusedMatMul": "weight_int8"}


@pytest.mark.parametrize("attribute", ["transBatchA", "transBatchB"])
def test_a_stack_that_is_turned_has_no_int8_product(tmp_path, attribute):
    node = make("FusedMatMul", ["x", "w"], ["y"], name="n", domain="com.microsoft",
                **{attribute: 1})  # fmt: skip
    src = models.save(
        tmp_path / "m.onnx", [node], {"w": W(BIG, BIG)}, {"x": (FLOAT, [2, 3, BIG])},
        {"y": (FLOAT, ["a", "b", "c"])},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe(forms={"n": "dynamic_int8"}))
    assert [entry["form"] for entry in decisions(result)] == ["weight_int8"]
    assert any("n cannot be dynamic_int8" in note for note in result["notes"])


ACTIVATIONS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.3}, "Elu": {"alpha": 0.5}, "Tanh": {}, "Sigmoid": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Softplus": {}, "Softsign": {},
    "Selu": {"alpha": 1.5, "gamma": 1.1}, "ThresholdedRelu": {"alpha": 0.2},
}  # fmt: skip


@pytest.mark.parametrize("form", ["", "blockwise_int8"])
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_a_gemm_with_its_activation(tmp_path, op, form):
    nodes = [
        make("Gemm", ["x", "w", "b"], ["g"], name="n", transB=1, alpha=0.5, beta=2.0),
        make(op, ["g"], ["y"], **ACTIVATIONS[op]),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(BIG, BIG), "b": W(BIG)}, {"x": (FLOAT, [4, BIG])},
        {"y": (FLOAT, None)},
    )  # fmt: skip
    names = {n.op_type: n.name for n in onnx.load(saved(src)).graph.node}
    if "FusedGemm" not in names:
        pytest.skip(f"this onnxruntime does not fuse {op}")
    recipe = Recipe(forms={names["FusedGemm"]: form} if form else {})
    forms = check(src, recipe, 0.99 if op == "ThresholdedRelu" else 0.999, x=data(4, BIG))
    assert forms == {"FusedGemm": form or "dynamic_int8"}


def test_a_convolution_with_its_activation(tmp_path):
    nodes = [make("Conv", ["x", "w", "b"], ["c"], name="n"), make("Relu", ["c"], ["y"])]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(16, 8, 3, 3), "b": W(16)},
        {"x": (FLOAT, [1, 8, 9, 9])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    assert check(src, Recipe(), x=data(1, 8, 9, 9)) == {"FusedConv": "weight_int8"}


def embedding(path: Path, width: int = SMALL) -> Path:
    """Words, positions and segments, normalized, and a layer whose result is added to them."""
    attributes = {"epsilon": 1e-5, "domain": "com.microsoft"}
    norm = {"gamma": np.ones(width, np.float32), "beta": np.zeros(width, np.float32)}
    tables = {"words": W(200, width), "positions": W(32, width), "segments": W(2, width)}
    nodes = [
        make("EmbedLayerNormalization",
             ["ids", "types", "words", "positions", "segments", "gamma", "beta"],
             ["e", "mask"], name="embed", **attributes),
        make("MatMul", ["e", "w"], ["m"], name="n"),
        make("SkipLayerNormalization", ["m", "e", "gamma", "beta"], ["y"], name="skip",
             **attributes),
    ]  # fmt: skip
    return models.save(
        path, nodes, {**tables, **norm, "w": W(width, width)},
        {"ids": (INT, [2, 8]), "types": (INT, [2, 8])}, {"y": (FLOAT, [2, 8, width])},
    )  # fmt: skip


def test_an_embedding_and_its_neighbours(tmp_path):
    src = embedding(tmp_path / "m.onnx", BIG)
    model = onnx.load(src)  # EmbedLayerNormalization takes INT32
    for value in model.graph.input:
        value.type.tensor_type.elem_type = models.TensorProto.INT32
    onnx.save(model, src)
    ids = np.random.default_rng(1).integers(0, 200, (2, 8)).astype(np.int32)
    forms = check(src, Recipe(), ids=ids, types=(ids % 2).astype(np.int32))
    assert forms == {"EmbedLayerNormalization": "weight_int8", "MatMul": "dynamic_int8"}
    assert of(src) == {"ids": [0, 199], "types": [0, 1]}


def test_op_types_mean_the_operators_that_were_fused(tmp_path):
    assert not {"FusedMatMul", "FusedGemm", "EmbedLayerNormalization"} & set(QUANTIZABLE)
    src = embedding(tmp_path / "m.onnx")
    result = quantize(src, tmp_path / "out.onnx", Recipe(op_types=("MatMul",)))
    reasons = {entry["op"]: entry["reason"] for entry in decisions(result)}
    assert reasons["EmbedLayerNormalization"] == "op_types does not name Gather"


@pytest.mark.parametrize("op", ["FusedMatMul", "FusedGemm"])
def test_an_attribute_of_another_type_is_refused(tmp_path, op):
    node = make(op, ["x", "w"], ["y"], name="n", domain="com.microsoft", alpha=2)
    src = models.save(
        tmp_path / "m.onnx", [node], {"w": W(64, 64)}, {"x": (FLOAT, [4, 64])},
        {"y": (FLOAT, [4, 64])},
    )  # fmt: skip
    with pytest.raises(ModelOpsError, match="alpha of node 'n'"):
        quantize(src, tmp_path / "out.onnx", Recipe())


def test_an_operator_of_this_name_of_another_domain_is_none_of_them(tmp_path):
    node = make("FusedMatMul", ["x", "w"], ["y"], name="n", domain="ai.onnx.ml")
    src = models.save(
        tmp_path / "m.onnx", [node], {"w": W(64, 64)}, {"x": (FLOAT, [4, 64])},
        {"y": (FLOAT, [4, 64])},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe())
    assert [entry["reason"] for entry in decisions(result)] == ["FusedMatMul has no INT8 form"]
