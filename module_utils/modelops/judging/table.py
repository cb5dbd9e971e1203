"""The table FP32 / release / change / wanted / verdict, as text and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..base import host_text
from ..base.units import seconds, size
from . import gates

Row = tuple[str, ...]
Format = Callable[[float], str]


def header(kind: str) -> Row:
    """Return the header of a comparison; `kind` is what the release is: INT8, FP16 or INT4."""
    return ("figure", "FP32", kind, "change", "wanted", "verdict")


def ratio(value: float) -> str:
    return f"{value:.2f}x"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def decibel(value: float) -> str:
    return f"{value:.1f} dB"


def plain(value: float) -> str:
    return f"{value:.5g}"


# A gate's label, how its figure is written, and the benchmark figure that it is about, if any.
VIEWS: dict[str, tuple[str, Format, str]] = {
    "size_reduction": ("files, reduction", percent, "bytes"),
    "speedup": ("speed against FP32", ratio, "p50_s"),
    "candidate_p50_s": ("latency P50", seconds, "p50_s"),
    "rss_ratio": ("peak memory against FP32", ratio, "peak_rss_bytes"),
    "candidate_rss_without_output_bytes": (
        "peak memory, without outputs",
        size,
        "rss_without_output_bytes",
    ),
    "candidate_load_s": ("load time", seconds, "load_s"),
    "cosine_min": ("cosine similarity, worst", plain, ""),
    "cosine_mean": ("cosine similarity, mean", plain, ""),
    "mse": ("mean squared error", plain, ""),
    "mse_mean": ("mean squared error, mean", plain, ""),
    "mae": ("mean absolute error", plain, ""),
    "mae_mean": ("mean absolute error, mean", plain, ""),
    "sqnr_db": ("signal to quantization noise", decibel, ""),
    "agreement_min": ("equal tokens, worst", percent, ""),
}
# An error says little without the scale of what it is an error of: the power of RMS it goes by.
POWERS = {"mse": 2, "mse_mean": 2, "mae": 1, "mae_mean": 1}
FORMATS: dict[str, Format] = {
    "bytes": size, "peak_rss_bytes": size, "rss_without_output_bytes": size,
    "p50_s": seconds, "load_s": seconds,
}  # fmt: skip


def sizes(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return the bytes of a manifest's source and artifacts, and `size_reduction` (of 1)."""
    fp32 = sum(entry["size"] for entry in manifest["source"])
    ours = sum(entry["size"] for entry in manifest["artifacts"])
    return {"reference_bytes": fp32, "candidate_bytes": ours, "size_reduction": 1 - ours / fp32}


def rows(
    manifest: Mapping[str, Any],
    comparison: Mapping[str, Any],
    promises: Iterable[Mapping[str, Any]] = (),
) -> list[Row]:
    """Return the table of one comparison, without its header.

    Args:
        manifest: the release's manifest, for the sizes.
        comparison: the result of onnx_compare with `judged`, `reference` and `candidate`.
        promises: further gates on the figures of `sizes`.
    """
    measured = sizes(manifest)
    judged = [*comparison["judged"], *gates.judge(promises, measured)]
    sides = [
        {"bytes": measured[f"{side}_bytes"], **(comparison.get(side) or {})}
        for side in ("reference", "candidate")
    ]
    rms = comparison.get("reference_rms")
    return [_row(row, sides, rms) for row in judged]


def _row(judged: Mapping[str, Any], sides: Sequence[Mapping[str, Any]], rms: object) -> Row:
    label, write, about = VIEWS.get(judged["name"], (judged["name"], plain, ""))
    figure = judged["figure"]
    value = write(figure) if isinstance(figure, int | float) else str(figure or "not measured")
    both = [side.get(about) for side in sides]
    cells = [FORMATS[about](v) if isinstance(v, int | float) else "" for v in both]
    if not about:
        cells = ["", value]
    change = value if about else ""
    power = POWERS.get(judged["name"])
    if power and isinstance(rms, int | float) and rms > 0 and isinstance(figure, int | float):
        cells[0] = f"RMS {plain(rms)}"
        change = f"{percent(figure / rms**power)} of {'its power' if power == 2 else 'it'}"
    if judged["name"].startswith("candidate_"):
        known = all(isinstance(v, int | float) for v in both)
        change = f"{100 * (both[1] / both[0] - 1):+.1f} %" if known else ""  # type: ignore[operator]
    kind = "required" if judged["required"] else "promised"
    wanted = f"{kind} {judged['op']} {write(judged['threshold'])}"
    if judged["changed_threshold"]:
        wanted += f" (changed from {write(judged['promised_threshold'])})"
    verdict = judged["verdict"]
    if judged["note"]:
        verdict += f": {judged['note']}"
    return (label, *cells, change, wanted, verdict)


def text(table: Sequence[Row], header: Row) -> str:
    """Return a table in columns for a terminal."""
    lines = [header, *(tuple(map(host_text.line, row)) for row in table)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(header))]
    written = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in lines]
    written.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in written)


def markdown(table: Sequence[Row], header: Row) -> str:
    """Return a table in Markdown."""
    lines = [header, ("---",) * len(header), *(map(host_text.markdown, row) for row in table)]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)
