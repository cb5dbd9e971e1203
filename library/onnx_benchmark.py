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
  seed:
    description: The seed of the inputs, 0 or more.
    type: int
    default: 0
  ranges:
    description:
      - By name of an input, the list [low, high] that its values are drawn from evenly, both
        included.
      - Without a range, integers are drawn from [0, 1], booleans are fair and floats standard
        normal.
    type: dict
    default: {}
  shapes:
    description: By name of an input, its shape. Otherwise symbolic dimensions are 1.
    type: dict
    default: {}
  inputs:
    description: An C(.npz) file with an array for each input by its name, instead of seeded ones.
      For several samples they are called C(input/0/NAME), C(input/1/NAME) and so on, as in golden
      data. A benchmark takes the first sample.
    type: path
  providers:
    description: The execution providers of onnxruntime, in order of preference.
    type: list
    elements: str
    default: [CPUExecutionProvider]
  threads:
    description: Threads within an operator. 0 leaves it to onnxruntime.
    type: int
    default: 0
  session_options:
    description:
      - Further options of the session. Names with a dot are config entries, others are attributes
        of C(SessionOptions), for instance C(graph_optimization_level) C(ORT_DISABLE_ALL).
      - With none and I(threads) 0 the session is the default one, as the real service makes it.
    type: dict
    default: {}
  timeout_s:
    description: The limit of each single step (start, load, one run), in seconds.
    type: float
    default: 600
  work_dir:
    description:
      - An existing folder for temporary files, the system's own by default.
    type: path
attributes:
  check_mode:
    description: Runs no model; I(measured) is then false and there are no figures.
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
from ansible.module_utils.modelops.measuring.compare import benchmark
from ansible.module_utils.modelops.measuring.session import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "runs": {"type": "int", "default": 5},
    "warmup": {"type": "int", "default": 1},
    "seed": {"type": "int", "default": 0},
    "ranges": {"type": "dict", "default": {}},
    "shapes": {"type": "dict", "default": {}},
    "inputs": {"type": "path"},
    "providers": {"type": "list", "elements": "str", "default": ["CPUExecutionProvider"]},
    "threads": {"type": "int", "default": 0},
    "session_options": {"type": "dict", "default": {}},
    "timeout_s": {"type": "float", "default": 600},
    "work_dir": {"type": "path"},
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Measure as the options say.

    Raises:
        ModelOpsError: the model cannot be loaded or run, or a limit was passed.
    """
    if check_mode:
        return {"changed": False, "measured": False}
    setup = Setup.from_params(params)
    figures = benchmark(Path(params["path"]), params["runs"], params["warmup"], setup)
    return {"changed": False, "measured": True, **figures}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
