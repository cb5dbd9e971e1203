"""Graphs that contradict themselves are refused with the cause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import models
import onnx
import pytest
from modelops.base.errors import ModelOpsError
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import ModelProto, TensorProto, helper

FLOAT = TensorProto.FLOAT
FUZZER = Path(__file__).resolve().parents[2] / "fuzz" / "graph_reader.py"


def go(src: Path, **recipe) -> dict:
    return quantize(src, src.with_name("out.onnx"), Recipe(**recipe), threads=1)


def changed(path: Path, change: Callable[[ModelProto], None]) -> Path:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializePartialToString())
    return path


def node_of(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def tensor_of(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def place(name: str, **fields: object) -> Callable[[ModelProto], None]:
    """Say something else about where a tensor lies."""

    def change(model: ModelProto) -> None:
        entries = tensor_of(model, name).external_data
        kept = {entry.key: entry.value for entry in entries} | fields
        del entries[:]
        for key, value in kept.items():
            entries.add(key=key, value=str(value))

    return change


def cycle(model: ModelProto) -> None:
    node_of(model, "mm1").input[0] = "t1"


def set_input(name: str, index: int, value: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        node_of(model, name).input[index] = value

    return change


def drop_inputs(name: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        del node_of(model, name).input[1:]

    return change


def set_output(name: str, value: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        node_of(model, name).output[0] = value

    return change


def set_tensor(which: str, **fields: object) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = tensor_of(model, which)
        for field, value in fields.items():
            if field == "dims":
                tensor.dims[:] = value
            else:
                setattr(tensor, field, value)

    return change


def alpha_as_text(model: ModelProto) -> None:
    attribute = next(a for a in node_of(model, "head").attribute if a.name == "alpha")
    attribute.CopyFrom(helper.make_attribute("alpha", "0.5"))


def trans_b_of_matmul(model: ModelProto) -> None:
    node_of(model, "mm1").attribute.append(helper.make_attribute("transB", 1))


def alpha_twice(model: ModelProto) -> None:
    node_of(model, "head").attribute.append(helper.make_attribute("alpha", 1.0))


def second_w1(model: ModelProto) -> None:
    model.graph.initializer.add().CopyFrom(tensor_of(model, "w1"))


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def opset_6(model: ModelProto) -> None:
    model.opset_import[0].version = 6


BAD = {
    "offset no number": (place("w1", offset="x"), "offset 'x'"),
    "offset with underscore": (place("w1", offset="1_0"), "offset '1_0'"),
    "offset negative": (place("w1", offset=-4096), "offset -4,096"),
    "offset behind the end": (place("w1", offset=1 << 40), "truncated"),
    "length no number": (place("w1", length="4e3"), "length '4e3'"),
    "length too small": (place("w1", length=4092), "length 4,092"),
    "length too large": (place("w1", length=1 << 50), "needs 4,096 bytes"),
    "overlap": (place("w1", offset=4), "overlap"),
    "location is the folder": (place("w1", location="."), "not a regular file"),
    "two tensors of one name": (second_w1, "two tensors are named 'w1'"),
    "tensor without a name": (set_tensor("w1", name=""), "a tensor has no name"),
    "negative dimension": (set_tensor("w1", dims=[-1, 32]), "shape [-1, 32]"),
    "huge dimension": (set_tensor("w1", dims=[1 << 62, 32]), "needs 590,295,"),
    "too many dimensions": (set_tensor("w1", dims=[1] * 40), "shape [1, 1, 1"),
    "unknown type": (set_tensor("w1", data_type=99), "data type 99"),
    "unusable type": (set_tensor("w1", data_type=TensorProto.STRING), "type 8 is not supported"),
    "inline content too short": (set_tensor("shape", dims=[3]), "needs 24 bytes, but holds 16"),
    "cycle": (cycle, "go in a circle"),
    "reads what nobody gives": (set_input("mm1", 0, "ghost"), "'ghost', which nothing gives"),
    "given twice": (set_output("mm2", "h1"), "gives 'h1', which is there already"),
    "gives nothing": (set_output("tanh", ""), "gives no output"),
    "output that nobody gives": (set_output("head", "other"), "the output 'mel'"),
    "too few inputs": (drop_inputs("mm1"), "lacks one of the 2 inputs"),
    "attribute of another type": (alpha_as_text, "alpha of node 'head' (Gemm) is not of the type"),
    "attribute of another operator": (trans_b_of_matmul, "'transB', unknown there"),
    "attribute twice": (alpha_twice, "two attributes of one name"),
    "empty model": (no_nodes, "no graph with nodes"),
    "old opset": (opset_6, "opset is 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_graph_is_refused(tmp_path, name):
    change, words = BAD[name]
    src = changed(models.voice(tmp_path / "voice.onnx"), change)
    before = models.tree(tmp_path)
    with pytest.raises(ModelOpsError) as caught:
        go(src)
    assert words in str(caught.value)
    assert caught.value.remedy or "problems" in caught.value.facts
    assert models.tree(tmp_path) == before


def test_names_that_are_no_text(tmp_path):
    src = models.voice(tmp_path / "voice.onnx")
    src.write_bytes(src.read_bytes().replace(b"mm1", b"m\xff1"))
    with pytest.raises(ModelOpsError, match="not UTF-8"):
        go(src)


def test_one_kind_of_problem_is_said_once(tmp_path):
    def lose(model: ModelProto) -> None:
        for node in model.graph.node:
            node.input[0] = f"lost {node.name}"

    src = changed(models.voice(tmp_path / "voice.onnx"), lose)
    with pytest.raises(ModelOpsError, match="and 6 more such") as caught:
        go(src)
    assert "problems" not in caught.value.facts


def test_fuzzing_finds_nothing():
    """The first cases of `make fuzz`, always the same ones."""
    done = subprocess.run(
        [sys.executable, str(FUZZER), "--short"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
