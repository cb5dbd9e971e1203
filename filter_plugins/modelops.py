"""Filters of the roles: pure functions of modelops, called on the controller."""

from __future__ import annotations

import base64
import getpass
import secrets
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops.base import host_text
from modelops.base.errors import ModelOpsError
from modelops.base.finding import Finding
from modelops.base.units import size
from modelops.config import plan as planning
from modelops.environment import wheelhouse
from modelops.execution import controller
from modelops.judging import gates, table
from modelops.pair import manifest as manifests
from modelops.pair import names, received
from modelops.preflight import unreachable
from modelops.target import units, validation

Values = Mapping[str, Any]


def config_plan(read: Values, wanted: Values, previous: Values | None, way: str) -> dict[str, Any]:
    """Plan how a configuration file is made to name FP32 and INT8; see config_plan.plan.

    Args:
        read: `stat` and `slurped`, what the role sarai_config read of it.
        wanted: what the inventory says about it, `__sarai_config`.
        previous: the owner's values from before INT8, as an earlier plan returned them.
        way: `forward`, or `back`, which nothing may block.
    """
    try:
        return planning.plan(_content(read), wanted, dict(previous or {}), back=way == "back")
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def config_findings(read: Values, wanted: Values) -> list[Finding]:
    """Return the rows of preflight on a configuration; see config_plan.findings."""
    return planning.findings(_content(read), wanted)


def config_text(wanted: Values, more: Values) -> str:
    """Return the text of a configuration that names FP32, with more keys behind ours."""
    made = planning.Wanted.of(planning.for_json(wanted))
    return planning.new_text(made, made.fp32 | planning.for_json(more))


def _content(read: Values) -> bytes | None:
    """Return what was read: None without a file, no byte of one that could not be read."""
    if not read["stat"]["stat"]["exists"]:
        return None
    return base64.b64decode(read["slurped"].get("content", ""))


def model_names(model: str) -> dict[str, str]:
    """Return how the files of a model are called (names.Names), when a path can be made of it."""
    try:
        return names.of(names.check(str(model)))._asdict()
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def checked_manifest(listed: Values, model: str) -> dict[str, Any]:
    """Return the manifest of a release, when it is one of this model: its id becomes a folder."""
    try:
        return manifests.check(listed, "the manifest of the release", str(model))
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def host_key(text: str) -> str:
    """Return the public key in a host's own file, `TYPE BASE64`: it becomes a known host."""
    try:
        return received.public_key(text)
    except ModelOpsError as error:
        raise AnsibleFilterError(f"ssh_host_ed25519_key.pub: {error}") from None


def plain_text(text: object) -> str:
    """Return what a host said, fit for a terminal; see host_text.plain."""
    return host_text.plain(str(text))


def run_identity(name: str) -> dict[str, Any]:
    """Return who a run of ansible-playbook is: `run` is random, so a run asks once and keeps it.

    Args:
        name: what the run is about, for people.
    """
    pid = controller.process_id()
    return {
        "run": secrets.token_hex(16),
        "owner": f"{getpass.getuser()}@{socket.gethostname()} ({name}, process {pid})",
        "process": controller.process(pid),
    }


def wheels(folder: str, pins: str, packages: Mapping[str, str]) -> list[str]:
    """Return the wheels of packages in a folder of the controller, each as it was pinned.

    Args:
        pins: lines of requirements files that pin them.
        packages: the versions wanted, by name.
    """
    try:
        return [str(wheel) for wheel in wheelhouse.find(Path(folder), pins, packages)]
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def unit_name(name: str) -> str:
    """Return a unit's name without `.service`, when command lines and files can be made of it."""
    try:
        return units.check(str(name).removesuffix(".service"))
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def unit_word(text: str) -> str:
    """Return a text as one word of a unit's command line; see units.word."""
    try:
        return units.word(str(text))
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def kept_quality(wanted: Iterable[Values]) -> dict[str, float]:
    """Return what the quantizer keeps so that these gates pass; see gates.kept_quality."""
    try:
        return gates.kept_quality(wanted)
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def failed_gates(judged: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say each required gate that did not pass in a line."""
    return [
        f"{row['name']} {row['figure']} is not {row['op']} {row['threshold']}"
        f" ({row['verdict']}{': ' + row['note'] if row['note'] else ''})"
        for row in judged
        if row["required"] and row["verdict"] not in ("pass", "not_applicable")
    ]


def release_report(
    builder: Mapping[str, Any], targets: Iterable[Mapping[str, Any]], promises: list[Any]
) -> dict[str, Any]:
    """Gather the figures of a run, from the facts of its hosts.

    Returns:
        `release`, `verdict`, `outcomes` (a host each), `tables` (rows of text, by host) and
        `notes` and `freed` (a text, by host).
    """
    targets = list(targets)
    known = (host.get("__transfer_manifest") for host in targets)
    # A run that failed before it knew which release it is about has none.
    manifest = builder.get("__quantize_manifest") or next((m for m in known if m), {})
    tables, outcomes, figures, notes, freed = {}, {}, {}, {}, {}
    verdicts = []
    measured = [(builder, "__quantize_gate"), *((t, "__validate_measured") for t in targets)]
    for host, fact in measured:
        name = host["inventory_hostname"]
        if "__release_outcome" in host:
            outcomes[name] = host_text.plain(host["__release_outcome"].strip())
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


def report_text(found: Mapping[str, Any]) -> str:
    """Write a report for the terminal."""
    lines = [f"release {found['release']}: {found['verdict']}"]
    lines += [f"{host}: {outcome}" for host, outcome in found["outcomes"].items()]
    for host, rows in found["tables"].items():
        lines += ["", f"measured on {host}", table.text([tuple(row) for row in rows])]
        lines += [found[kind][host] for kind in ("notes", "freed") if host in found[kind]]
    return "\n".join(lines) + "\n"


def report_markdown(found: Mapping[str, Any]) -> str:
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


def status_table(hosts: Iterable[Mapping[str, Any]]) -> str:
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
        kind = "FP32" if state["active"] == "fp32" else "INT8"
        if not state["confirmed"]:
            kind += ", not confirmed"
        event = f"{last.get('event', '')} {last.get('reason', '')}".strip()[:60]
        free = size(asked["free_bytes"])
        rows.append((name, state["active"], kind, last.get("at", ""), health, free, event))
        notes += [f"{name}: {problem}" for problem in asked["problems"]]
        notes += [f"{name}: {release} is void: {why}" for release, why in state["void"].items()]
    header = ("host", "release", "model", "since", "service", "disk free", "last")
    return "\n".join([table.text(rows, header), *map(host_text.line, notes)])


def batches(hosts: list[str], sizes: Any) -> list[list[str]]:
    """Cut hosts into batches, as `serial` of a play does; the last size counts for all the rest.

    Args:
        sizes: one or several of a number of hosts and a part of all of them, such as "30%".
    """
    sizes = list(sizes) if isinstance(sizes, list) else [sizes]
    found, rest = [], list(hosts)
    while rest:
        size = str(sizes.pop(0) if len(sizes) > 1 else sizes[0])
        part = len(hosts) * int(size[:-1]) // 100 if size.endswith("%") else int(size)
        count = max(part, 1)
        found.append(rest[:count])
        rest = rest[count:]
    return found


def unreached(hosts: Iterable[Mapping[str, Any]]) -> str:
    """Say of each host that playbooks/reach.yml did not reach why not, and what to do.

    Args:
        hosts: the variables of each.
    """
    lines = []
    for host in hosts:
        tries = (host.get(f"__reach_{system}", {}) for system in ("windows", "linux"))
        said = next((a["msg"] for a in tries if a.get("unreachable")), "")
        place = str(host.get("ansible_host", host["inventory_hostname"]))
        place += f":{host['ansible_port']}" if "ansible_port" in host else ""
        place += f" as {host['ansible_user']}" if "ansible_user" in host else ""
        said = host_text.plain(str(said))
        lines.append(unreachable.explain(said, f"{host['inventory_hostname']} ({place})"))
    return "\n".join([*lines, "Nothing was changed there. Run again when that is done."])


class FilterModule:
    """What Ansible finds here."""

    def filters(self) -> dict[str, Any]:
        return {
            "batches": batches,
            "checked_manifest": checked_manifest,
            "config_findings": config_findings,
            "config_plan": config_plan,
            "config_text": config_text,
            "failed_gates": failed_gates,
            "host_key": host_key,
            "kept_quality": kept_quality,
            "model_names": model_names,
            "plain_text": plain_text,
            "release_report": release_report,
            "report_markdown": report_markdown,
            "report_text": report_text,
            "run_identity": run_identity,
            "status_table": status_table,
            "release_in_service": validation.outcome,
            "release_is_at_fault": validation.is_the_releases_fault,
            "service_refuses": validation.refuses,
            "service_serves": validation.service_serves,
            "unit_name": unit_name,
            "unit_word": unit_word,
            "unreached": unreached,
            "validation_tests": validation.tests,
            "wheels": wheels,
        }
