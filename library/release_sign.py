#!/usr/bin/python
"""Sign a release on the controller, once (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_sign
short_description: Sign a release on the controller, once
description:
  - Signs the bytes of a manifest with C(ssh-keygen -Y sign), in the namespace
    C(modelops-release@NAME). The section C(signed) of the manifest has the model, a serial that
    only rises, the time and the verdict of the builder's gate.
  - The newest release of the ledger is not signed again, while verdict and key are the same.
    Another one gets a higher serial, also where it was signed before.
  - Runs on the controller, which holds the key. No other host ever needs it.
version_added: "0.1.0"
options:
  name:
    description: The name of the model, without C(.onnx) and C(_int8).
    type: str
    default: agi_audio_core
  manifest:
    description: The manifest of the release.
    type: dict
  path:
    description:
      - In place of O(manifest), a folder with artifacts and their manifest, such as a person brings
        to a target. The files are compared with the manifest, which gets the section C(signed); its
        signature is written beside it, as C(NAME.manifest.json.sig).
    type: path
  verdict:
    description: What the builder's gate said of the release. Only V(pass) is signed.
    type: str
    default: ""
  key:
    description:
      - The file of the private ed25519 key; its public key lies beside it as C(KEY.pub), and
        C(revoked_keys), whose keys sign no more.
      - A key with a passphrase, or in hardware, signs by the agent of the session (C(ssh-add)).
    type: path
    required: true
  ledger:
    description: The folder that keeps what was signed, a file for each model; C(ledger) beside the
      key by default.
    type: path
attributes:
  check_mode:
    description: Signs nothing but a few bytes of no use, to see that the key can. RV(signature) is
      empty where a new one would be made.
    support: full
author:
  - The SARAi model operations team
seealso:
  - module: release_key
  - module: model_release
"""

EXAMPLES = r"""
- name: Sign what the gate let pass
  release_sign:
    manifest: "{{ __quantize_manifest }}"
    verdict: pass
    key: ~/.config/modelops/ed25519
  delegate_to: localhost
"""

RETURN = r"""
manifest:
  description: The manifest with its section C(signed).
  returned: success
  type: dict
release_id:
  description: The id of the release.
  returned: success
  type: str
signature:
  description: The signature of that manifest's bytes.
  returned: success
  type: str
serial:
  description: The serial of the release.
  returned: success
  type: int
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base import opener
from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.base.files import write_atomic
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import manifest as manifests
from ansible.module_utils.modelops.pair import signed
from ansible.module_utils.modelops.signing.ledger import Signing

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "default": "agi_audio_core"},
        "manifest": {"type": "dict"},
        "path": {"type": "path"},
        "verdict": {"type": "str", "default": ""},
        "key": {"type": "path", "required": True, "no_log": False},
        "ledger": {"type": "path"},
    },
    "mutually_exclusive": [("manifest", "path")],
    "required_one_of": [("manifest", "path")],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Sign as the parameters say; the result is the module's."""
    key = Path(params["key"])
    ledger = Path(params["ledger"] or key.with_name("ledger"))
    signing = Signing(params["name"], key, ledger)
    if not params["path"]:
        result = signing.sign(params["manifest"], params["verdict"], check_mode)
        return {**result, "release_id": result["manifest"]["release_id"]}
    folder = Path(params["path"])
    file = manifests.find(folder, params["name"])
    listed = manifests.load(file)
    _require_whole(folder, listed)
    result = signing.sign(listed, params["verdict"], check_mode)
    made = {
        file: manifests.dump(result["manifest"]),
        file.with_name(f"{file.name}{signed.ENDING}"): result["signature"].encode(),
    }
    for path, content in made.items():
        if not opener.holds(path, content):
            result["changed"] = True
            if not check_mode:
                write_atomic(path, content)
    return {**result, "release_id": result["manifest"]["release_id"]}


def _require_whole(folder: Path, listed: Mapping[str, Any]) -> None:
    """Refuse to sign what the files beside a manifest are not."""
    rows = manifests.verify(folder, manifests.files(listed))
    wrong = [f"{folder / row['name']}: {row['problem']}" for row in rows if not row["ok"]]
    if wrong:
        raise ModelOpsError(
            "the artifacts are not what the manifest says: " + "; ".join(wrong),
            where=folder,
            remedy="Copy the artifacts again from the builder, then sign them.",
        )


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
