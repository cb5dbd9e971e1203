#!/usr/bin/python
"""Check what a host must have before anything is touched (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_check
short_description: Check a builder or a target before anything is touched
description:
  - Looks at the Python and its packages, the FP32 model, the memory, the folder and its disk, at
    what it asks of signed releases, and returns a row for each. It never fails for what it finds
    and never changes anything, so that the caller can list the problems of every host at once.
version_added: "0.1.0"
options:
  python:
    description: The lowest version of Python.
    type: str
    default: "3.11"
  packages:
    description: Packages that this Python, or that of O(environment), must have.
    type: list
    elements: str
    default: []
  environment:
    description:
      - The Python of an environment, which packages and model are looked at with. Without it, that
        is the Python that runs this.
    type: path
  environment_later:
    description: Whether O(environment) is made later, so that what it lacks is no problem yet.
    type: bool
    default: false
  model:
    description: The graph of FP32.
    type: path
    required: true
  data_bytes:
    description: The size that the data file of FP32 must have. 0 asks none.
    type: int
    default: 0
  outputs:
    description:
      - The outputs that the graph of O(model) must declare, each with its shape. A dimension that
        the graph leaves open may be any.
    type: dict
    default: {}
  inputs:
    description:
      - What a file of inputs for O(model) holds, which must fit it - C(file), C(samples) and
        C(problem).
    type: dict
    default: {}
  session:
    description:
      - Whether to ask onnxruntime for a session of a tiny model with the IR version and the opsets
        of O(model).
    type: bool
    default: false
  folder:
    description: The folder that the artifacts are written to.
    type: path
    required: true
  folder_later:
    description: Whether a run makes O(folder), so that the one above it must be there.
    type: bool
    default: false
  apart_from:
    description: A folder of this host that must be another one than O(folder), by whatever name.
    type: path
  spared_by:
    description: The INT8 graph. When it exists, too little room for new artifacts is no problem.
    type: path
    required: true
  disk_factor:
    description: The size that new artifacts are expected to have, as a share of FP32's. There must
      be that room on the disk, and the memory to measure them.
    type: float
    default: 0.3
  measure_mode:
    description: How models are measured here, see M(onnx_compare). The memory that this takes must
      be available, with V(auto) that of one mode. V(none) asks none.
    type: str
    choices: [none, auto, both, in_turn, golden]
    default: none
  samples:
    description: Samples whose outputs stay in memory when models are measured in turn.
    type: int
    default: 0
  controller_time:
    description: The controller's clock, in seconds since 1970. 0 compares no clocks.
    type: float
    default: 0.0
  clock_skew_s:
    description: Seconds that the clocks may differ.
    type: float
    default: 60.0
  clock_delay_s:
    description: Seconds that it may take from O(controller_time) until this runs.
    type: float
    default: 30.0
  call_limit_s:
    description: Seconds that the Python of O(environment) may take.
    type: float
    default: 60.0
  signing:
    description:
      - What is asked about signed releases - C(model), C(trust_dir), C(serials_dir), whether the
        run requires a signature (C(required)), whether the release is the one that the controller
        made (C(brings)), and the public key that signs it (C(key), in base64, empty without one).
        Nothing is asked by default.
    type: dict
    default: {}
attributes:
  check_mode:
    description: It only looks.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Look at the builder
  host_check:
    packages: [onnx, onnxruntime, numpy]
    model: /srv/models/agi_audio_core.onnx
    folder: /srv/models
    spared_by: /srv/models/agi_audio_core_int8.onnx
    measure_mode: auto
"""

RETURN = r"""
findings:
  description:
    - A row a check, with id (what code knows it by, or empty), check, level (V(ok), V(advice) or
      V(problem)), value, threshold and remedy.
  returned: success
  type: list
  elements: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.preflight.host import check_host
from ansible.module_utils.modelops.signing import look

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "python": {"type": "str", "default": "3.11"},
        "packages": {"type": "list", "elements": "str", "default": []},
        "environment": {"type": "path"},
        "environment_later": {"type": "bool", "default": False},
        "model": {"type": "path", "required": True},
        "data_bytes": {"type": "int", "default": 0},
        "outputs": {"type": "dict", "default": {}},
        "inputs": {"type": "dict", "default": {}},
        "session": {"type": "bool", "default": False},
        "folder": {"type": "path", "required": True},
        "folder_later": {"type": "bool", "default": False},
        "apart_from": {"type": "path"},
        "spared_by": {"type": "path", "required": True},
        "disk_factor": {"type": "float", "default": 0.3},
        "measure_mode": {
            "type": "str",
            "choices": ["none", "auto", "both", "in_turn", "golden"],
            "default": "none",
        },
        "samples": {"type": "int", "default": 0},
        "controller_time": {"type": "float", "default": 0.0},
        "clock_skew_s": {"type": "float", "default": 60.0},
        "clock_delay_s": {"type": "float", "default": 30.0},
        "call_limit_s": {"type": "float", "default": 60.0},
        "signing": {"type": "dict", "default": {}},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:  # noqa: ARG001
    """Look at the host; check mode is no different."""
    asked = params["signing"]
    found = check_host(params) + (look.of_target(asked) if asked else [])
    return {"changed": False, "findings": found}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
