#!/usr/bin/python
"""Make, rotate and revoke the key that signs releases (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_key
short_description: Make, rotate and revoke the key that signs releases
description:
  - Works on the controller, on a key pair of OpenSSH and on the files C(allowed_signers) and
    C(revoked_keys) beside it. M(release_trust) brings what they say to a target.
version_added: "0.1.0"
options:
  name:
    description: The name of the model whose releases the key signs.
    type: str
    default: agi_audio_core
  key:
    description: The file of the private ed25519 key; its public key lies beside it as C(KEY.pub).
    type: path
    required: true
  state:
    description:
      - V(present) makes the key where there is none, and lets it sign the releases of this model.
      - V(rotated) makes a new one in its place; the one before is good for O(overlap_days) more.
      - V(revoked) takes a key back at once. Where it is the current one, a new one is made.
    type: str
    choices: [present, rotated, revoked]
    default: present
  overlap_days:
    description: Days until what was signed with the key before is refused.
    type: float
    default: 30
  fingerprint:
    description: The key that V(revoked) takes back, as C(SHA256:...); the current one by default.
    type: str
    default: ""
attributes:
  check_mode:
    description: Tells whether a key would be made, and makes none.
    support: full
author:
  - The SARAi model operations team
seealso:
  - module: release_trust
  - module: release_sign
"""

EXAMPLES = r"""
- name: Make the key that signs releases
  release_key:
    key: ~/.config/modelops/ed25519
  delegate_to: localhost
"""

RETURN = r"""
made:
  description: Whether a key was, or in check mode would be, made.
  returned: success
  type: bool
signers:
  description: The text of C(allowed_signers).
  returned: success
  type: str
revoked:
  description: The text of C(revoked_keys).
  returned: success
  type: str
fingerprint:
  description: The fingerprint of the key that signs now; empty while there is none.
  returned: success
  type: str
notes:
  description: What the owner should know of it, a sentence or two each.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import names
from ansible.module_utils.modelops.signing.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "default": "agi_audio_core"},
        "key": {"type": "path", "required": True, "no_log": False},
        "state": {
            "type": "str",
            "choices": ["present", "rotated", "revoked"],
            "default": "present",
        },
        "overlap_days": {"type": "float", "default": 30},
        "fingerprint": {"type": "str", "default": ""},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do with the key what the parameters say; the result is the module's."""
    keys = Keys(names.check(params["name"]), Path(params["key"]))
    if params["state"] == "rotated":
        return keys.rotated(params["overlap_days"], check_mode)
    if params["state"] == "revoked":
        return keys.revoked(params["fingerprint"], check_mode)
    return keys.present(check_mode)


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
