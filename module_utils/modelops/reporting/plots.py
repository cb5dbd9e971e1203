"""The plots of a report: inline SVG by pygal, in the colours of the page's own style.

A plot is the same for the same figures, so that a second run writes no other page: its id is ours,
and pygal's remark with the date is left out. ElementTree escapes all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

from ..base import host_text
from ..base.units import seconds, size
from . import views

LONGEST_LABEL = 34  # characters
MOST_POINTS = 400
_COLORS = ("var(--fp32)", "var(--int8)")
_STYLE = {
    "background": "transparent", "plot_background": "transparent", "transition": "0s",
    "foreground": "var(--soft)", "foreground_strong": "var(--ink)",
    "foreground_subtle": "var(--line)", "font_family": "inherit",
    "guide_stroke_color": "var(--line)", "major_guide_stroke_color": "var(--line)",
    "guide_stroke_dasharray": "1,0", "major_guide_stroke_dasharray": "1,0",
    "opacity": "1", "stroke_opacity": "1", "stroke_width": "2.5", "opacity_hover": "1",
    "label_font_size": 15, "major_label_font_size": 15, "legend_font_size": 16,
    "title_font_size": 17, "value_font_size": 15,
}  # fmt: skip


def latency(figures: Mapping[str, Any], kind: str, name: str) -> Markup:
    """Draw which share of the runs took at most how long, FP32 and `kind`; empty without runs."""
    sides = {
        label: _numbers((figures.get(side) or {}).get("samples"))
        for side, label in views.labels(kind).items()
    }
    if not any(sides.values()):
        return Markup("")
    chart = _chart(pygal.XY, name, "Latency: share of the runs that took at most so long")
    chart.x_title, chart.y_title = "seconds a run", "% of the runs"
    chart.include_x_axis = True
    chart.range = (0, 100)
    for label, taken in sides.items():
        ordered = sorted(taken)
        steps = [(value, 100 * (i + 1) / len(ordered)) for i, value in enumerate(ordered)]
        chart.add(
            label, steps, formatter=lambda point: f"{point[1]:.0f} % within {seconds(point[0])}"
        )
    return _drawn(chart, name)


def memory(figures: Mapping[str, Any], kind: str, name: str) -> Markup:
    """Draw the memory of each measured process over its time; empty where it was not measured."""
    sides = {
        label: _points((figures.get(side) or {}).get("memory_over_time"))
        for side, label in views.labels(kind).items()
    }
    if not any(sides.values()):
        return Markup("")
    chart = _chart(pygal.XY, name, "Memory of the measured process")
    chart.x_title, chart.y_title = "seconds since it began", ""
    chart.show_dots = False
    chart.include_x_axis = True
    chart.value_formatter = lambda value: size(value) if value else "0"
    chart.x_value_formatter = lambda value: f"{value:g}"
    for label, points in sides.items():
        chart.add(label, points)
    return _drawn(chart, name)


def ratios(figures: Mapping[str, Any], files: tuple[int, int], kind: str, name: str) -> Markup:
    """Draw `kind` as a share of FP32: time, load, memory and files; empty where none is known."""
    fp32, ours = (figures.get(side) or {} for side in views.SIDES)
    pairs = [
        ("latency P50", fp32.get("p50_s"), ours.get("p50_s"), seconds),
        ("load time", fp32.get("load_s"), ours.get("load_s"), seconds),
        ("peak memory", fp32.get("peak_rss_bytes"), ours.get("peak_rss_bytes"), size),
        ("files", *files, size),
    ]
    known = [
        (f"{label}: {write(of)} to {write(to)}", 100 * to / of)
        for label, of, to, write in pairs
        if isinstance(of, int | float) and isinstance(to, int | float) and of > 0
    ]
    if not known:
        return Markup("")
    chart = _bars(name, f"{kind}, in % of FP32 (100 % would be no gain)", [row[0] for row in known])
    chart.style = _style((_COLORS[1],))
    chart.range = (0, max(100.0, *(row[1] for row in known)))
    chart.print_values = True
    chart.show_x_labels = False
    chart.value_formatter = lambda value: f"{value:.0f} %"
    chart.add(kind, [row[1] for row in reversed(known)])
    return _drawn(chart, name)


def time_line(rows: Sequence[Mapping[str, Any]], name: str) -> Markup:
    """Draw when each step of a run was at work, and on which host; empty without steps."""
    if not rows:
        return Markup("")
    first = float(rows[0]["began"])
    labels = [f"{row['step']}, {row['host']}" for row in rows]
    chart = _bars(name, "Steps of the run, in seconds from its first one", labels)
    chart.width = 1080
    chart.style = _style(("transparent", _COLORS[1]))
    chart.value_formatter = lambda value: f"{value:g} s"
    chart.add("", [float(row["began"]) - first for row in reversed(rows)])
    chart.add("step", [float(row["seconds"]) for row in reversed(rows)])
    return _drawn(chart, name)


def history(rows: Sequence[tuple[str, float | None]], title: str, name: str) -> Markup:
    """Draw a figure over releases; empty while there are fewer than two."""
    known = [row for row in rows if row[1] is not None]
    if len(known) < 2:
        return Markup("")
    chart = _chart(pygal.Line, name, title)
    chart.style = _style((_COLORS[1],))
    chart.show_legend = False
    chart.x_labels = [_short(row[0]) for row in known]
    chart.range = (0, max(float(row[1] or 0) for row in known) * 1.1)
    chart.add("release", [row[1] for row in known])
    return _drawn(chart, name)


def _bars(name: str, title: str, labels: Iterable[str]) -> Any:
    """Return a chart of horizontal bars; pygal draws the last one on top."""
    shown = [_short(label) for label in labels]
    chart = _chart(pygal.HorizontalStackedBar, name, title, height=110 + 34 * len(shown))
    chart.show_legend = False
    chart.y_labels_major_every = 99  # none of them is bold
    chart.x_labels = list(reversed(shown))
    chart.spacing = 12
    return chart


def _chart(kind: Any, name: str, title: str, height: int = 330) -> Any:
    chart = kind(
        style=_style(_COLORS), js=[], width=720, height=height, title=title,
        disable_xml_declaration=True, legend_at_bottom=True, dots_size=3, classes=("plot",),
        no_data_text=views.NOT_MEASURED, truncate_label=-1, truncate_legend=-1, margin=12,
    )  # fmt: skip
    chart.uuid = name
    return chart


def _style(colors: tuple[str, ...]) -> Any:
    return Style(**_STYLE, colors=colors, value_colors=("var(--card)",) * len(colors))


def _drawn(chart: Any, name: str) -> Markup:
    root = chart.render_tree()
    for element in list(root.iter()):
        # Its script is for tooltips, and its remarks tell the day.
        for child in [c for c in element if c.tag is ElementTree.Comment or c.tag == "script"]:
            element.remove(child)
    # For who cannot see it: the table beside it has the figures.
    root.set("role", "img")
    root.set("aria-label", chart.config.title)
    drawn = ElementTree.tostring(root, encoding="unicode").replace(f"chart-{chart.uuid}", name)
    return Markup(drawn)  # noqa: S704 - ElementTree escaped it


def _short(label: str) -> str:
    text = host_text.line(label)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 3]}..."


def _numbers(values: Any) -> list[float]:
    found = values if isinstance(values, list) else []
    return [float(v) for v in found if isinstance(v, int | float)][:MOST_POINTS]


def _points(values: Any) -> list[tuple[float, float]]:
    found = values if isinstance(values, list) else []
    return [(float(one[0]), float(one[1])) for one in found if len(_numbers(one)) == 2][
        :MOST_POINTS
    ]
