"""A batch of uneven rows: its inputs, and how its outputs are parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from modelops.measuring import row_by_row
from modelops.measuring.outputs import Held
from modelops.measuring.session import Setup
from modelops.measuring.session_inputs import (
    AMPLITUDES,
    MASKED,
    ROWS,
    UNEVEN,
    as_batch,
    batch_axes,
    batch_shapes,
    seeded,
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


def batch(
    inputs: list, ranges: dict | None = None, shapes: dict | None = None, kind=UNEVEN
) -> dict:
    made = seeded(inputs, 1, ranges or {}, batch_shapes(inputs, shapes or {}))
    return as_batch(kind, inputs, made, ranges or {})


def test_floats_are_uneven_and_all_else_differs():
    inputs = described(x=["b", 500], h=["b", 500], i=["b", 50], t=["b", 50], m=["b", 50])
    made = batch(inputs, {"i": [0, 999], "t": [0, 999]})
    for name, array in made.items():
        assert len(array) == ROWS, name
        assert not np.array_equal(array[0], array[1]), name
    for name in ("x", "h"):
        loud = np.abs(made[name].astype(np.float64)).mean(axis=1)
        np.testing.assert_allclose(loud / loud[0], AMPLITUDES[UNEVEN], rtol=0.2)
    assert [made[n].dtype.name for n in "xhim"] == ["float32", "float16", "int64", "bool"]


def test_given_shapes_keep_all_but_their_rows():
    made = batch(described(x=["b", "time", 4]), shapes={"x": [7, 5, 4]})
    assert made["x"].shape == (ROWS, 5, 4)


def test_a_range_is_not_left():
    made = batch(described(x=["b", 99], x2=["b", 99]), {"x": [2.0, 3.0], "x2": [0.0, 3.0]})
    assert made["x"].min() >= 2.0
    assert 0 <= made["x2"][2].max() <= 0.03


def test_rows_of_a_file_are_repeated_or_cut():
    inputs = described(x=["b", 2])
    for count in (1, 2, 5):
        given = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)
        made = as_batch(UNEVEN, inputs, {"x": given}, {})["x"]
        for row, factor in enumerate(AMPLITUDES[UNEVEN]):
            np.testing.assert_allclose(made[row], given[row % count] * factor, rtol=1e-6)
    assert as_batch(UNEVEN, inputs, {"x": np.zeros((0, 2), np.float32)}, {})["x"].shape == (0, 2)


class Loaded:
    """What rows.of reads of a session.Model."""

    def __init__(self, outputs: list[dict], inputs: list[dict] | None = None) -> None:
        self.loaded = {"outputs": outputs, "inputs": inputs}


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
    rows = row_by_row.of(outputs(x=y), model)
    assert [len(row) for row in row_by_row._meaningful(rows, UNEVEN)] == [1, 0, 0]


def test_a_row_of_inf_is_no_answer_of_its_own():
    y = np.ones((3, 2), np.float32)
    rows = row_by_row.of(outputs(x=y), Loaded(described(x=["b", 2])))
    assert [len(row) for row in row_by_row._meaningful(rows, MASKED)] == [1, 0, 1]


def test_a_masked_batch_has_one_row_of_inf():
    inputs = described(x=["b", 9], x2=["b", 9], h=["b", 9], i=["b", 9])
    made = batch(inputs, {"x2": [-1.0, 1.0]}, kind=MASKED)
    for name in ("x", "h"):
        assert np.isinf(made[name][1]).all()
        assert {*np.sign(made[name][1])} == {-1, 1}
        assert np.isfinite(made[name][[0, 2]]).all()
    assert np.isfinite(made["x2"]).all(), "a range was given, so Inf is no value of it"


@pytest.mark.parametrize(
    ("setup", "shape", "kinds"),
    [
        (Setup(), ["b", 2], [UNEVEN, MASKED]),
        (Setup(ranges={"x": (0, 1)}), ["b", 2], [UNEVEN]),
        (Setup(inputs=Path("x.npz")), ["b", 2], [UNEVEN]),
        (Setup(), [1, 2], []),
    ],
)
def test_inf_is_for_inputs_that_are_not_known(setup, shape, kinds):
    model = Loaded([], described(x=shape))
    model.setup = setup
    assert row_by_row.kinds(model) == kinds


def test_the_worst_row_is_told():
    assert row_by_row.told([{"output": "y", "sample": 0, "cosine": 0.5}]) == ""
    found = [{"output": "y", "batch": UNEVEN, "row": i, "cosine": 0.9 - i / 10} for i in range(3)]
    assert "0.70000 (row 3 of y, each a tenth" in row_by_row.told(found)
    found.append({"output": "y", "batch": MASKED, "row": 0, "cosine": "nan"})
    assert "nan (row 1 of y, beside a row of Inf)" in row_by_row.told(found)
