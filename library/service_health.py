#!/usr/bin/python
"""Tell whether a systemd service is healthy, and stays so (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_health
short_description: Wait until a systemd service is healthy and stays so
description:
  - With O(state=healthy), waits until systemd calls the unit active and O(url) answers 200, and
    both have been so for O(hold_s) seconds on end. Fails at once when the unit died, was started
    again or does not exist. The error holds the end of its journal.
  - With O(state=query), tells how it is right now.
  - Changes nothing, and needs nothing but Python's standard library.
version_added: "0.1.0"
options:
  name:
    description: The unit.
    type: str
    required: true
  url:
    description: What answers 200 when the service is healthy. Empty asks systemd alone.
    type: str
    default: ""
  expect:
    description:
      - What the JSON of that answer must hold. The name of a field (keys and indices joined by
        dots) and its value, or a list of the values that are right. Empty is content with 200.
    type: dict
    default: {}
  state:
    description: Whether to wait for its health, or only to look.
    type: str
    choices: [healthy, query]
    default: healthy
  hold_s:
    description: Seconds that it must stay healthy.
    type: float
    default: 10
  limit_s:
    description: Seconds until it must have become healthy.
    type: float
    default: 120
attributes:
  check_mode:
    description: Nothing was restarted in check mode, so it only looks.
    support: full
  diff_mode:
    description: There is none.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Wait until SARAi is healthy
  service_health:
    name: sarai.service
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
  description: What systemd says of it. load, active, sub, result, restarts, invocation, pid, since.
  returned: always
  type: dict
healthy_after_s:
  description: How long it took to become healthy.
  returned: with O(state=healthy)
  type: float
held_s:
  description: How long it was watched after that.
  returned: with O(state=healthy)
  type: float
rss_bytes:
  description: The resident memory of its main process.
  returned: success
  type: int
journal:
  description: The end of its journal.
  returned: failure
  type: str
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops import service
from ansible.module_utils.modelops.entry import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "default": ""},
    "expect": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["healthy", "query"], "default": "healthy"},
    "hold_s": {"type": "float", "default": 10},
    "limit_s": {"type": "float", "default": 120},
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look or wait as the parameters say; the result is the module's."""
    name, url, expect = params["name"], params["url"], params["expect"]
    if check_mode or params["state"] == "query":
        return {"changed": False, **service.state(name, url, expect)}
    found = service.wait_healthy(name, url, params["hold_s"], params["limit_s"], expect)
    return {"changed": False, **found}


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
