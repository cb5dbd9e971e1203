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
        ModelOpsError: the result is refused by onnx.checker, does not load, does not run although
            the source does, or gives values that are not finite although the source does not.
    """
    started = time.monotonic()
    checked = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
        [sys.executable, "-I", "-X", "utf8", "-c", _CHECK, str(pair)],
        capture_output=True, text=True, check=False, timeout=setup.timeout_s,
    )  # fmt: skip
    if checked.returncode:
        words = checked.stderr.strip().splitlines() or [f"exit code {checked.returncode}"]
        raise ModelOpsError(
            f"onnx.checker refuses the result: {words[-1][:500]}",
            where=source,
            remedy="Please report this model; exclude_nodes can leave the node in question out.",
        )
    ran, note, peak = True, "", None
    try:
        with setup.work_folder() as work, Model(pair, setup, work) as model:
            model.run(inspect=True)
            peak = model.peak_rss_bytes
            finite = model.finite
    except ModelOpsError as error:
        if _runs(source, setup) is not None:
            raise
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


def _runs(path: Path, setup: Setup) -> bool | None:
    """Tell whether a model gives finite values; None when it does not load or run."""
    try:
        with setup.work_folder() as work, Model(path, setup, work) as model:
            model.run(inspect=True)
            return model.finite
    except ModelOpsError:
        return None
