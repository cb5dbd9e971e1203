"""What a run measured and released, gathered from the facts of its hosts, as one document.

The document is JSON: roles/report/files/report.schema.json says what stands in it. Times are
seconds, moments are seconds of the epoch in UTC, sizes are bytes. What was not measured is not
there, or null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text
from ..base.hidden import masked
from ..base.units import size
from ..judging import gates, table
from ..pair import received
from . import checklist, timeline

SCHEMA = 1
LONGEST_OUTCOME = 20_000  # characters
UNTOLD = (
    "no outcome: it failed or was not reached any more after its release had begun. What is not"
    " committed goes back by itself; playbooks/status.yml shows what is in service."
)
# What is kept of a comparison (onnx_compare).
FIGURES = (
    "judged", "reference", "candidate", "verdict", "way", "similarity_rows", "worst_channels",
)  # fmt: skip
# What is kept of a manifest beside its files and nodes.
MADE = ("recipe", "versions", "signed")

Facts = Mapping[str, Any]


def report(
    builder: Facts,
    targets: Iterable[Facts],
    promises: Iterable[Mapping[str, Any]],
    controller: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Gather the document of a run, from the facts of its hosts.

    Args:
        promises: gates on files, judged from the manifest.
        controller: the versions of what runs the controller, by name.

    Returns:
        `release`, `verdict`, `outcomes` (a host each), `tables` (rows of text, by host), `notes`
        and `freed` (a text, by host), and all else that the schema has.

    Raises:
        ModelOpsError: the id of the release is none.
    """
    targets = list(targets)
    known = (host.get("__transfer_manifest") for host in targets)
    # A run that failed before it knew which release it is about has none.
    manifest: Mapping[str, Any] = builder.get("__quantize_manifest") or next(
        (m for m in known if m), {}
    )
    release = manifest.get("release_id", "")
    hosts = [host for host in targets if host["inventory_hostname"] != _name(builder)]
    return {
        "schema": SCHEMA,
        "release": received.release_id(release) if release else "",
        **_measured(builder, targets, manifest, list(promises)),
        "outcomes": {_name(host): said for host in targets if (said := _outcome(host))},
        **_manifest(manifest),
        "form_sizes": dict(builder.get("__quantize_result", {}).get("form_sizes") or {}),
        "controller": dict(controller or {}),
        "timeline": timeline.of([builder, *hosts]),
        "transfers": {_name(t): sent for t in targets if (sent := timeline.transfer(t))},
        "host_memory": {_name(t): seen for t in targets if (seen := _host_memory(t))},
        "checklist": checklist.of(builder, targets, manifest),
    }


def _name(host: Facts) -> str:
    return str(host["inventory_hostname"])


def _outcome(host: Facts) -> str:
    """Say what came of a host's release; empty where none had begun."""
    if "__release_outcome" not in host:
        return UNTOLD if "__transfer_manifest" in host else ""
    outcome = host_text.plain(host["__release_outcome"].strip())
    return masked(outcome)[:LONGEST_OUTCOME] or UNTOLD


def _measured(
    builder: Facts, targets: list[Facts], manifest: Mapping[str, Any], promises: list[Any]
) -> dict[str, Any]:
    """Return what was measured on each host, judged, and the worst verdict of all."""
    tables, figures, notes, freed = {}, {}, {}, {}
    verdicts = []
    for host, fact in [
        (builder, "__quantize_gate"),
        *((t, "__validate_measured") for t in targets),
    ]:
        name, comparison = _name(host), host.get(fact, {})
        if not comparison.get("judged"):
            continue
        figures[name] = {k: comparison[k] for k in FIGURES if k in comparison}
        files = gates.judge(promises, table.sizes(manifest))
        figures[name]["judged"] = [*comparison["judged"], *files]
        if fact == "__validate_measured" and host.get("__validate_tests"):
            figures[name]["tests"] = list(host["__validate_tests"])
        tables[name] = table.rows(manifest, comparison, promises)
        if said := [*comparison["notes"], *_served(host)]:
            notes[name] = " ".join(said)
        if said := _memory_freed(host):
            freed[name] = " ".join(said)
        verdicts.append(host.get("__validate_verdict", comparison["verdict"]))
    worst = next((v for v in ("fail", "inconclusive") if v in verdicts), "pass")
    return {
        "verdict": worst if verdicts else "not measured",
        "figures": figures,
        "tables": tables,
        "notes": notes,
        "freed": freed,
    }


def _manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of the release: its files, and the form of each node."""
    nodes = manifest.get("nodes", [])
    forms: dict[str, int] = {}
    for node in nodes:
        forms[node["form"]] = forms.get(node["form"], 0) + 1
    return {
        "source": list(manifest.get("source", [])),
        "artifacts": list(manifest.get("artifacts", [])),
        "golden": manifest.get("golden") or None,
        "forms": forms,
        "kept_fp32": [node for node in nodes if node["form"] == "fp32"],
        "made": {name: manifest[name] for name in MADE if name in manifest},
    }


def _served(host: Facts) -> list[str]:
    """Say which model the service serves, and by what that is known."""
    serves = host.get("__validate_serves")
    return [f"What the service serves ({serves['proof']}): {serves['text']}."] if serves else []


def _was_fp32(host: Facts) -> bool:
    """Tell whether this run moved the host's service from FP32 to the release."""
    return bool(host.get("__transfer_state", {}).get("state", {}).get("active") == "fp32")


def _memory_freed(host: Facts) -> list[str]:
    """Say what the service itself gave back, when this run moved it from FP32."""
    before = host.get("__sarai_service_look", {}).get("rss_bytes")
    now = host.get("__sarai_service_health", {}).get("rss_bytes")
    if not (before and now and _was_fp32(host)):
        return []
    return [f"The service itself held {size(before)} on FP32 and {size(now)} on this release."]


def _host_memory(host: Facts) -> dict[str, Any]:
    """Return the memory of the whole host on FP32 and on this release, where both were seen."""
    before = host.get("__sarai_service_look", {}).get("host_memory")
    now = host.get("__sarai_service_health", {}).get("host_memory")
    return {"fp32": before, "int8": now} if before and now and _was_fp32(host) else {}
