"""Prove in child processes that a written pair is a model: it checks, loads and runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .child import Model, Setup
from .errors import ModelOpsError

# onnx.checker reads the graph and the sizes of the data file; given a path it does not hold either.
_CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1])"


def verify(pair: Path, source: Path, setup: Setup) -> dict[str, Any]:
    """Check, load and run a quantized model in child processes of their own.

    Args:
        pair: the INT8 graph, its data beside it.
        source: the FP32 model, which is run too when the result does not: inputs that neither
            takes say nothing of the quantizer.
        setup: inputs, session and limits.

    Returns:
        `ran` (false when the source does not load and run with these inputs either), `note`,
        `elapsed_s`, and the `peak_rss_bytes` of the process that ran the result.

    Raises:
        ModelOpsError: the result is refused by onnx.checker (when the source is too, but both run,
            that is a note), does not load, does not run although
            the source does, or gives values that are not finite although the source does not.
    """
    started = time.monotonic()
    refusal = _refusal(pair, setup)
    of_source = _refusal(source, setup) if refusal else ""
    if refusal and not of_source:
        raise ModelOpsError(
            f"onnx.checker refuses the result: {refusal}",
            where=source,
            remedy="Please report this model; exclude_nodes can leave the node in question out.",
        )
    ran, peak = True, None
    note = f"onnx.checker refuses the source itself: {of_source}" if of_source else ""
    try:
        with setup.work_folder() as work, Model(pair, setup, work) as model:
            model.run(inspect=True)
            peak = model.peak_rss_bytes
            finite = model.finite
    except ModelOpsError as error:
        if _runs(source, setup) is not None:
            raise
        if of_source:
            raise ModelOpsError(
                f"onnx.checker refuses the model ({of_source}), and it does not run: {error.what}",
                where=source,
                remedy="Export the model again.",
            ) from None
        ran, note = False, f"neither model runs here with these inputs: {error.what[:300]}"
    if ran and not finite and _runs(source, setup):
        raise ModelOpsError(
            "the result gives values that are not finite, the source does not",
            where=source,
            remedy="Please report this model.",
        )
    return {
        "ran": ran,
        "note": note,
        "elapsed_s": round(time.monotonic() - started, 3),
        "peak_rss_bytes": peak,
    }


def _refusal(path: Path, setup: Setup) -> str:
    """Return what onnx.checker has against a model, or nothing."""
    checked = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
        [sys.executable, "-I", "-X", "utf8", "-c", _CHECK, str(path)],
        capture_output=True, text=True, check=False, timeout=setup.timeout_s,
    )  # fmt: skip
    words = [line for line in checked.stderr.splitlines() if line.strip()]
    return (
        " ".join(words[-1:])[:500] or f"exit code {checked.returncode}"
        if checked.returncode
        else ""
    )


def _runs(path: Path, setup: Setup) -> bool | None:
    """Tell whether a model gives finite values; None when it does not load or run."""
    try:
        with setup.work_folder() as work, Model(path, setup, work) as model:
            model.run(inspect=True)
            return model.finite
    except ModelOpsError:
        return None
