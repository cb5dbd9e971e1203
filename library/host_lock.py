#!/usr/bin/python
"""Take or give back the lock of a whole run on a host (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_lock
short_description: Take or give back the lock of a whole run on a host
description:
  - A run holds the lock of a folder from its first change to its last. The lock is a file that
    says who holds it, since when, and until when at most; it is abandoned when that time is up, or
    when its process is known to be dead because it ran on this very host.
  - It runs on Linux and, through the action plugin of the same name, on Windows, with the standard
    library only.
version_added: "0.1.0"
options:
  path:
    description: The folder.
    type: path
    required: true
  state:
    description: Whether the run holds the lock.
    type: str
    choices: [present, absent]
    default: present
  run:
    description: Who takes the lock. C(run) (an id), C(owner), C(boot) and C(pid) of its process.
    type: dict
    required: true
  name:
    description: The model whose releases keep some room there, for a lock on a full disk.
    type: str
    default: agi_audio_core
  ttl_s:
    description: Seconds after which the lock counts as abandoned.
    type: int
    default: 14400
  force:
    description: Take the lock even from a run that holds it.
    type: bool
    default: false
attributes:
  check_mode:
    description: It says who holds the lock, and takes none.
    support: full
  diff_mode:
    description: A lock is no change.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Let no other run in
  host_lock:
    path: /home/noel/SARAi_v2/models/onnx
    run: "{{ 'agi_audio_core' | run_identity }}"
"""

RETURN = r"""
lock:
  description: The lock of the other run.
  returned: when another run holds it
  type: dict
"""

import errno
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops import lease
from ansible.module_utils.modelops.entry import conclude
from ansible.module_utils.modelops.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "run": {"type": "dict", "required": True},
    "name": {"type": "str", "default": "agi_audio_core"},
    "ttl_s": {"type": "int", "default": 14400},
    "force": {"type": "bool", "default": False},
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take the lock or give it back; the result is the module's."""
    folder = Path(params["path"])
    with lease.one_call(folder) if folder.is_dir() else nullcontext():
        if params["state"] == "present":
            _take(folder, params, check_mode)
        else:
            lease.give_back(folder, params["run"]["run"], check_mode)
    return {"changed": False}


def _take(folder: Path, params: Mapping[str, Any], check_mode: bool) -> None:
    wanted = params["run"], params["ttl_s"], params["force"], check_mode
    try:
        lease.take(folder, *wanted)
    except OSError as error:
        if error.errno != errno.ENOSPC or not Store(folder, params["name"]).give_room():
            raise
        lease.take(folder, *wanted)


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
