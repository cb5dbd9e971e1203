"""A batch of uneven rows: its inputs, and how its outputs are parted."""

from __future__ import annotations

import numpy as np
import pytest
from modelops.measuring import row_by_row
from modelops.measuring.outputs import Held
from modelops.measuring.session_inputs import (
    AMPLITUDES,
    batch_axes,
    batch_shapes,
    seeded,
    uneven,
)


def described(**shapes: list) -> list[dict]:
    kinds = {"i": "int64", "x": "float32", "h": "float16", "t": "str", "m": "bool"}
    return [{"name": n, "dtype": kinds[n[0]], "shape": shape} for n, shape in shapes.items()]


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        ({"x": [1, 4]}, {}),
        ({"x": []}, {}),
        ({"x": [4, "time"]}, {}),
        ({"x": ["batch", 4]}, {"x": [0]}),
        ({"x": ["None", "None"]}, {"x": [0]}),
        ({"x": ["batch", "time"], "i": ["batch"]}, {"x": [0], "i": [0]}),
        ({"x": ["batch", 4], "x2": [2, "batch", 8]}, {"x": [0], "x2": [1]}),
        ({"x": ["n", "n"]}, {"x": [0, 1]}),
    ],
)
def test_a_batch_lies_along_symbolic_first_dimensions_and_their_namesakes(shapes, axes):
    assert batch_axes(described(**shapes)) == axes


def batch(inputs: list[dict], ranges: dict | None = None, shapes: dict | None = None) -> dict:
    made = seeded(inputs, 1, ranges or {}, batch_shapes(inputs, shapes or {}))
    return uneven(inputs, made, ranges or {})


def test_floats_are_uneven_and_all_else_differs():
    inputs = described(x=["b", 500], h=["b", 500], i=["b", 50], t=["b", 50], m=["b", 50])
    made = batch(inputs, {"i": [0, 999], "t": [0, 999]})
    for name, array in made.items():
        assert len(array) == len(AMPLITUDES), name
        assert not np.array_equal(array[0], array[1]), name
    for name in ("x", "h"):
        loud = np.abs(made[name].astype(np.float64)).mean(axis=1)
        np.testing.assert_allclose(loud / loud[0], AMPLITUDES, rtol=0.2)
    assert [made[n].dtype.name for n in "xhim"] == ["float32", "float16", "int64", "bool"]


def test_given_shapes_keep_all_but_their_rows():
    made = batch(described(x=["b", "time", 4]), shapes={"x": [7, 5, 4]})
    assert made["x"].shape == (len(AMPLITUDES), 5, 4)


def test_a_range_is_not_left():
    made = batch(described(x=["b", 99], x2=["b", 99]), {"x": [2.0, 3.0], "x2": [0.0, 3.0]})
    assert made["x"].min() >= 2.0
    assert 0 <= made["x2"][2].max() <= 0.03


def test_rows_of_a_file_are_repeated_or_cut():
    inputs = described(x=["b", 2])
    for count in (1, 2, 5):
        given = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)
        made = uneven(inputs, {"x": given}, {})["x"]
        for row, factor in enumerate(AMPLITUDES):
            np.testing.assert_allclose(made[row], given[row % count] * factor, rtol=1e-6)
    assert uneven(inputs, {"x": np.zeros((0, 2), np.float32)}, {})["x"].shape == (0, 2)


class Loaded:
    """What rows.of reads of a session.Model."""

    def __init__(self, outputs: list[dict]) -> None:
        self.loaded = {"outputs": outputs}


def outputs(**arrays: np.ndarray) -> list:
    return [Held(array).output(name, array.shape) for name, array in arrays.items()]


def test_outputs_are_parted_where_they_have_the_batchs_rows():
    y = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    model = Loaded(described(x=["b", 2, 2], x2=["b", 1], x3=[3], i=["b"]))
    given = outputs(x=y, x2=np.ones((4, 1), np.float32), x3=np.ones(3, np.float32), i=np.arange(3))
    found = row_by_row.of(given, model)
    assert [[part.name for part in row] for row in found] == [["x"]] * 3
    for row in (2, 0, 1):  # in any order, again and again
        assert found[row][0].shape == (2, 2)
        assert found[row][0].values().tolist() == y[row].ravel().tolist()


def test_a_row_that_nothing_can_be_like_is_left_out():
    y = np.array([[1, 2], [0, 0], [1, np.nan]], np.float32)
    model = Loaded(described(x=["b", 2]))
    reference = row_by_row.meaningful(row_by_row.of(outputs(x=y), model))
    assert [len(row) for row in reference] == [1, 0, 0]
    (row,) = row_by_row.alike(reference, row_by_row.of(outputs(x=y), model), 2, "candidate")
    assert (row["row"], row["sample"], row["output"], row["cosine"]) == (0, 2, "x", 1.0)


def test_the_worst_row_is_told():
    assert row_by_row.told([{"output": "y", "sample": 0, "cosine": 0.5}]) == ""
    found = [{"output": "y", "sample": 2, "row": i, "cosine": 0.9 - i / 10} for i in range(3)]
    assert "0.70000 (row 3 of y)" in row_by_row.told(found)
