"""Filters of the roles: pure functions of modelops, called on the controller."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops import yaml_edit
from modelops.errors import ModelOpsError

Values = Mapping[str, Any]


def config_plan(
    slurped: Mapping[str, Any],
    file: str,
    block: str,
    fp32: Values,
    int8: Values,
    template: str,
    previous: Values | None,
) -> dict[str, Any]:
    """Plan how a configuration file is made to name FP32 and INT8, without changing it.

    Args:
        slurped: the result of ansible.builtin.slurp; without `content` the file does not exist.
        file: its path, for messages.
        block: the top-level key that holds our values.
        fp32: the promised values that name FP32, for when the owner's are not known.
        int8: the values that name INT8.
        template: the text of a new file, which must hold the block.
        previous: the owner's values from before INT8, as an earlier plan returned them.

    Returns:
        `config`, the option of model_release, and `previous`, the owner's values to keep.
    """
    exists = "content" in slurped
    content = base64.b64decode(slurped["content"]) if exists else template.encode()
    try:
        current = yaml_edit.read(content, block, int8, where=file)
        path = current["model_path"]
        # What the file says before INT8 is the owner's; what it says under INT8 is ours.
        if exists and (path is None or path["value"] != int8["model_path"]):
            previous = current
        back = yaml_edit.restoring(previous) if previous else fp32
        return {
            "previous": previous,
            "config": {
                "path": file,
                "sha256": hashlib.sha256(content).hexdigest() if exists else "",
                "content": None if exists else template,
                "fp32": yaml_edit.plan(content, block, back, where=file),
                "int8": yaml_edit.plan(content, block, int8, where=file),
            },
        }
    except ModelOpsError as error:
        raise AnsibleFilterError(str(error)) from None


def config_problem(slurped: Mapping[str, Any], file: str, block: str, values: Values) -> str:
    """Return why the configuration could not be edited, or an empty text."""
    if "content" not in slurped:
        return ""
    try:
        yaml_edit.plan(base64.b64decode(slurped["content"]), block, values, where=file)
    except ModelOpsError as error:
        return str(error)
    return ""


def preflight_problems(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """List what preflight found wrong on the hosts, a line each: value, threshold and remedy."""
    lines = []
    for host in hosts:
        name = host["inventory_hostname"]
        for row in host.get("__preflight_host", {}).get("findings", []):
            if not row["ok"]:
                lines.append(
                    f"{name}: {row['check']}: {row['value']} (wanted: {row['threshold']})."
                    f" {row['remedy']}"
                )
        if host.get("__sarai_config_problem"):
            lines.append(f"{name}: {host['__sarai_config_problem']}")
    return lines


class FilterModule:
    """What Ansible finds here."""

    def filters(self) -> dict[str, Any]:
        return {
            "config_plan": config_plan,
            "config_problem": config_problem,
            "preflight_problems": preflight_problems,
        }
