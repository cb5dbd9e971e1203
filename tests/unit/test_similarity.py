"""Similarity: equal to the textbook formulas, whatever the blocks, types and corner cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from modelops import similarity
from modelops.errors import ModelOpsError
from modelops.similarity import SQNR_LIMIT_DB, Similarity, compare_files, worst

VALUES = st.floats(-100, 100, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)
PAIRS = hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(1, 50)), elements=VALUES)


def figures_of(reference, candidate) -> dict[str, float]:
    result = Similarity()
    result.add(np.asarray(reference), np.asarray(candidate))
    return result.figures()


@given(pair=PAIRS, cut=st.integers(0, 50))
def test_figures_follow_the_formulas_however_the_tensor_is_cut(pair, cut):
    r, c = pair.astype(np.float64)
    result = Similarity()
    result.add(pair[0, :cut], pair[1, :cut])
    result.add(pair[0, cut:], pair[1, cut:])
    figures = result.figures()
    assert figures["mse"] == pytest.approx(np.mean((c - r) ** 2))
    assert figures["mae"] == pytest.approx(np.mean(np.abs(c - r)))
    assert figures["max_abs_error"] == np.max(np.abs(c - r))
    if np.any(r) and np.any(c):
        cosine = r @ c / (np.linalg.norm(r) * np.linalg.norm(c))
        assert figures["cosine"] == pytest.approx(cosine, abs=1e-12)
        assert -1 <= figures["cosine"] <= 1
    if np.any(r) and np.any(r != c):
        sqnr = 10 * np.log10(np.sum(r**2) / np.sum((c - r) ** 2))
        assert figures["sqnr_db"] == pytest.approx(sqnr)


def test_zeros_and_equality():
    assert figures_of([0.0, 0.0], [0.0, 0.0])["cosine"] == 1
    assert figures_of([0.0, 0.0], [1.0, 0.0])["cosine"] == 0
    assert figures_of([1.0, 0.0], [0.0, 0.0])["cosine"] == 0
    assert figures_of([1.0, 2.0], [1.0, 2.0])["sqnr_db"] == SQNR_LIMIT_DB
    assert figures_of([0.0, 0.0], [1.0, 2.0])["sqnr_db"] == -SQNR_LIMIT_DB
    assert figures_of([], [])["mse"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_one_value_that_is_not_finite_makes_every_figure_nan(bad, side):
    pair = np.ones((2, 4), np.float32)
    pair[side, 2] = bad
    result = Similarity()
    result.add(pair[0], pair[1])
    result.add(np.ones(3), np.ones(3))
    assert all(math.isnan(value) for value in result.figures().values())


def test_files_are_compared_in_blocks_and_types_may_differ(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 7)
    reference = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    reference.tofile(tmp_path / "r")
    reference.astype(np.float16).tofile(tmp_path / "c")
    figures = compare_files(tmp_path / "r", tmp_path / "c", "float32", "float16").figures()
    expected = figures_of(reference, reference.astype(np.float16))
    assert figures == pytest.approx(expected)
    assert 0.9999 < figures["cosine"] < 1


def test_files_of_different_length_are_refused(tmp_path: Path):
    np.ones(5, np.float32).tofile(tmp_path / "r")
    np.ones(4, np.float32).tofile(tmp_path / "c")
    with pytest.raises(ModelOpsError, match="differ in size"):
        compare_files(tmp_path / "r", tmp_path / "c", "float32", "float32")


def test_the_worst_of_each_figure_counts():
    good, poor = figures_of([1.0, 2.0], [1.0, 2.1]), figures_of([1.0, 2.0], [2.0, -1.0])
    figures = worst([good, poor])
    assert figures["cosine_min"] == poor["cosine"]
    assert figures["cosine_mean"] == pytest.approx((good["cosine"] + poor["cosine"]) / 2)
    for name in ("mse", "mae", "max_abs_error", "sqnr_db"):
        assert figures[name] == poor[name]
    json.dumps(figures, allow_nan=False)


def test_a_row_that_is_not_finite_is_never_hidden_by_others():
    bad = figures_of([1.0], [math.nan])
    for rows in ([bad, figures_of([1.0], [1.0])], [figures_of([1.0], [1.0]), bad], []):
        assert all(math.isnan(value) for value in worst(rows).values())
