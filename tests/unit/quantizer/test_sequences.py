"""Conv over time and LSTM, multiplied in INT8."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from examples import examples
from form_cases import FLOAT, W, decisions, node
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.measuring.session import Setup
from modelops.quantizer.quantize import Proof, quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto

INT8 = Recipe(forms={"n": "dynamic_int8"})


def save(path: Path, made: onnx.NodeProto, weights: dict, shape: list) -> Path:
    outputs = dict.fromkeys((name for name in made.output if name), (FLOAT, None))
    return models.save(path, [made], weights, {"x": (FLOAT, shape)}, outputs)


def conv(path: Path, n: int, c: int, kernel: int, bias: bool = True, **attributes) -> Path:
    weights = {"w": W(n, c, kernel, outlier=0)} | ({"b": W(n, outlier=0)} if bias else {})
    return save(path, node("Conv", "x", *weights, **attributes), weights, ["n", c, "t"])


def answers(src: Path, out: Path, *shape: int) -> None:
    """Hold the result against the source on one input."""
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    for a, b in zip(models.run(src, x=x), models.run(out, x=x), strict=True):
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(a)  # 0, where windows see padding only


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_conv_over_time_is_a_product(tmp_path, granularity):
    src, out = conv(tmp_path / "m.onnx", 96, 80, 9, pads=[4, 4]), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(granularity=granularity))
    (decision,) = decisions(result)
    assert decision["form"] == "dynamic_int8" and "over time" in decision["reason"]
    onnx.checker.check_model(str(out), full_check=True)
    answers(src, out, 2, 80, 33)
    assert out.with_name("out.onnx.data").stat().st_size < 0.27 * 4 * 96 * 80 * 9
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
    ops = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "MatMulIntegerToFloat" in ops and "Conv" not in ops


@settings(max_examples=examples(40))
@given(data=st.data())
def test_every_kind_of_window(tmp_path_factory, data):
    draw = data.draw
    n, c, kernel = (draw(st.integers(*ends)) for ends in ((16, 40), (16, 40), (1, 6)))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    attributes: dict = {"strides": [stride], "dilations": [dilation]}
    padding = draw(st.sampled_from(["pads", "none", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding == "pads":
        attributes["pads"] = draw(st.lists(st.integers(0, 4), min_size=2, max_size=2))
    elif padding != "none":
        attributes["auto_pad"] = padding
        if padding != "VALID":
            attributes["dilations"] = [1]  # onnxruntime pads others as if they had none
    steps = draw(st.integers(dilation * (kernel - 1) + 1, 40))
    folder = tmp_path_factory.mktemp("conv")
    src, out = folder / "m.onnx", folder / "out.onnx"
    conv(src, n, c, kernel, draw(st.booleans()), **attributes)
    result = quantize(src, out, INT8)
    form = "weight_int8" if padding.startswith("SAME") and stride > 1 else "dynamic_int8"
    assert [d["form"] for d in decisions(result)] in ([form], ["fp32"])
    answers(src, out, draw(st.integers(1, 2)), c, steps)


def test_convs_that_are_no_product_stay_weights(tmp_path):
    cases = {
        "groups": (W(96, 40, 9), [1, 80, 33], {"group": 2}),
        "images": (W(96, 80, 3, 3), [1, 80, 9, 9], {}),
    }
    for name, (weight, shape, attributes) in cases.items():
        src = save(
            tmp_path / f"{name}.onnx", node("Conv", "x", "w", **attributes), {"w": weight}, shape
        )
        (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
        assert decision["form"] == "weight_int8" and "slower over images" in decision["reason"]
        answers(src, tmp_path / "out.onnx", *shape)


def lstm(path: Path, cells: int = 128, k: int = 96, both: bool = False, **attributes) -> Path:
    d = 2 if both else 1
    weights = {"w": W(d, 4 * cells, k, outlier=0) / 2, "r": W(d, 4 * cells, cells, outlier=0) / 2}
    weights["b"] = W(d, 8 * cells, outlier=0)
    weights = {name: weight.astype(np.float32) for name, weight in weights.items()}
    direction = "bidirectional" if both else "forward"
    made = node(
        "LSTM", "x", *weights, outputs=3, hidden_size=cells, direction=direction, **attributes
    )
    return save(path, made, weights, ["t", "n", k])


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("both", [False, True])
def test_an_lstm_is_onnxruntimes_own(tmp_path, both, granularity):
    src, out = lstm(tmp_path / "m.onnx", both=both), tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe(granularity=granularity)))
    assert decision["form"] == "dynamic_int8"
    onnx.checker.check_model(str(out))
    answers(src, out, 7, 2, 96)
    assert [n.op_type for n in onnx.load(out).graph.node] == ["DynamicQuantizeLSTM"]


@pytest.mark.parametrize("attributes", [{"layout": 1}, {"output_sequence": 1}])
def test_an_lstm_that_onnxruntimes_does_not_know(tmp_path, attributes):
    src = lstm(tmp_path / "m.onnx", **attributes)
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "weight_int8" and "does not know" in decision["reason"]


def test_a_search_moves_them_to_weights_that_are_multiplied_in_fp32(tmp_path):
    """One loud step: one scale for all of them is too coarse for the others."""
    loud = np.ones((1, 1, 33), np.float32)
    loud[..., 5] = 100
    quiet = np.ones((1, 1, 33), np.float32)
    quiet[..., 5] = 0.01
    nodes = [
        onnx.helper.make_node("Mul", ["x", "loud"], ["m"], name="louder"),
        onnx.helper.make_node("Conv", ["m", "w"], ["c"], name="n"),
        onnx.helper.make_node("Mul", ["c", "quiet"], ["y"], name="softer"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(512, 128, 1, outlier=0), "loud": loud, "quiet": quiet},
        {"x": (TensorProto.FLOAT, [1, 128, 33])}, {"y": (FLOAT, None)},
    )  # fmt: skip
    proof = Proof(quality={"cosine": 0.999}, setup=Setup(seed=1, timeout_s=60), samples=1)
    result = quantize(src, tmp_path / "out.onnx", Recipe(), proof=proof)
    assert [d["form"] for d in decisions(result) if d["node"] == "n"] == ["weight_int8"]
    assert result["quality_path"][0]["figures"]["cosine_min"] < 0.99


def test_the_forms_of_half_precision(tmp_path):
    weight = W(96, 80, 9, outlier=0).astype(np.float16)
    half = TensorProto.FLOAT16
    src = models.save(
        tmp_path / "m.onnx", [node("Conv", "x", "w", pads=[4, 4])], {"w": weight},
        {"x": (half, [1, 80, 20])}, {"y": (half, None)},
    )  # fmt: skip
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "dynamic_int8"
    x = np.random.default_rng(3).standard_normal((1, 80, 20)).astype(np.float16)
    a, b = (models.run(p, x=x)[0] for p in (src, tmp_path / "out.onnx"))
    assert b.dtype == np.float16 and models.cosine(a, b) > 0.995
