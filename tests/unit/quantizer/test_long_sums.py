"""Matrices with so many rows that INT8 products, added up in INT32, may overflow."""

from __future__ import annotations

import itertools
from pathlib import Path

import models
import numpy as np
import pytest
from examples import some
from form_cases import FLOAT, decisions
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from modelops.quantizer.rule import LONGEST_SUM
from onnx import helper

N = 64


def model(path: Path, k: int, op: str = "MatMul", **attributes: int) -> Path:
    """x times w, where all products are near the largest that INT8 has and of one sign."""
    weight = np.full((k, N), 1 / k, np.float32)
    shape = [k, 2] if attributes.get("transA") else [2, k]
    return models.save(
        path, [helper.make_node(op, ["x", "w"], ["y"], name="n", **attributes)],
        {"w": weight.T.copy() if attributes.get("transB") else weight},
        {"x": (FLOAT, shape)}, {"y": (FLOAT, [2, N])},
    )  # fmt: skip


def ones(k: int, **attributes: int) -> np.ndarray:
    return np.ones([k, 2] if attributes.get("transA") else [2, k], np.float32)


def test_the_limit_is_that_of_int32():
    assert LONGEST_SUM * 255 * 127 < 2**31 <= (LONGEST_SUM + 1) * 255 * 127


OPS = [("MatMul", {}), ("Gemm", {}), ("Gemm", {"transB": 1}), ("Gemm", {"transA": 1, "transB": 1})]
LENGTHS = [LONGEST_SUM, LONGEST_SUM + 1, 131072]
LONG = [*itertools.product(LENGTHS, OPS, ["per_channel", "per_tensor"])]
# Every fifth, round and round: the first few have each length, operator and granularity.
LONG = [LONG[5 * i % len(LONG)] for i in range(len(LONG))]


@pytest.mark.parametrize(("k", "op", "granularity"), some(LONG, 8))
def test_a_sum_never_overflows(tmp_path, k, op, granularity):
    name, attributes = op
    src, out = model(tmp_path / "m.onnx", k, name, **attributes), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(granularity=granularity))
    (decision,) = decisions(result)
    assert decision["form"] == ("dynamic_int8" if k == LONGEST_SUM else "blockwise_int8")
    assert ("overflow" in decision["reason"]) == (k > LONGEST_SUM)
    (y,) = models.run(out, x=ones(k, **attributes))
    np.testing.assert_allclose(y, np.ones((2, N)), rtol=0.02)


def test_nobody_can_ask_for_a_sum_that_may_overflow(tmp_path):
    k = LONGEST_SUM + 1
    src, out = model(tmp_path / "m.onnx", k), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(forms={"n": "dynamic_int8"}))
    assert [d["form"] for d in decisions(result)] == ["blockwise_int8"]
    (note,) = result["notes"]
    assert "n cannot be dynamic_int8, so it is blockwise_int8" in note and "overflow" in note


def test_behind_a_transpose_the_rows_are_those_that_the_node_sees(tmp_path):
    k = LONGEST_SUM + 1
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="n"),
    ]
    for name, shape, form in (("a", (N, k), "blockwise_int8"), ("b", (k, N), "dynamic_int8")):
        src = models.save(
            tmp_path / f"{name}.onnx", nodes, {"w": np.full(shape, 1 / shape[1], np.float32)},
            {"x": (FLOAT, [2, shape[1]])}, {"y": (FLOAT, [2, shape[0]])},
        )  # fmt: skip
        out = tmp_path / f"{name}8.onnx"
        assert [d["form"] for d in decisions(quantize(src, out, Recipe()))] == [form]
        (y,) = models.run(out, x=ones(shape[1]))
        np.testing.assert_allclose(y, np.ones((2, shape[0])), rtol=0.02)
