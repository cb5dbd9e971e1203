#!/usr/bin/python
"""Copy artifacts from folder to folder of one machine (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact_copy
short_description: Copy or move artifacts within one machine
description:
  - Copies the files that a manifest lists from one folder to another, hashes them in the same
    pass, and gives them their names only when the hash is right. Files that are right already
    stay.
  - Needs nothing but Python's standard library.
version_added: "0.1.0"
options:
  src:
    description: The folder that holds the artifacts.
    type: path
    required: true
  dest:
    description: The folder to copy it to. It is made when it is missing.
    type: path
    required: true
  manifest:
    description: The manifest, as M(artifact_manifest) returns it.
    type: dict
    required: true
  move:
    description:
      - Let the artifacts leave O(src), so that they are not stored twice. On one file system they
        are renamed, and whoever takes them over verifies them. Golden data is copied.
      - Artifacts that are not in O(src) are passed over, since an earlier run may have moved them.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says which files would be copied.
    support: full
  diff_mode:
    description: The result names the files.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Copy the artifacts to the incoming folder
  artifact_copy:
    src: /srv/builder
    dest: /home/noel/SARAi_v2/models/onnx/.incoming/3f0a9c1d22b45e67
    manifest: "{{ __quantize_manifest }}"
"""

RETURN = r"""
reason:
  description: V(damaged) when a file in O(src) is not what the manifest says.
  returned: failure, for this cause
  type: str
moved:
  description: The names of the files moved.
  returned: success
  type: list
  elements: str
copied:
  description: The names of the files copied.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import manifest as manifests
from ansible.module_utils.modelops.pair.copy import copy_pair, move_files

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "src": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "manifest": {"type": "dict", "required": True},
        "move": {"type": "bool", "default": False},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Copy as the parameters say; the result is the module's."""
    listed = manifests.check(params["manifest"], where="option manifest")
    source, dest = Path(params["src"]), Path(params["dest"])
    entries = manifests.files(listed)
    moved: list[str] = []
    if params["move"]:
        moved = move_files(source, dest, listed["artifacts"], check_mode)
        entries = [entry for entry in entries if entry not in listed["artifacts"]]
    copied = copy_pair(source, dest, entries, check_mode)
    return {"changed": bool(copied or moved), "copied": copied, "moved": moved}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
