"""Real inputs: what a file of them holds, whether it fits, and that they are what is run."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.measuring import compare, golden, inputs_file, npz
from modelops.measuring.session import Setup
from modelops.model import declared

KINDS = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]


def voice(tmp_path: Path) -> tuple[Path, dict[str, dict]]:
    path = models.voice(tmp_path / "voice.onnx")
    return path, declared.read(path).inputs


def fitting(inputs: dict[str, dict]) -> dict[str, np.ndarray]:
    return {name: np.zeros(row["shape"], row["dtype"]) for name, row in inputs.items()}


@given(st.sampled_from(KINDS), st.lists(st.integers(0, 3), max_size=4), st.booleans())
def test_headers_are_read_as_numpy_writes_them(kind, shape, fortran):
    array = np.zeros(shape, kind, order="F" if fortran else "C")
    content = io.BytesIO()
    np.save(content, array)
    assert npz.header(content.getvalue())[0] == {"dtype": kind, "shape": shape}


def test_one_sample_and_several(tmp_path):
    _, inputs = voice(tmp_path)
    one, several = tmp_path / "one.npz", tmp_path / "several.npz"
    np.savez(one, **fitting(inputs))
    many = {f"input/{n}/{k}": v for n in (0, 1, 2) for k, v in fitting(inputs).items()}
    np.savez_compressed(several, **many)
    assert len(inputs_file.samples(one)) == 1 and len(inputs_file.samples(several)) == 3
    for file in (one, several):
        assert inputs_file.problems(inputs_file.samples(file), inputs) == []
        assert Setup(inputs=file).sample_count(9) == len(inputs_file.samples(file))


def test_all_that_does_not_fit_is_told_at_once(tmp_path):
    _, inputs = voice(tmp_path)
    (name,) = inputs
    file = tmp_path / "wrong.npz"
    np.savez(file, **{name: np.zeros((1, 2, 3, 4), "float64"), "other": np.zeros(1)})
    wrong = inputs_file.problems(inputs_file.samples(file), inputs)
    assert len(wrong) == 3 and "other" in wrong[0]
    assert "float64" in wrong[1] and "[1, 2, 3, 4]" in wrong[2]


@pytest.mark.parametrize("kind", ["missing", "text", "pickle", "no array", "gap", "empty"])
def test_a_file_that_is_none(tmp_path, kind):
    file = tmp_path / "x.npz"
    if kind == "text":
        file.write_text("codes")
    elif kind == "pickle":
        np.savez(file, x=np.array([{"a": 1}], dtype=object))
    elif kind == "no array":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", b"something")
    elif kind == "gap":
        np.savez(file, **{"input/0/x": np.zeros(1), "input/2/x": np.zeros(1)})
    elif kind == "empty":
        np.savez(file)
    with pytest.raises(ModelOpsError) as raised:
        inputs_file.samples(file)
    assert raised.value.remedy == inputs_file.REMEDY


def test_real_inputs_are_what_is_run_and_what_golden_data_keep(tmp_path):
    path, inputs = voice(tmp_path)
    (name,) = inputs
    file, kept = tmp_path / "real.npz", tmp_path / "golden.npz"
    arrays = [np.full(inputs[name]["shape"], n, inputs[name]["dtype"]) for n in (0, 1, 0)]
    np.savez(file, **{f"input/{n}/{name}": array for n, array in enumerate(arrays)})
    setup = Setup(inputs=file)
    rows = compare.compare(path, path, samples=1, runs=1, setup=setup)["similarity_rows"]
    assert {row["sample"] for row in rows} == {0, 1, 2}

    meta = golden.wanted([], 1, 1000, setup)
    assert meta["samples"] == 3
    golden.make(path, kept, meta, setup)
    with np.load(kept) as found:
        for number, array in enumerate(arrays):
            assert np.array_equal(found[f"input/{number}/{name}"], array)
        assert np.array_equal(found["output/0/0"], found["output/2/0"])
        assert not np.array_equal(found["output/0/0"], found["output/1/0"])
    assert golden.fits(kept, meta)
    # A target takes the inputs from the golden data.
    again = compare.compare(path, path, samples=1, runs=1, setup=replace(setup, inputs=kept))
    assert [row["cosine"] for row in again["similarity_rows"]] == [row["cosine"] for row in rows]

    np.savez(file, **{name: arrays[1]})
    assert not golden.fits(kept, golden.wanted([], 1, 1000, setup)), "another file is told by hash"
    assert not golden.fits(kept, golden.wanted([], 3, 1000, Setup())), "so are seeded inputs"
