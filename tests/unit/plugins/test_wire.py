"""Patience with a WinRM host: what it did not begin is asked for again, and nothing else."""

from __future__ import annotations

import pytest
from winrm.exceptions import WinRMTransportError, WSManFaultError

from plugin_utils import background, wire  # noqa: F401 - background makes modelops importable


def busy(code: int = 170) -> WSManFaultError:
    return WSManFaultError(500, "Code 500", "", "El recurso está en uso.", wsman_fault_code=code)


def http(status: int) -> WinRMTransportError:
    return WinRMTransportError("http", status, "")


class Connection:
    """What of ansible-core's connection winrm talks to the host."""

    def __init__(self, *errors: Exception) -> None:
        self.left, self.asked = list(errors), 0

    def _winrm_connect(self) -> str:
        return self._answer()

    def _winrm_run_command(self, *_: object, **__: object) -> str:
        return self._answer()

    def _winrm_send_input(self, *_: object, **__: object) -> str:
        return self._answer()

    def _answer(self) -> str:
        self.asked += 1
        if self.left:
            raise self.left.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("_winrm_connect", [http(503), http(429)]),
        ("_winrm_connect", [busy(2150859173), http(425), busy(1460)]),
        ("_winrm_run_command", [http(503), busy()]),
        ("_winrm_send_input", [busy(), busy(), busy()]),
    ],
)
def test_what_passes_is_waited_for(name, errors, pauses):
    connection = Connection(*errors)
    wire.be_patient(connection)
    assert getattr(connection, name)() == "done"
    assert connection.asked == len(errors) + 1
    assert pauses == list(wire.PAUSES_S)[: len(errors)]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("_winrm_connect", busy(5)),
        ("_winrm_connect", http(400)),
        ("_winrm_run_command", busy(1460)),  # it may have begun
        ("_winrm_run_command", busy(2150858843)),
        ("_winrm_send_input", http(503)),
        ("_winrm_send_input", busy(2150858843)),
        ("_winrm_send_input", OSError("busy 170")),
    ],
)
def test_what_does_not_pass_or_may_have_begun_is_asked_once(name, error, pauses):
    connection = Connection(error)
    wire.be_patient(connection)
    with pytest.raises(type(error)):
        getattr(connection, name)()
    assert connection.asked == 1 and pauses == []


def test_patience_ends_and_is_given_once(pauses):
    connection = Connection(*[busy()] * 9)
    wire.be_patient(connection)
    wire.be_patient(connection)
    with pytest.raises(WSManFaultError):
        connection._winrm_send_input()
    assert connection.asked == len(wire.PAUSES_S) + 1


def test_the_connection_of_ansible_has_these_methods():
    """They are ansible-core's own, so a release may rename them: then this fails."""
    from ansible.plugins.connection import winrm

    assert all(hasattr(winrm.Connection, name) for name in wire._PATIENT)
    wire.be_patient(object())  # another connection has none of them
