"""Hosts are told Windows by their shell, and what they are reached over decides the rest."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.plugins.loader import shell_loader
from modelops.execution import transport
from modelops.preflight import windows_host
from test_facts import action

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("connection", "shell", "over"),
    [
        ("winrm", "", "winrm"),
        ("ansible.builtin.winrm", "", "winrm"),
        ("ansible.legacy.winrm", "cmd", "winrm"),
        ("psrp", "", "winrm"),
        ("ssh", "powershell", "ssh"),
        ("ansible.builtin.ssh", "ansible.builtin.powershell", "ssh"),
        ("ssh", "cmd", "ssh"),
        ("community.general.paramiko_ssh", "powershell", "ssh"),
        ("ssh", "", ""),
        ("ssh", "sh", ""),
        ("ssh", "fish", ""),
        ("local", "", ""),
        ("containers.podman.podman", "", ""),
    ],
)
def test_windows_is_told_by_the_shell(connection, shell, over):
    assert transport.windows_over(connection, shell) == over


def test_the_shells_are_those_that_ansible_calls_windows():
    shells = ("cmd", "powershell", "sh")
    found = {name for name in shells if getattr(shell_loader.get(name), "_IS_WINDOWS", False)}
    assert found == set(transport.SHELLS)


def test_nothing_else_asks_for_the_name_of_a_connection():
    for path in [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        for line in path.read_text().splitlines():
            if "ansible_connection" in line and "windows_over" not in line:
                assert not re.search("winrm|psrp", line), f"{path}: {line}"


def test_psrp_is_refused_with_a_reason():
    made = action("host_check", folder="/x")
    shell = SimpleNamespace(_IS_WINDOWS=True)
    made._connection = SimpleNamespace(_shell=shell, transport="psrp")
    made._task.async_val = 0
    result = made.run(None, {})
    assert result["failed"] and "WMI" in result["msg"] and "winrm or ssh" in result["msg"]


def test_the_limits_of_winrm_are_no_matter_over_ssh():
    params = {
        "windows_over": "ssh", "winrm_memory_mb": 1, "winrm_processes": 1, "winrm_shells": 1,
        "environment": "/x/python", "folder": "/x", "model": None, "windows_build": 1,
        "memory": 1, "memory_installed": 1, "call_limit_s": 5,
    }  # fmt: skip
    for over, told in (("ssh", False), ("winrm", True)):
        rows = windows_host.check_windows(params | {"windows_over": over})
        assert any("WinRM" in row["check"] for row in rows) == told
