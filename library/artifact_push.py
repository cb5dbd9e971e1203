#!/usr/bin/python
"""Push artifacts to a target over SFTP (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact_push
short_description: Push artifacts to a target's sshd over SFTP, resumable at any byte
description:
  - Runs on the builder. Makes a key pair in memory, writes its public half to O(public_key_file),
    and pushes as soon as the target lets that key in. The private half never leaves the process.
  - Works in two steps of its action plugin, between which the target is told of the key. With
    O(state=started) it goes on in the builder's background and RV(public_key) is returned; with
    O(state=finished) its progress is shown until it has ended.
  - The target's host key must be O(host_key); nothing else is believed.
version_added: "0.1.0"
extends_documentation_fragment: progress
options:
  state:
    description: The step.
    type: str
    choices: [started, finished]
    required: true
  job:
    description: What O(state=started) returned as RV(job), for O(state=finished).
    type: dict
  src:
    description: The folder that holds the artifacts.
    type: path
  manifest:
    description: The manifest of the artifacts.
    type: dict
  host:
    description: The target's address, as the builder reaches it.
    type: str
  port:
    description: The port of its sshd.
    type: int
    default: 22
  user:
    description: The upload account there.
    type: str
  host_key:
    description: The target's public host key, type and base64.
    type: str
  folder:
    description: The folder there that the account may write.
    type: str
  rate:
    description: Bytes a second at most; 0 is as fast as it goes.
    type: float
    default: 0
  authorize_s:
    description: Seconds until the target must let the key in.
    type: float
    default: 60
  stall_s:
    description: Seconds without an answer after which it fails.
    type: float
    default: 30
  limit_s:
    default: 14400
  public_key_file:
    description: Where the public half is published. The action plugin names one.
    type: path
attributes:
  check_mode:
    description: Sends nothing and tells what would be sent.
    support: full
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - asyncssh
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Begin to push
  artifact_push:
    state: started
    src: /srv/models
    manifest: "{{ __transfer_manifest }}"
    host: 192.0.2.10
    user: sarai-upload
    host_key: "{{ host_key }}"
    folder: /var/lib/sarai-upload/incoming
  delegate_to: builder
  register: push
"""

RETURN = r"""
public_key:
  description: The public half of the key, for the target's authorized_keys.
  returned: with O(state=started)
  type: str
job:
  description: The job in the background, for O(state=finished).
  returned: with O(state=started)
  type: dict
sent:
  description: The names of the files sent.
  returned: with O(state=finished)
  type: list
  elements: str
sent_bytes:
  description: The bytes sent, fewer than the files have where an earlier push was gone on with.
  returned: with O(state=finished)
  type: int
elapsed_s:
  description: How long it took, in seconds.
  returned: with O(state=finished)
  type: float
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude, packages
from ansible.module_utils.modelops.execution.options import PROGRESS
from ansible.module_utils.modelops.pair import manifest as manifests
from ansible.module_utils.modelops.pair import received

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ["src", "manifest", "host", "user", "host_key", "folder"]
MODULE: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["started", "finished"], "required": True},
        "job": {"type": "dict"},
        "src": {"type": "path"},
        "manifest": {"type": "dict"},
        "host": {"type": "str"},
        "port": {"type": "int", "default": 22},
        "user": {"type": "str"},
        "host_key": {"type": "str", "no_log": False},
        "folder": {"type": "str"},
        "rate": {"type": "float", "default": 0},
        "authorize_s": {"type": "float", "default": 60},
        "stall_s": {"type": "float", "default": 30},
        "public_key_file": {"type": "path", "no_log": False},
        **PROGRESS,
        "limit_s": {"type": "int", "default": 14400},
    },
    "required_if": [("state", "started", NEEDED), ("state", "finished", ["job"])],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Push as the parameters say; the result is the module's."""
    # Imported here, so that a builder without asyncssh answers with what is missing.
    from ansible.module_utils.modelops.base.files import remove
    from ansible.module_utils.modelops.base.progress import kept

    entries = manifests.files(manifests.check(params["manifest"], where="option manifest"))
    if check_mode:
        names = [entry["name"] for entry in entries]
        return {"changed": True, "sent": names, "public_key": "", "job": {}}
    with packages("Install asyncssh into the builder's Python (requirements/project.txt)."):
        from ansible.module_utils.modelops.pair.sftp import Where, push
    limits = {name: params[name] for name in ("authorize_s", "stall_s", "rate")}
    place = {name: params[name] for name in ("host", "port", "user", "host_key", "folder")}
    place["host_key"] = received.public_key(params["host_key"])
    public_key_file = Path(params["public_key_file"])
    progress_file = Path(params["progress_file"]) if params["progress_file"] else None
    try:
        with kept(progress_file) as file:
            result = push(
                Path(params["src"]), entries, Where(**place, **limits), public_key_file, file
            )
    finally:
        remove(public_key_file)
    return {"changed": bool(result["sent"]), **result}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
