"""FP32 is what the inventory pins, all of its files, or the release is refused."""

from __future__ import annotations

import pytest
from modelops.pair import pinned

A, B = "a" * 64, "b" * 64
SOURCE = [{"name": "m.onnx", "sha256": A}, {"name": "m.onnx.data", "sha256": B}]


@pytest.mark.parametrize(
    "pins", [{}, {"m.onnx": A, "m.onnx.data": B}, {"m.onnx": A.upper(), "m.onnx.data": B}]
)
def test_right(pins):
    assert pinned.problem(SOURCE, pins) == ""


@pytest.mark.parametrize(
    "pins", [{"m.onnx": A}, {"m.onnx": B, "m.onnx.data": B}, {"m.onnx": A, "n.data": B}]
)
def test_another_fp32(pins):
    assert "pin the new SHA-256" in pinned.problem(SOURCE, pins)


@pytest.mark.parametrize("pins", [{"m.onnx": "abc"}, {"m.onnx": None}, {"m.onnx": 3}, A, [A]])
def test_what_pins_nothing(pins):
    assert pinned.problem(SOURCE, pins).startswith("sarai_fp32_sha256 ")
