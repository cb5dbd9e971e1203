"""Weights that several graphs of a model read: unpacked once, as FP32 holds them once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from form_cases import FLOAT, W, decisions, normalized
from modelops.model.reader import read_model
from modelops.model.walk import all_graphs
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper

WIDTH = 64
BOOL, I64 = TensorProto.BOOL, TensorProto.INT64


def conv(result: str, x: str = "x", weight: str = "w") -> onnx.NodeProto:
    return helper.make_node("Conv", [x, weight], [result], name=f"conv_{result}", pads=[1, 1])


def graph(name: str, nodes: list[onnx.NodeProto], output: str, inputs=()) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, FLOAT, None)
    return helper.make_graph(nodes, name, list(inputs), [value])


def choice(result: str, then: list, other: list, condition: str = "c") -> onnx.NodeProto:
    """An If whose branches give out what their last nodes give."""
    branches = {
        "then_branch": graph(f"{result}_then", then, then[-1].output[0]),
        "else_branch": graph(f"{result}_else", other, other[-1].output[0]),
    }
    return helper.make_node("If", [condition], [result], name=result, **branches)


def loop(nodes: list, result: str) -> onnx.NodeProto:
    """A Loop of three turns that carries h along; `nodes` give h2."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["go"], ["go2"])], "body",
        [value("i", I64, []), value("go", BOOL, []), value("h", FLOAT, None)],
        [value("go2", BOOL, []), value("h2", FLOAT, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["three", "", "x"], [result], name=result, body=body)


def transposed(name: str) -> list[onnx.NodeProto]:
    """A product with the table's rows, as the output head of an embedding."""
    return [
        helper.make_node("Transpose", ["w"], [f"{name}t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", f"{name}t"], [name], name=f"mm_{name}"),
    ]


VECTOR = [1, WIDTH, 9]
CASES = {
    "both branches": ([choice("y", [conv("a")], [conv("b")])], W(WIDTH, WIDTH, 3), VECTOR),
    "outside and a branch": (
        [conv("z"), choice("y", [conv("a", "z")], [helper.make_node("Neg", ["z"], ["b"])])],
        W(WIDTH, WIDTH, 3), VECTOR,
    ),
    "a branch, then outside": (
        [choice("z", [conv("a")], [helper.make_node("Neg", ["x"], ["b"])]), conv("y", "z")],
        W(WIDTH, WIDTH, 3), VECTOR,
    ),
    "two Ifs": (
        [
            choice("z", [conv("a")], [helper.make_node("Neg", ["x"], ["b"])]),
            choice("y", [conv("d", "z")], [helper.make_node("Neg", ["z"], ["e"])]),
        ],
        W(WIDTH, WIDTH, 3), VECTOR,
    ),
    "an If within an If": (
        [choice("y", [conv("a"), choice("n", [conv("d", "a")], [conv("e", "a")])], [conv("b")])],
        W(WIDTH, WIDTH, 3), VECTOR,
    ),
    "a loop and outside": (
        [loop([conv("h2", "h")], "z"), conv("y", "z")], W(WIDTH, WIDTH, 3) * np.float32(0.1),
        VECTOR,
    ),
    "small matrices, turned": (
        [choice("y", transposed("a"), transposed("b"))], W(48, WIDTH), [4, WIDTH],
    ),
    "normalized in each branch": (
        [
            choice(
                "y",
                [*normalized("w"), conv("a", weight="wn")],
                [*normalized("w"), conv("b", weight="wn")],
            )
        ],
        W(WIDTH, WIDTH, 3), VECTOR,
    ),
    "a head in each branch": (
        [
            helper.make_node("Gather", ["w", "three"], ["e"], name="emb"),
            choice("y", transposed("a"), transposed("b")),
        ],
        W(700, 400), [4, 400],
    ),
}  # fmt: skip


def build(path: Path, case: str) -> Path:
    nodes, weight, shape = CASES[case]
    weights = {"w": weight, "three": np.array(3, np.int64), "g": W(WIDTH, 1, 1)}
    outputs = dict.fromkeys(["y", "e"] if case == "a head in each branch" else ["y"], (FLOAT, None))
    return models.save(path, nodes, weights, {"x": (FLOAT, shape), "c": (BOOL, [])}, outputs)


def makers(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes unpack or turn each INT8 tensor."""
    graphs = list(all_graphs(model.graph))
    int8 = {t.name for g in graphs for t in g.initializer if t.data_type == TensorProto.INT8}
    makers = (n for g in graphs for n in g.node if n.op_type in ("Cast", "Transpose"))
    return Counter(n.input[0] for n in makers if n.input[0] in int8)


def bytes_at_work(path: Path, folder: Path) -> int:
    """The bytes of all initializers that a default session holds after all that it does at load."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graphs = all_graphs(onnx.load(folder / "optimized.onnx").graph)
    return sum(onnx.numpy_helper.to_array(t).nbytes for g in graphs for t in g.initializer)


@pytest.mark.parametrize("case", CASES)
def test_a_weight_is_unpacked_once_for_all_graphs(tmp_path, case):
    src, out = build(tmp_path / "m.onnx", case), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert not result["kept_fp32"]
    assert makers(onnx.load(out)) and max(makers(onnx.load(out)).values()) == 1
    if case != "normalized in each branch":  # FP32 makes one for each branch too
        held = bytes_at_work(src, tmp_path)
        assert bytes_at_work(out, tmp_path) <= 1.05 * held
    x = np.random.default_rng(3).standard_normal(CASES[case][2]).astype(np.float32)
    for c in (True, False):
        for a, b in zip(*(models.run(p, x=x, c=np.array(c)) for p in (src, out)), strict=True):
            assert models.cosine(a, b) > 0.999
    onnx.checker.check_model(str(out))
    assert not quantize(src, out, Recipe())["changed"]


def test_a_weight_of_one_graph_is_unpacked_there(tmp_path):
    """So models without shared weights give the bytes that they always gave."""
    nodes = [choice("y", [conv("a"), conv("d", "a")], [helper.make_node("Neg", ["x"], ["b"])])]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(WIDTH, WIDTH, 3)},
        {"x": (FLOAT, VECTOR), "c": (BOOL, [])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    quantize(src, out, Recipe())
    assert [node.op_type for node in read_model(out).graph.node] == ["If"]


def test_a_search_works_with_shared_weights(tmp_path):
    src, out = build(tmp_path / "m.onnx", "outside and a branch"), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(), proof=Proof(quality={"mse": 1e-12}, required=False))
    assert len(result["quality_path"]) > 1
    assert {d["form"] for d in decisions(result)} == {"weight_int8"}


def wide(result: str, x: str = "x") -> onnx.NodeProto:
    return helper.make_node("Conv", [x, "w"], [result], name=f"conv_{result}", pads=[2, 2])


@pytest.mark.parametrize(
    "nodes",
    [
        [choice("y", [wide("a")], [wide("b")])],
        [wide("z"), choice("y", [wide("a", "z")], [helper.make_node("Neg", ["z"], ["b"])])],
        [choice("y", [wide("a"), choice("n", [wide("d", "a")], [wide("e", "a")])], [wide("b")])],
    ],
    ids=["both branches", "outside and a branch", "an If within an If"],
)
def test_the_matrix_of_a_convolution_is_packed_for_no_graph_where_several_read_it(tmp_path, nodes):
    """A constant would be packed again for each: nobody reads it but the Reshape."""
    channels = 128
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(channels, channels, 5)},
        {"c": (BOOL, []), "x": (FLOAT, [1, channels, 9])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    assert {d["form"] for d in decisions(quantize(src, out, Recipe()))} == {"dynamic_int8"}
    model = read_model(out)
    readers = Counter(
        n.op_type for g in all_graphs(model.graph) for n in g.node if "w_quantized" in n.input
    )
    assert readers == {"Reshape": 1}
    x = np.random.default_rng(3).standard_normal((1, channels, 9)).astype(np.float32)
    for c in (True, False):
        (was,), (now,) = (models.run(p, x=x, c=np.array(c)) for p in (src, out))
        assert models.cosine(was, now) > 0.999
    assert not quantize(src, out, Recipe())["changed"]
