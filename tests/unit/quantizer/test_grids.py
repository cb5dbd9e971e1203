"""Weights that are whole multiples of a step already: INT8 reproduces them to the last bit."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest
from examples import examples
from form_cases import FLOAT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.model import tensor_blocks
from modelops.quantizer import grids
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

K, N = 192, 40


def on_grid(shape: tuple[int, ...], largest: int, axis: int | None, seed: int = 0) -> np.ndarray:
    """Multiples up to `largest` of a float32 step of each channel along `axis`, or of one step."""
    rng = np.random.default_rng(seed)
    q = rng.integers(-largest, largest + 1, shape).astype(np.float32)
    sizes = [1] * len(shape)
    if axis is not None:
        sizes[axis] = shape[axis]
    return q * rng.uniform(0.001, 0.2, sizes).astype(np.float32)


def product(path: Path, weight: np.ndarray, **attributes: int) -> Path:
    k = weight.shape[1 if attributes.get("transB") else 0]
    node = helper.make_node("Gemm" if attributes else "MatMul", ["x", "w"], ["y"], name="n",
                            **attributes)  # fmt: skip
    return models.save(path, [node], {"w": weight}, {"x": (FLOAT, [2, k])}, {"y": (FLOAT, None)})


def unpacked(src: Path, form: str, granularity: str = "per_channel") -> np.ndarray:
    """What the INT8 weight of the only node stands for."""
    out = src.with_name("out.onnx")
    quantize(src, out, Recipe(forms={"n": form}, granularity=granularity))
    stored = models.initializers(out)
    value = next(v for name, v in stored.items() if name.endswith(("_quantized", "_blocks")))
    scale = next(v for name, v in stored.items() if name.endswith("_scale"))
    if value.dtype == np.uint8:
        n, count, size = value.shape
        whole = (value.astype(np.float32) - 128) * scale.reshape(n, count, 1)
        return whole.reshape(n, count * size)
    return value.astype(np.float32) * scale


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    largest=st.integers(1, 127),
    turned=st.booleans(),
    form=st.sampled_from(["dynamic_int8", "weight_int8"]),
    per_channel=st.booleans(),
    block=st.sampled_from([2 << 10, 100 << 10, 2 << 20]),
    seed=st.integers(0, 1000),
)
def test_a_grid_is_reproduced_to_the_last_bit(
    tmp_path, monkeypatch, largest, turned, form, per_channel, block, seed
):
    whole = form == "dynamic_int8" and not per_channel
    # K is long enough for each size to stand twice among those that there are.
    weight = on_grid((2 * K, N), largest, None if whole else 1, seed)
    src = product(tmp_path / "m.onnx", weight.T.copy() if turned else weight, transB=int(turned))
    default = tensor_blocks.Weight.blocks
    with monkeypatch.context() as patch:
        patch.setattr(
            tensor_blocks.Weight, "blocks",
            lambda self, size=block, multiple=1: default(self, size, multiple),
        )  # fmt: skip
        found = unpacked(src, form, "per_channel" if per_channel else "per_tensor")
    same = found if found.shape == weight.shape else found.T
    assert np.array_equal(same, weight)


@pytest.mark.parametrize("turned", [False, True])
def test_blocks_have_the_step_of_their_own_grid(tmp_path, turned):
    weight = np.concatenate([on_grid((64, N), 7, 1, seed) for seed in range(3)])
    src = product(tmp_path / "m.onnx", weight.T.copy() if turned else weight, transB=int(turned))
    assert np.array_equal(unpacked(src, "blockwise_int8"), weight.T)


@pytest.mark.parametrize("bits", [3, 4, 5, 8])
def test_a_step_that_is_no_float32_is_met_but_for_the_last_bit(tmp_path, bits):
    rng = np.random.default_rng(bits)
    low, high = -(2 ** (bits - 1)) + (bits == 8), 2 ** (bits - 1)
    q = rng.integers(low, high, (4 * K, N))
    weight = (q * (rng.uniform(0.001, 0.2, N) / 3)).astype(np.float32)
    found = unpacked(product(tmp_path / "m.onnx", weight), "dynamic_int8")
    np.testing.assert_allclose(found, weight, rtol=2**-22, atol=0)


def test_only_the_channels_on_a_grid_have_its_step(tmp_path):
    weight = models.random_weight(K, N)
    plain = models.initializers(run(product(tmp_path / "plain.onnx", weight)))
    mixed = weight.copy()
    mixed[:, ::3] = on_grid((K, N), 7, 1)[:, ::3]
    stored = models.initializers(run(product(tmp_path / "mixed.onnx", mixed)))
    back = stored["w_quantized"].astype(np.float32) * stored["w_scale"]
    assert np.array_equal(back[:, ::3], mixed[:, ::3])
    ordinary = np.arange(N) % 3 > 0
    for name in ("w_quantized", "w_scale"):
        assert np.array_equal(stored[name][..., ordinary], plain[name][..., ordinary])


def run(src: Path) -> Path:
    out = src.with_name(f"int8-{src.name}")
    quantize(src, out, Recipe(forms={"n": "dynamic_int8"}))
    return out


def test_an_embedding_and_a_convolution_on_a_grid_are_as_they_were(tmp_path):
    table, kernel = on_grid((64, 96), 7, 0), on_grid((16, 8, 9), 7, 0)
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["e"], name="rows"),
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"table": table, "kernel": kernel},
        {"i": (models.TensorProto.INT64, [5]), "x": (FLOAT, [1, 8, 30])},
        {"e": (FLOAT, [5, 96]), "c": (FLOAT, None)},
    )  # fmt: skip
    quantize(src, tmp_path / "out.onnx", Recipe())
    given = {"i": np.arange(5), "x": np.random.default_rng(0).random((1, 8, 30), np.float32)}
    for was, now in zip(models.run(src, **given), models.run(tmp_path / "out.onnx", **given),
                        strict=True):  # fmt: skip
        assert np.array_equal(was, now)


@pytest.mark.parametrize(
    "weight",
    [
        models.random_weight(K, N),
        models.random_weight(K, N) * (np.random.default_rng(1).random((K, N)) < 0.1),
        np.round(10 * models.random_weight(K, N), 3),  # a grid, but of more steps than INT8 has
        np.zeros((K, N), np.float32),
        on_grid((K, N), 7, 1) * np.float32(1e-38),
    ],
    ids=["random", "pruned", "decimal", "zeros", "denormal"],
)
def test_other_weights_have_the_scales_of_the_stock_quantizer(tmp_path, weight):
    stored = models.initializers(run(product(tmp_path / "m.onnx", weight.astype(np.float32))))
    largest = np.abs(weight.astype(np.float32)).max(axis=0)
    scale = 2.0 * largest.astype(np.float64) / 254.0
    stock = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)
    assert np.array_equal(stored["w_scale"], stock)


def test_no_more_different_sizes_are_kept_than_memory_has_room_for():
    most = grids.most_levels(200_000)
    assert 4 * 200_000 * most <= grids.LEVELS_BYTES
    found = grids.levels(np.arange(1, 100, dtype=np.float32)[:, None], 5)
    assert found.ravel().tolist() == [94, 95, 96, 97, 98, 99]
    scale = np.ones(1, np.float32)
    assert np.array_equal(grids.steps(found, 1000, scale, 5), scale)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zero=st.integers(0, 30).map(lambda z: z / 2),
    computed=st.sampled_from(["(q - zero) * step", "q * step - zero * step"]),
    form=st.sampled_from(["dynamic_int8", "weight_int8", "blockwise_int8"]),
    seed=st.integers(0, 1000),
)
def test_a_grid_of_4_bits_with_a_zero_point_is_met(tmp_path, zero, computed, form, seed):
    """As exporters compute it: where both products were rounded, so is the difference."""
    rng = np.random.default_rng(seed)
    q = rng.integers(0, 16, (K, N)).astype(np.float32)
    step, point = rng.uniform(0.001, 0.2, N).astype(np.float32), np.float32(zero)
    apart = computed.startswith("(")
    weight = (q - point) * step if apart else q * step - point * step
    found = unpacked(product(tmp_path / "m.onnx", weight), form)
    found = found.T if form == "blockwise_int8" else found
    if apart:
        assert np.array_equal(found, weight)
    else:
        assert (np.abs(found - weight).max(axis=0) <= 2**-20 * np.abs(weight).max(axis=0)).all()
