#!/usr/bin/python
"""Tell what strains a service on its host, and what broken runs left there (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_diagnosis
short_description: Tell what strains a service on its host, and what broken runs left there
description:
  - Reads the journal (by its fields, never by words), C(/proc) and C(/sys), and the folder of the
    models. Returns a row for each thing that it looked at.
  - Changes nothing unless O(clear) is set.
  - Needs nothing but Python's standard library.
version_added: "0.2.0"
options:
  root:
    description: The folder of the models.
    type: path
    required: true
  name:
    description: The name of the model, without C(.onnx) and C(_int8).
    type: str
    default: agi_audio_core
  service:
    description: The unit of the service.
    type: str
    required: true
  manager:
    description: What runs it. Only V(systemd) and V(systemd_user) have a journal of its deaths.
    type: str
    choices: [systemd, systemd_user, command, none]
    default: systemd
  days:
    description: How many days back deaths count.
    type: int
    default: 7
  clear:
    description: Remove half transfers that are older than a day. Takes the lock's O(token).
    type: bool
    default: false
  token:
    description: The token of the run that holds the lock (see M(host_lock)).
    type: str
    default: ""
  collect:
    description: Return texts as well, for whoever helps from afar (see M(support_archive)).
    type: bool
    default: false
  config:
    description: The configuration that names the model. Needed by O(collect).
    type: path
attributes:
  check_mode:
    description: Tells what O(clear) would remove.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: See what strains SARAi
  host_diagnosis:
    root: /srv/models
    service: sarai
"""

RETURN = r"""
findings:
  description:
    - A row a check, with id (what code knows it by), check, level (V(ok), V(advice) or
      V(problem)), value, threshold and remedy.
  returned: success
  type: list
  elements: dict
texts:
  description:
    - The journal, the unit, the configuration, the state and the like, by name. What looks like a
      secret is hidden in them, and none is longer than 256 KiB.
  returned: when O(collect) is set
  type: dict
moved:
  description: The folders that were removed, or that check mode would remove.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.diagnosis import leftovers, strain, texts
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import names
from ansible.module_utils.modelops.target import units

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "root": {"type": "path", "required": True},
        "name": {"type": "str", "default": "agi_audio_core"},
        "service": {"type": "str", "required": True},
        "manager": {
            "type": "str",
            "choices": ["systemd", "systemd_user", "command", "none"],
            "default": "systemd",
        },
        "days": {"type": "int", "default": 7},
        "clear": {"type": "bool", "default": False},
        "token": {"type": "str", "default": "", "no_log": False},
        "collect": {"type": "bool", "default": False},
        "config": {"type": "path"},
    },
    "required_if": [("collect", True, ["config"])],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look at the host, after O(clear) where it is asked for; the result is the module's."""
    root, name, manager = Path(params["root"]), names.check(params["name"]), params["manager"]
    cleared = []
    if params["clear"]:
        cleared = leftovers.clear(root, name, params["token"], check_mode=check_mode)
    pids: set[int] = set()
    if manager in ("systemd", "systemd_user"):
        unit = units.Systemd(params["service"], user=manager == "systemd_user")
        pids = unit.processes(unit.look())
    found = leftovers.rows(root, name)
    found += strain.look(params["service"], manager, pids, params["days"])
    told = {}
    if params["collect"]:
        config = Path(params["config"])
        told = {"texts": texts.collect(root, name, params["service"], manager, config)}
    return {"changed": bool(cleared), "moved": cleared, "findings": found, **told}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
