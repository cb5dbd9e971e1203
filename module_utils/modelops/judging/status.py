"""What is in service where, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text
from ..base.units import size
from . import table


def text(hosts: Iterable[Mapping[str, Any]]) -> str:
    """Write the table of playbooks/status.yml from what the targets answered."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for host in hosts:
        name, asked = host["inventory_hostname"], host.get("__status_release", {})
        if "state" not in asked:
            why = host_text.line(asked.get("msg") or "not reached")
            rows.append((name, "unknown", "", "", "", "", why))
            continue
        state, look = asked["state"], host.get("__sarai_service_look", {})
        last = state["history"][-1] if state["history"] else {"event": "never released"}
        health = "healthy" if look.get("healthy") else look.get("problem", "not asked")
        kind = "FP32" if state["active"] == "fp32" else asked["kind"]
        if not state["confirmed"]:
            kind += ", not confirmed"
        event = f"{last.get('event', '')} {last.get('reason', '')}".strip()[:60]
        free = size(asked["free_bytes"])
        rows.append((name, state["active"], kind, last.get("at", ""), health, free, event))
        notes += [f"{name}: {problem}" for problem in asked["problems"]]
        notes += [f"{name}: {release} is void: {why}" for release, why in state["void"].items()]
    header = ("host", "release", "model", "since", "service", "disk free", "last")
    return "\n".join([table.text(rows, header), *map(host_text.line, notes)])
