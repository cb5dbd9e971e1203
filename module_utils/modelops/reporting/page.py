"""A report as one HTML page, and the index of all releases. They ask nothing of any network.

The templates escape all that they show; only the plots come as markup, from pygal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..base import host_text
from ..base.units import seconds, size
from ..judging import table
from ..pair import names
from . import plots, views

VERDICTS = {
    "pass": "good", "fail": "bad", "inconclusive": "open", "not yet": "open",
    "not_applicable": "none",
}  # fmt: skip
# What releases are compared by over time, on the host that serves them.
HISTORY = (("latency P50", "p50_s", seconds), ("peak memory", "peak_rss_bytes", size))


def report(found: Mapping[str, Any], history: Iterable[Mapping[str, Any]], folder: Path) -> str:
    """Write a report as an HTML page.

    Args:
        history: the documents of all releases, this one among them.
        folder: where the templates lie.
    """
    model = names.model_of(found["artifacts"])
    source, artifacts = (views.total(found[kind]) for kind in ("source", "artifacts"))
    kind = views.kind(found)
    hosts = [
        _host(number, host, rows, found, (source, artifacts))
        for number, (host, rows) in enumerate(found["tables"].items(), 1)
    ]
    return rendered(
        [folder], "report.html.j2", found=found, hosts=hosts, kind=kind, header=table.header(kind),
        files=[*found["source"], *found["artifacts"]], source=source, artifacts=artifacts,
        tiles=_tiles(found, source, artifacts), facts=views.facts(found), **_tables(found),
        time_line=plots.time_line(found["timeline"], "time-line"), released=_released(found),
        history=[row for row in _history(history) if row["model"] == model],
    )  # fmt: skip


def index(history: Iterable[Mapping[str, Any]], folder: Path) -> str:
    """Write the page that lists all releases, the newest first."""
    rows = _history(history)
    models = sorted({row["model"] for row in rows})
    drawn = []
    for number, model in enumerate(models):
        own = [row for row in reversed(rows) if row["model"] == model]
        drawn += [
            plots.history(
                [(row["release"], row["figures"][field]) for row in own],
                f"{title} of {model}",
                f"history-{field}-{number}",
            )
            for title, field, _ in HISTORY
        ]
    return rendered([folder], "index.html.j2", history=rows, plots=[plot for plot in drawn if plot])


def rendered(folders: Sequence[Path], name: str, **values: Any) -> str:
    """Write a page of a template, which escapes all that it shows.

    Args:
        folders: where it lies, and what it imports.
    """
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    filters = {
        "size": size, "seconds": seconds, "moment": views.moment, "line": host_text.line,
        "plain": host_text.plain, "number": views.number, "rate": views.written_rate,
        "badge": lambda verdict: VERDICTS.get(verdict, "none"),
    }  # fmt: skip
    environment.filters.update(filters)
    return environment.get_template(name).render(
        **values, not_measured=views.NOT_MEASURED, verdicts=VERDICTS
    )


def _tables(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of the tables that are of no single host."""
    sizes = found.get("form_sizes") or {}
    forms = [
        [form, str(count), *(map(size, sizes.get(form, (0, 0))) if sizes else ())]
        for form, count in found["forms"].items()
    ]
    steps = [
        [row["host"], row["step"], views.moment(row["began"]), f"{row['seconds']:.2f}"]
        for row in found["timeline"]
    ]
    host_memory = [
        [
            host,
            *(size(seen[kind]["used"]) for kind in ("fp32", "int8")),
            size(seen["int8"]["total"]),
        ]
        for host, seen in found["host_memory"].items()
    ]
    kept = [[node["node"], node["op"], node["reason"]] for node in found["kept_fp32"]]
    return {
        "sizes": sizes, "forms": forms, "steps": steps, "host_memory": host_memory, "kept": kept,
    }  # fmt: skip


def _released(found: Mapping[str, Any]) -> str:
    return views.moment(views.released(found) or None)


def _host(
    number: int, name: str, rows: Any, found: Mapping[str, Any], files: tuple[int, int]
) -> dict[str, Any]:
    """Return what the page shows of one host that measured."""
    figures, kind = found["figures"][name], views.kind(found)
    header, similarity = views.similarity(figures)
    judged = [(row["verdict"], row["note"]) for row in figures["judged"]]
    return {
        "name": name,
        "number": number,
        "rows": list(zip(rows, judged, strict=True)),
        "measured": views.measured(figures),
        "similarity_header": header,
        "similarity": similarity,
        "channels": [
            [row["output"], str(row["sample"] + 1), str(row["channel"]), views.number(row["error"])]
            for row in figures.get("worst_channels") or []
        ],
        "way": figures.get("way") or {},
        "tests": [
            [row["name"], "yes" if row["ok"] else "no", row["text"]]
            for row in figures.get("tests") or []
        ],
        "said": [found[kind][name] for kind in ("notes", "freed") if name in found[kind]],
        "plots": {
            f"{kind} against FP32": plots.ratios(figures, files, kind, f"ratios-{number}"),
            "Latency": plots.latency(figures, kind, f"latency-{number}"),
            "Memory over time": plots.memory(figures, kind, f"memory-{number}"),
        },
    }


def _tiles(found: Mapping[str, Any], source: int, artifacts: int) -> list[tuple[str, str, str]]:
    """Return what is read first: a figure's name, FP32's and the release's, and what that makes."""
    last = list(found["figures"].values())[-1] if found["figures"] else {}
    fp32, ours = (last.get(side) or {} for side in views.SIDES)
    tiles = [_tile("Files", source or None, artifacts or None, size)]
    for label, field, write in (
        ("Latency P50", "p50_s", seconds),
        ("Peak memory", "peak_rss_bytes", size),
        ("Load time", "load_s", seconds),
    ):
        tiles.append(_tile(label, fp32.get(field), ours.get(field), write))
    rows = last.get("similarity_rows") or []
    worst = [row["cosine"] for row in rows if isinstance(row.get("cosine"), int | float)]
    cosine = min(worst) if worst else _judged(last, "cosine_min")
    return [*tiles, ("Cosine, worst", views.number(cosine), "1 is equal")]


def _judged(figures: Mapping[str, Any], name: str) -> Any:
    return next((row["figure"] for row in figures.get("judged", []) if row["name"] == name), None)


def _tile(label: str, fp32: Any, ours: Any, write: Any) -> tuple[str, str, str]:
    value = views.number(ours, write)
    if isinstance(fp32, int | float) and isinstance(ours, int | float) and fp32 > 0 and ours > 0:
        return label, value, f"{write(fp32)} on FP32, {fp32 / ours:.2f}x"
    return label, value, f"{views.number(fp32, write)} on FP32"


def _history(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a release, the newest first."""
    rows = []
    for found in documents:
        figures = list(found["figures"].values())
        ours = (figures[-1].get("candidate") or {}) if figures else {}
        rows.append({
            "release": found["release"],
            "model": names.model_of(found["artifacts"]),
            "kind": views.kind(found),
            "verdict": found["verdict"],
            "began": views.released(found),
            "released": _released(found),
            "artifacts": views.total(found["artifacts"]),
            "figures": {field: ours.get(field) for _, field, _ in HISTORY},
            "shown": [views.number(ours.get(field), write) for _, field, write in HISTORY],
            "outcomes": found["outcomes"],
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["began"], row["release"]), reverse=True)
