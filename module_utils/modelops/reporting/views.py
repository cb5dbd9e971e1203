"""What of a document several forms of a report show, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..base.processor import lacking
from ..base.units import seconds, size
from ..pair import manifest

NOT_MEASURED = "not measured"
SIDES = ("reference", "candidate")
# What is shown of a side of a measurement: the name, the field, how it is written.
MEASURED = (
    ("latency P50", "p50_s", seconds),
    ("latency P95", "p95_s", seconds),
    ("latency P99", "p99_s", seconds),
    ("first run", "first_s", seconds),
    ("load time", "load_s", seconds),
    ("peak memory", "peak_rss_bytes", size),
    ("peak memory, without outputs", "rss_without_output_bytes", size),
)
SIMILARITY = ("cosine", "mse", "mae", "max_abs_error", "sqnr_db", "agreement")


def kind(found: Mapping[str, Any]) -> str:
    """Return what people read of the release of a document: INT8, FP16 or INT4."""
    return manifest.kind(found["made"].get("recipe", {}))


def labels(kind: str) -> dict[str, str]:
    """Return how the sides of a measurement are called."""
    return dict(zip(SIDES, ("FP32", kind), strict=True))


def number(value: Any, write: Any = "{:.5g}".format) -> str:
    """Write a figure; what is none was not measured."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) if isinstance(value, str) and value else NOT_MEASURED
    return str(write(value))


def moment(value: Any) -> str:
    """Write a moment (seconds of the epoch) in UTC; empty where it is not known."""
    try:
        return datetime.fromtimestamp(float(value), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def released(found: Mapping[str, Any]) -> float:
    """Return when the run began that made or measured a release; 0 where that is not known."""
    rows = found.get("timeline") or []
    return float(rows[0]["began"]) if rows else 0.0


def written_rate(sent: Mapping[str, Any]) -> str:
    """Write how long a transfer took, and its rate."""
    return f"{seconds(sent['seconds'])}, {size(sent['bytes'] / sent['seconds'])}/s"


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a release was made and measured with, each with its name."""
    made = found["made"]
    rows = [(f"version of {name}", str(v)) for name, v in made.get("versions", {}).items()]
    rows += [(f"version of {name}", str(v)) for name, v in found["controller"].items()]
    rows.append(("signature", _signature(made.get("signed"))))
    for host, figures in found["figures"].items():
        side = figures.get("candidate") or {}
        cpu = side.get("cpu", {})
        rows += [
            (
                f"{host}: processor",
                f"{cpu['model']}, {cpu['cores']} cores" if cpu else NOT_MEASURED,
            ),
            (f"{host}: processor features", features(cpu)),
            (f"{host}: providers", ", ".join(side.get("providers", [])) or NOT_MEASURED),
            (f"{host}: onnxruntime", side.get("versions", {}).get("onnxruntime", NOT_MEASURED)),
        ]
    return rows


def features(cpu: Mapping[str, Any]) -> str:
    """Write which of the features that matter for INT8 a processor has."""
    if "features" not in cpu:
        return NOT_MEASURED
    has, lacks = cpu["features"], lacking(cpu["features"])
    return f"{', '.join(has) or 'none'}; without {', '.join(lacks) or 'nothing'}"


def _signature(said: Any) -> str:
    """Write what a release was signed with (pair.signed)."""
    if not isinstance(said, Mapping):
        return "none: nobody signed it"
    return f"serial {said['serial']}, signed at {said['signed_at']}, verdict {said['verdict']}"


def similarity(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the similarity of each output and sample."""
    rows: Sequence[Mapping[str, Any]] = figures.get("similarity_rows") or []
    used = [name for name in SIMILARITY if any(name in row for row in rows)]
    cells = [
        [str(row["output"]), str(int(row["sample"]) + 1), *(number(row.get(name)) for name in used)]
        for row in rows
    ]
    return ["output", "sample", *used], cells


def measured(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return rows of a figure's name, FP32's and the release's."""
    sides = [figures.get(side) or {} for side in SIDES]
    return [
        [name, *(number(side.get(field), write) for side in sides)]
        for name, field, write in MEASURED
    ]


def total(files: Iterable[Mapping[str, Any]]) -> int:
    """Return the bytes of all files."""
    return sum(int(file["size"]) for file in files)
