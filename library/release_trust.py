#!/usr/bin/python
"""Keep on a target which keys sign releases, and the highest serial (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_trust
short_description: Keep on a target which keys sign releases, and the highest serial
description:
  - The one place where signed releases need root on a target. M(model_release) reads what this
    writes.
version_added: "0.1.0"
options:
  name:
    description: The name of the model.
    type: str
    default: agi_audio_core
  state:
    description:
      - V(present) writes the keys that may sign, and those that may no more, to O(trust_dir). Lines
        of models that O(signers) does not name stay. No revoked key is ever taken off the list.
      - V(accepted) verifies the release and remembers its serial in O(serials_dir). From then on no
        lower one comes into service.
    type: str
    choices: [present, accepted]
    required: true
  signers:
    description: The text of C(allowed_signers), as M(release_key) returns it.
    type: str
    default: ""
  revoked:
    description: The text of C(revoked_keys), as M(release_key) returns it.
    type: str
    default: ""
  manifest:
    description: The manifest of the release, for V(accepted).
    type: dict
extends_documentation_fragment:
  - trust
attributes:
  check_mode:
    description: Tells whether a file would be written.
    support: full
author:
  - The SARAi model operations team
seealso:
  - module: release_key
  - module: model_release
"""

EXAMPLES = r"""
- name: Remember that this release was accepted
  release_trust:
    state: accepted
    manifest: "{{ __transfer_manifest }}"
    signature: "{{ __transfer_signature }}"
  become: true
"""

RETURN = r"""
serial:
  description: The highest serial that was accepted before.
  returned: for V(accepted)
  type: int
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution import options
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import manifest as manifests
from ansible.module_utils.modelops.pair import names, signed
from ansible.module_utils.modelops.signing.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "default": "agi_audio_core"},
        "state": {"type": "str", "choices": ["present", "accepted"], "required": True},
        "signers": {"type": "str", "default": ""},
        "revoked": {"type": "str", "default": ""},
        "manifest": {"type": "dict"},
        **options.TRUST,
    },
    "required_if": [("state", "accepted", ["manifest"])],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what the parameters say; the result is the module's."""
    trust, model = Trust.of(params), names.check(params["name"])
    if params["state"] == "present":
        changed = trust.learn(params["signers"], params["revoked"], check_mode=check_mode)
        return {"changed": changed}
    listed = manifests.check(params["manifest"], "option manifest", model)
    # What check mode does not sign, nothing can be said of.
    if params["signature"] or not (check_mode and signed.serial(listed)):
        content = manifests.dump(listed)
        trust.require(model, content, params["signature"], "option manifest", fresh=True)
    before = trust.serial(model)
    return {"changed": trust.remember(listed, model, check_mode=check_mode), "serial": before}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
