"""The way that two models are measured: both at once, one after the other, or one alone.

What memory allows decides (see needs); the options are those of onnx_compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import memory
from ..base.errors import ModelOpsError
from ..base.files import sha256_file
from ..base.json_values import json_safe
from ..base.processor import cpu
from . import golden, needs, neighbour, row_by_row
from .compare import benchmark, compare, versions
from .session import Setup
from .session_inputs import AMPLITUDES
from .similarity import worst

# Options that shape the figures, beside the models; gates and limits do not.
RUN_OPTIONS = ("samples", "runs", "seed", "ranges", "shapes")
SESSION_OPTIONS = ("providers", "reference_providers", "threads", "session_options")


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the quantizer measured, as a comparison; empty where it did not."""
    if not params["figures"]:
        return {}
    way = {
        "mode": needs.IN_TURN,
        "why": "the quantizer measured it in this run",
        "protection": neighbour.protection(None),
    }
    return {**params["figures"], "way": way}


def possible(params: Mapping[str, Any]) -> list[str]:
    """Return the modes that may be taken, the best first."""
    wanted = params["mode"]
    modes = [needs.BOTH, needs.IN_TURN] if params["reference"] else []
    modes += [needs.GOLDEN] if params["golden"] else []
    return modes if wanted == needs.AUTO else [mode for mode in modes if mode == wanted]


def _way(
    params: Mapping[str, Any], samples: int
) -> tuple[needs.Choice, needs.Load | None, needs.Load]:
    """Choose how to measure; return that, and what each model takes that runs."""
    candidate = needs.of(Path(params["candidate"]))
    reference = None
    if params["reference"] and params["mode"] != needs.GOLDEN:  # golden mode does without
        reference = needs.of(Path(params["reference"]))
    needed = needs.table(reference, candidate, samples, possible(params))
    free = memory.available_bytes()
    way = needs.choose(params["mode"], needed, free, params["candidate"])
    return way, None if way.mode == needs.GOLDEN else reference, candidate


def measure(
    params: Mapping[str, Any], setup: Setup, settled: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """Measure in the best mode that fits into the memory.

    Args:
        params: the options of onnx_compare.
        settled: tells of a comparison that no further round of runs is needed.

    Returns:
        As compare.compare, and `way`: the mode, why, and how the process is protected.

    Raises:
        ModelOpsError: a model is missing, no mode fits, or as compare.compare.
    """
    for name in ("reference", "candidate"):
        needless = name == "reference" and params["mode"] == needs.GOLDEN
        if params[name] and not needless and not Path(params[name]).is_file():
            raise ModelOpsError(
                "there is no such model", where=params[name], remedy="Check the path."
            )
    samples = setup.sample_count(params["samples"])
    way, fp32, int8 = _way(params, samples)
    free, processes = way.available, 2 if way.mode == needs.BOTH else 1
    setup = replace(setup, memory_limit=neighbour.limit(int8.highest, free, processes))
    facts = {**way.facts(), "protection": neighbour.protection(setup.memory_limit)}
    candidate = Path(params["candidate"])
    # Its inputs are used where FP32 runs, too, when the caller names the file as that of inputs.
    if (fp32 is None or params["inputs"] == params["golden"]) and not is_known(params):
        raise _unknown_golden(params, way)
    if fp32 is None:
        rows = golden.compare(candidate, Path(params["golden"]), setup)
        alone = benchmark(candidate, runs=params["runs"], setup=setup)
        known = {"similarity": worst(rows), "similarity_rows": rows, "candidate": alone}
        facts["batches_left_out"] = int8.batch > 0
        return dict(json_safe({**known, "way": facts}))
    # In turn the outputs that are kept stay in the account of the process that made them.
    kept = fp32.outputs * (samples if way.mode == needs.IN_TURN else 1)
    kept = max(kept, fp32.batch * len(AMPLITUDES))
    comparison = compare(
        Path(params["reference"]),
        candidate,
        samples=samples,
        runs=params["runs"],
        setup=setup,
        interleave=way.mode == needs.BOTH,
        more_rounds=params["remeasure_limit"],
        settled=settled,
        reference_setup=replace(
            setup,
            providers=params["reference_providers"] or setup.providers,
            memory_limit=neighbour.limit(fp32.loaded + kept, free, processes),
        ),
    )
    return dict(json_safe({**comparison, "way": facts}))


def notes(comparison: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Return what people should know of how a comparison was made."""
    unused = {
        side: comparison.get(side, {}).get("providers_unused")
        for side in ("reference", "candidate")
    }
    told = [
        f"The {side} did not use {', '.join(names)}, which was asked for."
        for side, names in unused.items()
        if names
    ]
    if not comparison.get("reference", {}).get("finite", True):
        told.append(
            "The reference itself gives values that are not finite with these inputs: set ranges,"
            " shapes or inputs to such as it is made for."
        )
    if params["inputs"]:
        told.append("Measured on real inputs, those of the file that inputs names.")
    if batches := row_by_row.told(comparison["similarity_rows"]):
        told.append(batches)
    way = comparison["way"]
    if way.get("batches_left_out"):
        told.append(
            "The model takes batches, and uneven rows of one were not compared here: golden data"
            " hold single samples. The builder compares them, and so does a target that holds FP32."
        )
    told.append(f"Measured in mode {way['mode']}: {way['why']}. Protection: {way['protection']}.")
    return told


def is_known(params: Mapping[str, Any]) -> bool:
    """Tell whether golden data may stand for FP32: they are those that the caller knows."""
    known, path = params["golden_known"], params["golden"]
    if not path:
        return True
    return Path(path).is_file() and (known is None or sha256_file(path) in known)


def _unknown_golden(params: Mapping[str, Any], way: needs.Choice) -> ModelOpsError:
    path = Path(params["golden"])
    found = sha256_file(path) if path.is_file() else "none, for there is no such file"
    return ModelOpsError(
        f"golden data are used in mode {way.mode} ({way.why}), and these are not known from when"
        f" they were made: SHA-256 {found}",
        where=path,
        remedy="Let the quantize phase run from this controller, which makes them anew where"
        " somebody changed them; or free memory, so that FP32 itself is measured.",
    )


def keyed(key: Mapping[str, Any], params: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Return the key of what was measured in a mode; golden data shape the figures of theirs."""
    if mode != needs.GOLDEN:
        return {**key, "mode": mode}
    return {**key, "mode": mode, "golden_sha256": sha256_file(params["golden"])}


def key(params: Mapping[str, Any], setup: Setup) -> dict[str, Any]:
    """Return all that shapes the figures: under an equal key a record holds them still."""
    options = {name: params[name] for name in (*RUN_OPTIONS, *SESSION_OPTIONS)}
    options["inputs_sha256"] = setup.inputs_sha256()
    options["batches"] = list(AMPLITUDES)  # figures of a version before are without
    if not params["reference"]:
        options["reference"] = None
    runtime = versions(setup)["onnxruntime"]
    return {"models": params["key"], "options": options, "onnxruntime": runtime, "cpu": cpu()}
