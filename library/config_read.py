#!/usr/bin/python
"""Read a configuration on a host for the controller, which plans its edits (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: config_read
short_description: Read a configuration for the controller, which plans its edits
description:
  - Returns the bytes of a configuration. It fails where that is no regular file, or larger than any
    configuration is. A symbolic link may lead to it.
  - The standard library only.
version_added: "0.1.0"
options:
  path:
    description: The configuration.
    type: path
    required: true
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It only reads.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Read the configuration
  config_read:
    path: /home/noel/SARAi_v2/config/sarai.yaml
  no_log: true
"""

RETURN = r"""
content:
  description: Its bytes as Base64; null where there is no such file.
  returned: success
  type: str
"""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base import opener
from ansible.module_utils.modelops.config import byte_edits
from ansible.module_utils.modelops.execution.module_result import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {"path": {"type": "path", "required": True}},
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:  # noqa: ARG001
    """Read the configuration; the result is the module's."""
    try:
        content = opener.read(params["path"], byte_edits.LARGEST, follow=True)
    except FileNotFoundError:
        if Path(params["path"]).is_symlink():
            raise  # a link that leads nowhere is no missing file
        return {"changed": False, "content": None}
    return {"changed": False, "content": base64.b64encode(content).decode()}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
