"""How alike two tensors are, streamed: blocks of both are seen and only sums are kept.

With reference r, candidate c, error e = c - r, over all n elements of a tensor of floats as one
vector:

    cosine         r.c / (|r| |c|); 1 when both are all zeros, 0 when one is
    mse            sum(e^2) / n
    mae            sum(|e|) / n
    max_abs_error  max(|e|)
    sqnr_db        10 log10(sum(r^2) / sum(e^2)), limited to +-SQNR_LIMIT_DB
    reference_rms  sqrt(sum(r^2) / n): the scale that mse and mae are read against

Integers, booleans and strings have one figure, agreement: the share of elements that are equal.

Sums are in float64. When either tensor holds a value that is not finite, every figure is NaN. An
empty tensor equals another empty one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# 20 log10(2^53): float64 sums cannot tell a smaller error from none, and JSON has no infinity.
SQNR_LIMIT_DB = 319.0
# How the worst of several figures is chosen.
_WORST = {"cosine": min, "mse": max, "mae": max, "max_abs_error": max, "sqnr_db": min}


class Similarity:
    """The sums over the blocks seen so far."""

    def __init__(self) -> None:
        self._count = 0
        self._dot = self._reference = self._candidate = self._squares = self._absolutes = 0.0
        self._largest = 0.0
        self._finite = True

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """Take the next block of both tensors, one-dimensional and of equal length."""
        import numpy as np

        if not reference.size:
            return
        r, c = reference.astype(np.float64), candidate.astype(np.float64)
        self._count += r.size
        reference_power, candidate_power = _sum(r, r), _sum(c, c)
        if not math.isfinite(reference_power + candidate_power):
            self._finite = self._finite and bool(np.isfinite(r).all() and np.isfinite(c).all())
        if not self._finite:
            return
        self._dot += _sum(r, c)
        self._reference += reference_power
        self._candidate += candidate_power
        c -= r
        self._squares += _sum(c, c)
        np.abs(c, out=c)
        self._absolutes += float(c.sum())
        self._largest = max(self._largest, float(np.max(c)))

    @staticmethod
    def none() -> dict[str, float]:
        """Return the figures of what cannot be compared."""
        return dict.fromkeys((*_WORST, "reference_rms"), math.nan)

    def figures(self) -> dict[str, float]:
        """Return the figures of everything added; see this module."""
        if not self._finite:
            return self.none()
        count = max(1, self._count)
        return {
            "cosine": self._cosine(),
            "mse": self._squares / count,
            "mae": self._absolutes / count,
            "max_abs_error": self._largest,
            "sqnr_db": self._sqnr_db(),
            "reference_rms": math.sqrt(self._reference / count),
        }

    def _cosine(self) -> float:
        if self._largest == 0:
            return 1.0  # equal, without the rounding below
        norms = math.sqrt(self._reference) * math.sqrt(self._candidate)
        if norms == 0:
            return 0.0
        return max(-1.0, min(1.0, self._dot / norms))

    def _sqnr_db(self) -> float:
        if self._squares == 0:
            return SQNR_LIMIT_DB
        if self._reference == 0:
            return -SQNR_LIMIT_DB
        ratio_db = 10 * (math.log10(self._reference) - math.log10(self._squares))
        return max(-SQNR_LIMIT_DB, min(SQNR_LIMIT_DB, ratio_db))


def _sum(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the scalar product. `@` would start threads, which cost more than they bring."""
    import numpy as np

    return float(np.einsum("i,i->", left, right))


class Agreement:
    """How many elements of the blocks seen so far are equal."""

    def __init__(self) -> None:
        self._count = self._equal = 0

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """Take the next block of both tensors, one-dimensional and of equal length."""
        self._count += reference.size
        self._equal += int((reference == candidate).sum())

    def figures(self) -> dict[str, float]:
        """Return `agreement`, the share of equal elements; 1 where there are none."""
        return {"agreement": self._equal / self._count if self._count else 1.0}


def worst(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the worst of each figure over rows of outputs and samples, and means.

    Returns:
        `float_rows` and `discrete_rows`: how many rows are of floats, and how many are not. Of
        floats: cosine_min, cosine_mean, mse, mse_mean, mae, mae_mean, max_abs_error, sqnr_db, and
        reference_rms of the row with the highest mse. NaN in any row makes them NaN. Of the
        others: agreement_min, agreement_mean. Where no row is of a kind, its figures are left out.
    """
    listed = list(rows)
    discrete = [float(row["agreement"]) for row in listed if "agreement" in row]
    floats = [row for row in listed if "agreement" not in row]
    result: dict[str, float] = {"float_rows": len(floats), "discrete_rows": len(discrete)}
    if floats:
        result |= _worst_floats(floats)
    if discrete:
        result |= {"agreement_min": min(discrete), "agreement_mean": _mean(discrete)}
    return result


def _worst_floats(rows: list[Mapping[str, Any]]) -> dict[str, float]:
    result = {}
    for name, choose in _WORST.items():
        values = [float(row[name]) for row in rows]
        bad = any(math.isnan(value) for value in values)
        result["cosine_min" if name == "cosine" else name] = math.nan if bad else choose(values)
    for name in ("cosine", "mse", "mae"):
        result[f"{name}_mean"] = _mean([float(row[name]) for row in rows])
    result["reference_rms"] = float(max(rows, key=lambda row: row["mse"])["reference_rms"])
    return result


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
