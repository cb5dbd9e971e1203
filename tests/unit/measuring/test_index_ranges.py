"""Inputs of indices are drawn from the rows of their tables, wherever nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
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


def int64(*values: int):
    """An offset as exporters write it (raw bytes), and as onnx's helper does (packed)."""
    return [
        helper.make_tensor("c", Tp.INT64, [len(values)], np.array(values, "<i8").tobytes(), True),
        helper.make_tensor("c", Tp.INT64, [len(values)], values),
    ]


@pytest.mark.parametrize("constant", ["initializer", "node", "attribute"])
@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize(
    ("operator", "given", "values", "limits"),
    [
        ("Add", ["ids", "c"], [2], [-2, 47]),  # the positions of OPT
        ("Add", ["c", "ids"], [-3], [3, 52]),
        ("Sub", ["ids", "c"], [5], [5, 54]),
        ("Add", ["ids", "c"], [0, 10, 40], [0, 9]),  # three tables in one
        ("Add", ["ids", "c"], [0, 60, 70], None),  # no value fits
        ("Sub", ["c", "ids"], [5], None),
        ("Mul", ["ids", "c"], [2], None),
    ],
)
def test_what_is_added_moves_the_range(tmp_path, constant, form, operator, given, values, limits):
    tensor = int64(*values)[form]
    nodes = [
        helper.make_node(operator, given, ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["i"]),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    if constant == "node":
        nodes.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    elif constant == "attribute":
        nodes.insert(0, helper.make_node("Constant", [], ["c"], value_ints=values))
    path = models.save(
        tmp_path / "m.onnx",
        nodes,
        {"table": models.random_weight(50, 4), "shape": np.array([3])},
        {"ids": (Tp.INT64, [3])},
        {"y": (Tp.FLOAT, None)},
    )
    if constant == "initializer":
        model = onnx.load(path)
        model.graph.initializer.append(tensor)
        onnx.save(model, path)
    assert index_ranges.of(path) == ({"ids": limits} if limits else {})


def test_a_range_stays_within_the_type_of_the_input(tmp_path):
    path = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Cast", ["ids"], ["i"], to=Tp.INT32),
         helper.make_node("Add", ["i", "two"], ["j"]),
         helper.make_node("Gather", ["table", "j"], ["y"])],
        {"table": models.random_weight(500, 4), "two": np.array([2], np.int32)},
        {"ids": (Tp.UINT8, [3])},
        {"y": (Tp.FLOAT, None)},
    )  # fmt: skip
    assert index_ranges.of(path) == {"ids": [0, 255]}
    compare.benchmark(path, runs=1)


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
