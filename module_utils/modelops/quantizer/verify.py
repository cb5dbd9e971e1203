"""Prove that a written pair is a model: it checks, and it loads and runs in a child process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx

from ..base.errors import ModelOpsError
from ..measuring.session import Model, Setup

_CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1])"


def verify(pair: Path, source: Path, setup: Setup) -> dict[str, Any]:
    """Check a quantized model, then load and run it in a child process.

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
    peak, finite, failure = None, True, None
    try:
        with setup.work_folder() as work, Model(pair, setup, work) as model:
            model.run(inspect=True)
            peak, finite = model.peak_rss_bytes, model.finite
    except ModelOpsError as error:
        failure = error
    refusal = _refusal(pair)
    of_source = _refusal_of_source(source, setup) if refusal else ""
    if refusal and not of_source:
        raise ModelOpsError(
            f"onnx.checker refuses the result: {refusal}",
            where=source,
            remedy="Please report this model; exclude_nodes can leave the node in question out.",
        )
    ran, note = failure is None, ""
    if of_source:
        note = f"onnx.checker refuses the source itself: {of_source}"
    if failure is not None:
        if _runs(source, setup) is not None:
            raise failure
        if of_source:
            raise ModelOpsError(
                f"onnx.checker refuses the model ({of_source}), and it does not run:"
                f" {failure.what}",
                where=source,
                remedy="Export the model again.",
            )
        note = f"neither model runs here with these inputs: {failure.what[:300]}"
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


def _refusal(pair: Path) -> str:
    """Return what onnx.checker has against a pair, or nothing.

    Given a path, it reads the graph and looks at the size of the data file.
    """
    try:
        onnx.checker.check_model(str(pair))
    except Exception as error:  # those of the checker share no base class of their own
        return " ".join(str(error).split())[:500] or type(error).__name__
    return ""


def _refusal_of_source(path: Path, setup: Setup) -> str:
    """Return what onnx.checker has against a model that may hold its weights in its graph file.

    In a child process: the checker holds that file as a whole.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
            [sys.executable, "-I", "-X", "utf8", "-c", _CHECK, str(path)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", timeout=setup.timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer within {setup.timeout_s:g} s"
    words = [line for line in done.stderr.splitlines() if line.strip()]
    code = done.returncode
    return ("".join(words[-1:])[:500] or f"exit code {code}") if code else ""


def _runs(path: Path, setup: Setup) -> bool | None:
    """Tell whether a model gives finite values; None when it does not load or run."""
    try:
        with setup.work_folder() as work, Model(path, setup, work) as model:
            model.run(inspect=True)
            return model.finite
    except ModelOpsError:
        return None
