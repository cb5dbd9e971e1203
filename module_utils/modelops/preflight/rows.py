"""What the hosts of a preflight told, as rows, lines and a table. It runs on the controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import host_text, transport
from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..judging import table
from ..measuring import inputs_file

Host = Mapping[str, Any]
Rows = Mapping[str, list[Finding]]
HEADER = ("level", "check", "value", "wanted")
KEYS = ("level", "check", "value", "threshold")
# What looked at a host, which may be a builder and a target: their modules, and a diagnosis.
LOOKS = (
    "__preflight_builder_host", "__preflight_builder", "__preflight_target_host",
    "__setup_target_look", "__diagnose_host",
)  # fmt: skip
WIDEST = 60  # characters of a cell in the table; the lines below it have the whole


def findings(hosts: Iterable[Host]) -> dict[str, list[Finding]]:
    """Gather what was found on each host. One that could not be looked at has a row, too."""
    return {host["inventory_hostname"]: _findings(host) for host in hosts}


def real_inputs(path: str) -> dict[str, Any]:
    """Describe the controller's file of real inputs for host_check; nothing where there is none."""
    if not path:
        return {}
    try:
        return {"file": path, "samples": inputs_file.samples(Path(path)), "problem": ""}
    except ModelOpsError as error:
        return {"file": path, "samples": [], "problem": error.what}


def unsaid(host: Host) -> list[Finding]:
    """Return the row of a Windows host that the inventory does not call one; nothing elsewhere."""
    name = transport.unsaid_windows(host)
    if not name:
        return []
    value, wanted = f"{name} is {host[name]}", "ansible_shell_type: powershell"
    remedy = (
        "Put that line into the inventory for this host, whose path is one of Windows: over SSH"
        " nothing else says that it runs Windows."
    )
    return [finding("connection", False, value, wanted, remedy)]


def _findings(host: Host) -> list[Finding]:
    if unknown := unsaid(host):
        return unknown
    looks = [found for name in LOOKS if (found := host.get(name)) and not found.get("skipped")]
    rows: list[Finding] = []
    for found in looks or [{"msg": "its tasks did not run"}]:
        rows += found["findings"] if "findings" in found else [_not_looked_at(found)]
    rows += host.get("__preflight_units", [])
    rows += host.get("__preflight_signing", {}).get("findings", [])
    if "__sarai_service_look" in host:
        rows += _service(host["__sarai_service_look"], host.get("sarai_service_manager", ""))
    if "__sarai_config_read" in host:
        rows += _configuration(host)
    rows += host.get("__diagnose_rows", [])
    # A host that is builder and target has rows of both; what is said twice is said once.
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


def _why(result: Mapping[str, Any]) -> str:
    why = result.get("msg") or result.get("module_stderr") or "unknown"
    return host_text.plain(str(why)).strip()


def _not_looked_at(result: Mapping[str, Any]) -> Finding:
    if result.get("unreachable"):
        remedy = "See that it is up and that this user may log in."
        return finding("connection", False, _why(result), "the host answers", remedy)
    remedy = "Correct this first: the other rows need them."
    return finding("the modules", False, _why(result), "they run there", remedy)


def _service(found: Mapping[str, Any], manager: str) -> list[Finding]:
    """Say whether a service can be restarted. It may be unhealthy: that may be what is mended."""
    if "unit" not in found:
        why = str(found.get("module_stderr") or _why(found)).strip()
        if manager == "systemd_user":
            remedy = "Run once as root: loginctl enable-linger USER, with the name of this user."
            return [finding("the user's own systemd", False, why, "it answers", remedy)]
        if manager == "command":
            remedy = "Correct sarai_service_commands."
            return [finding("the service's commands", False, why, "they can be run", remedy)]
        remedy = (
            "Let this user use sudo, or set sarai_privileges: helper (playbooks/setup_target.yml)."
        )
        return [finding("the service, with become", False, why, "it can be looked at", remedy)]
    load = found["unit"]["load"]
    remedy = "Correct sarai_service_name: systemd knows no such unit."
    rows = [finding("service", load == "loaded", load, "loaded", remedy)]
    if manager == "command":
        rows.append(
            finding(
                "the target's own way back", False, "a process, which ends with the host",
                "systemd or systemd_user", "When the host boots in the middle of a run, run"
                " rollback.yml: it starts the service, too.",
                level="advice",
            )
        )  # fmt: skip
    return rows


def _configuration(host: Host) -> list[Finding]:
    if host["__sarai_config_read"].get("failed"):
        why, remedy = _why(host["__sarai_config_read"]), "Let this user read the file."
        return [finding("configuration", False, why, "it can be edited", remedy)]
    rows: list[Finding] = host["__sarai_config_findings"]
    return rows


def lines(rows: Rows, level: str) -> list[str]:
    """Return the rows of a level, a line each: value, threshold and remedy."""
    return [
        f"{name}: {row['check']}: {row['value']} (wanted: {row['threshold']}). {row['remedy']}"
        for name, found in rows.items()
        for row in found
        if row["level"] == level
    ]


def text(rows: Rows) -> str:
    """Write the rows of each host as a table, and below them what to do."""
    parts = []
    for name, found in rows.items():
        cells = [tuple(_short(row[key]) for key in KEYS) for row in found]
        parts.append(f"{name}\n{table.text(cells, HEADER)}")
    for level, title in (("advice", "Advice"), ("problem", "Problems")):
        if told := lines(rows, level):
            parts.append("\n- ".join([title, *told]))
    return "\n\n".join(parts)


def _short(cell: str) -> str:
    """Return a cell in one line; of a long one the beginning and the end, which name a file."""
    cell = " ".join(cell.split())
    half = WIDEST // 2
    return cell if len(cell) <= WIDEST else f"{cell[: half - 3]}...{cell[-half:]}"


def ssh(hosts: Iterable[Host]) -> list[dict[str, Any]]:
    """Return the targets that a builder must reach, as it reaches them: not where both are one."""
    return [
        {
            "name": host["inventory_hostname"],
            "host": host.get("transfer_host")
            or host.get("ansible_host")
            or host["inventory_hostname"],
            "port": host.get("transfer_port") or host.get("ansible_port") or 22,
            "needed": strategy == "sftp",
        }
        for host in hosts
        if (strategy := host.get("transfer_strategy", "local")) != "local"
    ]
