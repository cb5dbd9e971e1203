#!/usr/bin/python
"""Restart a service, and tell whether it is healthy and what it serves (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_health
short_description: Restart a service, wait until it is healthy, and see which model it serves
description:
  - With O(state=restarted), restarts the service and waits until it is up and O(url) answers 200,
    and both have been so for O(hold_s) seconds on end. Fails at once when it died, was started
    again or does not exist. The error holds the end of its journal or log.
  - With O(state=query), tells how it is right now, and changes nothing.
  - Both see which model the service's processes have loaded (RV(served)). Whether that is the right
    one is for the caller to judge.
  - Needs nothing but Python's standard library.
version_added: "0.1.0"
options:
  name:
    description: The unit, or what the service is called where commands run it.
    type: str
    required: true
  manager:
    description: What runs it - systemd, this user's own systemd, or O(commands).
    type: str
    choices: [systemd, systemd_user, command]
    default: systemd
  helper:
    description:
      - For V(systemd), the model for which root's helper restarts the unit and reads its journal
        (see M(root_helper)). Empty does so with the rights of whoever runs this module.
    type: str
    default: ""
  commands:
    description:
      - What runs it, for V(command). C(start), and C(stop) and C(status) where there are some, each
        a list of words or a text; C(pid_file), the owner's; C(folder), where they run; C(log),
        which gets what the service writes; C(record), a file that keeps what was started.
    type: dict
    default: {}
  url:
    description: What answers 200 when the service is healthy. Empty looks at its processes alone.
    type: str
    default: ""
  expect:
    description:
      - What the JSON of that answer must hold. The name of a field (keys and indices joined by
        dots) and its value, or a list of the values that are right. Empty is content with 200.
    type: dict
    default: {}
  state:
    description: Whether to restart it, or only to look.
    type: str
    choices: [query, restarted]
    default: query
  int8:
    description: The INT8 graph. Its data file is found by its name in the graph.
    type: path
  fp32:
    description: The FP32 graph.
    type: path
  question:
    description:
      - What it is asked once after a restart, so that it has loaded its model. C(url), and C(body),
        which is posted as JSON. What it answers is no matter here.
    type: dict
    default: {}
  hold_s:
    description: Seconds that it must stay healthy.
    type: float
    default: 10
  limit_s:
    description: Seconds until it must have become healthy, and until it must have answered.
    type: float
    default: 120
attributes:
  check_mode:
    description: Restarts nothing, so it only looks.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Restart SARAi, and see what it serves
  service_health:
    name: sarai
    state: restarted
    int8: /srv/models/agi_audio_core_int8.onnx
    fp32: /srv/models/agi_audio_core.onnx
    url: http://127.0.0.1:8080/health
    expect: {status: HEALTHY}
"""

RETURN = r"""
healthy:
  description: Whether it is.
  returned: success
  type: bool
problem:
  description: What is wrong, if anything.
  returned: success
  type: str
unit:
  description: How it is. load, active, sub, result, restarts, invocation, pid, since.
  returned: always
  type: dict
healthy_after_s:
  description: How long it took to become healthy.
  returned: with O(state=restarted)
  type: float
held_s:
  description: How long it was watched after that.
  returned: with O(state=restarted)
  type: float
rss_bytes:
  description: The memory of its processes. What several share counts once.
  returned: success
  type: int
host_memory:
  description: The bytes of memory that are used on the whole host, and its total.
  returned: success
  type: dict
served:
  description:
    - Which model its processes serve. C(model) is C(int8), C(fp32) or C(unknown); C(proof) is
      C(mapped), C(open), C(opened), C(memory) or C(none); C(text) says it for people; C(seen) lists
      the models that they may have loaded.
  returned: success
  type: dict
journal:
  description: The end of its journal or log.
  returned: failure
  type: str
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.target import commands, root_helper, served, service, units

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "default": ""},
        "expect": {"type": "dict", "default": {}},
        "manager": {
            "type": "str",
            "choices": ["systemd", "systemd_user", "command"],
            "default": "systemd",
        },
        "helper": {"type": "str", "default": ""},
        "commands": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["query", "restarted"], "default": "query"},
        "int8": {"type": "path"},
        "fp32": {"type": "path"},
        "question": {"type": "dict", "default": {}},
        "hold_s": {"type": "float", "default": 10},
        "limit_s": {"type": "float", "default": 120},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look, or restart and wait, as the parameters say; the result is the module's.

    Raises:
        ModelOpsError: it cannot be looked at, is not healthy, or no unit can be made of its paths.
    """
    manager = _manager(params)
    graphs = {model: params[model] for model in (served.INT8, served.FP32) if params[model]}
    models = {model: served.files(Path(graph)) for model, graph in graphs.items()}
    wanted = params["state"] == "restarted"
    asked = {"url": params["url"], "expect": params["expect"], "models": models}
    if check_mode or not wanted:
        return {"changed": wanted, **service.state(manager, **asked)}
    question = params["question"] and {**params["question"], "timeout_s": params["limit_s"]}
    times = {"hold_s": params["hold_s"], "limit_s": params["limit_s"]}
    return {"changed": True, **service.restart(manager, **asked, **times, question=question)}


def _manager(params: Mapping[str, Any]) -> service.Manager:
    if params["manager"] == "command":
        return commands.Commands(params["name"], params["commands"])
    for model in (served.INT8, served.FP32):
        if params[model]:
            units.path(params[model], where=model)  # a unit of the host goes back to it
    root = partial(root_helper.call, params["helper"]) if params.get("helper") else None
    return units.Systemd(params["name"], user=params["manager"] == "systemd_user", root=root)


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
