"""The owner's checklist: what holds before, during and after a release, numbered and ticked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text

DONE, FAILED, OPEN = "done", "failed", "not done"
Facts = Mapping[str, Any]


def of(
    builder: Facts, targets: Iterable[Facts], manifest: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return the rows of the checklist.

    Returns:
        Rows with `when` (before, during, after), `step`, `state` (done, failed, not done) and
        `proof`, what the state is known by; empty where nothing is known.
    """
    targets = list(targets)
    rows = [
        ("before", "Look at every host", *_preflight([builder, *targets])),
        ("before", "Keep FP32 as it is, known by its hashes", *_source(manifest)),
        ("during", "Quantize", *_quantize(manifest)),
        ("during", "Measure on the builder", *_gate(builder)),
        (
            "during",
            "Bring the release to the targets",
            *_targets(targets, "__transfer_state", _there),
        ),
        (
            "during",
            "Let the configuration name the release",
            *_targets(targets, "__activate_result"),
        ),
        ("after", "Prove it on the targets", *_targets(targets, "__validate_verdict", _passed)),
        ("after", "Commit, and keep the way back", *_targets(targets, "__activate_commit")),
    ]
    names = ("when", "step", "state", "proof")
    return [dict(zip(names, map(host_text.line, row), strict=True)) for row in rows]


def _preflight(hosts: list[Facts]) -> tuple[str, str]:
    asked = ("__preflight_builder", "__preflight_builder_host", "__preflight_target_host")
    found = [
        row
        for host in hosts
        for name in asked
        for row in host.get(name, {}).get("findings", [])
    ]  # fmt: skip
    if not found:
        return OPEN, ""
    levels = [row["level"] for row in found]
    told = ", ".join(
        f"{levels.count(level)} {level}" for level in ("ok", "advice", "problem") if level in levels
    )
    return FAILED if "problem" in levels else DONE, told


def _source(manifest: Mapping[str, Any]) -> tuple[str, str]:
    source = manifest.get("source")
    return (DONE, f"{len(source)} files with SHA-256") if source else (OPEN, "")


def _quantize(manifest: Mapping[str, Any]) -> tuple[str, str]:
    nodes = manifest.get("nodes", [])
    if not manifest:
        return OPEN, ""
    count = sum(node["form"] != "fp32" for node in nodes)
    return DONE, f"{count} of {len(nodes)} nodes are quantized"


def _gate(builder: Facts) -> tuple[str, str]:
    gate = builder.get("__quantize_gate", {})
    if not gate.get("judged"):
        return OPEN, ""
    return DONE if gate["verdict"] == "pass" else FAILED, f"the required gates: {gate['verdict']}"


def _there(result: Any) -> bool:
    return "state" in result


def _passed(verdict: Any) -> bool:
    return bool(verdict == "pass")


def _succeeded(result: Any) -> bool:
    return not result.get("failed") and not result.get("skipped")


def _targets(targets: list[Facts], fact: str, holds: Any = _succeeded) -> tuple[str, str]:
    """Return the state of a step that every target takes: by how many of them it was taken."""
    known = [host for host in targets if fact in host]
    done = [host for host in known if holds(host[fact])]
    told = f"{len(done)} of {len(targets)} targets" if known else ""
    if len(done) < len(known):
        return FAILED, told
    return DONE if known and len(done) == len(targets) else OPEN, told
