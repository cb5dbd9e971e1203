"""The link to a Windows host breaks while a job starts: the job is looked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from test_facts import action

from plugin_utils import background, windows_job

ENDED = {
    "state": "ended", "same": {}, "public_key": "", "figures": {}, "pid": 7,
    "result": {"changed": True},
}  # fmt: skip
PUSH = {"src": r"C:\m", "state": "started"}


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A time that passes while somebody waits, and not else."""
    now = SimpleNamespace(s=0.0)

    def sleep(seconds: float) -> None:
        now.s += seconds

    own = SimpleNamespace(monotonic=lambda: now.s, sleep=sleep, strftime=lambda _: "now")
    for module in (windows_job, background):
        monkeypatch.setattr(module, "time", own)
    return now


def bridge(
    monkeypatch, transport: str, connected: bool, answers: list[Any], module: str = "onnx_quantize"
) -> Any:
    """An action whose start of a job fails with its connection, and whose looks are as given."""
    made = action(module)
    made._connection = SimpleNamespace(transport=transport, connected=connected, reset=lambda: None)
    made._task = SimpleNamespace(action=module, args={}, check_mode=False, timeout=0)
    made._run_vars = {}

    def fails(*_: object, **__: object) -> None:
        raise AnsibleConnectionFailure("Connection reset by peer")

    def look(call: dict[str, Any], *_: object) -> dict[str, Any]:
        assert call["do"] == "watch"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(type(made), "start_job", fails)
    monkeypatch.setattr(type(made), "ask", lambda _, *given: look(*given))
    monkeypatch.setattr(type(made), "python", lambda *_: r"C:\python.exe")
    monkeypatch.setattr(type(made), "limit", lambda _, __, default, ___: default)
    return made


BROKEN = AnsibleConnectionFailure("Connection refused")


def test_over_ssh_a_job_whose_start_was_not_answered_is_found(monkeypatch, clock):
    """The plugin ssh never says that it is connected."""
    made = bridge(monkeypatch, "ssh", False, [BROKEN, BROKEN, ENDED])
    assert made.run_windows({"dest": r"C:\m8.onnx"}, {}) == {"changed": True}


@pytest.mark.parametrize(("transport", "connected"), [("ssh", False), ("winrm", True)])
def test_a_host_that_stays_away_is_told_to_be_at_work_perhaps(
    monkeypatch, clock, transport, connected
):
    made = bridge(monkeypatch, transport, connected, [BROKEN])
    result = made.run_windows({"dest": r"C:\m8.onnx"}, {})
    assert result["failed"] and clock.s == pytest.approx(120, abs=5)
    for part in ("has not answered for 120 s", "Connection refused", "may be at work", "run again"):
        assert part in result["msg"]


def test_winrm_that_never_had_a_connection_is_a_host_that_is_down(monkeypatch, clock):
    made = bridge(monkeypatch, "winrm", False, [BROKEN])
    with pytest.raises(AnsibleConnectionFailure, match="reset by peer"):
        made.run_windows({"dest": r"C:\m8.onnx"}, {})
    assert clock.s == 0


def test_a_push_waits_for_its_key_through_a_broken_link(monkeypatch, clock):
    key = {**ENDED, "state": "running", "public_key": "ssh-ed25519 AAAA", "result": {}}
    made = bridge(monkeypatch, "ssh", False, [BROKEN, key], "artifact_push")
    result = made.run_windows(PUSH, {})
    assert result["public_key"] == "ssh-ed25519 AAAA" and result["job"]["id"]


def test_a_push_whose_host_stays_away_says_so(monkeypatch, clock):
    made = bridge(monkeypatch, "ssh", False, [BROKEN], "artifact_push")
    result = made.run_windows(PUSH, {})
    assert result["failed"] and "may be at work" in result["msg"], result
    assert clock.s == pytest.approx(60, abs=5)
