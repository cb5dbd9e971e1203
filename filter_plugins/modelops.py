"""Filters of the roles: pure functions of modelops, called on the controller."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops.acceptance import complaints, document, evaluation, promises
from modelops.base import host_text, transport
from modelops.base.errors import ModelOpsError
from modelops.base.finding import Finding
from modelops.config import plan as planning
from modelops.config import reading
from modelops.config.wanted import Wanted
from modelops.diagnosis import archive
from modelops.diagnosis import release as diagnosis
from modelops.environment import wheelhouse
from modelops.execution import batches, controller
from modelops.judging import gates, status
from modelops.pair import known_golden, known_release, names, pinned, received
from modelops.pair import manifest as manifests
from modelops.preflight import rows, unreachable
from modelops.reporting import event, gather
from modelops.signing import look
from modelops.target import units, validation

Values = Mapping[str, Any]


def config_plan(read: Values, wanted: Values, previous: Values | None, way: str) -> dict[str, Any]:
    """Plan how a configuration file is made to name FP32 and INT8; see config.plan.plan.

    Args:
        read: what config_read read of it.
        wanted: what the inventory says about it, `__sarai_config`.
        previous: the owner's values from before INT8, as an earlier plan returned them.
        way: `forward`, or `back`, which nothing may block.
    """
    return planning.plan(reading.content(read), wanted, dict(previous or {}), back=way == "back")


def config_findings(read: Values, wanted: Values) -> list[Finding]:
    """Return the rows of preflight on a configuration; see config.plan.findings."""
    return planning.findings(reading.content(read), wanted)


def config_text(wanted: Values, more: Values) -> str:
    """Return the text of a configuration that names FP32, with more keys behind ours."""
    made = Wanted.of(planning.for_json(wanted))
    return planning.new_text(made, made.fp32 | planning.for_json(more))


def model_names(model: str) -> dict[str, str]:
    """Return how the files of a model are called (names.Names), when a path can be made of it."""
    return names.of(names.check(str(model)))._asdict()


def checked_manifest(listed: Values, model: str, pins: Values | None = None) -> dict[str, Any]:
    """Return the manifest of a release, when it is one of this model: its id becomes a folder.

    Args:
        pins: what FP32 must be; see pinned.problem.
    """
    checked = manifests.check(listed, "the manifest of the release", str(model))
    if why := pinned.problem(checked["source"], pins or {}):
        raise ModelOpsError(why)
    return checked


def host_key(text: str) -> str:
    """Return the public key in a host's own file, `TYPE BASE64`: it becomes a known host."""
    try:
        return received.public_key(text)
    except ModelOpsError as error:
        raise AnsibleFilterError(f"ssh_host_ed25519_key.pub: {error}") from None


def plain_text(text: object) -> str:
    """Return what a host said, fit for a terminal; see host_text.plain."""
    return host_text.plain(str(text))


def wheels(folder: str, pins: str, packages: Mapping[str, str]) -> list[str]:
    """Return the wheels of packages in a folder of the controller; see wheelhouse.find."""
    return [str(wheel) for wheel in wheelhouse.find(Path(folder), pins, packages)]


def unit_name(name: str) -> str:
    """Return a unit's name without `.service`, when command lines and files can be made of it."""
    return units.check(str(name).removesuffix(".service"))


def unit_path(text: str) -> str:
    """Return a path as one word of a unit; see units.path."""
    return units.path(str(text))


def unit_memory(text: str) -> str:
    """Return a limit of a unit's memory; see units.memory."""
    return units.memory(str(text))


FILTERS: dict[str, Callable[..., Any]] = {
    "acceptance_broken": promises.failed,
    "acceptance_complaints": complaints.parse,
    "acceptance_document": document.of,
    "acceptance_evaluation": evaluation.figures,
    "acceptance_judged": promises.judge,
    "batches": batches.batches,
    "checked_manifest": checked_manifest,
    "config_findings": config_findings,
    "config_plan": config_plan,
    "config_text": config_text,
    "diagnosis_fixes": diagnosis.fixes,
    "diagnosis_rows": diagnosis.rows,
    "diagnosis_texts": archive.texts,
    "event_body": event.body,
    "event_signature": event.signature,
    "event_textfiles": event.textfiles,
    "event_untold": event.untold,
    "failed_gates": gates.failed,
    "golden_known": known_golden.of,
    "golden_line": known_golden.line,
    "host_key": host_key,
    "kept_quality": gates.kept_quality,
    "model_names": model_names,
    "plain_text": plain_text,
    "preflight_findings": rows.findings,
    "preflight_inputs": rows.real_inputs,
    "preflight_lines": rows.lines,
    "preflight_ssh": rows.ssh,
    "preflight_table": rows.text,
    "preflight_units": units.findings,
    "preflight_unsaid": rows.unsaid,
    "release_events": event.events,
    "release_in_service": validation.outcome,
    "release_is_at_fault": validation.is_the_releases_fault,
    "release_line": known_release.line,
    "release_report": gather.report,
    "releases_known": known_release.of,
    "run_identity": controller.identity,
    "service_refuses": validation.refuses,
    "service_serves": validation.service_serves,
    "signing_ready": look.of_controller,
    "status_table": status.text,
    "unit_memory": unit_memory,
    "unit_name": unit_name,
    "unit_path": unit_path,
    "unpinned": pinned.problem,
    "unreached": unreachable.told,
    "validation_tests": validation.tests,
    "wheels": wheels,
    "windows_over": transport.windows_over,
}


def as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that tells what is wrong as a filter does."""

    @functools.wraps(function)
    def told(*values: Any, **more: Any) -> Any:
        try:
            return function(*values, **more)
        except ModelOpsError as error:
            raise AnsibleFilterError(str(error)) from None

    return told


class FilterModule:
    """What Ansible finds here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {name: as_filter(function) for name, function in FILTERS.items()}
