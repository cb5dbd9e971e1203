"""Inputs of indices are drawn from the rows of their tables, wherever nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest
from modelops.measuring import compare, index_ranges
from modelops.measuring.index_ranges import meaningful
from modelops.measuring.session import Setup
from onnx import TensorProto as Tp
from onnx import helper

WAYS = {
    "directly": [],
    "cast": [helper.make_node("Cast", ["ids"], ["i"], to=Tp.INT32)],
    "far": [
        helper.make_node("Identity", ["ids"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "axes"], ["b"]),
        helper.make_node("Transpose", ["b"], ["i"]),
    ],
}


def embedding(path: Path, way: str, shape=(50, 4), **axis) -> Path:
    nodes = WAYS[way]
    gather = helper.make_node("Gather", ["table", "i" if nodes else "ids"], ["y"], **axis)
    return models.save(
        path,
        [*nodes, gather, helper.make_node("Neg", ["mask"], ["z"])],
        {"table": models.random_weight(*shape), "axes": np.array([0])},
        {"ids": (Tp.INT64, [3]), "mask": (Tp.INT64, [3])},
        {"y": (Tp.FLOAT, None), "z": (Tp.INT64, [3])},
    )


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_of_the_table_are_the_range(tmp_path, way):
    path = embedding(tmp_path / "m.onnx", way)
    assert index_ranges.of(path) == {"ids": [0, 49]}
    assert index_ranges.of(embedding(tmp_path / "axis.onnx", way, axis=1)) == {"ids": [0, 3]}


def test_a_range_that_is_given_wins(tmp_path):
    path = embedding(tmp_path / "m.onnx", "directly")
    assert meaningful(Setup(ranges={"ids": [2, 3]}), path).ranges == {"ids": [2, 3]}
    inputs = Setup(inputs=tmp_path / "in.npz")
    assert meaningful(inputs, path) is inputs


def test_what_is_no_table_has_no_range(tmp_path):
    path = models.voice(tmp_path / "voice.onnx")
    assert all(limits[0] == 0 for limits in index_ranges.of(path).values())
    assert index_ranges.of(models.matmul(tmp_path / "m.onnx")) == {}


def test_a_comparison_runs_on_them(tmp_path):
    """The tables differ in the rows behind the second alone: [0, 1] would not show it."""
    paths = [embedding(tmp_path / f"{n}.onnx", "cast") for n in range(2)]
    table = models.random_weight(50, 4)
    other = table.copy()
    other[2:] *= -1
    for path, values in zip(paths, (table, other), strict=True):
        models.save(
            path,
            [*WAYS["cast"], helper.make_node("Gather", ["table", "i"], ["y"])],
            {"table": values},
            {"ids": (Tp.INT64, [30])},
            {"y": (Tp.FLOAT, [30, 4])},
        )
    found = compare.compare(*paths, samples=1, runs=1)["similarity"]
    assert found["cosine_min"] < 0.5
    narrow = compare.compare(*paths, samples=1, runs=1, setup=Setup(ranges={"ids": [0, 1]}))
    assert narrow["similarity"]["cosine_min"] == 1
