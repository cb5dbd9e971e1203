#!/usr/bin/python
"""Write the page on the weeks after a release on the controller (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: acceptance_report
short_description: Write the page on the weeks after a release
description:
  - Writes C(acceptance.json), C(acceptance.md) and C(acceptance.html) into O(folder). The page asks
    nothing of a network.
version_added: "0.2.0"
options:
  folder:
    description: The folder that gets the files. It is made where it is missing.
    type: path
    required: true
  report:
    description: What is known of all targets, as the filter acceptance_document gathers it.
    type: dict
    required: true
  templates:
    description: The folders with the template of the page, and with those that it imports.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    description: Says what would be written.
    support: full
  diff_mode:
    description: Shows the lines of C(acceptance.md), and of the other files that they change.
    support: full
requirements:
  - python >= 3.11
  - Jinja2
  - pygal
author:
  - The SARAi model operations team
seealso:
  - module: acceptance_figures
"""

EXAMPLES = r"""
- name: Write the page
  acceptance_report:
    folder: /srv/reports/acceptance
    report: "{{ targets | map('extract', hostvars) | acceptance_document }}"
    templates: ["{{ role_path }}/templates"]
  delegate_to: localhost
"""

RETURN = r"""
text:
  description: The page for a terminal.
  returned: success
  type: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude, packages

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "folder": {"type": "path", "required": True},
        "report": {"type": "dict", "required": True},
        "templates": {"type": "list", "elements": "str", "required": True},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write what is not there yet; the result is the module's.

    Raises:
        ModelOpsError: a package is missing.
        OSError: a file cannot be written.
    """
    # Imported here, so that a Python without pygal answers with what is missing.
    with packages("Run `make .venv/project`, which installs what requirements/project.txt pins."):
        from ansible.module_utils.modelops.reporting import acceptance, folder
    templates = [Path(place) for place in params["templates"]]
    files = acceptance.files(params["report"], Path(params["folder"]), templates)
    diffs = folder.write(files, check_mode)
    return {"changed": bool(diffs), "diff": diffs, "text": acceptance.text(params["report"])}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
