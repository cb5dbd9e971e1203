#!/usr/bin/python
"""Take or give back the lock of a whole run on a host (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_lock
short_description: Take or give back the lock of a whole run on a host
description:
  - A run holds the lock of a model from its first change to its last. The lock is a file that says
    who holds it, since when, and until when at most. Each call of the run renews that time, so a
    lock whose time is up is that of a run that was killed.
  - It runs on Linux and, through the action plugin of the same name, on Windows, with the standard
    library only. The action plugin takes the lock of a run of this controller over whose process
    is known to be dead.
version_added: "0.1.0"
options:
  path:
    description: The folder of the model.
    type: path
    required: true
  name:
    description: The model, for its lock, and for the room that its releases keep on a full disk.
    type: str
    default: agi_audio_core
  state:
    description:
      - V(present) takes the lock, or renews it where the run holds it.
      - V(held) fails where the run does not hold it, and renews it.
      - V(absent) gives it back.
    type: str
    choices: [present, held, absent]
    default: present
  run:
    description:
      - Who takes the lock, as the filter run_identity tells. C(run), the random token of the run;
        C(owner), a text for people; C(process), its process on the controller.
    type: dict
    required: true
  ttl_s:
    description: Seconds that the lock outlives the last call of the run.
    type: int
    default: 600
  force:
    description: Take the lock even from a run that holds it.
    type: bool
    default: false
  dead:
    description: Take the lock from the run of this process, which is known to be dead.
    type: str
    default: ""
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
held:
  description: The options with which the lock is renewed.
  returned: for V(present), but not in check mode
  type: dict
lock:
  description: The lock of the other run, without its token.
  returned: when another run holds it
  type: dict
"""

import errno
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import names
from ansible.module_utils.modelops.target import run_lock
from ansible.module_utils.modelops.target.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "path": {"type": "path", "required": True},
        "name": {"type": "str", "default": "agi_audio_core"},
        "state": {"type": "str", "choices": ["present", "held", "absent"], "default": "present"},
        "run": {"type": "dict", "required": True},
        "ttl_s": {"type": "int", "default": run_lock.TTL_S},
        "force": {"type": "bool", "default": False},
        "dead": {"type": "str", "default": ""},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take the lock, hold it or give it back; the result is the module's."""
    folder = Path(params["path"])
    with run_lock.one_call(folder) if folder.is_dir() else nullcontext():
        path = run_lock.place(folder, names.check(params["name"]))
        token = params["run"]["run"]
        if params["state"] == "present":
            _take(path, params, check_mode)
            if not check_mode:
                return {"changed": False, "held": {k: params[k] for k in ("path", "name", "run")}}
        elif params["state"] == "held" and not check_mode:
            run_lock.hold(path, token)
        elif not check_mode:
            run_lock.give_back(path, token)
    return {"changed": False}


def _take(path: Path, params: Mapping[str, Any], check_mode: bool) -> None:
    how = {key: params[key] for key in ("ttl_s", "force", "dead")}
    try:
        run_lock.take(path, params["run"], **how, check_mode=check_mode)
    except OSError as error:
        if error.errno != errno.ENOSPC or not Store(path.parent, params["name"]).give_room():
            raise
        run_lock.take(path, params["run"], **how, check_mode=check_mode)


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
