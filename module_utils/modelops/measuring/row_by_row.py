"""A batch of uneven rows: whether a row's answer depends on what stands beside it.

A matrix that is multiplied in INT8 has one scale for the whole activation: a quiet row beside a
loud one keeps few of its bits (cosine 0.8 at a hundredth), which a batch of 1 cannot show. So a
model that takes batches runs once on ROWS rows whose floats are AMPLITUDES of each other, and each
row of an output is compared with the same row of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import memory
from ..base.errors import ModelOpsError
from .outputs import Output, compare
from .session import Model
from .session_inputs import AMPLITUDES, batch_axes

ROWS = len(AMPLITUDES)


def of(outputs: Sequence[Output], model: Model) -> list[list[Output]]:
    """Return the outputs of a batch as rows: an element of the result is what a row gives.

    Left out are outputs that have no symbolic first dimension, or another number of rows, and those
    that are not floats: of few values some are equal by chance.

    Args:
        model: gave them.
    """
    shapes = {row["name"]: row["shape"] for row in model.loaded["outputs"]}
    symbolic = {name for name, shape in shapes.items() if shape and isinstance(shape[0], str)}
    split = [
        output
        for output in outputs
        if output.name in symbolic and output.shape[:1] == (ROWS,) and not output.is_discrete
    ]
    return [[_row(output, row) for output in split] for row in range(ROWS)]


def _row(output: Output, row: int) -> Output:
    size = output.size // ROWS
    return replace(output, shape=output.shape[1:], size=size, start=row * size)


def may_run(model: Model) -> bool:
    """Tell whether a model takes batches, and memory has room for one, after a run of a sample.

    A row is taken to need what that run needed beside the weights. The batch's outputs are kept
    while the next model runs on it.
    """
    one = model.peak_rss_bytes - int(model.loaded["rss_after_load_bytes"])
    free = memory.available_bytes()
    fits = free is None or 2 * ROWS * max(one, 0) <= free
    return fits and bool(batch_axes(model.loaded["inputs"]))


def meaningful(reference: list[list[Output]]) -> list[list[Output]]:
    """Return the rows without what nothing can be like: values that are not finite, or all 0."""
    kept = []
    for row in reference:
        figures = compare(row, row)
        kept.append([o for o, f in zip(row, figures, strict=True) if f["reference_rms"] > 0])
    return kept


def alike(
    reference: Sequence[Sequence[Output]],
    candidate: Sequence[Sequence[Output]],
    sample: int,
    where: Path,
) -> list[dict[str, Any]]:
    """Compare the rows of two runs; see outputs.compare. Each result names its `row`.

    Args:
        sample: the number that the batch has among the samples.
        where: the candidate.

    Raises:
        ModelOpsError: an output of the candidate has another number of rows.
    """
    found = []
    for row, (wanted, own) in enumerate(zip(reference, candidate, strict=True)):
        rows = compare(wanted, own, sample, where, strict=False)
        found += [{**figures, "row": row} for figures in rows]
    return found


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which row of a batch is the worst; nothing where none was measured."""
    of_batch = [row for row in rows if "row" in row]
    if not of_batch:
        return ""
    worst = min(of_batch, key=lambda row: -math.inf if math.isnan(row["cosine"]) else row["cosine"])
    return (
        f"A batch of {ROWS} rows, each of a tenth of the one before, was measured row by row: the"
        f" worst has a cosine of {worst['cosine']:.5f} (row {worst['row'] + 1} of"
        f" {worst['output']})."
    )


def run(model: Model, **options: Any) -> dict[str, Any] | None:
    """Run a model on a batch; None when it cannot, and then its process has ended.

    Args:
        options: of Model.run.
    """
    try:
        return model.run(batch=True, **options)
    except ModelOpsError:
        return None
