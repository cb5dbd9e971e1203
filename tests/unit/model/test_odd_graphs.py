"""Graphs that are odd, but right: they are quantized, and answer as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from modelops.base.errors import ModelOpsError
from modelops.quantizer.data_file import Layout
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import ModelProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def go(src: Path, **recipe) -> dict:
    return quantize(src, src.with_name("out.onnx"), Recipe(**recipe), threads=1)


def changed(path: Path, change: Callable[[ModelProto], None]) -> Path:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializePartialToString())
    return path


def node_of(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def test_model_without_a_quantizable_weight_is_a_clear_no_op(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    spec = {"x": (FLOAT, [2, 4])}
    src = models.save(tmp_path / "m.onnx", [node], {}, spec, {"y": (FLOAT, [2, 4])}, external=False)
    result = go(src)
    assert result["quantized"] == []
    assert result["kept_fp32"] == [{"node": "relu", "op": "Relu", "reason": "it holds no weight"}]
    assert "No node was quantized" in result["notes"][0]
    x = np.array([[-1, 0, 1, 2]] * 2, np.float32)
    assert np.array_equal(models.run(tmp_path / "out.onnx", x=x)[0], np.maximum(x, 0))


@pytest.mark.parametrize("form", ["dynamic_int8", "blockwise_int8", "weight_int8"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize(
    "weight",
    [np.zeros((64, 48)), np.full((64, 48), 1e-40), np.full((64, 48), -0.3), np.eye(64, 48) * 1e-45],
    ids=["zero", "denormal", "constant", "nearly zero"],
)
def test_weights_without_a_spread(tmp_path, weight, granularity, form):
    src = models.matmul(tmp_path / "m.onnx", 64, 48, weight.astype(np.float32))
    go(src, granularity=granularity, forms={"mm": form})
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    wanted, found = (models.run(tmp_path / f"{name}.onnx", x=x)[0] for name in ("m", "out"))
    assert np.isfinite(found).all()
    assert np.abs(wanted - found).max() <= 0.02 * max(np.abs(wanted).max(), 1e-30)


@pytest.mark.parametrize("form", ["dynamic_int8", "blockwise_int8", "weight_int8"])
@pytest.mark.parametrize("name", ["", "same"])
def test_node_names_that_are_empty_or_the_same(tmp_path, name, form):
    src = models.voice(tmp_path / "voice.onnx")
    codes = np.arange(8).reshape(1, 8)
    wanted = models.run(src, codes=codes)[0]

    def rename(model: ModelProto) -> None:
        for node in model.graph.node:
            node.name = name

    result = go(changed(src, rename), forms=dict.fromkeys(("same", "h1", "h2", "mel"), form))
    # The head is too small to be smaller with scales, whatever the recipe says.
    assert len(result["quantized"]) == (3 if form == "weight_int8" else 4)
    found = models.run(tmp_path / "out.onnx", codes=codes)[0]
    assert models.cosine(wanted, found) > 0.99


def test_constant_node_with_its_value_in_the_data_file(tmp_path):
    weight = models.random_weight(64, 48)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {}, {"x": (FLOAT, [4, 64])}, {"y": (FLOAT, [4, 48])}, False
    )
    onnx.save_model(
        onnx.load(src), src, save_as_external_data=True, convert_attribute=True,
        location="m.onnx.data", size_threshold=0,
    )  # fmt: skip
    assert go(src)["quantized"] == ["mm"]
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    found = models.run(tmp_path / "out.onnx", x=x)[0]
    assert models.cosine(x @ weight, found) > 0.999


def test_a_name_of_a_body_hides_the_weight_outside(tmp_path):
    """The body's own input is no constant, whatever an outer tensor of its name holds."""
    from modelops.model.reader import read_model
    from modelops.model.tensor_blocks import Files
    from modelops.quantizer.plan import Plan

    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"], name="inner")], "body",
        [helper.make_tensor_value_info("w", FLOAT, [64, 48])],
        [helper.make_tensor_value_info("z", FLOAT, [4, 48])],
    )  # fmt: skip
    node = helper.make_node("Scan", ["s"], ["y"], name="scan", body=body, num_scan_inputs=1)
    inputs = {"x": (FLOAT, [4, 64]), "s": (FLOAT, [2, 64, 48])}
    weights = {"w": models.random_weight(64, 48)}
    src = models.save(tmp_path / "m.onnx", [node], weights, inputs, {"y": (FLOAT, None)})
    plan = Plan(read_model(src), src, Layout("out.onnx.data"), Recipe(), Files(), None, None)
    assert [(d.node, d.form) for d in plan.decisions] == [("inner", "fp32")]


def product(path: Path, first: list[onnx.NodeProto], weights: dict, last: str, **kw) -> Path:
    """`first` gives h from x [4, 64]; behind it a matrix, whose result is `last` [4, 48]."""
    nodes = [*first, helper.make_node("MatMul", ["h", "w"], [last], name="mm")]
    weights = {"w": models.random_weight(64, 48), **weights}
    return models.save(path, nodes, weights, {"x": (FLOAT, [4, 64])}, {last: (FLOAT, None)}, **kw)


def alike(src: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    wanted, found = (models.run(src.with_name(name), x=x)[0] for name in (src.name, "out.onnx"))
    assert models.cosine(wanted, found) > 0.999


@pytest.mark.parametrize("op", ["Add", "Where"])
def test_inf_in_a_mask_is_no_broken_weight(tmp_path, op):
    mask = np.triu(np.full((64, 64), -np.inf, np.float32), 1)
    reads = ["x", "rows"] if op == "Add" else ["yes", "x", "rows"]
    first = [
        helper.make_node("Slice", ["mask", "zero", "four"], ["rows"], name="rows"),
        helper.make_node(op, reads, ["m"], name="masked"),
        helper.make_node("Softmax", ["m"], ["h"], name="softmax"),
    ]
    at = {"zero": np.array([0]), "four": np.array([4]), "yes": np.tri(4, 64, 9).astype(bool)}
    src = product(tmp_path / "m.onnx", first, {"mask": mask, **at}, "y")
    assert go(src)["quantized"] == ["mm"]
    alike(src)


def test_old_models_name_their_weights_among_the_inputs(tmp_path):
    def to_ir_3(model: ModelProto) -> None:
        model.ir_version = 3
        model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [64, 48]))

    first = [helper.make_node("Tanh", ["x"], ["h"])]
    src = changed(product(tmp_path / "m.onnx", first, {}, "y", external=False, opset=8), to_ir_3)
    assert go(src)["quantized"] == ["mm"]
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    alike(src)


def lists(model: ModelProto, name: str, *calls: str, opset: int = 17) -> None:
    """Add a function own::NAME that gives a x w, or calls others one after the other."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(
            models.random_weight(64, 64, seed=len(name))
        )),
        helper.make_node("MatMul", ["a", "w"], ["o"], name="inside"),
    ] if not calls else [
        helper.make_node(call, [f"a{i}" if i else "a"], [f"a{i + 1}"], domain="own")
        for i, call in enumerate(calls)
    ]  # fmt: skip
    result = nodes[-1].output[0]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, ["a"], [result], nodes, opsets))


@pytest.mark.parametrize("opset", [17, 13])
def test_weights_in_functions(tmp_path, opset):
    first = [helper.make_node("Outer", ["x"], ["h"], domain="own")]

    def add_functions(model: ModelProto) -> None:
        lists(model, "Inner", opset=opset)
        lists(model, "Outer", "Inner", "Inner", opset=opset)

    src = changed(product(tmp_path / "m.onnx", first, {}, "y", external=False), add_functions)
    result = go(src)
    assert "mm" in result["quantized"]
    if opset == 17:
        assert len(result["quantized"]) == 3
    else:
        (kept,) = result["kept_fp32"]
        assert kept["op"] == "Outer" and "of another opset" in kept["reason"]
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    alike(src)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ({"F": ["G"], "G": ["F"]}, "calls itself"),
        ({"F": ["G"] * 9, **{"GHIJKL"[i]: ["GHIJKLM"[i + 1]] * 9 for i in range(6)}}, "nodes come"),
        ({"F": ["Magic"]}, "own::Magic"),
    ],
    ids=["circle", "too many", "unknown"],
)
def test_functions_that_are_refused(tmp_path, calls, words):
    def add_functions(model: ModelProto) -> None:
        for name, called in calls.items():
            lists(model, name, *called)

    first = [helper.make_node("F", ["x"], ["h"], domain="own")]
    src = changed(product(tmp_path / "m.onnx", first, {}, "y", external=False), add_functions)
    with pytest.raises(ModelOpsError, match=words):
        go(src)


@pytest.mark.parametrize(("kind", "size"), [("FLOAT8E4M3FN", 1.0), ("INT4", 0.5)])
def test_other_small_types_stay_as_they_are(tmp_path, kind, size):
    raw = bytes(range(64)) * int(32 * 100 * size)
    packed = TensorProto(
        name="c", data_type=TensorProto.DataType.Value(kind), dims=[3200, 64], raw_data=raw
    )
    first = [
        helper.make_node("Cast", ["c"], ["f"], to=FLOAT),
        helper.make_node("Gather", ["f", "rows"], ["g"], name="rows"),
        helper.make_node("Add", ["x", "g"], ["h"], name="sum"),
    ]
    src = product(tmp_path / "m.onnx", first, {"rows": np.arange(4)}, "y", external=False, opset=21)
    go(changed(src, lambda model: model.graph.initializer.append(packed)))
    alike(src)


def test_a_model_without_operators_of_the_default_domain(tmp_path):
    attention = helper.make_node(
        "Attention", ["x", "w", "b"], ["y"], name="att", domain="com.microsoft", num_heads=2
    )
    weights = {"w": models.random_weight(32, 96), "b": np.zeros(96, np.float32)}
    x = {"x": (FLOAT, [1, 5, 32])}
    src = models.save(tmp_path / "m.onnx", [attention], weights, x, {"y": (FLOAT, None)})
    result = go(changed(src, lambda model: model.opset_import.pop(0)))
    assert result["quantized"] == ["att"]
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    values = np.random.default_rng(0).standard_normal((1, 5, 32)).astype(np.float32)
    wanted, found = (models.run(tmp_path / f"{name}.onnx", x=values)[0] for name in ("m", "out"))
    assert models.cosine(wanted, found) > 0.999


def test_a_node_without_a_name_is_excluded_by_its_output(tmp_path):
    src = models.voice(tmp_path / "voice.onnx")
    result = go(changed(src, lambda model: node_of(model, "mm1").ClearField("name")),
                exclude_nodes=("h1",))  # fmt: skip
    assert {"node": "h1", "op": "MatMul", "reason": "exclude_nodes names it"} in result["kept_fp32"]


def test_many_dead_nodes_and_equal_names(tmp_path):
    count = 4000
    weight = models.random_weight(40, 36)
    readers = [
        helper.make_node("MatMul", ["x", f"i{count}"], [f"y{i}"], name="n") for i in range(count)
    ]
    chain = [helper.make_node("Identity", [f"i{i}"], [f"i{i + 1}"], name="n") for i in range(count)]
    nodes = [helper.make_node("Identity", ["w"], ["i0"], name="n"), *chain, *readers]
    outputs = {f"y{i}": (FLOAT, [4, 36]) for i in range(count)}
    src = models.save(tmp_path / "m.onnx", nodes, {"w": weight}, {"x": (FLOAT, [4, 40])}, outputs)
    assert len(go(src, forms={"n": "blockwise_int8"})["quantized"]) == count
