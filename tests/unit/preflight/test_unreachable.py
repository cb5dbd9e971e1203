"""Why a host is not reached, from the very words of Ansible's connections."""

from __future__ import annotations

import pytest
from modelops.preflight import unreachable

URL = "HTTPSConnectionPool(host='pc', port=5986): Max retries exceeded with url: /wsman (Caused by"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("ntlm: the specified credentials were rejected by the server", "the password is refused"),
        (f"ntlm: {URL} SSLError(... certificate has expired (_ssl.c:1006)))", "has expired"),
        (f"ntlm: {URL} SSLError(... certificate is not yet valid)))", "not valid yet"),
        (f"ntlm: {URL} SSLError(... IP address mismatch, certificate is not valid", "another name"),
        (f"ntlm: {URL} SSLError(... CERTIFICATE_VERIFY_FAILED] ...: self-signed", "not of the CA"),
        (
            f"ntlm: {URL} NewConnectionError(... [Errno 111] Connection refused'))",
            "nothing listens",
        ),
        (f"ntlm: {URL} ConnectTimeoutError(..., 'timed out. (connect timeout=30)'", "not answer"),
        ("ntlm: ('Connection aborted.', RemoteDisconnected('Remote end", "it ended the connection"),
        (
            "Failed to connect to the host via ssh: noel@agi1: Permission denied (publickey).",
            "does not let this user in",
        ),
        (
            "Failed to connect to the host via ssh: @@@ REMOTE HOST IDENTIFICATION HAS CHANGED!",
            "its host key is not the known one",
        ),
        (
            "Failed to connect to the host via ssh: ssh: connect to host agi1 port 22: No route to"
            " host",
            "it does not answer",
        ),
        ("ssh: Could not resolve hostname agi1: Name or service not known", "name is not known"),
        ("something new", "not reached"),
        (
            "WSManFaultError: No puede (extended fault data: {'wsmanfault_code': '2150859173'",
            "no more shells",
        ),
        (
            "Received a WSManFault message. (Code: 2150858843, Reason: No se encontró el shell",
            "ended the connection",
        ),
        (f"ntlm: {URL} NewConnectionError(... [Errno 111] Conexión rehusada'))", "nothing listens"),
        (f"ntlm: {URL} NewConnectionError(... [Errno 113] No existe ruta'))", "not answer"),
        (f"ntlm: {URL} (... [Errno -2] Nombre o servicio desconocido'))", "name is not known"),
        (
            "('...', ConnectionResetError([Errno 104] Conexión reinicializada",
            "ended the connection",
        ),
    ],
)
def test_each_cause_is_named_with_a_remedy(said, what):
    text = unreachable.explain(said, "pc (pc:5986 as me)")
    assert text.startswith("pc (pc:5986 as me): ")
    cause, _, rest = text.partition(". ")
    assert what in cause and said[:60] in rest
    assert len(rest.partition(" It was said: ")[0]) > 30


def test_each_host_that_was_not_reached_is_told_with_its_address():
    hosts = [
        {"inventory_hostname": "win", "ansible_host": "10.0.0.1", "ansible_port": 5986,
         "ansible_user": "ci",
         "__reach_windows": {"unreachable": True, "msg": "[Errno 111] Connection refused"}},
        {"inventory_hostname": "t1", "__reach_windows": {"skipped": True},
         "__reach_linux": {"unreachable": True, "msg": "no route"}},
        {"inventory_hostname": "odd"},
    ]  # fmt: skip
    win, linux, odd, last = unreachable.told(hosts).splitlines()
    assert win.startswith("win (10.0.0.1:5986 as ci): ") and "Errno 111" in win
    assert linux.startswith("t1 (t1): ") and "no route" in linux
    assert odd.startswith("odd (odd): ") and "It was said: nothing" in odd
    assert last.startswith("Nothing was changed there.")
