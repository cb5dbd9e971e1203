"""Similarity: equal to the textbook formulas, whatever the blocks, types and corner cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from modelops.measuring.similarity import SQNR_LIMIT_DB, Similarity, worst

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
    for rows in ([bad, figures_of([1.0], [1.0])], [figures_of([1.0], [1.0]), bad]):
        figures = worst(rows)
        del figures["reference_rms"]  # of the reference alone
        counts = figures.pop("float_rows"), figures.pop("discrete_rows")
        assert counts == (2, 0)
        assert all(math.isnan(value) for value in figures.values())


def test_floats_and_others_are_summed_up_apart():
    rows = [figures_of([3.0, 4.0], [3.0, 4.0]), {"agreement": 0.5}, {"agreement": 1.0}]
    figures = worst(rows)
    assert (figures["float_rows"], figures["discrete_rows"]) == (1, 2)
    assert (figures["agreement_min"], figures["agreement_mean"]) == (0.5, 0.75)
    assert figures["reference_rms"] == pytest.approx(math.sqrt(12.5))
    assert "cosine_min" not in worst(rows[1:])
    assert "agreement_min" not in worst(rows[:1])
    assert worst([]) == {"float_rows": 0, "discrete_rows": 0}
