"""A report for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import host_text
from ..base.units import size
from ..judging import table
from . import views

TICKS = {"done": "x", "failed": "!", "not done": " "}


def text(found: Mapping[str, Any]) -> str:
    """Write a report for the terminal."""
    lines = [f"release {found['release']}: {found['verdict']}"]
    # What goes on is set in, so that no line of a host passes for that of another one.
    outcomes = [f"{host}: {outcome}" for host, outcome in found["outcomes"].items()]
    lines += [outcome.replace("\n", "\n    ") for outcome in outcomes]
    header = table.header(views.kind(found))
    for host, rows in found["tables"].items():
        lines += ["", f"measured on {host}", table.text([tuple(row) for row in rows], header)]
        lines += [found[kind][host] for kind in ("notes", "freed") if host in found[kind]]
    return host_text.plain("\n".join(lines) + "\n")


def markdown(found: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    shown = host_text.markdown
    parts = [f"# Release {found['release']}: {found['verdict']}"]
    parts += [f"- {host}: {shown(outcome)}" for host, outcome in found["outcomes"].items()]
    header = table.header(views.kind(found))
    for host, rows in found["tables"].items():
        parts += [
            f"\n## Measured on {host}\n",
            table.markdown([tuple(row) for row in rows], header),
        ]
        for kind in ("notes", "freed"):
            parts += ["", shown(found[kind][host])] if host in found[kind] else []
    parts += ["\n## Steps\n", *_steps(found)]
    parts += ["\n## Files\n", "| name | bytes | SHA-256 |", "| --- | --- | --- |"]
    files = [*found["source"], *found["artifacts"]]
    parts += [f"| {shown(f['name'])} | {f['size']} | `{f['sha256']}` |" for f in files]
    parts += ["\n## How it was made\n"]
    parts += [f"- {shown(name)}: {shown(value)}" for name, value in views.facts(found)]
    parts += ["\n## Kept in FP32\n"]
    parts += [
        f"- {shown(n['op'])} {host_text.code(n['node'])}: {shown(n['reason'])}"
        for n in found["kept_fp32"]
    ] or ["None."]
    return "\n".join(parts) + "\n"


def _steps(found: Mapping[str, Any]) -> list[str]:
    shown = host_text.markdown
    rows = [
        f"{number}. [{TICKS[row['state']]}] {shown(row['when'])}: {shown(row['step'])}"
        f" ({shown(row['proof'] or views.NOT_MEASURED)})"
        for number, row in enumerate(found["checklist"], 1)
    ]
    rows += [
        f"- {host}: {size(sent['bytes'])} came in {views.written_rate(sent)}"
        for host, sent in found["transfers"].items()
    ]
    return rows
