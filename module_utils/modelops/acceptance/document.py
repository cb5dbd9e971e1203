"""What is known of all targets, as one document: for the terminal, the page, a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text
from . import promises

SCHEMA = 1


def of(hosts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is known of all targets.

    Args:
        hosts: their facts: `__acceptance_rows` (promises.judge) and `__acceptance_figures`, what
            the module of that name answered; `__acceptance_evaluation` (evaluation.figures).

    Returns:
        `schema`, `verdict` (the worst), and `hosts`, each with `name`, `release`, `verdict`,
        `rows`, `trend`, `confusion` and `note`.
    """
    told = [_host(host) for host in hosts]
    rows = [row for host in told for row in host["rows"]]
    return {"schema": SCHEMA, "verdict": promises.overall(rows), "hosts": told}


def _host(host: Mapping[str, Any]) -> dict[str, Any]:
    rows, found = list(host.get("__acceptance_rows", [])), host.get("__acceptance_figures", {})
    windows = found.get("windows") or {}
    longest = windows[max(windows, key=int)] if windows else {}
    damaged, why = found.get("damaged"), "" if windows else found.get("msg", "")
    return {
        "name": str(host["inventory_hostname"]),
        "release": str(found.get("release") or "not known"),
        "verdict": promises.overall(rows),
        "rows": rows,
        "trend": longest.get("trend", []),
        "confusion": list(host.get("__acceptance_evaluation", {}).get("confusion", [])),
        "note": host_text.line(f"{damaged} lines were no samples" if damaged else why),
    }
