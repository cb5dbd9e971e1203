"""Figures of a service over weeks, held against what was promised. Standard library only.

Nothing passes that was not seen: a figure that never moves is `not measured`, and a window that
its samples do not cover is `not yet`. One death is a death, however few samples there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..base.units import seconds, size
from ..judging import gates

NOT_YET, NOT_MEASURED = "not yet", "not measured"
# The worst first: what is told of several promises at once.
WORST = (gates.FAIL, gates.INCONCLUSIVE, NOT_MEASURED, NOT_YET, gates.PASS)
# A failure of the unit that is no death: systemd does not start again what failed too often.
NO_DEATH = "start-limit-hit"
OOM = "oom-kill"
DAY_S = 86400
STEADY = 0.05  # a change from the first to the last third of days that is none
# What may stand in place of a release: nothing of INT8 is told of then.
UNJUDGED = {"fp32": "FP32 is in service", "": "it is not known which release is in service"}
COUNTS = ("out_of_memory", "crashes", "complaints")

Figures = Mapping[str, Any]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def count(value: float) -> str:
    return f"{value:.0f}"


def score(value: float) -> str:
    return f"{value:.2f}"


# How each promise is called, and its figure written.
VIEWS = {
    "latency_p50_s": ("latency P50", seconds),
    "memory_p99_bytes": ("memory P99", size),
    "out_of_memory": ("kills for want of memory", count),
    "crashes": ("crashes", count),
    "cache_hit_rate": ("cache hit rate", percent),
    "complaints": ("complaints", count),
    "wer": ("word error rate", percent),
    "mos": ("listeners' opinion (MOS)", score),
    "emotion_accuracy": ("emotions told right", percent),
}


def judge(
    figures: Figures,
    promises: Iterable[Mapping[str, Any]],
    complaints: Sequence[Mapping[str, Any]] | None,
    host: str,
    share_min: float,
    evaluation: Figures | None = None,
) -> list[dict[str, Any]]:
    """Hold the figures of a target against its promises.

    Args:
        figures: see figures.of; without `windows` nothing was measured.
        promises: `window` (its name), `days`, and a gate's `name`, `op`, `threshold` and
            `promised_threshold`.
        complaints: see complaints.parse; None where nobody keeps a list.
        host: the target's name, for the complaints.
        share_min: the share of a window that samples must cover.
        evaluation: see evaluation.figures; without it there was no set of recordings.

    Returns:
        A row a promise: `window`, `promise`, `wanted`, `measured` (text), `figure`, `verdict`,
        `source`, `samples`, `share` (0 to 1), `trend` and `note`.
    """
    rows = []
    for promise in promises:
        name, days = str(promise["name"]), int(promise["days"])
        window = figures.get("windows", {}).get(str(days))
        if not window or figures.get("release") in UNJUDGED:
            seen = _unseen(UNJUDGED[figures["release"]] if window else "no samples were read")
        elif name == "complaints":
            seen = _complaints(complaints, host, days, window)
        elif name in EVALUATED:
            seen = _evaluated(evaluation or {}, name)
        else:
            seen = LOOKS[name](window)
        rows.append(_row(promise, seen, share_min))
    return rows


def overall(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the worst verdict of all rows; without rows nothing was measured."""
    found = {row["verdict"] for row in rows}
    return next((verdict for verdict in WORST if verdict in found), NOT_MEASURED)


def failed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Say which promises were not kept; empty where none was broken."""
    return "; ".join(
        f"{row['window']}: {row['promise']} is {row['measured']}, promised {row['wanted']}"
        for row in rows
        if row["verdict"] == gates.FAIL
    )


# ------------------------------------------------------------------ one promise


def _seen(source: str, of: Figures, figure: Any, **more: Any) -> dict[str, Any]:
    return {
        "source": source, "samples": of["count"], "share": of["share"], "figure": figure,
        "moves": of.get("moves", True), "note": "", "trend": "", **more,
    }  # fmt: skip


def _unseen(why: str) -> dict[str, Any]:
    return {"source": "", "samples": 0, "share": 0.0, "figure": None, "moves": False,
            "note": why, "trend": ""}  # fmt: skip


def _latency(window: Figures) -> dict[str, Any]:
    """Take the real requests where the service tells of them, else the probe question."""
    real, probe = window["requests"], window["probe"]
    asked = f"the probe question: {seconds(probe['p50_s'])}" if probe["count"] else ""
    if real["count"] and real["moves"] and real["p50_s"] is not None:
        return _seen("requests, by the service's metrics", real, real["p50_s"], note=asked)
    silent = probe["asked"] - probe["count"]
    note = f"{silent} of {probe['asked']} questions had no answer" if silent else ""
    trend = _trend(window, 1)
    source = "probe question" if probe["fresh"] else "probe question, the same each time"
    return _seen(source, probe, probe["p50_s"], note=note, trend=trend)


def _memory(window: Figures) -> dict[str, Any]:
    found = window["memory"]
    return _seen("cgroup and processes", found, found["p99_bytes"], trend=_trend(window, 2))


def _out_of_memory(window: Figures) -> dict[str, Any]:
    found = window["journal"]
    # systemd notes the kill, and the failure of the unit where that ends with it.
    figure = max(found["out_of_memory"], found["deaths"].get(OOM, 0))
    return _seen("journal", found, figure, moves=True)


def _crashes(window: Figures) -> dict[str, Any]:
    found = window["journal"]
    deaths = {how: n for how, n in found["deaths"].items() if how != NO_DEATH}
    told = ", ".join(f"{n} x {how}" for how, n in sorted(deaths.items()))
    note = f"{told}; {found['restarts']} restarts" if deaths else ""
    return _seen("journal", found, sum(deaths.values()), moves=True, note=note)


def _cache(window: Figures) -> dict[str, Any]:
    found = window["cache"]
    figure = found["rate"]
    if found["low"] is not None:
        figure = {"value": figure, "low": found["low"], "high": found["high"]}
    nobody = "nobody but the sampler asked" if found["asked"] == 0.0 else ""
    return _seen("the service's metrics", found, figure, note=nobody)


LOOKS = {
    "latency_p50_s": _latency,
    "memory_p99_bytes": _memory,
    "out_of_memory": _out_of_memory,
    "crashes": _crashes,
    "cache_hit_rate": _cache,
}


def _complaints(
    listed: Sequence[Mapping[str, Any]] | None, host: str, days: int, window: Figures
) -> dict[str, Any]:
    """Count the complaints of a window; it is covered as far as the service was watched."""
    if listed is None:
        return _unseen("acceptance_complaints_file names no list")
    begin = time.time() - days * DAY_S
    own = [one for one in listed if one["at"] > begin and one["host"] in ("", host)]
    return _seen("list of complaints", window["journal"], len(own), moves=True)


# Of an evaluation set: where a figure is from, and what tells of how many it is.
EVALUATED = {
    "wer": ("evaluation set", "recordings"),
    "mos": ("listeners.csv", "scores"),
    "emotion_accuracy": ("evaluation set", "emotions"),
}


def _evaluated(evaluation: Figures, name: str) -> dict[str, Any]:
    source, of = EVALUATED[name]
    if not evaluation.get(of):
        return _unseen(f"there are no {of}: see acceptance_set_dir")
    silent = evaluation["silent"] if of != "scores" else 0
    note = f"{silent} recordings without an answer" if silent else ""
    whole = {"count": evaluation[of], "share": 1.0}
    return _seen(source, whole, evaluation[name], note=note)


def _row(promise: Mapping[str, Any], seen: Mapping[str, Any], share_min: float) -> dict[str, Any]:
    label, write = VIEWS[promise["name"]]
    gate = {key: promise[key] for key in ("name", "op", "threshold", "promised_threshold")}
    judged = gates.judge([gate], {promise["name"]: seen["figure"]})[0]
    wanted = f"{gate['op']} {write(gate['threshold'])}"
    if judged["changed_threshold"]:
        wanted += f" (changed from {write(gate['promised_threshold'])})"
    verdict, note = _verdict(promise, seen, judged, share_min)
    figure = judged["figure"]
    return {
        "window": promise["window"],
        "promise": label,
        "name": promise["name"],
        "wanted": wanted,
        "measured": write(figure) if isinstance(figure, int | float) else str(figure or ""),
        "figure": figure,
        "verdict": verdict,
        "source": seen["source"],
        "samples": seen["samples"],
        "share": round(seen["share"], 4),
        "trend": seen["trend"],
        "note": "; ".join(filter(None, (note, seen["note"]))),
    }


def _verdict(
    promise: Mapping[str, Any], seen: Mapping[str, Any], judged: Mapping[str, Any], share_min: float
) -> tuple[str, str]:
    if not seen["samples"] or judged["figure"] is None:
        return NOT_MEASURED, ""
    if promise["name"] in COUNTS and judged["verdict"] == gates.FAIL:
        return gates.FAIL, ""
    if not seen["moves"]:
        return NOT_MEASURED, f"it never moved in {seen['samples']} samples"
    if seen["share"] < share_min:
        return NOT_YET, f"samples cover {percent(seen['share'])} of {promise['days']} days"
    return str(judged["verdict"]), str(judged["note"])


def _trend(window: Figures, column: int) -> str:
    """Say how the days went: the last third of them against the first third."""
    values = [row[column] for row in window["trend"] if row[column] is not None]
    third = len(values) // 3
    if not third or not sum(values[:third]):
        return ""
    change = sum(values[-third:]) / sum(values[:third]) - 1
    return "steady" if abs(change) < STEADY else f"{100 * change:+.0f} %"
