#!/usr/bin/python
"""Make a look-alike of the audio model (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sample_model
short_description: Make a deterministic look-alike of the audio model, of any size
description:
  - Writes a random FP32 model with the inputs and outputs of the real one, as a graph I(path) and
    its weights I(path).data, in bounded memory (about 65 MB) whatever the size.
  - The input is C(audio_codes), int64 [1, 16, I(steps)], values 0 to 1023. The output is
    C(mel_features), float32 [1, 2048, I(steps) * I(upsample)].
  - Equal options give equal bytes on every host. Nothing is believed from an earlier run. An
    existing one is left alone only when making it again gives its very bytes.
  - New files are written beside their names and renamed, the weights first. An old graph is
    removed before, so that it never meets new weights.
  - At 200 MB and other options default, stock dynamic INT8 misses a cosine of 0.98 per tensor and
    reaches it per channel.
version_added: "0.1.0"
options:
  path:
    description: The graph to be, ending in C(.onnx), in an existing folder.
    type: path
    required: true
  megabytes:
    description: The size of the weights in 10^6 bytes, 1 to 4400.
    type: int
    required: true
  seed:
    description: The seed of the weights, 0 or more.
    type: int
    default: 0
  steps:
    description: Time steps of the input.
    type: int
    default: 128
  upsample:
    description: Output frames per time step. The real model has 1920.
    type: int
    default: 1
  outlier:
    description: How many times larger the outlier channels are than the others. 1 makes none.
    type: float
    default: 6.0
attributes:
  check_mode:
    description: Compares the files with what would be written, and writes nothing.
    support: full
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - numpy
  - onnx
author:
  - The SARAi model operations team
seealso:
  - module: onnx_quantize
"""

EXAMPLES = r"""
- name: Make a model of 200 MB to try the workflow with
  sample_model:
    path: /srv/models/agi_audio_core.onnx
    megabytes: 200

- name: Make one as large as the real model, with its 2 GB output
  sample_model:
    path: /srv/models/agi_audio_core.onnx
    megabytes: 4300
    upsample: 1920
"""

RETURN = r"""
artifacts:
  description: The graph and the weights, each with path, size in bytes and sha256. In check mode
    size and sha256 are null when the files would be written.
  returned: success
  type: list
  elements: dict
width:
  description: The width of the model, in channels.
  returned: success
  type: int
hidden:
  description: The width of its feed-forward layers, in channels.
  returned: success
  type: int
layers:
  description: The number of its transformer layers.
  returned: success
  type: int
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude, packages
from ansible.module_utils.modelops.sample.sample import make_sample

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "path": {"type": "path", "required": True},
        "megabytes": {"type": "int", "required": True},
        "seed": {"type": "int", "default": 0},
        "steps": {"type": "int", "default": 128},
        "upsample": {"type": "int", "default": 1},
        "outlier": {"type": "float", "default": 6.0},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make the model as the options say.

    Raises:
        ModelOpsError: an option is out of range, the disk is too small, or a package is missing.
    """
    with packages("Point ansible_python_interpreter at a Python with onnx and numpy."):
        return make_sample(
            Path(params["path"]),
            params["megabytes"],
            seed=params["seed"],
            steps=params["steps"],
            upsample=params["upsample"],
            outlier=params["outlier"],
            check_mode=check_mode,
        )


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
