"""When a run did what, and how fast files travelled: from the results that its hosts registered.

Each result of a module of the project has `took` (plugin_utils/bridge): when it began and how long
it took, by the controller's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The step of a run that a registered result is of, in the order of a run.
STEPS = {
    "__preflight_builder": "preflight",
    "__preflight_builder_host": "preflight",
    "__preflight_target_host": "preflight",
    "__quantize_result": "quantize",
    "__quantize_golden": "FP32 answers",
    "__quantize_manifest_result": "manifest",
    "__quantize_gate": "gate",
    "__transfer_state": "look at the target",
    "__transfer_push": "begin to push",
    "__transfer_sent": "push",
    "__transfer_copied": "copy",
    "__transfer_staged": "verify SHA-256",
    "__activate_result": "activate",
    "__sarai_service_health": "restart",
    "__validate_state": "hash what is live",
    "__validate_measured": "validate",
    "__sarai_service_answer": "ask the service",
    "__activate_reverted": "revert",
    "__activate_commit": "commit",
}
# What is under way while nothing is changed yet is no work of a run.
WORK = frozenset({"quantize", "gate", "push", "copy", "activate", "restart", "validate", "revert"})


def of(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of a run by time; none where the run changed nothing.

    A second run that finds all as it should be has no time line of its own: the one that made the
    release is kept.

    Returns:
        Rows with `host`, `step`, `began` (seconds of the epoch) and `seconds`.
    """
    rows, worked = [], False
    for host in hosts:
        for fact, step in STEPS.items():
            result = host.get(fact)
            took = result.get("took") if isinstance(result, Mapping) else None
            if not took or result is None:
                continue
            worked = worked or (step in WORK and bool(result.get("changed")))
            name = host["inventory_hostname"]
            rows.append({"host": name, "step": step, **took})
    return sorted(rows, key=lambda row: float(row["began"])) if worked else []


def transfer(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `bytes` that were sent to a host, in how many `seconds`; empty where none were."""
    sent = host.get("__transfer_sent", {})
    if not sent.get("sent_bytes") or not sent.get("elapsed_s"):
        return {}
    return {"bytes": sent["sent_bytes"], "seconds": sent["elapsed_s"]}
