"""What a task asked is told by the controller, without its secrets; no host sends it back."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from modelops.execution import module_result

CANARY = "canary-5f3a9c"


class EndedError(Exception):
    """A module's process ended."""


class Module:
    """AnsibleModule, as far as a module's end needs it."""

    check_mode = False
    params = {"question": {"body": {"api_key": CANARY}}}

    def exit_json(self, **result: Any) -> None:
        raise EndedError(result)

    fail_json = exit_json


@pytest.mark.parametrize("failed", [True, False])
def test_a_module_sends_no_option_back(failed):
    """AnsibleModule would: at -vvv the answer of a host is shown as it comes over SSH."""
    with pytest.raises(EndedError) as ended:
        module_result.conclude(Module(), lambda *_: {"failed": failed, "msg": "x"})
    assert ended.value.args[0] == {"failed": failed, "msg": "x", "invocation": {}}


def test_the_controller_shows_what_it_asked_without_secrets():
    made = object.__new__(importlib.import_module("action_plugins.service_health").ActionModule)
    asked = {
        "question": {"body": CANARY}, "url": f"http://x/?token={CANARY}", "commands": {},
        "name": "sarai",
    }  # fmt: skip
    made._task = SimpleNamespace(action="service_health", args=asked)
    sent = {"msg": f"password={CANARY}", "invocation": {"module_args": {"x": CANARY}}}
    shown = made._shown(sent)
    assert CANARY not in str(shown)
    told = shown["invocation"]["module_args"]
    assert told["name"] == "sarai" and told["question"] == "[hidden]" and told["commands"] == {}
