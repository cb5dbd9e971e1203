#!/usr/bin/python
"""Ask a service a set of recordings, and return what it understood (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: acceptance_evaluation
short_description: Ask a service a set of recordings, and return what it understood
description:
  - Posts each recording of a folder to the service, one after the other, and returns text and
    emotion of each answer. Changes nothing.
  - Needs nothing but Python's standard library.
version_added: "0.2.0"
options:
  folder:
    description: The folder with the recordings, C(NAME.wav).
    type: path
    required: true
  question:
    description:
      - C(url); C(body), posted as JSON, in which C({audio}) becomes the recording as base64 and
        C({file}) its name; C(text) and C(emotion), the fields of the answer (keys and indices
        joined by dots), empty for what it does not tell; C(timeout_s), 60 by default.
    type: dict
    required: true
attributes:
  check_mode:
    description: It asks nothing then.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
seealso:
  - module: acceptance_figures
"""

EXAMPLES = r"""
- name: Ask the service every recording
  acceptance_evaluation:
    folder: /var/lib/modelops-acceptance/agi_audio_core/set
    question:
      url: http://127.0.0.1:8080/transcribe
      body: {audio: "{audio}"}
      text: transcript
      emotion: emotion.label
"""

RETURN = r"""
answers:
  description: A row a recording, with file, text, emotion and problem, each empty without one.
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.acceptance import questions
from ansible.module_utils.modelops.execution.module_result import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "folder": {"type": "path", "required": True},
        "question": {"type": "dict", "required": True},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Ask the recordings; the result is the module's."""
    answers = [] if check_mode else questions.ask_all(Path(params["folder"]), params["question"])
    return {"changed": False, "answers": answers}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
