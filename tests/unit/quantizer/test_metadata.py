"""What a model and its nodes say of themselves stays, whatever form a node takes."""

from __future__ import annotations

from pathlib import Path

import models
import onnx
import pytest
from form_cases import build
from modelops.model.walk import all_graphs
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper


def told(path: Path) -> Path:
    """Let the model and each node say where they come from."""
    model = onnx.load(path, load_external_data=False)
    model.producer_name, model.producer_version = "pytorch", "2.9.0"
    model.domain, model.model_version, model.doc_string = "org.sarai", 7, "a voice"
    helper.set_model_props(model, {"license": "MIT", "voice": "es"})
    model.graph.doc_string = "the graph"
    model.graph.metadata_props.add(key="stage", value="decoder")
    for index, node in enumerate(model.graph.node):
        node.doc_string = f"from line {index}"
        node.metadata_props.add(key="scope", value=f"layers.{index}")
    onnx.save(model, path)
    return path


def sayings(model: onnx.ModelProto) -> dict[str, tuple[str, dict[str, str]]]:
    """What is said of each node, by its first output."""
    return {
        node.output[0]: (node.doc_string, {p.key: p.value for p in node.metadata_props})
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.doc_string
    }


@pytest.mark.parametrize(
    ("case", "form"),
    [
        *[("large matrix", f) for f in ("dynamic_int8", "blockwise_int8", "weight_int8", "fp32")],
        *[("gemm", f) for f in ("dynamic_int8", "blockwise_int8")],
        ("conv", "weight_int8"),
        ("lstm", "weight_int8"),
        ("small behind transpose", "weight_int8"),
        ("weight normalization", "weight_int8"),
    ],
)
def test_a_node_keeps_what_it_says(tmp_path, case, form):
    src = told(build(tmp_path / "m.onnx", case))
    out = tmp_path / "out.onnx"
    quantize(src, out, Recipe(forms={"n": form}))
    before, after = sayings(onnx.load(src)), sayings(onnx.load(out))
    assert after["y"] == before["y"]
    assert after.items() <= before.items() or case == "weight normalization"
    onnx.checker.check_model(str(out), full_check=False)


def test_rows_and_the_model_keep_what_they_say(tmp_path):
    src, out = told(models.voice(tmp_path / "m.onnx")), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert "emb" in result["quantized"]
    before, after = onnx.load(src), onnx.load(out)
    assert sayings(after) == sayings(before)
    for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(after, name) == getattr(before, name) != ""
    assert after.metadata_props == before.metadata_props
    assert after.graph.doc_string == before.graph.doc_string
    assert after.graph.metadata_props == before.graph.metadata_props


def test_a_model_that_names_no_producer_names_the_quantizer(tmp_path):
    quantize(models.voice(tmp_path / "m.onnx"), tmp_path / "out.onnx", Recipe())
    assert onnx.load(tmp_path / "out.onnx").producer_name == "modelops"


def test_nothing_is_said_of_a_node_that_says_nothing(tmp_path):
    src, out = build(tmp_path / "m.onnx", "large matrix"), tmp_path / "out.onnx"
    quantize(src, out, Recipe())
    model = onnx.load(out)
    assert not any(node.HasField("doc_string") for node in model.graph.node)
    assert not any(len(node.metadata_props) for node in model.graph.node)
