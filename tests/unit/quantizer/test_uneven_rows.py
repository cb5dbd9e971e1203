"""Rows of a batch that are not alike: a quiet one keeps its answer beside a loud one."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest
from form_cases import FLOAT, W, decisions
from modelops.base import memory
from modelops.measuring import row_by_row
from modelops.measuring.compare import compare
from modelops.measuring.session import Setup
from modelops.quantizer.quantize import Proof, quantize
from modelops.quantizer.recipe import Recipe
from onnx import helper

SIZE = 512
INT = models.TensorProto.INT64
make = helper.make_node


def layers(path: Path, rows: int | str, before: list, x: tuple, weights: dict, **kw) -> Path:
    """Two matrices behind nodes that make `h` of x; between them each row is normalized."""
    norm = {"g": np.ones(SIZE, np.float32), "b": np.zeros(SIZE, np.float32)}
    nodes = [
        *before,
        make("MatMul", ["h", "w0"], ["y0"], name="first"),
        make("LayerNormalization", ["y0", "g", "b"], ["n"], name="norm"),
        make("MatMul", ["n", "w1"], ["y"], name="second"),
    ]
    matrices = {f"w{i}": W(SIZE, SIZE, seed=i, outlier=0) for i in range(2)}
    return models.save(
        path, nodes, {**matrices, **norm, **weights}, {"x": x}, {"y": (FLOAT, [rows, SIZE])}, **kw
    )


def floats(path: Path, rows: int | str = "batch") -> Path:
    return layers(path, rows, [make("Identity", ["x"], ["h"])], (FLOAT, [rows, SIZE]), {})


def go(src: Path, **options) -> dict:
    """Quantize; x has a range, so that no row of Inf is made."""
    setup = options.pop("setup", Setup(seed=1, timeout_s=60, ranges=RANGES.get(src.name, {})))
    proof = Proof(quality={"cosine": 0.98}, samples=1, setup=setup, **options)
    return quantize(src, src.with_name("out.onnx"), Recipe(), proof=proof)


def forms(result: dict) -> dict[str, str]:
    return {d["node"]: d["form"] for d in decisions(result)}


def of_batch(result: dict) -> list[dict]:
    return [row for row in result["comparison"]["similarity_rows"] if "row" in row]


def worst_row(src: Path, x: np.ndarray) -> float:
    (was,), (now,) = models.run(src, x=x), models.run(src.with_name("out.onnx"), x=x)
    return min(models.cosine(a, b) for a, b in zip(was, now, strict=True))


RANGES = {"floats.onnx": {"x": [-3.0, 3.0]}}
UNEVEN = np.random.default_rng(4).standard_normal((2, SIZE)).astype(np.float32)
UNEVEN[1] *= np.float32(0.01)


def test_the_node_whose_rows_disturb_each_other_moves_and_no_other(tmp_path):
    src = floats(tmp_path / "floats.onnx")
    quantize(src, tmp_path / "out.onnx", Recipe())
    assert worst_row(src, UNEVEN) < 0.9  # what the default forms make of it
    result = go(src)
    assert forms(result) == {"first": "blockwise_int8", "second": "dynamic_int8"}
    assert worst_row(src, UNEVEN) > 0.98
    assert [row["row"] for row in of_batch(result)] == [0, 1, 2]
    assert min(row["cosine"] for row in of_batch(result)) > 0.98
    assert result["comparison"]["similarity"]["cosine_min"] > 0.98
    assert any("Batches of 3 rows" in note and "row by row" in note for note in result["notes"])


def test_what_the_default_forms_lost_stands_in_the_path(tmp_path):
    first, *_, last = go(floats(tmp_path / "floats.onnx"))["quality_path"]
    assert first["figures"]["cosine_min"] < 0.98 < last["figures"]["cosine_min"]


def test_a_second_run_finds_the_same(tmp_path):
    src = floats(tmp_path / "floats.onnx")
    assert go(src)["changed"]
    assert not go(src)["changed"]


def test_a_model_without_batches_is_measured_as_before(tmp_path):
    result = go(floats(tmp_path / "floats.onnx", 4))
    assert forms(result) == {"first": "dynamic_int8", "second": "dynamic_int8"}
    assert of_batch(result) == [] and result["notes"] == []


def test_sequences_of_tokens_differ(tmp_path):
    """An embedding makes rows that are about as loud as each other: nothing moves."""
    gather = [make("Gather", ["table", "x"], ["h"], name="emb")]
    src = layers(
        tmp_path / "m.onnx", "batch", gather, (INT, ["batch"]), {"table": W(99, SIZE, outlier=0)}
    )
    result = go(src)
    assert forms(result)["first"] == "dynamic_int8"
    assert len(of_batch(result)) == row_by_row.ROWS
    assert len({row["reference_rms"] for row in of_batch(result)}) > 1


def test_a_model_that_takes_one_row_only_is_measured_as_before(tmp_path):
    """Its first dimension is symbolic, but the graph makes [1, SIZE] of whatever comes."""
    weights = {"shape": np.array([1, SIZE], np.int64)}
    before = [make("Reshape", ["x", "shape"], ["h"])]
    src = layers(tmp_path / "m.onnx", 1, before, (FLOAT, ["batch", SIZE]), weights)
    result = go(src)
    assert forms(result) == {"first": "dynamic_int8", "second": "dynamic_int8"}
    assert of_batch(result) == [] and result["comparison"]["similarity"]["cosine_min"] > 0.98


def test_without_room_in_memory_there_is_no_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    result = go(floats(tmp_path / "floats.onnx"))
    assert of_batch(result) == []


@pytest.mark.parametrize("count", [1, 4])
def test_real_inputs_make_a_batch_too(tmp_path, count):
    x = np.random.default_rng(5).standard_normal((count, SIZE)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=x)
    result = go(floats(tmp_path / "floats.onnx"), setup=Setup(inputs=tmp_path / "inputs.npz"))
    assert forms(result) == {"first": "blockwise_int8", "second": "dynamic_int8"}
    assert len(of_batch(result)) == row_by_row.ROWS


def test_a_row_of_inf_leaves_the_others_their_answers(tmp_path):
    src = floats(tmp_path / "masked.onnx")
    x = np.random.default_rng(6).standard_normal((3, SIZE)).astype(np.float32)
    x[1] = -np.inf
    quantize(src, tmp_path / "out.onnx", Recipe())
    assert np.isnan(models.run(tmp_path / "out.onnx", x=x)[0]).all()  # the default forms
    result = go(src)
    assert forms(result)["first"] != "dynamic_int8"
    (was,), (now,) = models.run(src, x=x), models.run(tmp_path / "out.onnx", x=x)
    assert min(models.cosine(was[row], now[row]) for row in (0, 2)) > 0.98
    assert {row["batch"] for row in of_batch(result)} == {"uneven", "masked"}


@pytest.mark.parametrize("mode", ["both", "in_turn"])
def test_onnx_compare_measures_them_too(tmp_path, mode):
    src, out = floats(tmp_path / "floats.onnx"), tmp_path / "out.onnx"
    quantize(src, out, Recipe())
    found = compare(src, out, setup=Setup(ranges=RANGES[src.name]), interleave=mode == "both")
    rows = [row for row in found["similarity_rows"] if "row" in row]
    assert [row["row"] for row in rows] == [0, 1, 2]
    worst = min(row["cosine"] for row in rows)
    assert found["similarity"]["cosine_min"] == worst < 0.98
    assert min(row["cosine"] for row in found["similarity_rows"] if "row" not in row) > 0.98
    assert f"{worst:.5f} (row" in row_by_row.told(found["similarity_rows"])
