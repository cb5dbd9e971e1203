"""How alike two tensors are, streamed: blocks of both are read and only sums are kept.

With reference r, candidate c, error e = c - r, over all n elements of a tensor as one vector:

    cosine         r.c / (|r| |c|); 1 when both are all zeros, 0 when one is
    mse            sum(e^2) / n
    mae            sum(|e|) / n
    max_abs_error  max(|e|)
    sqnr_db        10 log10(sum(r^2) / sum(e^2)), limited to +-SQNR_LIMIT_DB

Sums are in float64. When either tensor holds a value that is not finite, every figure is NaN. An
empty tensor equals another empty one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelOpsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1 << 20  # elements of each file in memory at a time
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
        if not (np.isfinite(r).all() and np.isfinite(c).all()):
            self._finite = False
        if not self._finite:
            return
        self._dot += float(r @ c)
        self._reference += float(r @ r)
        self._candidate += float(c @ c)
        c -= r
        self._squares += float(c @ c)
        np.abs(c, out=c)
        self._absolutes += float(c.sum())
        self._largest = max(self._largest, float(np.max(c)))

    @staticmethod
    def none() -> dict[str, float]:
        """Return the figures of what cannot be compared."""
        return dict.fromkeys(_WORST, math.nan)

    def figures(self) -> dict[str, float]:
        """Return cosine, mse, mae, max_abs_error and sqnr_db of everything added."""
        if not self._finite:
            return self.none()
        count = max(1, self._count)
        return {
            "cosine": self._cosine(),
            "mse": self._squares / count,
            "mae": self._absolutes / count,
            "max_abs_error": self._largest,
            "sqnr_db": self._sqnr_db(),
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


def compare_files(
    reference: Path, candidate: Path, reference_dtype: str, candidate_dtype: str
) -> Similarity:
    """Compare two files of raw elements (C order) block by block.

    Args:
        reference_dtype, candidate_dtype: numpy names of the element types; they may differ.

    Raises:
        ModelOpsError: the files hold different numbers of elements.
    """
    import numpy as np

    types = (np.dtype(reference_dtype), np.dtype(candidate_dtype))
    result = Similarity()
    with open(reference, "rb") as left, open(candidate, "rb") as right:
        while True:
            r, c = (
                np.frombuffer(file.read(BLOCK * kind.itemsize), kind)
                for file, kind in zip((left, right), types, strict=True)
            )
            if r.size != c.size:
                raise ModelOpsError(
                    "the outputs of the two models differ in size",
                    where=candidate.name,
                    remedy="Compare models with the same outputs.",
                )
            if not r.size:
                return result
            result.add(r, c)


def worst(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the worst of each figure over rows of outputs and samples, and the mean cosine.

    Returns:
        cosine_min, cosine_mean, mse, mae, max_abs_error, sqnr_db. NaN in any row makes it NaN.
    """
    listed = list(rows)
    result = {}
    for name, choose in _WORST.items():
        values = [float(row[name]) for row in listed]
        bad = not values or any(math.isnan(value) for value in values)
        result["cosine_min" if name == "cosine" else name] = math.nan if bad else choose(values)
    result["cosine_mean"] = (
        math.fsum(float(row["cosine"]) for row in listed) / len(listed) if listed else math.nan
    )
    return result
