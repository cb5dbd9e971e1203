#!/usr/bin/python
"""Measure an INT8 model against its FP32 model (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: onnx_compare
short_description: Measure an INT8 model against its FP32 model, and judge it by gates
description:
  - Runs both models, each in a child process of its own, on the same inputs. The outputs are
    compared block by block in memory, the runs are timed in turn (A B, B A, ...) so that noise
    hits both alike.
  - Judges the figures by I(gates) and gives a verdict.
  - With I(record) the figures are kept in a file. When it holds some for exactly the same I(key),
    measuring options, onnxruntime and processor, no model is run and they are judged again.
version_added: "0.1.0"
extends_documentation_fragment:
  - measuring
  - measuring.session
  - measuring.samples
  - progress
options:
  reference:
    description: The FP32 model. Without it the figures that compare times and memory with it are
      not measured.
    type: path
  golden:
    description:
      - Data of M(onnx_golden), for mode C(golden). The outputs are then compared with those that it
        holds, and O(samples) is ignored.
      - Where the reference runs, the outputs are compared with its own, whatever these say.
    type: path
  golden_known:
    description:
      - The SHA-256 of golden data that may stand for the reference, as the controller knows them
        from when they were made. Others are refused where they would be used. Without this list
        they are trusted as they are.
    type: list
    elements: str
  candidate:
    description: The INT8 model.
    type: path
    required: true
  runs:
    description: Pairs of runs that are timed.
    type: int
    default: 5
  mode:
    description:
      - How it is measured. C(both) holds both models in memory at once and runs them in turn, so
        that noise hits both alike. C(in_turn) holds one after the other. C(golden) runs the
        candidate alone against I(golden).
      - C(auto) takes the first of these that fits into the memory that is available now, and fails
        when none does. RV(way) says which, and why.
      - Where C(golden) is taken though there is a I(reference), gates that compare with it are left
        out and promised ones on the candidate become required.
    type: str
    choices: [auto, both, in_turn, golden]
    default: auto
  gates:
    description:
      - Thresholds for figures. The verdict is C(fail) when a required gate fails, else
        C(inconclusive) when a required one is, else C(pass).
      - A gate is inconclusive when its figure was not measured, or its spread holds the threshold.
        A similarity that is "nan", since a model gave values that are not finite, fails.
      - Outputs of integers (token ids), booleans and strings are judged by C(agreement_min), the
        share of equal values. Where only floats are gated and there are such outputs, C(>= 0.98)
        is wanted of them. A gate on a kind of outputs that the model lacks is C(not_applicable).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The figure - C(cosine_min), C(cosine_mean), C(mse), C(mse_mean), C(mae), C(mae_mean),
            C(max_abs_error), C(sqnr_db), C(agreement_min), C(agreement_mean), C(speedup),
            C(rss_ratio), C(load_ratio), or a figure of M(onnx_benchmark) as C(reference_NAME)
            or C(candidate_NAME), for instance C(candidate_p50_s). True is 1 and false is 0.
        type: str
        required: true
      op:
        description: The figure passes when it stands so to the threshold.
        type: str
        choices: ["<", "<=", ">", ">="]
        required: true
      threshold:
        description: In the figure's unit.
        type: float
        required: true
      required:
        description: Whether the gate decides. Otherwise it is only reported.
        type: bool
        default: true
      promised_threshold:
        description: What was promised. A gate with another I(threshold) is marked as changed.
        type: float
  remeasure_limit:
    description: How often the runs are doubled while the spread of a speed leaves a gate open.
    type: int
    default: 2
  record:
    description: A JSON file in an existing folder for the figures. If broken, it is replaced.
    type: path
  key:
    description: What the figures are of - the SHA-256 of both pairs, verified in this run. Required
      with I(record). Two different models must never share it.
    type: dict
  figures:
    description: What M(onnx_quantize) returned as C(comparison) of these very models in this run.
      Where the record holds nothing of them, it is recorded and judged, and no model is run.
    type: dict
    default: {}
  remeasure:
    description: Measure even when the record holds the figures.
    type: bool
    default: false
  reference_providers:
    description:
      - The same for the reference alone. A session takes the first one that it can use, and
        RV(notes) says which it could not; those of O(providers) when this is not set.
    type: list
    elements: str
attributes:
  check_mode:
    description: Uses the record when it fits, and runs no model.
    details: Where the record does not fit, I(verdict) is C(inconclusive), and I(changed) says
      whether the record would be written.
    support: partial
  diff_mode:
    description: There is none.
    support: none
requirements:
  - python >= 3.11
  - numpy
  - onnxruntime
notes:
  - The notes of M(onnx_benchmark) hold here too.
author:
  - The SARAi model operations team
seealso:
  - module: onnx_benchmark
"""

EXAMPLES = r"""
- name: Judge the INT8 model
  onnx_compare:
    reference: /srv/models/agi_audio_core.onnx
    candidate: /srv/models/agi_audio_core_int8.onnx
    ranges:
      audio_codes: [0, 1023]
    record: /srv/models/agi_audio_core.verdict.json
    key:
      reference: "{{ fp32_hashes }}"
      candidate: "{{ int8_hashes }}"
    gates:
      - {name: cosine_min, op: ">", threshold: 0.98}
      - {name: speedup, op: ">=", threshold: 1.0}
      - {name: speedup, op: ">=", threshold: 2.5, required: false, promised_threshold: 2.5}
"""

RETURN = r"""
changed:
  description: Whether the record was (in check mode, would be) written.
  returned: success
  type: bool
measured:
  description: Whether the models were run. Otherwise the figures come from the record.
  returned: success
  type: bool
verdict:
  description: C(pass), C(fail) or C(inconclusive).
  returned: success
  type: str
judged:
  description: A row a gate, with name, figure, spread, op, threshold, promised_threshold,
    changed_threshold, required, verdict and note.
  returned: success
  type: list
  elements: dict
notes:
  description: What else a reader should know.
  returned: success
  type: list
  elements: str
float_rows:
  description: How many rows of RV(similarity_rows) are of floats.
  returned: when there are figures
  type: int
discrete_rows:
  description: How many are of integers, booleans or strings.
  returned: when there are figures
  type: int
agreement_min:
  description: The lowest share of equal values over outputs that are not floats, and samples.
  returned: when there are such outputs
  type: float
agreement_mean:
  description: The mean share.
  returned: when there are such outputs
  type: float
mse_mean:
  description: The mean of the mean squared errors.
  returned: when there are outputs of floats
  type: float
mae_mean:
  description: The mean of the mean absolute errors.
  returned: when there are outputs of floats
  type: float
reference_rms:
  description: The root mean square of the reference's output with the highest mean squared error,
    the scale that errors are read against.
  returned: when there are outputs of floats
  type: float
cosine_min:
  description: The lowest cosine over outputs and samples. All similarities are "nan" when a value
    of either model was not finite.
  returned: when there are outputs of floats
  type: float
cosine_mean:
  description: The mean cosine over outputs and samples.
  returned: when there are outputs of floats
  type: float
mse:
  description: The highest mean squared error.
  returned: when there are outputs of floats
  type: float
mae:
  description: The highest mean absolute error.
  returned: when there are outputs of floats
  type: float
max_abs_error:
  description: The highest absolute error of a value.
  returned: when there are outputs of floats
  type: float
sqnr_db:
  description: The lowest ratio of signal to quantization noise, in dB, at most 319 (no error).
  returned: when there are outputs of floats
  type: float
way:
  description: How it was measured - mode, memory_needed_bytes, memory_available_bytes, why, and
    what keeps the measurement from hurting the host (protection).
  returned: when there are figures
  type: dict
similarity_rows:
  description: The similarity of each output and sample, and of each row of a batch where the models
    take batches.
  returned: when there are figures
  type: list
  elements: dict
speedup:
  description: The reference's P50 by the candidate's as value, and low and high, the 95 percent
    interval of the median over the pairs of runs (smallest and largest below six pairs).
  returned: when there are figures, with O(reference)
  type: dict
rss_ratio:
  description: The candidate's peak memory by the reference's, of the whole processes.
  returned: when there are figures, with O(reference)
  type: float
load_ratio:
  description: The candidate's load time by the reference's.
  returned: when there are figures, with O(reference)
  type: float
reference:
  description: The figures of the reference, as M(onnx_benchmark) returns them.
  returned: when there are figures, with O(reference)
  type: dict
candidate:
  description: The figures of the candidate, likewise.
  returned: when there are figures
  type: dict
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.base.progress import told
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.execution.options import MEASURING, PROGRESS, SAMPLES, SESSION
from ansible.module_utils.modelops.judging import gates
from ansible.module_utils.modelops.measuring import needs, ways
from ansible.module_utils.modelops.measuring.compare import figures
from ansible.module_utils.modelops.measuring.session import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "reference": {"type": "path"},
        "golden": {"type": "path"},
        "golden_known": {"type": "list", "elements": "str"},
        "candidate": {"type": "path", "required": True},
        "runs": {"type": "int", "default": 5},
        "mode": {"type": "str", "choices": [needs.AUTO, *needs.MODES], "default": needs.AUTO},
        "gates": {"type": "list", "elements": "dict", "default": [], "options": gates.OPTIONS},
        "remeasure_limit": {"type": "int", "default": 2},
        "record": {"type": "path"},
        "key": {"type": "dict", "no_log": False},
        "figures": {"type": "dict", "default": {}},
        "remeasure": {"type": "bool", "default": False},
        "reference_providers": {"type": "list", "elements": "str"},
        **SAMPLES,
        **MEASURING,
        **SESSION,
        **PROGRESS,
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Measure or recall, and judge, as the options say.

    Raises:
        ModelOpsError: an option is wrong, the models cannot be loaded or run, or differ in their
            inputs or outputs.
        OSError: the record cannot be read or written.
    """
    gates.judge(params["gates"], {})  # a malformed gate is refused before anything is measured
    if not params["reference"] and not params["golden"]:
        raise ModelOpsError(
            "there is nothing to compare with", remedy="Give `reference`, `golden` or both."
        )
    setup = Setup.from_params(params, providers=params["providers"], threads=params["threads"])
    record = gates.Record(Path(params["record"])) if params["record"] else None
    if record and not params["key"]:
        raise ModelOpsError(
            "a record needs a key",
            where=params["record"],
            remedy="Give as `key` the SHA-256 of both pairs.",
        )
    brought = not params["golden"] or Path(params["golden"]).exists()  # check mode brings nothing
    if check_mode and (record is None or record.is_empty or params["remeasure"] or not brought):
        return _not_measured(record)
    key = ways.key(params, setup) if record else {}
    # What was measured in any way that may be taken is kept, however much memory is free today.
    for mode in ways.possible(params) if record and not params["remeasure"] else ():
        usable = mode != needs.GOLDEN or ways.is_known(params)
        found = record.get(ways.keyed(key, params, mode)) if record and usable else None
        if found is not None:
            return _judged(found, params, record, measured=False)
    if check_mode:
        return _not_measured(record)
    with told(params["progress_file"]) as tell:
        comparison = ways.given(params) or ways.measure(
            params, replace(setup, tell=tell), lambda so_far: not _too_noisy(params, so_far)
        )
    if record:
        record.put(ways.keyed(key, params, comparison["way"]["mode"]), comparison)
    return _judged(comparison, params, record, measured=True)


def _too_noisy(params: Mapping[str, Any], comparison: Mapping[str, Any]) -> bool:
    return gates.too_noisy(gates.judge(params["gates"], figures(comparison)))


def _judged(
    comparison: Mapping[str, Any],
    params: Mapping[str, Any],
    record: gates.Record | None,
    measured: bool,
) -> dict[str, Any]:
    asked = params["gates"]
    if params["reference"] and comparison["way"]["mode"] == needs.GOLDEN:
        asked = gates.without_reference(asked)
    rows = gates.judge(asked, figures(comparison))
    parts = {name: part for name, part in comparison.items() if name != "similarity"}
    return {
        "changed": measured and record is not None,
        "measured": measured,
        "verdict": gates.overall(rows),
        "judged": rows,
        "notes": [*(record.notes if record else []), *ways.notes(comparison, params)],
        **comparison["similarity"],
        **parts,
    }


def _not_measured(record: gates.Record | None) -> dict[str, Any]:
    return {
        "changed": record is not None,
        "measured": False,
        "verdict": gates.INCONCLUSIVE,
        "judged": [],
        "notes": [*(record.notes if record else []), "Check mode does not run models."],
    }


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
