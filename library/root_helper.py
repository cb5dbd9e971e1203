#!/usr/bin/python
"""Let root's helper on a target do what only root may do (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: root_helper
short_description: Let root's helper on a target do what only root may do
description:
  - Calls C(/usr/local/sbin/modelops-root) with C(sudo), which must ask for no password. The
    playbook C(setup_target.yml) installs it and allows it. Without it the roles use C(become).
  - Which unit, account and folder is meant stands in a file of root's on the target. No option
    names one.
version_added: "0.1.0"
options:
  model:
    description: The name of the model.
    type: str
    required: true
  verb:
    description:
      - V(look) compares what root's file says with O(expected) and changes nothing.
      - V(upload-open) makes the folder of O(release), and lets O(key) in for a while.
        V(upload-close) lets it in no more, V(upload-remove) removes the folder.
      - V(accept) remembers the serial of O(release), which is staged, when it is signed as root's
        C(allowed_signers) asks.
      - V(arm) starts the timer with which the target reverts by itself, V(disarm) stops it.
    type: str
    choices: [look, upload-open, upload-close, upload-remove, accept, arm, disarm]
    default: look
  release:
    description: The id of the release, for V(accept) and the verbs that begin with upload.
    type: str
    default: ""
  key:
    description: The ed25519 public key of the push, for V(upload-open).
    type: str
    default: ""
  expected:
    description: What V(look) expects root's file to say, by name.
    type: dict
    default: {}
attributes:
  check_mode:
    description: The helper tells what would change.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Arm the timer that goes back unless a commit comes
  root_helper:
    model: agi_audio_core
    verb: arm
"""

RETURN = r"""
findings:
  description: Rows of preflight, on what root's file says.
  returned: for V(look)
  type: list
  elements: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import received
from ansible.module_utils.modelops.target import root_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK = "look"
VERBS = [LOOK, "upload-open", "upload-close", "upload-remove", "accept", "arm", "disarm"]
MODULE: dict[str, Any] = {
    "argument_spec": {
        "model": {"type": "str", "required": True},
        "verb": {"type": "str", "choices": VERBS, "default": LOOK},
        "release": {"type": "str", "default": ""},
        "key": {"type": "str", "default": "", "no_log": False},
        "expected": {"type": "dict", "default": {}},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what the parameters say; the result is the module's.

    Raises:
        ModelOpsError: the helper is not there, not allowed, refuses, or fails.
    """
    model, verb, words = params["model"], params["verb"], []
    if verb == LOOK:
        return {"changed": False, "findings": root_helper.look(model, params["expected"])}
    if verb == "accept" or verb.startswith("upload-"):
        words.append(received.release_id(params["release"]))
    if verb == "upload-open":
        words.append(received.public_key(params["key"]))
    return {"changed": root_helper.call(model, verb, *words, check=check_mode)["changed"]}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
