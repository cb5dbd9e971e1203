#!/usr/bin/python
"""Write the report of a release on the controller (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_report
short_description: Write the report of a release, and the index of all releases
description:
  - Writes C(report.json), C(report.md), C(report.html) and C(junit.xml) into a folder of the
    release in O(folder), and C(index.html) over all releases beside it. The pages ask nothing of a
    network.
  - What only the run could see that released (notes, the memory that the service gave back, the
    time line) is kept from an earlier report where this run did not see it.
  - A run that only measured does not replace the report of one that released.
version_added: "0.1.0"
options:
  folder:
    description: The folder that gets a folder a release. It is made where it is missing.
    type: path
    required: true
  report:
    description: What the run measured and released, as the filter release_report gathers it.
    type: dict
    required: true
  templates:
    description: The folder with the templates of the pages.
    type: path
    required: true
attributes:
  check_mode:
    description: Says what would be written. It sees nothing of hosts, so what an earlier run saw
      stands.
    support: full
  diff_mode:
    description: Shows the lines of C(report.md), and of the other files that they change.
    support: full
requirements:
  - python >= 3.11
  - Jinja2
  - pygal
author:
  - The SARAi model operations team
seealso:
  - module: onnx_compare
"""

EXAMPLES = r"""
- name: Write the report
  release_report:
    folder: /srv/reports
    report: "{{ hostvars[builder] | release_report(targets, promises) }}"
    templates: "{{ role_path }}/templates"
  delegate_to: localhost
"""

RETURN = r"""
text:
  description: The report for a terminal.
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
        "templates": {"type": "path", "required": True},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write what is not there yet; the result is the module's.

    Raises:
        ModelOpsError: a package is missing, or the release has no id of one.
        OSError: a file cannot be written.
    """
    # Imported here, so that a Python without pygal answers with what is missing.
    with packages("Run `make .venv/project`, which installs what requirements/project.txt pins."):
        from ansible.module_utils.modelops.reporting import folder, text
    root, templates = Path(params["folder"]), Path(params["templates"])
    made, files = folder.wanted(root, params["report"], templates, check_mode)
    diffs = folder.write(files, check_mode)
    return {"changed": bool(diffs), "diff": diffs, "text": text.text(made)}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
