#!/usr/bin/python
"""Compare what a service answers on INT8 with what it answered on FP32 (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_answer
short_description: Compare what a service answers on INT8 with what it answered on FP32
description:
  - The model may be right and the service may still answer wrong. This asks the running service
    itself, and compares the numbers in its answer with those that it gave on FP32.
  - Needs nothing but Python's standard library.
version_added: "0.1.0"
options:
  state:
    description:
      - C(recorded) asks the service twice while it runs on FP32, and keeps the answer. That it
        does not answer is no failure; it is told in RV(problem).
      - C(right) asks it again and fails when the answer is too far from the one kept.
    type: str
    choices: [recorded, right]
    required: true
  url:
    description: Where the question is posted, as JSON.
    type: str
    required: true
  body:
    description: The question. Its answer must be the same each time it is asked on the same model.
    type: dict
    default: {}
  field:
    description: Where the answer holds a list of numbers - keys and indices joined by dots.
    type: str
    default: ""
  record:
    description: The JSON file that keeps the answer.
    type: path
    required: true
  key:
    description: What the answer is of, such as the entries of the FP32 files.
    type: raw
    required: true
  cosine_min:
    description: The cosine of both answers must be above this.
    type: float
    default: 0.98
  timeout_s:
    description: Seconds until the service must have answered.
    type: float
    default: 60
attributes:
  check_mode:
    description: Asks nothing.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Ask the service while it runs on FP32
  service_answer:
    state: recorded
    url: http://127.0.0.1:8080/infer
    body: {seed: 1}
    field: values
    record: /srv/models/.releases/agi_audio_core/answers.json
    key: "{{ manifest.source }}"
"""

RETURN = r"""
compared:
  description: Whether there was an answer of FP32 to compare with.
  returned: success, with O(state=right)
  type: bool
cosine:
  description: The cosine of both answers.
  returned: when compared
  type: float
equal:
  description: Whether both answers are the same to the last bit.
  returned: when compared
  type: bool
repeats:
  description: Whether the service answers the same each time, so that a difference tells something.
  returned: when compared
  type: bool
problem:
  description: Why there is nothing to compare with, or an empty text.
  returned: success
  type: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.judging import gates
from ansible.module_utils.modelops.target import service_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["recorded", "right"], "required": True},
        "url": {"type": "str", "required": True},
        "body": {"type": "dict", "default": {}},
        "field": {"type": "str", "default": ""},
        "record": {"type": "path", "required": True},
        "key": {"type": "raw", "required": True, "no_log": False},
        "cosine_min": {"type": "float", "default": 0.98},
        "timeout_s": {"type": "float", "default": 60},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Ask and keep, or ask and compare, as the parameters say.

    Raises:
        ModelOpsError: with C(right), the service does not answer, or too far from FP32.
        OSError: the record cannot be read or written.
    """
    record = gates.Record(Path(params["record"]), 0o600)  # the question may hold a key
    question = {name: params[name] for name in ("url", "body", "field")}
    key = {"of": params["key"], "question": question}
    kept = record.get(key)
    asked = params["url"], params["body"], params["field"], params["timeout_s"]
    if params["state"] == "recorded":
        if kept or check_mode:
            return {"changed": not kept, "problem": ""}
        try:
            values = service_answer.ask(*asked)
            record.put(key, {"values": values, "repeats": service_answer.ask(*asked) == values})
        except ModelOpsError as error:
            return {"changed": False, "problem": str(error)}
        return {"changed": True, "problem": ""}
    if check_mode:
        return {"changed": False, "compared": False, "problem": "Check mode asks nothing."}
    values = service_answer.ask(*asked)
    if not kept:
        problem = "what the service answers on FP32 was never recorded"
        return {"changed": False, "compared": False, "problem": problem}
    cosine = service_answer.cosine(kept["values"], values)
    if cosine <= params["cosine_min"]:
        raise ModelOpsError(
            f"the service answers something else than on FP32: cosine {cosine:.4f} is not"
            f" > {params['cosine_min']}",
            where=params["url"],
            remedy="The model itself was right: look at how the service uses it.",
            cosine=cosine,
        )
    repeats = bool(kept.get("repeats")) and service_answer.ask(*asked) == values
    same = {"equal": values == kept["values"], "repeats": repeats}
    return {"changed": False, "compared": True, "cosine": cosine, "problem": "", **same}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
