"""What exporters write otherwise: weights as graph inputs, nodes out of order, old opsets."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from form_cases import FLOAT, W, decisions
from modelops.base.errors import ModelOpsError
from modelops.model.reader import read_model
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper

BOOL = TensorProto.BOOL
X = np.random.default_rng(3).standard_normal((4, 520)).astype(np.float32)


# --- weights that are graph inputs too ---------------------------------------------------------


def as_inputs(path: Path, nodes: list[onnx.NodeProto], ir_version: int = 8) -> Path:
    """A model whose initializers are all graph inputs too."""
    models.save(
        path, nodes, {"w": W(520, 520), "b": W(520)}, {"x": (FLOAT, [4, 520])},
        {"y": (FLOAT, [4, 520])},
    )  # fmt: skip
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    model.ir_version = ir_version
    onnx.save(model, path)
    return path


WAYS = {
    "at once": [helper.make_node("MatMul", ["x", "w"], ["y"], name="n")],
    "with a bias": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="n", transB=1)],
    "turned": [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Identity", ["t"], ["i"]),
        helper.make_node("MatMul", ["x", "i"], ["y"], name="n"),
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_a_caller_may_give_stays_and_the_reason_says_what_to_do(tmp_path, way):
    src, out = as_inputs(tmp_path / "m.onnx", WAYS[way]), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    (decision,) = decisions(result)
    assert decision["form"] == "fp32"
    assert "its weight w is a graph input too" in decision["reason"]
    assert "fold_inputs: true" in decision["reason"]
    given = {"x": X, "w": W(520, 520, seed=9)}
    np.testing.assert_array_equal(models.run(src, **given)[0], models.run(out, **given)[0])


@pytest.mark.parametrize("way", WAYS)
def test_folded_it_is_a_constant_as_any(tmp_path, way):
    src, out = as_inputs(tmp_path / "m.onnx", WAYS[way]), tmp_path / "out.onnx"
    recipe = Recipe(fold_inputs=True)
    result = quantize(src, out, recipe, proof=Proof(verify=True, quality={"cosine": 0.98}))
    (decision,) = decisions(result)
    assert decision["form"] == "dynamic_int8"
    assert result["manifest"]["recipe"]["fold_inputs"] is True
    assert [value.name for value in onnx.load(out).graph.input] == ["x"]
    assert models.cosine(models.run(src, x=X)[0], models.run(out, x=X)[0]) > 0.99
    assert not quantize(src, out, recipe)["changed"]


def test_before_ir_4_no_caller_could_give_one(tmp_path):
    src = as_inputs(tmp_path / "m.onnx", WAYS["at once"], ir_version=3)
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "dynamic_int8"


def test_only_what_is_given_stays(tmp_path):
    """The shape of a Reshape that a caller may give is no shape to count on."""
    nodes = [
        helper.make_node("Reshape", ["w", "s"], ["r"]),
        helper.make_node("MatMul", ["x", "r"], ["h"], name="reshaped"),
        helper.make_node("MatMul", ["h", "v"], ["y"], name="plain"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes,
        {"w": W(260, 1040), "s": np.array([520, 520]), "v": W(520, 520)},
        {"x": (FLOAT, [4, 520]), "s": (TensorProto.INT64, [2])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe())
    form = {d["node"]: d["form"] for d in decisions(result)}
    assert form["plain"] == "dynamic_int8" and form["reshaped"] != "dynamic_int8"
    y = [models.run(path, x=X)[0] for path in (src, tmp_path / "out.onnx")]
    assert models.cosine(*y) > 0.99


# --- nodes out of order ------------------------------------------------------------------------


def shuffle(graph: onnx.GraphProto, seed: int) -> None:
    """Put the nodes of a graph and of those nested in it in another order."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    random.Random(seed).shuffle(nodes)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                shuffle(attribute.g, seed)
    del graph.node[:]
    graph.node.extend(nodes)


def branchy(path: Path) -> Path:
    """Branches that read what the outer graph gives, one of them nested twice."""

    def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
        return helper.make_graph(nodes, name, [], [output])

    def product(x: str, y: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", [x, "w"], [f"{y}_h"], name=f"mm_{y}"),
            helper.make_node("Tanh", [f"{y}_h"], [f"{y}_t"], name=f"tanh_{y}"),
            helper.make_node("Add", [f"{y}_t", "outer"], [y], name=f"add_{y}"),
        ]

    inner = helper.make_node(
        "If", ["c"], ["deep"], name="inner",
        then_branch=branch("t2", product("x", "p")),
        else_branch=branch("e2", product("outer", "q")),
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["outer"], name="mm"),
        helper.make_node(
            "If", ["c"], ["z"], name="if", then_branch=branch("t", [inner]),
            else_branch=branch("e", product("x", "r")),
        ),
        helper.make_node("MatMul", ["z", "w"], ["y"], name="last"),
    ]  # fmt: skip
    return models.save(
        path, nodes, {"w": W(520, 520)}, {"x": (FLOAT, [4, 520]), "c": (BOOL, [])},
        {"y": (FLOAT, [4, 520])},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_an_unsorted_graph_gives_what_the_sorted_one_does(tmp_path, seed):
    src, out = branchy(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    wanted = quantize(src, tmp_path / "sorted.onnx", Recipe())
    model = onnx.load(src, load_external_data=False)
    shuffle(model.graph, seed)
    unsorted = tmp_path / "unsorted.onnx"
    unsorted.write_bytes(model.SerializeToString())
    result = quantize(unsorted, out, Recipe())
    assert sorted(result["quantized"]) == sorted(wanted["quantized"])
    onnx.checker.check_model(str(out))
    for c in (True, False):
        a, b = (models.run(p, x=X, c=np.array(c))[0] for p in (src, out))
        assert models.cosine(a, b) > 0.99


def test_a_sorted_graph_keeps_its_order(tmp_path):
    """Also where the nodes could stand otherwise."""
    src = models.voice(tmp_path / "m.onnx")
    order = [node.name for node in onnx.load(src).graph.node]
    assert [node.name for node in read_model(src).graph.node] == order


@pytest.mark.parametrize("ring", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_circle_is_refused(tmp_path, ring):
    nodes = [
        helper.make_node("Add", ["x", before], [name], name=name)
        for before, name in zip([ring[-1], *ring], ring, strict=False)
    ]
    nodes.append(helper.make_node("MatMul", [ring[0], "w"], ["y"], name="n"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", FLOAT, [4, 520])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [onnx.numpy_helper.from_array(W(520, 8), "w")],
    )  # fmt: skip
    src = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=opsets), src)
    with pytest.raises(ModelOpsError, match="the nodes go in a circle"):
        quantize(src, tmp_path / "out.onnx", Recipe())


# --- opsets before 7 ---------------------------------------------------------------------------


def test_the_converter_that_is_named_makes_an_old_model_usable(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="g", broadcast=1),
        helper.make_node("Dropout", ["h"], ["d"], name="d", is_test=1),
        helper.make_node("Add", ["d", "b"], ["y"], name="a", broadcast=1, axis=1),
    ]
    tensors = {"w": W(520, 520), "b": W(520)}
    values = {"x": [4, 520], **{name: list(array.shape) for name, array in tensors.items()}}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, FLOAT, s) for n, s in values.items()],
        [helper.make_tensor_value_info("y", FLOAT, [4, 520])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )  # fmt: skip
    old = helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 6)])
    onnx.save(old, tmp_path / "OLD.onnx")
    with pytest.raises(ModelOpsError, match="opset is 6") as refusal:
        quantize(tmp_path / "OLD.onnx", tmp_path / "out.onnx", Recipe())
    script = refusal.value.remedy.split('"')[1]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    result = quantize(tmp_path / "NEW.onnx", tmp_path / "out.onnx", Recipe())
    assert result["quantized"] == ["g"]
    (y,) = models.run(tmp_path / "out.onnx", x=X)
    assert models.cosine(y, X @ tensors["w"] + 2 * tensors["b"]) > 0.99
