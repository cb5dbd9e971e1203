#!/usr/bin/python
"""Quantize an ONNX model to INT8, FP16 or INT4 (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: onnx_quantize
short_description: Quantize a large ONNX model from FP32 to INT8, FP16 or INT4 by streaming
description:
  - Reads the model I(src) (FP32, FP16 or BF16) block by block and writes the artifacts I(dest) and
    I(dest).data. Memory stays under about 100 MB whatever the model's size.
  - Weights become signed 8-bit, symmetric, with the very bytes that C(quantize_dynamic) of
    onnxruntime gives for the same granularity.
  - Each node gets the form that pays. Large matrices are multiplied in INT8 (C(dynamic_int8)),
    embeddings are gathered as INT8 rows (C(rows_int8)), other weights are stored as INT8 and
    unpacked once at load (C(weight_int8)), so that they only take less disk. Every node with a
    weight is returned in the manifest with its form and the reason.
  - Nothing is believed from an earlier run. Existing artifacts are left alone only when streaming
    the source again gives its very bytes; artifacts of another source are replaced whole.
  - The new files are written beside their names, made durable and renamed. Under the final names
    stand all old artifacts, all new ones, or no graph.
version_added: "0.1.0"
extends_documentation_fragment:
  - measuring
  - measuring.samples
  - progress
options:
  src:
    description: The FP32 model. Its weights may lie inside it or in data files of its folder.
    type: path
    required: true
  dest:
    description: The graph to be, ending in C(.onnx). Where only its folder is missing, that is
      made.
    type: path
    required: true
  places:
    description: Folders that the right artifacts may have been moved to since, each with the
      releases in it, when they are not in the folder of O(dest). They are not written again then.
    type: list
    elements: str
    default: []
  recipe:
    description:
      - Which forms nodes get.
      - C(int8) takes what the text above says, a quarter of the size.
      - C(fp16) stores every weight that FP16 can hold as FP16 (C(weight_fp16), and C(rows_fp16) of
        embeddings), half of the size. onnxruntime makes FP32 of it when it loads the model, so that
        speed and memory are about those of FP32. A weight with a value, a row or a column out of
        FP16's range stays FP32, and the reason says so.
      - C(int4) multiplies large matrices in 4-bit blocks (C(blockwise_int4)), a seventh of the
        size, and takes all else from C(int8). It is less similar; O(quality) moves nodes to
        8-bit blocks, to FP16 and to FP32.
    type: str
    choices: [int8, fp16, int4]
    default: int8
  weight_type:
    description: The type of the quantized weights.
    type: str
    choices: [qint8]
    default: qint8
  granularity:
    description: A scale for each output channel, or one for the whole tensor.
    type: str
    choices: [per_channel, per_tensor]
    default: per_channel
  op_types:
    description: The operators to quantize; an empty list means all of them.
    type: list
    elements: str
    choices: [MatMul, Gemm, Gather, Conv, ConvTranspose, LSTM, GRU, RNN, Attention, Einsum]
    default: []
  exclude_nodes:
    description: Names of nodes to keep in FP32. C(*) matches any text and C(?) any character; all
      other characters, brackets too, stand for themselves. The exact name of a node means that node
      alone. A node without a name goes by that of its first output, here and in O(forms). Names
      that no node has are a warning.
    type: list
    elements: str
    default: []
  forms:
    description: The form of single nodes by name, instead of the rule's. One of
      C(dynamic_int8), C(blockwise_int8), C(weight_int8), C(blockwise_int4), C(weight_fp16),
      C(fp32). A node that cannot have it gets that of the rule, and a warning says why.
    type: dict
    default: {}
  fold_inputs:
    description: Make constants of the weights that are graph inputs too, as older exporters wrote
      them. From IR 4 on a caller may give others, so without it they stay in FP32, which the
      reasons say. The result no longer takes them as inputs.
    type: bool
    default: false
  prefer:
    description:
      - Weights that the session unpacks at load (C(weight_int8)) take up to twice the memory that
        FP32 takes. C(memory) stores as many of them in INT8 as the other weights save memory for,
        and leaves the rest in FP32. Where the graph file holds the weights, FP32 takes more memory,
        too; up to 32 MB of difference they are all stored smaller, but some of the small ones in
        FP16. FP16 (C(weight_fp16)) of convolutions over images is left up to 32 MB, too.
      - C(size) stores all of them in INT8 or FP16, for the smallest files.
    type: str
    choices: [memory, size]
    default: memory
  verify:
    description:
      - Check new artifacts with onnx.checker, load and run them once in a child process, before
        they get their names. Needs onnxruntime.
      - Where the inputs fit neither the new model nor the source, it is loaded only, and
        RV(verified) says so. So does it when onnx.checker refuses the source itself, but both run.
    type: bool
    default: true
  quality:
    description:
      - Thresholds that the result must keep against the source, some of C(cosine), C(mse),
        C(mae), C(sqnr_db), and C(agreement) of outputs that are not floats.
      - Where the rule's forms miss them, the fewest nodes that are needed move to the form that
        helps them, 8-bit blocks (C(blockwise_int8)) or a product in FP32 (C(weight_int8)), then to
        C(fp32), each step measured on the whole model. Nodes that O(forms) names stay as they are.
      - Fails when no mix reaches them, see O(quality_required). Where the source itself does not
        run with these inputs nothing is measured, and a warning says so.
      - With a manifest of the same source and options beside I(dest), the forms that were found
        before are taken up. Without one, artifacts that are there are measured again.
    type: dict
    default: {}
  quality_required:
    description: Whether to fail when no mix of forms keeps O(quality), or only one that saves less
      than half of what the rule's forms save. Otherwise these stay, and a warning says so.
    type: bool
    default: true
  golden:
    description: Where to keep what FP32 answers (see M(onnx_golden)) when O(quality) runs it
      anyway.
    type: path
  golden_positions:
    description: How many values O(golden) keeps of each output of each sample.
    type: int
    default: 1000000
  source_providers:
    description: The execution providers of onnxruntime for the source, in order of preference. When
      there are none, those of the result, the CPU.
    type: list
    elements: str
    default: []
  work_dir:
    description: An existing folder for temporary files, by default one beside O(dest).
  threads:
    description: Threads that read and quantize. The bytes do not depend on it.
    type: int
    default: 2
  force:
    description: Write the artifacts even when they are right already.
    type: bool
    default: false
attributes:
  check_mode:
    description: Streams without writing, so that the predicted hashes and release id are exact.
    support: full
  diff_mode:
    description: Shows the sizes and hashes of the artifacts before and after.
    support: full
requirements:
  - python >= 3.11
  - numpy
  - onnx
author:
  - The SARAi model operations team
seealso:
  - module: onnx_compare
  - module: artifact_manifest
"""

EXAMPLES = r"""
- name: Quantize the audio model
  onnx_quantize:
    src: /srv/models/agi_audio_core.onnx
    dest: /srv/models/agi_audio_core_int8.onnx

- name: Keep the output head in FP32
  onnx_quantize:
    src: /srv/models/agi_audio_core.onnx
    dest: /srv/models/agi_audio_core_int8.onnx
    exclude_nodes: ["head_*"]

- name: Keep a similarity, whatever nodes must give way
  onnx_quantize:
    src: /srv/models/agi_audio_core.onnx
    dest: /srv/models/agi_audio_core_int8.onnx
    quality:
      cosine: 0.98
    ranges:
      audio_codes: [0, 1023]
"""

RETURN = r"""
release_id:
  description: The id of the release, derived from the artifacts' hashes.
  returned: success
  type: str
  sample: 3f0a9c1d22b45e67
artifacts:
  description: The artifacts, each with path, name, size in bytes and sha256.
  returned: success
  type: list
  elements: dict
source:
  description: The files of the FP32 model, in the same form.
  returned: success
  type: list
  elements: dict
quantized:
  description: The nodes that are INT8.
  returned: success
  type: list
  elements: str
form_sizes:
  description: The bytes of the weights before and now, by form.
  returned: success
  type: dict
kept_fp32:
  description: The nodes that hold a weight and stay FP32, each with node, op and reason.
  returned: success
  type: list
  elements: dict
manifest:
  description: The manifest of the release, as M(artifact_manifest) writes it.
  returned: success
  type: dict
verified:
  description: Whether the model ran, a note, and the time and memory of the child processes.
  returned: when artifacts were written with O(verify)
  type: dict
quality_path:
  description: A row for each mix of forms that was measured, with moved (nodes), forms (how many
    of them in which), figures, bytes, and predicted_cost (time of the matrix products by FP32's).
  returned: when artifacts were written with O(quality)
  type: list
  elements: dict
comparison:
  description: The similarity of the result and the source, for C(figures) of M(onnx_compare). Empty
    where it was not measured.
  returned: success
  type: dict
golden:
  description: The entry of O(golden) for the manifest, or nothing where the source did not run. In
    check mode it is empty where the data would be made.
  returned: success
  type: dict
notes:
  description: What else a reader should know.
  returned: success
  type: list
  elements: str
folder:
  description: The folder that the artifacts stand in.
  returned: success
  type: str
elapsed_s:
  description: How long it took without proving, in seconds.
  returned: success
  type: float
peak_rss_bytes:
  description: The largest resident memory of the module's process.
  returned: success
  type: int
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude, packages
from ansible.module_utils.modelops.execution.options import MEASURING, PROGRESS, SAMPLES
from ansible.module_utils.modelops.quantizer.operators import QUANTIZABLE
from ansible.module_utils.modelops.quantizer.recipes import (
    GRANULARITIES,
    INT8,
    PER_CHANNEL,
    RECIPES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.modelops.base.progress import Progress

MODULE: dict[str, Any] = {
    "argument_spec": {
        "src": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "places": {"type": "list", "elements": "str", "default": []},
        "recipe": {"type": "str", "choices": list(RECIPES), "default": INT8},
        "weight_type": {"type": "str", "choices": ["qint8"], "default": "qint8"},
        "granularity": {
            "type": "str",
            "choices": list(GRANULARITIES),
            "default": PER_CHANNEL,
        },
        "op_types": {
            "type": "list",
            "elements": "str",
            "choices": list(QUANTIZABLE),
            "default": [],
        },
        "exclude_nodes": {"type": "list", "elements": "str", "default": []},
        "forms": {"type": "dict", "default": {}},
        "fold_inputs": {"type": "bool", "default": False},
        "prefer": {"type": "str", "choices": ["memory", "size"], "default": "memory"},
        "verify": {"type": "bool", "default": True},
        "quality": {"type": "dict", "default": {}},
        "quality_required": {"type": "bool", "default": True},
        "golden": {"type": "path"},
        "golden_positions": {"type": "int", "default": 1_000_000},
        "source_providers": {"type": "list", "elements": "str", "default": []},
        "threads": {"type": "int", "default": 2},
        "force": {"type": "bool", "default": False},
        **SAMPLES,
        **MEASURING,
        **PROGRESS,
    },
    "supports_check_mode": True,
}


def run(
    params: Mapping[str, Any], check_mode: bool, progress: Progress | None = None
) -> dict[str, Any]:
    """Quantize as the parameters say; the result is the module's.

    Args:
        progress: what to call instead of keeping `progress_file`.
    """
    # Imported here, so that a host without onnx answers with what is missing.
    with packages(
        "Point ansible_python_interpreter of the builder at a Python with onnx and"
        " numpy, as pinned in requirements/project.txt."
    ):
        from ansible.module_utils.modelops.base.progress import kept
        from ansible.module_utils.modelops.measuring.session import Setup
        from ansible.module_utils.modelops.quantizer.proof import Proof
        from ansible.module_utils.modelops.quantizer.quantize import quantize
        from ansible.module_utils.modelops.quantizer.recipe import Recipe
    dest = Path(params["dest"])
    pair = [dest, dest.with_name(f"{dest.name}.data")]
    # os.path says no of a name that the system does not take; the quantizer says why.
    before = {p.name: p.stat().st_size for p in pair if os.path.isfile(p)}
    progress_file = Path(params["progress_file"]) if params["progress_file"] else None
    with kept(progress_file) as file:
        result = quantize(
            Path(params["src"]),
            dest,
            Recipe.from_params(params),
            proof=Proof(
                verify=params["verify"],
                quality=params["quality"],
                required=params["quality_required"],
                setup=Setup.from_params(params),
                samples=params["samples"],
                golden=Path(params["golden"]) if params["golden"] else None,
                positions=params["golden_positions"],
                source_providers=params["source_providers"],
            ),
            threads=max(1, params["threads"]),
            check_mode=check_mode,
            force=params["force"],
            places=[Path(place) for place in params["places"]],
            progress=progress or file,
        )
    result["warnings"] = result["notes"]
    if result["changed"]:
        result["diff"] = _diff(before, result["artifacts"])
    return result


def _diff(before: Mapping[str, int], artifacts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the files that were there, by their sizes, and those that are there now."""
    known = [f"{name} {size} bytes" for name, size in before.items()]
    made = [f"{a['name']} {a['size']} bytes {a['sha256']}" for a in artifacts]
    return {
        "before": "".join(f"{line}\n" for line in known),
        "after": "".join(f"{line}\n" for line in made),
    }


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
