"""The recipe fp16: half of the size, the values of IEEE 754, and what FP16 cannot hold stays."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from examples import examples
from form_cases import CASES, W, build, decisions
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.model import tensor_blocks
from modelops.quantizer import unpacking
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper

FP16 = Recipe(name="fp16")
FLOAT = TensorProto.FLOAT
# Their weights are too few to gain, are in half precision already, or are no weights.
STAY = {
    "tiny matrix", "computed", "other operator", "stored in half precision",
    "weight normalization in half precision",
}  # fmt: skip


def product(folder: Path, weight: np.ndarray) -> Path:
    return models.matmul(folder / "m.onnx", *weight.shape, weight=weight)


def made(src: Path, recipe: Recipe = FP16, **options) -> dict:
    return quantize(src, src.with_name("out.onnx"), recipe, **options)


@pytest.mark.parametrize("case", CASES)
def test_every_weight_is_half_as_large_and_right(tmp_path, case):
    _, weights, shape, _, _ = CASES[case]
    src = build(tmp_path / "m.onnx", case, external=len(case) % 2 == 0)
    result = made(src)
    (decision,) = (d for d in decisions(result) if d["node"] == "n")
    gathers = case.startswith("embedding")
    wanted = "fp32" if case in STAY else "rows_fp16" if gathers else "weight_fp16"
    assert decision["form"] == wanted, decision["reason"]
    out = src.with_name("out.onnx")
    onnx.checker.check_model(str(out))
    x = np.abs(np.random.default_rng(3).standard_normal(shape)).astype(np.float32)
    for a, b in zip(models.run(src, x=x), models.run(out, x=x), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.abs(a - b).max() <= 0.01 * np.abs(a).max()
    if wanted != "fp32":
        large = [w for w in weights.values() if w.size >= 1024] or [W(600, 520)]
        stored = [a for a in models.initializers(out).values() if a.dtype == np.float16]
        assert sum(a.nbytes for a in stored) == sum(w.nbytes for w in large) / 2


@settings(max_examples=examples(30))
@given(
    k=st.integers(5, 70), n=st.integers(16, 70), low=st.integers(-13, 0), high=st.integers(0, 14)
)
def test_the_values_are_those_that_numpy_rounds_to(tmp_path_factory, k, n, low, high):
    rng = np.random.default_rng(k * n)
    weight = rng.choice([-1, 1], (k * 16, n)) * 2.0 ** rng.uniform(low, high, (k * 16, n))
    src = product(tmp_path_factory.mktemp("m"), weight.astype(np.float32))
    made(src)
    initializers = models.initializers(src.with_name("out.onnx"))
    (stored,) = (a for a in initializers.values() if a.dtype == np.float16)
    assert (stored == weight.astype(np.float32).astype(np.float16)).all()


@pytest.mark.parametrize(
    ("value", "at", "form"),
    [
        (65504.0, (5, 7), "weight_fp16"),
        (-65505.0, (5, 7), "fp32"),
        (1e30, (5, 7), "fp32"),
        (2.0**-14, (slice(None), 7), "weight_fp16"),
        (2.0**-15, (slice(None), 7), "fp32"),
        (-1e-7, (5, slice(None)), "fp32"),
        (1e-7, (5, 7), "weight_fp16"),  # beside larger ones it is nothing
        (0.0, (slice(None), 7), "weight_fp16"),
        (0.0, slice(None), "weight_fp16"),
    ],
)
def test_what_is_out_of_range_stays(tmp_path, value, at, form):
    weight = np.random.default_rng(0).uniform(0.1, 1, (64, 48)).astype(np.float32)
    weight[at] = value
    src = product(tmp_path, weight)
    result = made(src)
    (decision,) = decisions(result)
    assert decision["form"] == form, decision["reason"]
    assert (form == "weight_fp16") == ("stays in FP32" not in decision["reason"])
    x = np.ones((4, 64), np.float32)
    a, b = models.run(src, x=x)[0], models.run(src.with_name("out.onnx"), x=x)[0]
    np.testing.assert_allclose(b, a, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 8, 9), (8, 16, 3, 3), (2, 34, 33)])
def test_a_row_of_a_stack_or_convolution_is_looked_at_too(tmp_path, shape):
    weight = W(*shape)
    weight.reshape(shape[0], -1)[1] = 1e-6
    op = "MatMul" if shape == (2, 34, 33) else "Conv"
    x = {9: [1, 8, 40], 3: [1, 16, 9, 9], 33: [2, 4, 34]}[shape[-1]]
    src = models.save(
        tmp_path / "m.onnx", [helper.make_node(op, ["x", "w"], ["y"], name="n")], {"w": weight},
        {"x": (FLOAT, x)}, {"y": (FLOAT, None)},
    )  # fmt: skip
    assert decisions(made(src))[0]["form"] == "fp32"


def test_a_long_row_is_seen_in_all_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_blocks, "BLOCK_BYTES", 256)
    monkeypatch.setattr("modelops.quantizer.half.Weight.blocks.__defaults__", (256, 1))
    weight = W(20, 500)
    weight[3] = 1e-6
    assert decisions(made(product(tmp_path, weight)))[0]["form"] == "fp32"
    weight[3, 499] = 1
    assert decisions(made(product(tmp_path, weight)))[0]["form"] == "weight_fp16"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(tmp_path, value):
    weight = W(64, 48)
    weight[3, 4] = value
    with pytest.raises(ModelOpsError, match="NaN or Inf"):
        made(product(tmp_path, weight))


def test_a_second_run_changes_nothing_and_check_mode_foretells(tmp_path):
    src = models.voice(tmp_path / "m.onnx")
    foretold = made(src, check_mode=True)
    assert not src.with_name("out.onnx").exists()
    first = made(src, proof=Proof(verify=True))
    assert first["release_id"] == foretold["release_id"] and first["verified"]["ran"]
    assert not made(src)["changed"]
    assert made(src, Recipe())["release_id"] != first["release_id"]
    assert first["manifest"]["recipe"]["name"] == "fp16"


def test_each_weight_is_looked_at_once(tmp_path, monkeypatch):
    seen = []
    look = "modelops.quantizer.half.Ranges._look"
    monkeypatch.setattr(look, lambda _, weight: seen.append(weight.key) or "")
    made(models.voice(tmp_path / "m.onnx"))
    assert len(seen) == len(set(seen)) >= 2


def test_a_weight_that_another_node_reads_in_fp32_is_not_added(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"),
        helper.make_node("Pow", ["w", "two"], ["z"], name="pow"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(64, 48), "two": np.array(2, np.float32)},
        {"x": (FLOAT, [4, 64])}, {"y": (FLOAT, None), "z": (FLOAT, None)},
    )  # fmt: skip
    result = made(src)
    assert "needed in FP32 too" in decisions(result)[0]["reason"]
    assert sum(a["size"] for a in result["artifacts"]) < 1.1 * 64 * 48 * 4 + 1000


def test_convolutions_over_images_that_would_take_more_memory_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "UNSEEN_BYTES", 0)
    monkeypatch.setattr(unpacking, "MADE_UP_BYTES", 0)
    src = build(tmp_path / "m.onnx", "conv 2d")
    assert "prefer: size" in decisions(made(src))[0]["reason"]
    sized = Recipe(name="fp16", prefer="size")
    assert decisions(made(src, sized, force=True))[0]["form"] == "weight_fp16"


@pytest.mark.parametrize("asked", ["weight_fp16", "rows_fp16"])
def test_a_node_of_another_recipe_can_be_fp16(tmp_path, asked):
    src = models.voice(tmp_path / "m.onnx", width=64)
    result = made(src, Recipe(forms={"emb": asked, "mm1": asked}))
    forms = {d["node"]: d["form"] for d in decisions(result)}
    assert (forms["emb"], forms["mm1"]) == ("rows_fp16", "weight_fp16")


def test_nodes_move_to_fp32_where_the_quality_is_not_kept(tmp_path):
    nodes = [
        helper.make_node("MatMul", [f"y{i}" if i else "x", f"w{i}"], [f"y{i + 1}"], name=f"mm{i}")
        for i in range(4)
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {f"w{i}": W(64, 64, seed=i) for i in range(4)},
        {"x": (FLOAT, [5, 64])}, {"y4": (FLOAT, None)},
    )  # fmt: skip
    (step,) = made(src, proof=Proof(quality={"sqnr_db": 1}, samples=1))["quality_path"]
    least = step["figures"]["sqnr_db"] + 0.5
    proof = Proof(quality={"sqnr_db": least}, samples=1)
    result = made(src, proof=proof)
    assert 0 < sum(d["form"] == "fp32" for d in decisions(result)) < len(decisions(result))
    assert result["comparison"]["similarity"]["sqnr_db"] > least
    assert not made(src, proof=proof)["changed"]


def test_there_is_no_other_recipe():
    with pytest.raises(ModelOpsError, match="int8, fp16, int4"):
        Recipe(name="fp8")
