#!/usr/bin/python
"""Measure one ONNX model (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: onnx_benchmark
short_description: Measure load, latency and memory of an ONNX model in a fresh process
description:
  - Loads the model in a child process of its own and runs it on the same inputs again and again.
  - A child that crashes, is killed for want of memory or takes too long is an error that says
    which. It is always ended.
  - Changes nothing, so it never reports a change.
version_added: "0.1.0"
extends_documentation_fragment:
  - measuring
  - measuring.session
options:
  path:
    description: The model.
    type: path
    required: true
  runs:
    description: Runs that are timed.
    type: int
    default: 5
  warmup:
    description: Runs before them that are not, the very first one included.
    type: int
    default: 1
attributes:
  check_mode:
    description: Runs no model.
    details: I(measured) is then false and there are no figures.
    support: partial
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - numpy
  - onnxruntime
notes:
  - The child runs this module's Python in isolated mode, which ignores C(PYTHONPATH). Install
    numpy and onnxruntime in that Python or its virtual environment.
author:
  - The SARAi model operations team
seealso:
  - module: onnx_compare
"""

EXAMPLES = r"""
- name: Measure the INT8 model
  onnx_benchmark:
    path: /srv/models/agi_audio_core_int8.onnx
    runs: 20
    ranges:
      audio_codes: [0, 1023]
  register: int8
"""

RETURN = r"""
measured:
  description: Whether the model was run.
  returned: success
  type: bool
load_s:
  description: The time to make the session, in seconds. A first load also reads the disk.
  returned: when measured
  type: float
first_s:
  description: The time of the very first run, in seconds.
  returned: when measured
  type: float
p50_s:
  description: The median of the timed runs, in seconds.
  returned: when measured
  type: float
p95_s:
  description: Their 95th percentile, linearly interpolated between the closest ranks.
  returned: when measured
  type: float
p99_s:
  description: Their 99th percentile, likewise. Of few runs it is nearly the slowest.
  returned: when measured
  type: float
memory_over_time:
  description: The highest resident memory in each stretch of the process's time, as seconds since
    it began and bytes.
  returned: when measured
  type: list
  elements: list
samples:
  description: The timed runs in their order, in seconds.
  returned: when measured
  type: list
  elements: float
peak_rss_bytes:
  description: The highest resident memory of the whole child process.
  returned: when measured
  type: int
rss_model_bytes:
  description: What of it came after onnxruntime was imported - weights, inputs, outputs, scratch.
  returned: when measured
  type: int
output_bytes:
  description: The size of all outputs of a run.
  returned: when measured
  type: int
providers:
  description: The providers that the session really uses.
  returned: when measured
  type: list
  elements: str
providers_unused:
  description: The providers that were asked for and that the session does not use.
  returned: when measured
  type: list
  elements: str
finite:
  description: Whether all outputs of the first and the last run are finite.
  returned: when measured
  type: bool
repeatable:
  description: Whether the first and the last run gave the same bytes.
  returned: when measured
  type: bool
versions:
  description: The versions of onnxruntime and numpy.
  returned: when measured
  type: dict
cpu:
  description: The processor's model, and how many cores the process may use.
  returned: when measured
  type: dict
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.execution.options import MEASURING, SESSION
from ansible.module_utils.modelops.measuring.compare import benchmark
from ansible.module_utils.modelops.measuring.session import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "path": {"type": "path", "required": True},
        "runs": {"type": "int", "default": 5},
        "warmup": {"type": "int", "default": 1},
        **MEASURING,
        **SESSION,
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Measure as the options say.

    Raises:
        ModelOpsError: the model cannot be loaded or run, or a limit was passed.
    """
    if check_mode:
        return {"changed": False, "measured": False}
    setup = Setup.from_params(params, providers=params["providers"], threads=params["threads"])
    figures = benchmark(Path(params["path"]), params["runs"], params["warmup"], setup)
    return {"changed": False, "measured": True, **figures}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
