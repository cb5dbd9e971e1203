"""Golden data: made from FP32, judged by, kept, and refused when damaged."""

from __future__ import annotations

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.measuring import golden
from modelops.measuring.compare import compare
from modelops.measuring.session import Setup
from modelops.measuring.session_outputs import positions
from modelops.pair import manifest
from modelops.quantizer.quantize import Recipe, quantize
from modelops.sample.sample import make_sample

SETUP = Setup(ranges={"audio_codes": [0, 1023]}, seed=3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    src, dest = folder / "m.onnx", folder / "m_int8.onnx"
    make_sample(src, 3)
    made = quantize(src, dest, Recipe())
    meta = golden.wanted(made["manifest"]["source"], 2, 10**9, SETUP)
    golden.make(src, folder / golden.NAME, meta, SETUP)
    return src, dest, folder / golden.NAME, meta


@given(st.integers(0, 5000), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_positions(size, count, seed):
    chosen = positions(size, count, seed)
    assert chosen.size == min(size, count)
    assert (np.diff(chosen) > 0).all()
    assert chosen.size == 0 or (chosen[0] >= 0 and chosen[-1] < size)
    assert (chosen == positions(size, count, seed)).all()


def test_all_positions_give_the_figures_of_the_whole_outputs(pair):
    src, dest, path, _ = pair
    rows = golden.compare(dest, path, Setup())  # the options of the file count, not these
    whole = compare(src, dest, samples=2, runs=1, setup=SETUP)["similarity_rows"]
    assert [row["sample"] for row in rows] == [0, 1]
    for row, other in zip(rows, whole, strict=True):
        assert row.pop("output") == other.pop("output")
        assert row == pytest.approx(other, rel=1e-4)


def test_few_positions_come_close(pair, tmp_path):
    src, dest, _, meta = pair
    few = tmp_path / "few.npz"
    golden.make(src, few, {**meta, "positions": 2000}, SETUP)
    rows = golden.compare(dest, few, Setup())
    whole = golden.compare(dest, pair[2], Setup())
    for row, other in zip(rows, whole, strict=True):
        assert row["cosine"] == pytest.approx(other["cosine"], abs=0.01)
    assert few.stat().st_size < 2000 * 4 * 2 + 40_000


def test_kept_when_it_fits_and_made_again_when_not(pair, tmp_path):
    _, _, path, meta = pair
    assert golden.fits(path, meta)
    assert not golden.fits(path, {**meta, "seed": 4})
    assert not golden.fits(tmp_path / "missing.npz", meta)
    damaged = tmp_path / "damaged.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert not golden.fits(damaged, meta)
    with pytest.raises(ModelOpsError, match="not usable as golden data"):
        golden.compare(pair[1], damaged, Setup())


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive" * 9])
def test_anything_else_is_refused(pair, tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ModelOpsError, match="not usable as golden data"):
        golden.compare(pair[1], path, Setup())


def test_another_model_is_refused(pair, tmp_path):
    other = tmp_path / "other.onnx"
    models.voice(other)
    with pytest.raises(ModelOpsError, match="inputs are"):
        golden.compare(other, pair[2], Setup())


def test_equal_data_gives_equal_bytes(pair, tmp_path):
    src, _, path, meta = pair
    again = tmp_path / "again.npz"
    golden.make(src, again, meta, SETUP)
    assert manifest.describe(again)["sha256"] == manifest.describe(path)["sha256"]
