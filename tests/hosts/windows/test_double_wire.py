"""The WinRM double itself: the wire, the limits of a stock Windows 11, and what can be broken."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
import requests
from plays import PLACE, tried
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

NO_SHELL = 2150858843  # as every WinRM client knows it


def protocol(windows, scheme: str = "https", transport: str = "ntlm", **more: Any) -> Protocol:
    known = windows.inventory_vars(scheme)
    given = {
        "username": known["ansible_user"],
        "password": known["ansible_password"],
        "ca_trust_path": known["ansible_winrm_ca_trust_path"],
        "server_cert_validation": "validate",
        "operation_timeout_sec": 4,
        "read_timeout_sec": 5,
        **more,
    }
    url = f"{scheme}://{known['ansible_host']}:{known['ansible_port']}/wsman"
    return Protocol(url, transport=transport, **given)


def ended(link: Protocol, shell: str, *words: str) -> tuple[bytes, bytes, int]:
    """Run a program in a shell to its end."""
    command = link.run_command(shell, words[0], words[1:])
    try:
        return link.get_command_output(shell, command)
    finally:
        link.cleanup_command(shell, command)


def python(windows, text: str) -> tuple[str, ...]:
    return windows.python, "-c", f'"{text}"'


# ------------------------------------------------------------------ the wire


@pytest.mark.parametrize(
    ("scheme", "transport", "encryption"),
    [
        ("https", "ntlm", "auto"),
        ("https", "ntlm", "always"),
        ("http", "ntlm", "auto"),
        ("https", "basic", "auto"),
    ],
)
def test_a_program_runs_over_every_way_in(windows, place, scheme, transport, encryption):
    link = protocol(windows, scheme, transport, message_encryption=encryption)
    shell = link.open_shell(codepage=65001)
    text = "import sys; print('ü' * 70000); print(sys.stdin.read(), file=sys.stderr); sys.exit(3)"
    command = link.run_command(shell, *split(python(windows, text)), console_mode_stdin=False)
    link.send_command_input(shell, command, b"a" * 100_000)
    link.send_command_input(shell, command, b"b", end=True)
    out, err, code = link.get_command_output(shell, command)
    link.cleanup_command(shell, command)
    link.close_shell(shell)
    assert out.decode("utf-8", "replace").count("\r\n") == 1 and len(out) > 70_000
    assert err.strip() == b"a" * 100_000 + b"b" and code == 3


def split(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    return words[0], words[1:]


@pytest.mark.parametrize(
    ("scheme", "transport", "more", "error"),
    [
        ("http", "plaintext", {}, InvalidCredentialsError),
        ("http", "ntlm", {"message_encryption": "never"}, WinRMTransportError),
        ("https", "ntlm", {"password": "wrong"}, InvalidCredentialsError),
        ("https", "basic", {"password": "wrong"}, InvalidCredentialsError),
        ("https", "ntlm", {"username": "nobody"}, InvalidCredentialsError),
        ("https", "ntlm", {"ca_trust_path": None}, requests.exceptions.SSLError),
    ],
    ids=["basic-http", "plain-http", "ntlm-password", "basic-password", "user", "unknown-ca"],
)
def test_what_a_stock_windows_does_not_let_in(windows, place, scheme, transport, more, error):
    with pytest.raises(error):
        protocol(windows, scheme, transport, **more).open_shell()


@pytest.mark.parametrize("name", ["expired", "stranger"])
def test_a_certificate_that_is_not_right(windows, place, name):
    windows.certificate(name)
    with pytest.raises(requests.exceptions.SSLError):
        protocol(windows).open_shell()


def test_a_program_that_lasts_is_waited_for_piece_by_piece(windows, place):
    """Receive ends with the operation timeout, and is asked again, as pywinrm does."""
    link = protocol(windows, operation_timeout_sec=1, read_timeout_sec=4)
    shell = link.open_shell()
    begun = time.monotonic()
    out, _, code = ended(link, shell, *python(windows, "import time; time.sleep(3); print(1)"))
    assert (out, code) == (b"1\r\n", 0) and time.monotonic() - begun > 3
    link.close_shell(shell)


# ------------------------------------------------------------------ limits


def fault(call, *arguments: object) -> WSManFaultError:
    with pytest.raises(WSManFaultError) as refused:
        call(*arguments)
    return refused.value


def test_a_user_has_thirty_shells(windows, place):
    link = protocol(windows)
    shells = [link.open_shell() for _ in range(30)]
    refused = fault(link.open_shell)
    assert refused.wsman_fault_code == 0x803381A5
    assert "maximum number of 30 concurrent shells" in refused.reason
    for shell in shells:
        link.close_shell(shell, close_session=False)
    link.close_shell(link.open_shell())


def test_an_envelope_has_500_kb(windows, place):
    link = protocol(windows)
    shell = link.open_shell()
    command = link.run_command(shell, windows.python, ["-V"], console_mode_stdin=False)
    link.send_command_input(shell, command, b"a" * 370_000)
    with pytest.raises(WinRMTransportError) as refused:
        link.send_command_input(shell, command, b"a" * 390_000)
    assert refused.value.code == 413
    windows.quota(MaxEnvelopeSizekb=100)
    with pytest.raises(WinRMTransportError):
        link.send_command_input(shell, command, b"a" * 90_000)
    link.close_shell(shell)


def test_a_line_has_8191_characters(windows, place):
    link = protocol(windows)
    shell = link.open_shell()
    assert fault(link.run_command, shell, windows.python, ["a" * 8192])
    link.close_shell(shell)


def test_processes_of_a_shell(windows, place):
    windows.quota(MaxProcessesPerShell=6)
    link = protocol(windows)
    shell = link.open_shell()
    for _ in range(2):
        link.run_command(shell, *split(python(windows, "import time; time.sleep(60)")))
    time.sleep(0.5)
    refused = fault(link.run_command, shell, windows.python, ["-V"])
    assert "Not enough quota" in refused.reason
    link.close_shell(shell)


def test_operations_are_counted_until_their_shell_is_closed(windows, place):
    windows.quota(MaxConcurrentOperationsPerUser=3)
    link = protocol(windows)
    shell = link.open_shell()
    for _ in range(3):
        ended(link, shell, windows.python, "-V")
    refused = fault(link.run_command, shell, windows.python, ["-V"])
    assert refused.wmierror_code == 0x803381A6, "the very code after which Ansible opens a new one"
    link.close_shell(shell)
    results = tried(windows, *[{"ansible.windows.win_ping": {}}] * 5)
    assert [result.get("ping") for result in results] == ["pong"] * 5


def test_a_shell_that_nobody_uses_is_closed(windows, place):
    windows.quota(IdleTimeout=1000)
    link = protocol(windows)
    shell = link.open_shell()
    time.sleep(1.2)
    assert fault(link.run_command, shell, windows.python, ["-V"]).wsman_fault_code == NO_SHELL


def test_the_memory_of_a_shell(windows, place):
    """Taking more fails in the program, as in a Windows job; a job of async has left the shell."""
    windows.quota(MaxMemoryPerShellMB=200)
    take = [windows.python, "-c", "bytearray({}<<20); print('had it')"]
    small, large, free = tried(
        windows,
        {"ansible.windows.win_command": {"argv": [t.format(50) for t in take]}},
        {"ansible.windows.win_command": {"argv": [t.format(300) for t in take]}},
        {"ansible.windows.win_command": {"argv": [t.format(300) for t in take]}}
        | {"async": 60, "poll": 1},
    )
    assert "had it" in small["stdout"] and "had it" in free["stdout"]
    assert large["rc"] == 1 and large["stderr"].strip().endswith("MemoryError")


def test_all_of_a_shells_processes_share_its_memory(windows, place):
    windows.quota(MaxMemoryPerShellMB=200)
    child = "import time; b=bytearray(150<<20); time.sleep(20)"
    both = (
        "import subprocess,sys; p=[subprocess.Popen([sys.executable,'-c',sys.argv[1]])"
        " for _ in range(2)]; sys.exit(max(q.wait() for q in p))"
    )
    (result,) = tried(
        windows, {"ansible.windows.win_command": {"argv": [windows.python, "-c", both, child]}}
    )
    assert result["failed"] and result["rc"] != 0


# ------------------------------------------------------------------ faults


def test_slow_answers(windows, place):
    link = protocol(windows, operation_timeout_sec=1, read_timeout_sec=2)
    windows.slow(0.7)
    begun = time.monotonic()
    shell = link.open_shell()
    assert ended(link, shell, windows.python, "-V")[2] == 0
    assert time.monotonic() - begun > 2
    windows.slow(3)
    with pytest.raises(requests.exceptions.Timeout):
        link.open_shell()


def test_dropped_connections(windows, place):
    link = protocol(windows)
    shell = link.open_shell()
    windows.drop(1)
    with pytest.raises(requests.exceptions.ConnectionError):
        ended(link, shell, windows.python, "-V")
    time.sleep(1)
    assert ended(link, shell, windows.python, "-V")[2] == 0, "the shell outlived the connection"
    link.close_shell(shell)


def test_asleep(windows, place):
    link = protocol(windows, operation_timeout_sec=1, read_timeout_sec=2)
    shell = link.open_shell()
    with windows.asleep(), pytest.raises(requests.exceptions.Timeout):
        ended(link, shell, windows.python, "-V")
    again = protocol(windows)
    assert ended(again, shell, windows.python, "-V")[2] == 0, "it goes on where it was"
    again.close_shell(shell)


def test_a_service_that_is_stopped_loses_its_shells_and_no_job(windows, place):
    name = f"{PLACE}\\done"
    text = f"import time; time.sleep(4); open(r'{name}', 'w')"
    argv = [windows.python, "-c", text]
    tried(windows, {"ansible.windows.win_command": {"argv": argv}, "async": 60, "poll": 0})
    link = protocol(windows)
    shell = link.open_shell()
    windows.stop_service()
    with pytest.raises(requests.exceptions.ConnectionError):
        link.open_shell()
    windows.start_service()
    assert fault(protocol(windows).run_command, shell, "x").wsman_fault_code == NO_SHELL
    deadline = time.monotonic() + 20
    while not (place / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (place / "done").exists()


def test_a_reboot_in_the_middle(windows, place):
    """Programs end, shells are lost, files stay; nobody writes the result of a job."""
    text = f"import time; open(r'{PLACE}\\begun', 'w'); time.sleep(8); open(r'{PLACE}\\late', 'w')"
    argv = [windows.python, "-c", text]
    (job,) = tried(windows, {"ansible.windows.win_command": {"argv": argv}, "async": 60, "poll": 0})
    link = protocol(windows)
    shell = link.open_shell()
    running = link.run_command(shell, *split(python(windows, "import time; time.sleep(30)")))
    broken: list[BaseException] = []

    def wait() -> None:
        try:
            link.get_command_output(shell, running)
        except Exception as error:
            broken.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not (place / "begun").exists():
        time.sleep(0.1)
    windows.reboot(1)
    waiter.join(20)
    assert broken and isinstance(broken[0], requests.exceptions.ConnectionError | WSManFaultError)
    assert fault(protocol(windows).run_command, shell, "x").wsman_fault_code == NO_SHELL
    time.sleep(1)
    left = json.loads(windows.path(job["results_file"]).read_text())
    assert not left["finished"] and not (place / "late").exists()
    assert ended(again := protocol(windows), again.open_shell(), windows.python, "-V")[2] == 0
