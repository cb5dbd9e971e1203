#!/usr/bin/python
"""Measure which form is fastest here for a model's weights (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: onnx_advise
short_description: Measure which form is fastest here for the weights of a model
description:
  - Which form of a weight is fast differs between processors. For each matrix, Conv over time and
    LSTM of the model, random weights of its shape are quantized in each form and timed against FP32
    on this host, run by run in turn. The model's own values have no say.
  - A Conv or an LSTM is timed where the quantizer would multiply it in INT8. A Conv is timed with
    steps that lie side by side and a stride of 1, an LSTM in one direction.
  - Proposes a form for each shape, and I(granularity) and I(forms) for M(onnx_quantize). What
    similarity they keep is measured there.
  - Changes nothing, so it never reports a change.
version_added: "0.1.0"
options:
  path:
    description: The FP32 model.
    type: path
    required: true
  rows:
    description: Numbers of rows that matrices are timed with, and of steps for Convs and LSTMs.
    type: list
    elements: int
    default: [1, 16, 128]
  runs:
    description: Pairs of runs that are timed for a figure.
    type: int
    default: 15
  most:
    description: How many shapes are measured at most, those with the most weights.
    type: int
    default: 8
  threads:
    description: Threads within an operator. 0 is the default of onnxruntime.
    type: int
    default: 0
  timeout_s:
    description: Seconds that a single step may take, such as loading a model or one run of it.
    type: float
    default: 600
  work_dir:
    description: The folder for temporary files. Without it, that of the system.
    type: path
attributes:
  check_mode:
    description: Measures nothing.
    details: I(measured) is then false and there are no figures.
    support: partial
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - numpy
  - onnx
  - onnxruntime
author:
  - The SARAi model operations team
seealso:
  - module: onnx_quantize
"""

EXAMPLES = r"""
- name: See which forms are fast on this host
  onnx_advise:
    path: /srv/models/agi_audio_core.onnx
  register: advice
"""

RETURN = r"""
measured:
  description: Whether something was measured.
  returned: success
  type: bool
cpu:
  description: The processor's model, how many cores the process may use, and its features.
  returned: when measured
  type: dict
shapes:
  description: A row for each shape - op, shape ([K, N] of a matrix, [N, C, kernel] of a Conv over
    time, [C, cells] of an LSTM), the nodes that have it, the speedup of each form by number of rows
    (FP32's P50 by the form's), and the form that is proposed.
  returned: when measured
  type: list
  elements: dict
granularity:
  description: The granularity that is proposed.
  returned: when measured
  type: str
forms:
  description: The form that is proposed for each node.
  returned: when measured
  type: dict
unmeasured:
  description: How many shapes were left out, because of I(most).
  returned: when measured
  type: int
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude, packages
from ansible.module_utils.modelops.measuring.session import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "path": {"type": "path", "required": True},
        "rows": {"type": "list", "elements": "int", "default": [1, 16, 128]},
        "runs": {"type": "int", "default": 15},
        "most": {"type": "int", "default": 8},
        "threads": {"type": "int", "default": 0},
        "timeout_s": {"type": "float", "default": 600},
        "work_dir": {"type": "path"},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Measure as the options say.

    Raises:
        ModelOpsError: the model cannot be read, has no such matrices, or a limit was passed.
    """
    if check_mode:
        return {"changed": False, "measured": False}
    # Imported here, so that a host without onnx answers with what is missing.
    with packages("Point ansible_python_interpreter at a Python with onnx, onnxruntime and numpy."):
        from ansible.module_utils.modelops.quantizer.advise import advise
    work = Path(params["work_dir"]) if params["work_dir"] else None
    setup = Setup(threads=params["threads"], timeout_s=params["timeout_s"], work_dir=work)
    found = advise(Path(params["path"]), params["rows"], params["runs"], params["most"], setup)
    return {"changed": False, "measured": True, **found}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
