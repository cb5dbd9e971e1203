"""Answers of a host in other hands: too long, too deep or odd, they end in plain words."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from modelops.base import opener, progress

from plugin_utils import background, boot
from plugin_utils.reply import decode
from plugin_utils.windows_job import WindowsJob

DEEP = '{"a":' * 100_000
FIGURES = {"pid": 7, "phase": "hash", "done": 1, "total": 2, "rate": 5.0, "left_s": 1.5,
           "elapsed_s": 1, "peak_rss_bytes": None}  # fmt: skip
SEEN = {
    "state": "running",
    "same": {},
    "figures": FIGURES,
    "public_key": "",
    "pid": 7,
    "result": {},
}


def answer(reply: str) -> dict:
    return {"rc": 0, "stdout": f"\n{boot.MARK}{reply}\r\n", "stderr": ""}


def action():
    made = object.__new__(importlib.import_module("action_plugins.host_check").ActionModule)
    made._task = SimpleNamespace(action="host_check", args={}, check_mode=False)
    made._used_interpreter = None
    return made


def read(said: dict[str, str]) -> dict[str, Any]:
    """Return what Ansible makes of an answer, as a dictionary in every version of it."""
    made = action()._parse_returned_data({"stderr": "", "rc": 0, **said}, "legacy")
    return made if isinstance(made, dict) else made.as_result_dict(for_round_trip=True)


@pytest.mark.parametrize("reply", [DEEP, "[1]", "7", "null", '"text"', '[["a", 1]]', "{cut"])
def test_a_reply_of_another_shape_is_none(reply):
    result = decode(answer(reply), "py")
    assert result["failed"] and "gave no answer" in result["msg"]


def test_a_reply_that_is_too_long_is_not_read(monkeypatch):
    reply = json.dumps({"result": {"msg": "x" * 100}})
    assert decode(answer(reply), "py")["result"]
    monkeypatch.setattr(opener, "LARGEST_JSON", 50)
    result = decode(answer(reply), "py")
    assert result["failed"] and "bytes, where 50 may be" in result["msg"]


def test_a_module_that_answers_too_much_or_too_deep(monkeypatch):
    result = read({"stdout": DEEP + "}" * 100_000})
    assert result["failed"] or not result["_ansible_parsed"]
    monkeypatch.setattr(opener, "LARGEST_JSON", 50)
    said = {"stdout": json.dumps({"msg": "x" * 100})}
    result = read(said)
    assert result["failed"] and "a module answers no more than 50" in result["msg"]


@pytest.mark.parametrize("text", [DEEP, "[]", "7", "null", "{}", ""])
def test_the_files_of_a_job_may_hold_anything(text):
    assert background._figures(text) == {}
    assert background.has_ended(text) == bool(text and text != "")


@pytest.mark.parametrize(
    "forged",
    [
        {"done": "1"}, {"total": None}, {"total": 10**400}, {"rate": -1}, {"left_s": None},
        {"phase": 1}, {"peak_rss_bytes": []}, {"pid": "7; reboot"}, {"pid": 1.5},
        {"done": float("nan")}, {"elapsed_s": float("inf")},
    ],
)  # fmt: skip
def test_figures_that_no_job_writes_are_not_shown(forged):
    assert progress.line(progress.checked(FIGURES)).startswith("hash: 1 B of 2 B")
    assert progress.checked(FIGURES | forged) == {}


@pytest.mark.parametrize(
    "forged",
    [
        {"state": "fine"}, {"same": []}, {"same": {"job": 1}}, {"figures": 1}, {"result": None},
        {"public_key": None}, {"said": "no"},
    ],
)  # fmt: skip
def test_a_sight_of_a_job_has_its_shape(forged):
    job = object.__new__(WindowsJob)
    job.id, job.raw, job._vars, job._seen = "1", {}, {}, True
    job._action = SimpleNamespace(ask=lambda *_: SEEN, python=lambda _: "py")
    assert job.look(1).figures == FIGURES
    job._action.ask = lambda *_: SEEN | forged
    with pytest.raises(AnsibleConnectionFailure):
        job.look(1)
