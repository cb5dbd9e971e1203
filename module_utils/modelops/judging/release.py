"""What a run measured and released, gathered from the facts of its hosts, and told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text
from ..base.hidden import masked
from ..base.units import size
from ..pair import received
from . import table

LONGEST_OUTCOME = 20_000  # characters


def report(
    builder: Mapping[str, Any],
    targets: Iterable[Mapping[str, Any]],
    promises: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Gather the figures of a run, from the facts of its hosts.

    Args:
        promises: gates on files, judged from the manifest.

    Returns:
        `release`, `verdict`, `outcomes` (a host each), `tables` (rows of text, by host) and
        `notes` and `freed` (a text, by host).
    """
    targets = list(targets)
    known = (host.get("__transfer_manifest") for host in targets)
    # A run that failed before it knew which release it is about has none.
    manifest: Mapping[str, Any] = builder.get("__quantize_manifest") or next(
        (m for m in known if m), {}
    )
    tables, outcomes, figures, notes, freed = {}, {}, {}, {}, {}
    verdicts = []
    measured = [(builder, "__quantize_gate"), *((t, "__validate_measured") for t in targets)]
    for host, fact in measured:
        name = host["inventory_hostname"]
        if "__release_outcome" in host:
            outcome = host_text.plain(host["__release_outcome"].strip())
            outcomes[name] = masked(outcome)[:LONGEST_OUTCOME]
        if host.get(fact, {}).get("judged"):
            comparison = host[fact]
            kept = ("judged", "reference", "candidate", "verdict")
            figures[name] = {k: comparison[k] for k in kept if k in comparison}
            tables[name] = table.rows(manifest, comparison, promises)
            if said := [*comparison["notes"], *_served(host)]:
                notes[name] = " ".join(said)
            if said := _memory_freed(host):
                freed[name] = " ".join(said)
            verdicts.append(host.get("__validate_verdict", comparison["verdict"]))
    worst = next((v for v in ("fail", "inconclusive") if v in verdicts), "pass")
    release = manifest.get("release_id", "")
    return {
        "release": received.release_id(release) if release else "",
        "verdict": worst if verdicts else "not measured",
        "outcomes": outcomes,
        "figures": figures,
        "tables": tables,
        "notes": notes,
        "freed": freed,
        "kept_fp32": [n for n in manifest.get("nodes", []) if n["form"] == "fp32"],
        "files": [*manifest.get("source", []), *manifest.get("artifacts", [])],
    }


def _served(host: Mapping[str, Any]) -> list[str]:
    """Say which model the service serves, and by what that is known."""
    serves = host.get("__validate_serves")
    return [f"What the service serves ({serves['proof']}): {serves['text']}."] if serves else []


def _memory_freed(host: Mapping[str, Any]) -> list[str]:
    """Say what the service itself gave back, when this run moved it from FP32 to INT8."""
    before = host.get("__sarai_service_look", {}).get("rss_bytes")
    now = host.get("__sarai_service_health", {}).get("rss_bytes")
    was_fp32 = host.get("__transfer_state", {}).get("state", {}).get("active") == "fp32"
    if not (before and now and was_fp32):
        return []
    return [f"The service itself held {size(before)} on FP32 and {size(now)} on this release."]


def text(found: Mapping[str, Any]) -> str:
    """Write a report for the terminal."""
    lines = [f"release {found['release']}: {found['verdict']}"]
    # What goes on is set in, so that no line of a host passes for that of another one.
    outcomes = [f"{host}: {outcome}" for host, outcome in found["outcomes"].items()]
    lines += [outcome.replace("\n", "\n    ") for outcome in outcomes]
    for host, rows in found["tables"].items():
        lines += ["", f"measured on {host}", table.text([tuple(row) for row in rows])]
        lines += [found[kind][host] for kind in ("notes", "freed") if host in found[kind]]
    return host_text.plain("\n".join(lines) + "\n")


def page(found: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    markdown = host_text.markdown
    parts = [f"# Release {found['release']}: {found['verdict']}"]
    parts += [f"- {host}: {markdown(outcome)}" for host, outcome in found["outcomes"].items()]
    for host, rows in found["tables"].items():
        parts += [f"\n## Measured on {host}\n", table.markdown([tuple(row) for row in rows])]
        for kind in ("notes", "freed"):
            parts += ["", markdown(found[kind][host])] if host in found[kind] else []
    parts += ["\n## Files\n", "| name | bytes | SHA-256 |", "| --- | --- | --- |"]
    parts += [f"| {markdown(f['name'])} | {f['size']} | `{f['sha256']}` |" for f in found["files"]]
    parts += ["\n## Kept in FP32\n"]
    parts += [
        f"- {markdown(n['op'])} {host_text.code(n['node'])}: {markdown(n['reason'])}"
        for n in found["kept_fp32"]
    ] or ["None."]
    return "\n".join(parts) + "\n"
