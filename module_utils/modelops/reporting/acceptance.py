"""The page on the weeks after a release: promised, measured, verdict, on every target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..acceptance import promises
from ..base import host_text
from ..judging import table
from . import page, plots

NAME = "acceptance"
HEADER = (
    "window", "promise", "wanted", "measured", "verdict", "source", "samples", "covered", "trend",
)  # fmt: skip
CONFUSION = ("emotion", "taken for", "recordings")
# What of a day is drawn: the title, the column of `trend` (acceptance.figures), and its unit.
DRAWN = (("Latency P50 of the probe, s", 1, 1.0), ("Memory P99, MB", 2, 1e6))

Document = Mapping[str, Any]


def cells(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a target as texts, in the order of HEADER."""
    return [
        (
            row["window"], row["promise"], row["wanted"], row["measured"] or "-",
            row["verdict"] + (f": {row['note']}" if row["note"] else ""), row["source"] or "-",
            str(row["samples"]), promises.percent(row["share"]), row["trend"] or "-",
        )
        for row in rows
    ]  # fmt: skip


def _tables(host: Mapping[str, Any]) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Return the tables of a target that are not empty, each with its header."""
    emotions = [tuple(map(str, row)) for row in host["confusion"]]
    return [(HEADER, cells(host["rows"])), *([(CONFUSION, emotions)] if emotions else [])]


def text(found: Document) -> str:
    """Write the document for a terminal."""
    parts = [f"acceptance: {found['verdict']}"]
    for host in found["hosts"]:
        parts.append(f"\n{host['name']}, release {host['release']}: {host['verdict']}")
        parts += [host["note"]] if host["note"] else []
        parts += [table.text(rows, header) for header, rows in _tables(host)]
    return host_text.plain("\n".join(parts) + "\n")


def markdown(found: Document) -> str:
    """Write the document as Markdown."""
    shown = host_text.markdown
    parts = [f"# Acceptance: {found['verdict']}"]
    for host in found["hosts"]:
        parts.append(f"\n## {shown(host['name'])}, release {host['release']}: {host['verdict']}\n")
        parts += [shown(host["note"]), ""] if host["note"] else []
        parts += [table.markdown(rows, header) + "\n" for header, rows in _tables(host)]
    return "\n".join(parts) + "\n"


def html(found: Document, templates: Sequence[Path]) -> str:
    """Write the document as an HTML page that asks nothing of a network.

    Args:
        templates: the folders of the page's own template, and of what it imports.
    """
    hosts = [
        {
            **host,
            "cells": [
                (*row[:4], each["verdict"], each["note"], *row[5:])
                for row, each in zip(cells(host["rows"]), host["rows"], strict=True)
            ],
            "plots": [_drawn(host, number, *what) for what in DRAWN],
        }
        for number, host in enumerate(found["hosts"], 1)
    ]
    return page.rendered(
        templates,
        "acceptance.html.j2",
        found=found,
        hosts=hosts,
        header=HEADER,
        confusion=CONFUSION,
    )


def _drawn(host: Mapping[str, Any], number: int, title: str, column: int, unit: float) -> Any:
    known = [row for row in host["trend"] if row[column] is not None]
    days = [(_day(row[0]), row[column] / unit) for row in known]
    return plots.history(days, f"{title}, a day, {host['name']}", f"trend-{column}-{number}")


def _day(begin: float) -> str:
    try:
        return datetime.fromtimestamp(begin, UTC).strftime("%m-%d")
    except (OverflowError, OSError, ValueError):
        return "?"


def files(found: Document, folder: Path, templates: Sequence[Path]) -> dict[Path, bytes]:
    """Return the files that the document becomes, by their paths."""
    return {
        folder / f"{NAME}.json": (json.dumps(found, indent=1, sort_keys=True) + "\n").encode(),
        folder / f"{NAME}.md": markdown(found).encode(),
        folder / f"{NAME}.html": html(found, templates).encode(),
    }
