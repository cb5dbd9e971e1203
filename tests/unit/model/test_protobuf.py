"""Reading a graph without the weights inside it."""

from __future__ import annotations

import os
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from examples import examples
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.model import protobuf
from modelops.model.locate import locate
from modelops.model.walk import all_graphs
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper, numpy_helper
from subprocesses import growth


def restored(path: Path) -> onnx.ModelProto:
    """The skeleton with the left-out bytes read back."""
    model = protobuf.load(path)
    for graph in all_graphs(model.graph):
        values = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
        for tensor in (*graph.initializer, *values):
            if tensor.data_location == TensorProto.EXTERNAL:
                extent = locate(tensor, path)
                with extent.path.open("rb") as handle:
                    handle.seek(extent.offset)
                    tensor.raw_data = handle.read(extent.length)
                del tensor.external_data[:]
                tensor.ClearField("data_location")
    return model


def branches(path: Path) -> Path:
    """Large initializers and constants in the graph and in a branch of an If."""
    large = numpy_helper.from_array(models.random_weight(200, 200))
    inner = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["u"], name="in"),
            helper.make_node("Constant", [], ["k"], value=large),
            helper.make_node("MatMul", ["u", "k"], ["z"], name="constant"),
        ], "b", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 200])],
        [numpy_helper.from_array(models.random_weight(300, 200), "v")],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=inner, else_branch=inner)
    return models.save(
        path, [helper.make_node("MatMul", ["a", "w"], ["x"], name="out"), node],
        {"w": models.random_weight(200, 300), "small": models.random_weight(3, 3)},
        {"a": (TensorProto.FLOAT, [4, 200]), "c": (TensorProto.BOOL, [])},
        {"y": (TensorProto.FLOAT, [4, 200])}, external=False,
    )  # fmt: skip


def test_nothing_is_lost(tmp_path):
    path = branches(tmp_path / "m.onnx")
    left_out = protobuf.load(path)
    assert left_out.ByteSize() < path.stat().st_size / 50
    assert restored(path) == onnx.load(path)


def test_a_constant_node_gives_the_bits_of_an_initializer(tmp_path):
    weight = numpy_helper.from_array(models.random_weight(600, 520), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    constant = helper.make_node("Constant", [], ["w"], value=weight)
    pairs = []
    for name, nodes in (("i", [product]), ("c", [constant, product])):
        weights = {} if len(nodes) == 2 else {"w": numpy_helper.to_array(weight)}
        src = models.save(
            tmp_path / f"{name}.onnx", nodes, weights, {"x": (TensorProto.FLOAT, [4, 600])},
            {"y": (TensorProto.FLOAT, [4, 520])}, external=False,
        )  # fmt: skip
        assert protobuf.load(src).ByteSize() < 1000
        quantize(src, tmp_path / "out.onnx", Recipe(), force=True)
        pairs.append([(tmp_path / f"out.onnx{end}").read_bytes() for end in ("", ".data")])
    assert pairs[0] == pairs[1]


def test_an_inline_model_gives_the_bits_of_an_external_one(tmp_path):
    results = []
    for external in (True, False):
        folder = tmp_path / str(external)
        folder.mkdir()
        src = models.matmul(folder / "m.onnx", 600, 520, external=external)
        quantize(src, folder / "out.onnx", Recipe())
        results.append((folder / "out.onnx.data").read_bytes())
    assert results[0] == results[1]


def test_a_hard_linked_inline_model_is_no_danger(tmp_path):
    src = models.matmul(tmp_path / "m.onnx", 600, 520, external=False)
    os.link(src, tmp_path / "second.onnx")
    assert quantize(src, tmp_path / "out.onnx", Recipe())["quantized"] == ["mm"]


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_bytes_end_in_an_error_or_a_model(tmp_path, data):
    path = tmp_path / "m.onnx"
    content = bytearray(branches(tmp_path / "whole.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        expected = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        with pytest.raises((DecodeError, RecursionError)):
            protobuf.load(path)
        return
    try:
        protobuf.load(path)
    except DecodeError:
        return  # unknown groups and the like: stricter is fine
    assert expected.ByteSize() >= 0


def test_memory_does_not_hold_an_inline_model(tmp_path):
    """A weight of 128 MB inside the graph passes through a process that grows by far less."""
    src = models.matmul(
        tmp_path / "m.onnx", 4096, 8192, np.ones((4096, 8192), np.float32), external=False
    )
    assert growth(src, tmp_path / "o.onnx") < 48 << 20
