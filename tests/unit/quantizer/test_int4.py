"""The recipe int4: the layout of MatMulNBits with 4 bits, scales, zero points, and the mix."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from examples import examples
from form_cases import CASES, build, decisions
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.quantizer import forms as emitter
from modelops.quantizer import tensors
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT


def dequantized(path: Path) -> np.ndarray:
    """The matrix [K, N] that a model's only MatMulNBits stands for, by onnxruntime's documents."""
    (node,) = (n for n in onnx.load(path).graph.node if n.op_type == "MatMulNBits")
    fields = {a.name: a.i for a in node.attribute}
    stored = models.initializers(path)
    packed, scale, zero = (stored[name] for name in node.input[1:])
    n, blocks, half = packed.shape
    assert half * 2 == fields["block_size"] and fields["bits"] == 4
    q = np.stack([packed & 15, packed >> 4], axis=-1).reshape(n, blocks, -1).astype(np.float64)
    zeros = zero.reshape(n, -1)
    zeros = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(n, -1)[:, :blocks]
    whole = (q - zeros[..., None]) * scale.reshape(n, blocks, 1).astype(np.float64)
    return whole.reshape(n, -1)[:, : fields["K"]].T


def product(folder: Path, weight: np.ndarray, turned: bool) -> Path:
    """x [K, K] times a weight [K, N], stored as [N, K] with `turned`."""
    k, _ = weight.shape
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="mm", transB=int(turned))
    stored = np.ascontiguousarray(weight.T) if turned else weight
    return models.save(
        folder / "m.onnx", [node], {"w": stored}, {"x": (FLOAT, [k, k])}, {"y": (FLOAT, None)}
    )


@settings(max_examples=examples(40))
@given(
    k=st.integers(1, 300), n=st.integers(1, 80), size=st.sampled_from([16, 32, 64, 128]),
    turned=st.booleans(), shift=st.sampled_from([0.0, 1.0, -3.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_onnxruntime_multiplies_with_what_is_stored(
    tmp_path_factory, k, n, size, turned, shift, seed
):
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((k, n)) + shift).astype(np.float32)
    src = product(tmp_path_factory.mktemp("m"), weight, turned)
    out = src.with_name("out.onnx")
    with pytest.MonkeyPatch.context() as patch:
        for module in (tensors, emitter):
            patch.setattr(module, "BLOCK_SIZE", size)
        quantize(src, out, Recipe(forms={"mm": "blockwise_int4"}))
    ours = dequantized(out)
    (theirs,) = models.run(out, x=np.eye(k, dtype=np.float32))  # each value of the matrix alone
    span = np.abs(weight).max()
    np.testing.assert_allclose(theirs, ours, atol=2e-3 * span)
    # No block is further off than with a scale around 0, absmax / 8 for -8 to 7.
    filled = np.zeros((-(-k // size) * size, n))
    filled[:k] = weight
    blocks = filled.reshape(-1, size, n)
    step = np.where((most := np.abs(blocks).max(axis=1)) > 0, most / 8, 1)[:, None]
    top = np.where(blocks.max(axis=1) > -blocks.min(axis=1), 1, -1)[:, None]  # the side with 8
    plain = np.clip(np.rint(blocks * top / step), -7, 8) * top * step
    found = np.zeros_like(filled)
    found[:k] = ours
    error = ((found.reshape(blocks.shape) - blocks) ** 2).sum(axis=1)
    assert (error <= ((plain - blocks) ** 2).sum(axis=1) * 1.001 + 1e-9).all()


@pytest.mark.parametrize("turned", [False, True])
def test_a_scratch_file_gives_the_same_bytes(tmp_path, monkeypatch, turned):
    src = product(tmp_path, models.random_weight(200, 130), turned)
    out, recipe = src.with_name("out.onnx"), Recipe(forms={"mm": "blockwise_int4"})
    quantize(src, out, recipe)
    monkeypatch.setattr("modelops.quantizer.int8.TRANSPOSE_IN_MEMORY", 4096)
    assert not quantize(src, out, recipe)["changed"]


@pytest.mark.parametrize("step", [1.0, 0.03, 2.0**-9])
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-7, 7), (0, 15), (-3, 2)])
def test_a_weight_on_a_grid_of_4_bits_keeps_its_values(tmp_path, low, high, step):
    """As k-quants and training with 4 bits leave it; the whole range need not be used."""
    q = np.random.default_rng(0).integers(low, high + 1, (192, 40))
    weight = (q * np.float32(step)).astype(np.float32)
    src = product(tmp_path, weight, False)
    quantize(src, src.with_name("out.onnx"), Recipe(forms={"mm": "blockwise_int4"}))
    np.testing.assert_allclose(dequantized(src.with_name("out.onnx")), weight, rtol=1e-6)


def test_blocks_of_zeros_give_zeros(tmp_path):
    weight = models.random_weight(128, 40)
    weight[:64], weight[64:, 3] = 0, 0
    src = product(tmp_path, weight, False)
    quantize(src, src.with_name("out.onnx"), Recipe(forms={"mm": "blockwise_int4"}))
    (found,) = models.run(src.with_name("out.onnx"), x=np.eye(128, dtype=np.float32))
    assert not found[:64].any() and not found[:, 3].any()


@pytest.mark.parametrize("case", CASES)
def test_large_matrices_are_4_bits_and_all_else_as_in_int8(tmp_path, case):
    src, out = build(tmp_path / "m.onnx", case), tmp_path / "out.onnx"
    int8 = decisions(quantize(src, tmp_path / "int8.onnx", Recipe()))
    result = quantize(src, out, Recipe(name="int4"))
    for before, now in zip(int8, decisions(result), strict=True):
        moved = before["form"] == "dynamic_int8" and before["op"] in ("MatMul", "Gemm")
        assert now["form"] == ("blockwise_int4" if moved else before["form"])
    if moved:
        shape = CASES[case][2]
        x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
        a, b = models.run(src, x=x)[0], models.run(out, x=x)[0]
        assert a.shape == b.shape and models.cosine(a, b) > 0.99
        assert sum(f["size"] for f in result["artifacts"]) < 0.16 * 600 * 520 * 4


def test_nodes_move_until_the_quality_is_kept(tmp_path):
    """To 8-bit blocks, and an embedding that even so is too far off to FP16, before FP32."""
    nodes, weights, x = [], {"emb": models.random_weight(300, 512)}, "e"
    nodes.append(helper.make_node("Gather", ["emb", "i"], ["e"], name="emb"))
    for i in range(3):
        weights[f"w{i}"] = models.random_weight(512, 512, seed=i)
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"y{i}"], name=f"mm{i}"))
        x = f"y{i}"
    src = models.save(
        tmp_path / "m.onnx", nodes, weights, {"i": (TensorProto.INT64, [5])}, {x: (FLOAT, None)}
    )
    found = {}
    for least in (10, 22, 41):
        proof = Proof(quality={"sqnr_db": least}, samples=1)
        result = quantize(src, tmp_path / "out.onnx", Recipe(name="int4"), proof=proof)
        assert result["comparison"]["similarity"]["sqnr_db"] > least
        found[least] = {d["node"]: d["form"] for d in decisions(result)}
    assert set(found[10].values()) == {"rows_int8", "blockwise_int4"}
    assert "blockwise_int8" in found[22].values()
    assert "weight_fp16" in found[41].values() and "fp32" not in found[41].values()
