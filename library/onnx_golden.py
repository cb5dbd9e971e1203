#!/usr/bin/python
"""Keep what the FP32 model answers, for hosts that judge INT8 without it (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: onnx_golden
short_description: Keep what the FP32 model answers, so that INT8 can be judged without it
description:
  - Runs the FP32 model on seeded inputs, in a child process of its own, and writes the inputs and
    seeded positions of its outputs to one C(.npz) file. M(onnx_compare) judges INT8 by it on hosts
    that need not hold the FP32 model in memory.
  - A file that an earlier run made of the same model and options is left alone. How it describes
    itself is not believed - its SHA-256 must be one of O(known).
version_added: "0.1.0"
extends_documentation_fragment:
  - measuring
  - measuring.samples
  - progress
options:
  model:
    description: The FP32 model.
    type: path
    required: true
  dest:
    description: The file to write, in an existing folder.
    type: path
    required: true
  source:
    description: The entries (name, size, sha256) of the model's files, verified in this run.
    type: list
    elements: dict
    required: true
  positions:
    description: How many values are kept of each output of each sample.
    type: int
    default: 1000000
  known:
    description:
      - The SHA-256 of data of this model, as the controller knows them from when they were made. A
        file with any other one is made anew.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Runs no model; says whether the file would be made.
    support: full
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - numpy
  - onnxruntime
author:
  - The SARAi model operations team
seealso:
  - module: onnx_compare
"""

EXAMPLES = r"""
- name: Keep what FP32 answers
  onnx_golden:
    model: /srv/models/agi_audio_core.onnx
    dest: /srv/models/agi_audio_core.golden.npz
    source: "{{ quantized.manifest.source }}"
    ranges:
      audio_codes: [0, 1023]
"""

RETURN = r"""
golden:
  description: The file's entry for the manifest - name, size, sha256. Nothing where check mode
    would make it.
  returned: success
  type: dict
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.base.progress import told
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.execution.options import MEASURING, PROGRESS, SAMPLES
from ansible.module_utils.modelops.measuring import golden
from ansible.module_utils.modelops.measuring.index_ranges import meaningful
from ansible.module_utils.modelops.measuring.session import Setup
from ansible.module_utils.modelops.pair import manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "model": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "source": {"type": "list", "elements": "dict", "required": True},
        "positions": {"type": "int", "default": 1_000_000},
        "known": {"type": "list", "elements": "str", "default": []},
        **SAMPLES,
        **MEASURING,
        **PROGRESS,
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make the file unless it is there."""
    for name in ("samples", "positions"):
        if params[name] < 1:
            raise ModelOpsError(f"{name} is {params[name]}", remedy="Use 1 or more.")
    # Their ranges are part of what the data say of themselves: a new rule makes them anew.
    setup = meaningful(Setup.from_params(params), Path(params["model"]))
    dest = Path(params["dest"])
    meta = golden.wanted(params["source"], params["samples"], params["positions"], setup)
    before = manifest.describe(dest) if dest.is_file() else {}
    there = before.get("sha256") in params["known"] and golden.fits(dest, meta)
    if there or check_mode:
        return {"changed": not there, "golden": before if there else {}}
    with told(params["progress_file"]) as tell:
        golden.make(Path(params["model"]), dest, meta, replace(setup, tell=tell))
    made = manifest.describe(dest)
    return {"changed": made != before, "golden": made}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
