#!/usr/bin/python
"""Write one archive of what all hosts told, for whoever helps from afar (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: support_archive
short_description: Write one archive of what all hosts told
description:
  - Writes a C(.tar.gz) with a folder a host, readable by its owner alone. Runs on the controller.
version_added: "0.2.0"
options:
  dest:
    description: The archive. Its folder is made where it is missing.
    type: path
    required: true
  texts:
    description: By host, the texts by their names, as M(host_diagnosis) returns them.
    type: dict
    required: true
attributes:
  check_mode:
    description: Writes nothing.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
seealso:
  - module: host_diagnosis
"""

EXAMPLES = r"""
- name: Write the archive
  support_archive:
    dest: /srv/support/sarai.tar.gz
    texts:
      agi1:
        journal.txt: "..."
  delegate_to: localhost
"""

RETURN = r"""
dest:
  description: The archive.
  returned: success
  type: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.diagnosis import archive
from ansible.module_utils.modelops.execution.module_result import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "dest": {"type": "path", "required": True},
        "texts": {"type": "dict", "required": True},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write the archive; the result is the module's.

    Raises:
        ModelOpsError: a name is none of a plain file.
        OSError: it cannot be written.
    """
    dest = Path(params["dest"])
    if not check_mode:
        dest.parent.mkdir(parents=True, exist_ok=True)
        archive.write(dest, params["texts"])
    return {"changed": True, "dest": str(dest)}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
