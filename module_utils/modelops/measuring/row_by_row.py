"""Batches of rows that are not alike: whether a row's answer depends on what stands beside it.

A matrix that is multiplied in INT8 has one scale for the whole activation: a quiet row beside a
loud one keeps few of its bits (cosine 0.8 at a hundredth), and a row of Inf, as a mask may make it,
leaves nothing of any other. A batch of 1 cannot show that. So a model that takes batches runs once
on each kind of session_inputs.AMPLITUDES, and each row of an output is compared with the same row
of the reference. A row of Inf is made only of inputs that have neither a range nor a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..base import memory
from ..base.errors import ModelOpsError
from .outputs import Output, compare, open_in, opened
from .session import Model
from .session_inputs import AMPLITUDES, MASKED, ROWS, UNEVEN, batch_axes

Rows = list[list[Output]]  # an element is what one row of a batch gives


def of(outputs: Sequence[Output], model: Model) -> Rows:
    """Return the outputs of a batch as rows.

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


def kinds(model: Model) -> list[str]:
    """Return the kinds of batches that a loaded model takes; none where it takes one row."""
    rows, setup = model.loaded["inputs"], model.setup
    axes = batch_axes(rows)
    open_ended = any(
        axes.get(row["name"], [1])[0] == 0
        and row["dtype"].startswith("float")
        and row["name"] not in setup.ranges
        for row in rows
    )
    return [UNEVEN, *[MASKED][: open_ended and setup.inputs is None]] if axes else []


def kept(model: Model, stack: ExitStack) -> dict[str, Rows]:
    """Run a reference on its batches, as the last that its process does, and keep the answers.

    Nothing is kept where memory has no room: a row is taken to need what the run of a sample needed
    beside the weights, and the outputs are kept while the next model runs. A batch that the model
    cannot run ends its process.

    Args:
        model: it has run on a sample.
        stack: closes the outputs.
    """
    one = model.peak_rss_bytes - int(model.loaded["rss_after_load_bytes"])
    free = memory.available_bytes()
    found: dict[str, Rows] = {}
    for kind in kinds(model) if free is None or 2 * ROWS * max(one, 0) <= free else ():
        try:
            reply = model.run(batch=kind, share=True, fresh=True)
        except ModelOpsError:
            break
        found[kind] = _meaningful(of(open_in(stack, reply), model), kind)
    return {kind: rows for kind, rows in found.items() if any(rows)}


def _meaningful(reference: Rows, kind: str) -> Rows:
    """Return the rows without what nothing can be like: values that are not finite, or all 0."""
    result: Rows = []
    for row, factor in zip(reference, AMPLITUDES[kind], strict=True):
        figures = compare(row, row) if math.isfinite(factor) else []
        result.append([o for o, f in zip(row, figures, strict=False) if f["reference_rms"] > 0])
    return result


def alike(reference: Mapping[str, Rows], candidate: Model, sample: int) -> list[dict[str, Any]]:
    """Run a candidate on the batches that a reference answered, and compare row by row.

    Args:
        reference: see `kept`.
        sample: the number that the first batch has among the samples.

    Returns:
        As outputs.compare; each result names its `row` and the kind of its `batch`.

    Raises:
        ModelOpsError: the candidate cannot run a batch, or its outputs have another number of rows.
    """
    found = []
    for number, (kind, rows) in enumerate(reference.items(), sample):
        with opened(candidate.run(batch=kind, share=True)) as outputs:
            pairs = zip(rows, of(outputs, candidate), strict=True)
            for row, (wanted, own) in enumerate(pairs):
                figures = compare(wanted, own, number, candidate.path, strict=False)
                found += [{**one, "row": row, "batch": kind} for one in figures]
    return found


def between(reference: Model, candidate: Model, sample: int) -> list[dict[str, Any]]:
    """Compare two models on batches, one after the other, in processes of their own.

    Args:
        reference: it is not loaded, as `candidate`.
        sample: as for `alike`.

    Raises:
        ModelOpsError: as `alike`.
    """
    with ExitStack() as stack:
        with reference:
            reference.run()
            answers = kept(reference, stack)
        if not answers:
            return []
        with candidate:
            return alike(answers, candidate, sample)


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which row of a batch is the worst; nothing where none was measured."""
    of_batch = [row for row in rows if "row" in row]
    if not of_batch:
        return ""
    worst = min(of_batch, key=_cosine)
    beside = "beside a row of Inf" if worst["batch"] == MASKED else "each a tenth of the one before"
    return (
        f"Batches of {ROWS} rows were measured row by row: the worst has a cosine of"
        f" {float(worst['cosine']):.5f} (row {worst['row'] + 1} of {worst['output']}, {beside})."
    )


def _cosine(row: Mapping[str, Any]) -> float:
    cosine = float(row["cosine"])  # a text where it is NaN and went through JSON
    return -math.inf if math.isnan(cosine) else cosine
