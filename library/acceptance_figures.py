#!/usr/bin/python
"""Make figures of what a sampler saw of a service in the last days (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: acceptance_figures
short_description: Make figures of what a sampler saw of a service in the last days
description:
  - Reads the samples that the role acceptance lets a target take, leaves out what is none, and
    returns latency, memory, deaths and the service's own figures of each window, each with how many
    samples it is of and which share of the window they cover.
  - Only samples of the release that is in service now count. Changes nothing.
  - Needs nothing but Python's standard library.
version_added: "0.2.0"
options:
  folder:
    description: The folder of the samples.
    type: path
    required: true
  days:
    description: How many days back each window goes.
    type: list
    elements: int
    default: [7, 30]
  every_s:
    description: Seconds from one sample to the next.
    type: int
    default: 60
attributes:
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Read what the sampler saw
  acceptance_figures:
    folder: /var/lib/modelops-acceptance/agi_audio_core
"""

RETURN = r"""
release:
  description: The release in service by the newest sample, V(fp32), or empty where it is not known.
  returned: success
  type: str
windows:
  description: The figures of each window, by its days (see modelops.acceptance.figures).
  returned: success
  type: dict
damaged:
  description: How many lines were no samples.
  returned: success
  type: int
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.acceptance import figures, samples
from ansible.module_utils.modelops.base.json_values import json_safe
from ansible.module_utils.modelops.execution.module_result import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "folder": {"type": "path", "required": True},
        "days": {"type": "list", "elements": "int", "default": [7, 30]},
        "every_s": {"type": "int", "default": 60},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:  # noqa: ARG001
    """Read the samples; the result is the module's."""
    found, damaged = samples.read(Path(params["folder"]))
    made = figures.of(found, params["days"], max(1, params["every_s"]), time.time())
    return {"changed": False, "damaged": damaged, **json_safe(made)}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
