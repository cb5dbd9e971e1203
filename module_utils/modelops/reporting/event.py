"""What a run changed in service, told to others: a JSON document for webhooks, text for Prometheus.

A run that changed nothing in service has no event.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..acceptance import promises
from ..base import host_text
from ..base.hidden import masked
from ..pair import received

SCHEMA = 1
LONGEST_TEXT = 2000  # characters
# By the fact that a host's part of a run leaves behind; the first that changed something counts.
_BY_FACT = {
    "__activate_reverted": "reverted",
    "__rollback_result": "rolled_back",
    "__activate_commit": "released",
}
_METRIC = "modelops_last_event_timestamp_seconds"
_HELP = "When a release was last put into service on a host, taken out, or broke a promise."

Facts = Mapping[str, Any]


def events(hosts: Iterable[Facts], model: str, now: float) -> dict[str, Any]:
    """Gather what a run changed in service.

    Args:
        hosts: the facts of each target.
        now: seconds of the epoch.

    Returns:
        `schema`, `model`, `at` (UTC, ISO 8601), `seconds` (of the epoch) and `events`, one a host:
        `host`, `event` (released, reverted, rolled_back, promise_broken or failed), `release`
        (which it is about), `active` (what is in service now, empty where unknown) and `text`.

    Raises:
        ModelOpsError: a release's id is none.
    """
    told = (_event(host) for host in hosts)
    return {
        "schema": SCHEMA,
        "model": model,
        "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "seconds": int(now),
        "events": [one for one in told if one],
    }


def _event(host: Facts) -> dict[str, str] | None:
    done = ((kind, host.get(fact) or {}) for fact, kind in _BY_FACT.items())
    kind, result = next(((k, r) for k, r in done if r.get("changed")), ("", {}))
    if not kind and (broken := promises.failed(host.get("__acceptance_rows") or [])):
        return _broken(host, broken)
    if not kind:
        # Going back was not needed: the release failed before it was in service.
        kind, result = "failed", host.get("__activate_reverted") or {}
        if "state" not in result:
            return None
    of_run = host.get("__transfer_manifest") or {}
    before = (host.get("__rollback_before") or {}).get("state") or {}
    about = before.get("active") if kind == "rolled_back" else of_run.get("release_id")
    text = host_text.line(masked(str(host.get("__release_outcome", ""))))
    return {
        "host": host_text.line(host["inventory_hostname"]),
        "event": kind,
        "release": _release(about),
        "active": _release((result.get("state") or {}).get("active")),
        "text": text[:LONGEST_TEXT],
    }


def _broken(host: Facts, broken: str) -> dict[str, str]:
    """Return the event of a release that broke a promise in the weeks after it (acceptance)."""
    release = _release((host.get("__acceptance_figures") or {}).get("release"))
    return {
        "host": host_text.line(host["inventory_hostname"]),
        "event": "promise_broken",
        "release": release,
        "active": release,
        "text": host_text.line(masked(broken))[:LONGEST_TEXT],
    }


def _release(value: object) -> str:
    return str(value) if value == "fp32" else received.release_id(value) if value else ""


def body(told: Mapping[str, Any]) -> str:
    """Return the text that a webhook gets; its bytes are what `signature` is of."""
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def signature(text: str, key: str) -> str:
    """Return `sha256=HEX`, the HMAC of a body in UTF-8 (RFC 2104)."""
    return "sha256=" + hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def untold(results: Sequence[Mapping[str, Any]], taken: Container[int]) -> list[str]:
    """Say which webhooks were not told, by their places: a URL may hold a secret.

    Args:
        results: of the module uri, a webhook each.
        taken: the states of HTTP that say that an event was taken.
    """
    states = [result.get("status", -1) for result in results]
    return [
        f"webhook {place} of {len(states)} was not told: "
        + (f"it answered {state}" if state > 0 else "it did not answer")
        for place, state in enumerate(states, 1)
        if state not in taken
    ]


def textfiles(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a file a host for node_exporter's textfile collector: `name` and `content`.

    A file a host, so that a run on some hosts leaves what stands of the others. The format is
    Prometheus' text exposition, version 0.0.4.
    """
    return [
        {"name": _file_name(told["model"], one["host"]), "content": _content(told, one)}
        for one in told["events"]
    ]


def _content(told: Mapping[str, Any], one: Mapping[str, str]) -> str:
    values = {"model": told["model"], **{k: one[k] for k in ("host", "event", "release", "active")}}
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())
    return (
        f"# HELP {_METRIC} {_HELP}\n# TYPE {_METRIC} gauge\n"
        f"{_METRIC}{{{labels}}} {told['seconds']}\n"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _file_name(model: str, host: str) -> str:
    """Return a name that two hosts never share, whatever is in theirs."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in host)
    unique = "" if plain == host else "_" + hashlib.sha256(host.encode()).hexdigest()[:8]
    return f"modelops_{model}_{plain}{unique}.prom"
