"""Weights that stay in FP32 for some reader: INT8 beside them would only make the pair larger."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from form_cases import FLOAT, W, decisions, normalized
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper, numpy_helper

NEEDED, LARGER = "is needed in FP32 too", "INT8 copies of"
I64 = TensorProto.INT64


def make(op: str, inputs: str, outputs: str, name: str = "", **attributes) -> onnx.NodeProto:
    names = inputs.split(), outputs.split()
    return helper.make_node(op, *names, name=name or outputs.split()[0], **attributes)


def branch(name: str, nodes: list, output: str, weights: dict | None = None) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    value = helper.make_tensor_value_info(output, FLOAT, None)
    return helper.make_graph(nodes, name, [], [value], tensors)


def if_node(then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other)


CONV = make("Conv", "x w", "y")
SQUARES = [make("Pow", "w two", "w2"), make("ReduceSum", "w2", "norms", keepdims=0)]
# name: (nodes, weights, inputs, outputs): no node of these is quantized
NOTHING_SAVED = {
    "codebook": (
        [
            make("Transpose", "w", "t", perm=[1, 0]), make("MatMul", "x t", "y"),
            make("Gather", "w i", "e"), *SQUARES,
        ],
        {"w": W(1024, 512), "two": np.float32([2])}, {"x": [4, 512], "i": [3]}, "y e norms",
    ),
    "small codebook": (
        [make("Gemm", "x w", "y", transB=1), make("Gather", "w i", "e"), *SQUARES],
        {"w": W(256, 16), "two": np.float32([2])}, {"x": [4, 16], "i": [3]}, "y e norms",
    ),
    "weight given out": ([CONV], {"w": W(64, 64, 3)}, {"x": [1, 64, 9]}, "y w"),
    "matrix given out": (
        [make("MatMul", "x w", "y")], {"w": W(600, 520)}, {"x": [4, 600]}, "y w",
    ),
    "given out by an Identity": (
        [CONV, make("Identity", "w", "z")], {"w": W(64, 64, 3)}, {"x": [1, 64, 9]}, "y z",
    ),
    "normalized weight given out": (
        [*normalized("w"), make("Conv", "x wn", "y")],
        {"w": W(64, 64, 3), "g": W(64, 1, 1)}, {"x": [1, 64, 9]}, "y wn",
    ),
    "read within a branch": (
        [
            CONV,
            helper.make_node(
                "If", ["c"], ["z"], name="if",
                then_branch=branch("a", [make("Abs", "w", "wa")], "wa"),
                else_branch=branch("b", [make("Neg", "w", "wb")], "wb"),
            ),
        ],
        {"w": W(64, 64, 3)}, {"x": [1, 64, 9], "c": []}, "y z",
    ),
}  # fmt: skip


def build(path: Path, case: str) -> Path:
    nodes, weights, inputs, outputs = NOTHING_SAVED[case]
    kinds = {"i": I64, "c": TensorProto.BOOL}
    return models.save(
        path, nodes, weights,
        {name: (kinds.get(name, FLOAT), shape) for name, shape in inputs.items()},
        dict.fromkeys(outputs.split(), (FLOAT, None)),
    )  # fmt: skip


def values(case: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    found = {}
    for name, shape in NOTHING_SAVED[case][2].items():
        x = rng.standard_normal(shape).astype(np.float32)
        found[name] = {"i": np.arange(3), "c": np.array(True)}.get(name, x)
    return found


def ratio(result: dict) -> float:
    return sum(a["size"] for a in result["artifacts"]) / result["source_bytes"]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("case", NOTHING_SAVED)
def test_nothing_is_changed_where_nothing_is_saved(tmp_path, case, granularity):
    src, out = build(tmp_path / "m.onnx", case), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(granularity=granularity))
    assert result["quantized"] == []
    reasons = {entry["op"]: entry["reason"] for entry in result["kept_fp32"]}
    for op in {"Conv", "MatMul", "Gemm", "Gather"} & reasons.keys():
        assert NEEDED in reasons[op] and reasons[op].startswith("w ")
    assert ratio(result) < 1.02
    given = values(case)
    for a, b in zip(models.run(src, **given), models.run(out, **given), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not quantize(src, out, Recipe(granularity=granularity))["changed"]


@pytest.mark.parametrize("form", ["dynamic_int8", "blockwise_int8", "weight_int8"])
def test_a_form_that_saves_nothing_is_not_given_and_a_note_says_so(tmp_path, form):
    src, out = build(tmp_path / "m.onnx", "matrix given out"), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(forms={"y": form}))
    (note,) = (note for note in result["notes"] if "cannot" in note)
    assert f"y cannot be {form}, so it is fp32" in note and NEEDED in note
    assert ratio(result) < 1.02


def test_a_search_keeps_the_pair_small_too(tmp_path):
    """What a search leaves in FP32 other nodes may read as well."""
    nodes = [
        make("Gather", "w i", "e"), make("Transpose", "w", "t", perm=[1, 0]),
        make("MatMul", "x t", "y"), make("MatMul", "x v", "z"),
    ]  # fmt: skip
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(700, 520), "v": W(520, 600)},
        {"x": (FLOAT, [4, 520]), "i": (I64, [3])}, dict.fromkeys("eyz", (FLOAT, None)),
    )  # fmt: skip
    proof = Proof(quality={"mse": 1e-12}, required=False)
    result = quantize(src, tmp_path / "out.onnx", Recipe(), proof=proof)
    assert all(row["bytes"] < 1.02 * result["source_bytes"] for row in result["quality_path"])
    assert ratio(result) < 1.02


def test_a_shared_weight_whose_other_reader_is_excluded(tmp_path):
    nodes = [make("MatMul", "x w", "a"), make("MatMul", "a w", "y"), make("MatMul", "y v", "z")]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(520, 520), "v": W(520, 520)},
        {"x": (FLOAT, [4, 520])}, {"z": (FLOAT, None)},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe(exclude_nodes=("a",)))
    assert result["quantized"] == ["z"]
    assert [NEEDED in entry["reason"] for entry in result["kept_fp32"]] == [False, True]
    assert ratio(result) < 0.65


def test_only_the_weight_that_is_needed_stays(tmp_path):
    """An LSTM reads two: the one that is given out stays, the other one shrinks."""
    src = models.save(
        tmp_path / "m.onnx",
        [make("LSTM", "x w r", "y", hidden_size=24)], {"w": W(1, 96, 20), "r": W(1, 96, 24)},
        {"x": (FLOAT, [5, 1, 20])}, {"y": (FLOAT, None), "w": (FLOAT, None)},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert [d["form"] for d in decisions(result)] == ["weight_int8"]
    found = models.initializers(out)
    assert found["w"].dtype == np.float32 and "r" not in found
    assert sum(a.size for a in found.values() if a.dtype == np.int8) == 96 * 24


def test_equal_names_in_branches_are_different_weights(tmp_path):
    """The small `w` of one branch stays in FP32; the large ones of the others do not for it."""
    then = branch("a", [make("MatMul", "x w", "ya")], "ya", {"w": W(600, 520)})
    other = branch("b", [make("Mul", "k w", "kw"), make("MatMul", "x kw", "yb")], "yb",
                   {"w": np.float32([2]), "k": W(600, 520)})  # fmt: skip
    src = models.save(
        tmp_path / "m.onnx", [if_node(then, other)], {},
        {"x": (FLOAT, [4, 600]), "c": (TensorProto.BOOL, [])}, {"y": (FLOAT, [4, 520])},
        external=False,
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert {d["node"]: d["form"] for d in decisions(result)} == {
        "ya": "dynamic_int8",
        "yb": "weight_int8",
    }
    assert ratio(result) < 0.3
    x = np.random.default_rng(3).standard_normal((4, 600)).astype(np.float32)
    for c in (True, False):
        a, b = (models.run(p, x=x, c=np.array(c))[0] for p in (src, out))
        assert models.cosine(a, b) > 0.999


def test_two_layouts_that_take_more_than_half_precision(tmp_path):
    nodes = [
        make("Gather", "w i", "e"), make("Transpose", "w", "t", perm=[1, 0]),
        make("MatMul", "x t", "y"),
    ]  # fmt: skip
    half = TensorProto.FLOAT16
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(700, 520).astype(np.float16)},
        {"x": (half, [4, 520]), "i": (I64, [3])}, dict.fromkeys("ey", (half, None)),
    )  # fmt: skip
    for granularity, largest in (("per_channel", 0.55), ("per_tensor", 1.02)):
        recipe = Recipe(granularity=granularity)
        result = quantize(src, tmp_path / f"{granularity}.onnx", recipe)
        assert ratio(result) < largest
        assert bool(result["quantized"]) == (granularity == "per_channel")
        assert all(LARGER in entry["reason"] for entry in result["kept_fp32"])
