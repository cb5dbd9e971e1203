"""Weights behind nodes that only show them in another shape are matrices, as MatMul reads them."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from examples import examples
from form_cases import FLOAT, W, decisions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.model.follow import follow
from modelops.model.learned import NOTHING
from modelops.model.weights import constant
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper, numpy_helper

K, N = 320, 256
AXES = {
    "zero": [0],
    "both": [0, 1],
    "last": [-1],
    "flat": [K, -1],
    "wide": [1, K, N],
    "same": [0, 0],
}


def made(op: str, *inputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [""], **attributes)


def as_chain(steps: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Let each step read what the one before gave, from `w` to `m`."""
    name = "w"
    for index, step in enumerate(steps):
        step.input[0] = name
        name = step.output[0] = "m" if index + 1 == len(steps) else f"s{index}"
    return steps


# name: (shape of the stored weight, nodes between it and MatMul, opset)
CHAINS = {
    "unsqueeze": ((K, N), [made("Unsqueeze", "", "zero")], 17),
    "unsqueeze twice": ((K, N), [made("Unsqueeze", "", "both")], 17),
    "unsqueeze by attribute": ((K, N), [made("Unsqueeze", "", axes=[0])], 11),
    "squeeze": ((1, K, N), [made("Squeeze", "", "zero")], 17),
    "squeeze the last": ((K, N, 1), [made("Squeeze", "", "last")], 17),
    "squeeze all": ((1, K, N, 1), [made("Squeeze", "")], 17),
    "squeeze by attribute": ((1, 1, K, N), [made("Squeeze", "", axes=[0, 1])], 11),
    "flatten": ((K, 16, N // 16), [made("Flatten", "", axis=1)], 17),
    "flatten from the front": ((1, K, N), [made("Flatten", "", axis=-1)], 17),
    "identity, then reshape": ((N, K), [made("Identity", ""), made("Reshape", "", "flat")], 17),
    "reshape that allows 0": ((N, K), [made("Reshape", "", "wide", allowzero=1)], 17),
    "transpose, then unsqueeze": (
        (N, K), [made("Transpose", "", perm=[1, 0]), made("Unsqueeze", "", "zero")], 17,
    ),
    "transpose, then reshape": ((N, K), [made("Transpose", ""), made("Reshape", "", "same")], 17),
    "unsqueeze, then transpose": (
        (N, K), [made("Unsqueeze", "", "zero"), made("Transpose", "", perm=[0, 2, 1])], 17,
    ),
    "transpose of a stack of one": ((1, N, K), [made("Transpose", "", perm=[0, 2, 1])], 17),
    "transpose that moves ones": ((K, 1, N), [made("Transpose", "", perm=[1, 0, 2])], 17),
    "transposed twice": ((K, N), [made("Transpose", ""), made("Transpose", "")], 17),
    "kernel of 1": (
        (N, K, 1),
        [made("Squeeze", "", "last"), made("Transpose", ""), made("Unsqueeze", "", "zero")], 17,
    ),
}  # fmt: skip


def build(path: Path, name: str) -> Path:
    shape, steps, opset = CHAINS[name]
    steps = [onnx.NodeProto.FromString(step.SerializeToString()) for step in steps]
    nodes = [*as_chain(steps), helper.make_node("MatMul", ["x", "m"], ["y"], name="n")]
    used = {other for step in steps for other in step.input}
    weights = {"w": W(K, N).reshape(shape)}
    weights |= {n: np.array(v, np.int64) for n, v in AXES.items() if n in used}
    value = {"x": (FLOAT, ["t", K])}
    return models.save(path, nodes, weights, value, {"y": (FLOAT, None)}, opset=opset)


@pytest.mark.parametrize("form", ["", "blockwise_int8", "weight_int8"])
@pytest.mark.parametrize("name", CHAINS)
def test_it_is_a_matrix_whatever_shows_it(tmp_path, name, form):
    src, out = build(tmp_path / "m.onnx", name), tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe(forms={"n": form} if form else {})))
    assert decision["form"] == (form or "dynamic_int8")
    assert out.with_name("out.onnx.data").stat().st_size < 0.3 * 4 * K * N
    x = np.random.default_rng(0).standard_normal((3, K)).astype(np.float32)
    (was,), (now,) = models.run(src, x=x), models.run(out, x=x)
    assert was.shape == now.shape
    assert models.cosine(was, now) > 0.999


def test_an_lstm_whose_weight_was_turned_is_right(tmp_path):
    """Its weight is [1, K, 4 H] as stored: DynamicQuantizeLSTM would read it wrongly."""
    hidden = 64
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[0, 2, 1]),
        helper.make_node("LSTM", ["x", "wt", "r"], ["y"], name="n", hidden_size=hidden),
    ]
    weights = {
        "w": W(200, 4 * hidden).reshape(1, 200, 4 * hidden),
        "r": W(4 * hidden, hidden)[None] * np.float32(0.1),
    }
    value = {"x": (FLOAT, [5, 1, 200])}
    src = models.save(tmp_path / "m.onnx", nodes, weights, value, {"y": (FLOAT, None)})
    out = tmp_path / "out.onnx"
    (decision,) = decisions(quantize(src, out, Recipe(forms={"n": "dynamic_int8"})))
    assert decision["form"] == "weight_int8" and "made from stored" in decision["reason"]
    x = np.random.default_rng(0).standard_normal((5, 1, 200)).astype(np.float32)
    assert models.cosine(models.run(src, x=x)[0], models.run(out, x=x)[0]) > 0.999


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_followed_has_the_values_that_the_node_gives(data):
    shape = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 4]), min_size=1, max_size=4))
    stored = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    known = {"w": constant(numpy_helper.from_array(stored, "w"), "", NOTHING)}
    seen, name = stored, "w"
    for step in range(data.draw(st.integers(1, 4))):
        op = data.draw(
            st.sampled_from(["Transpose", "Unsqueeze", "Squeeze", "Reshape"][not seen.ndim :])
        )
        if op == "Transpose":
            perm = data.draw(st.permutations(range(seen.ndim)))
            node = helper.make_node(op, [name], [f"v{step}"], perm=perm)
            seen = seen.transpose(perm)
        elif op == "Squeeze":
            node = helper.make_node(op, [name], [f"v{step}"])
            seen = seen.squeeze()
        else:
            wide = (1, *seen.shape) if op == "Unsqueeze" else (*seen.shape, 1)
            numbers = np.array([0] if op == "Unsqueeze" else wide, np.int64)
            known["n"] = constant(numpy_helper.from_array(numbers, "n"), "", NOTHING)
            node = helper.make_node(op, [name, "n"], [f"v{step}"])
            seen = seen.reshape(wide)
        found = follow(node, known, "", NOTHING)
        if found is None:
            return
        values = stored.reshape(found.dims)
        values = np.swapaxes(values, -1, -2) if found.transposed else values
        assert found.shape == seen.shape
        assert np.array_equal(values, seen)
        known[name := f"v{step}"] = found
