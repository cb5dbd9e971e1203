"""What a host calls a fact, a host or a group is none: nothing of it reaches a run."""

from __future__ import annotations

import configparser
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.module_utils._internal import _messages
from modelops.pair import received

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
MODULES = sorted(path.stem for path in ROOT.glob("library/*.py"))
PLAYBOOKS = sorted([*ROOT.glob("*.yml"), *ROOT.glob("playbooks/*.yml")])


def action(module: str, **args: Any) -> Any:
    """An action as far as it looks at results."""
    made = object.__new__(importlib.import_module(f"action_plugins.{module}").ActionModule)
    made._task = SimpleNamespace(action=module, args=args, check_mode=False)
    made._discovered_interpreter_key = None
    return made


@pytest.mark.parametrize("module", MODULES)
def test_no_result_sets_a_fact_or_adds_a_host(module):
    magic = {name: {"report_dir": "/x", "sarai_service_name": "y"} for name in received.MAGIC}
    sent = {"changed": False, "_ansible_notify": ["Restart the service"], **magic}
    assert action(module).checked(sent) == {"changed": False}


def test_every_way_of_running_a_module_is_checked(monkeypatch):
    """On Linux and on Windows; the reply of the bridge never went through Ansible's own sieve."""
    for windows in (False, True):
        made = action("host_check", folder="/x", model="/x/m.onnx", spared_by="/x/m_int8.onnx")
        made._connection = SimpleNamespace(_shell=SimpleNamespace(_IS_WINDOWS=windows))
        made._task.async_val = 0
        sent = {
            "changed": False,
            "add_host": {},
            "took": "x",
            "findings": [],
            "msg": "a\x1b[31m\u202eb",
        }
        monkeypatch.setattr(type(made), "run_posix", lambda *_, sent=sent: sent)
        monkeypatch.setattr(type(made), "run_windows", lambda *_, sent=sent: sent)
        result = made.run(None, {})
        assert result.pop("invocation", {}).keys() <= {"module_args"}
        took = result.pop("took")  # by the controller's clock, whatever the host says of it
        assert took["began"] > 0 and took["seconds"] >= 0
        assert result == {"changed": False, "findings": [], "msg": "ab"}
        sent["findings"] = [{"level": "fine"}]
        assert made.run(None, {})["failed"]


def test_what_ansible_found_out_itself_stays():
    made = action("host_check")
    made._discovered_interpreter_key = "discovered_interpreter_python"
    made._discovered_interpreter = "/usr/bin/python3"
    result = made.checked({"changed": False, "ansible_facts": {"report_dir": "/x"}})
    assert result["ansible_facts"] == {"discovered_interpreter_python": "/usr/bin/python3"}


def test_errors_and_warnings_are_plain():
    event = _messages.Event(msg="a\x1b[2Jb", help_text="\u202ec")
    sent = {
        "failed": True, "msg": "a", "exception": _messages.ErrorSummary(event=event),
        "warnings": [_messages.WarningSummary(event=event), "d\x07"],
    }  # fmt: skip
    result = action("host_check").checked(sent)
    told = [result["exception"].event, result["warnings"][0].event]
    assert [(e.msg, e.help_text) for e in told] == [("ab", "c")] * 2
    assert result["warnings"][1] == "d"


def test_facts_are_no_variables():
    """Facts beat an inventory's variables: what a host calls report_dir would be the run's."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "ansible.cfg", encoding="utf-8")
    assert settings.getboolean("defaults", "inject_facts_as_vars") is False
    for path in PLAYBOOKS:
        for play in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            if isinstance(play, dict) and "hosts" in play:
                assert play.get("gather_facts") is False, f"{path.name}: {play['name']}"


def test_nothing_reads_what_hosts_call_facts():
    """With inject_facts_as_vars off, facts of Ansible's own modules are left in two variables."""
    sources = [
        path
        for folder in ("roles", "playbooks", "inventory", "filter_plugins", "plugin_utils")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".yml", ".j2", ".py")
    ]
    assert len(sources) > 80
    words = r"\bansible_facts\b|\bansible_local\b|_facts\[|(?<!inject_)(?<!arti)facts\."
    reading = re.compile(words)
    readers = [str(p.relative_to(ROOT)) for p in sources if reading.search(p.read_text("utf-8"))]
    # Which Python a host has is Ansible's own to find, and goes back to the host that it is of.
    assert readers == ["plugin_utils/background.py"]
