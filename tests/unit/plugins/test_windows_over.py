"""Hosts are told Windows by their shell, and what they are reached over decides the rest."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.plugins.loader import shell_loader
from modelops.base import transport
from modelops.preflight import rows, windows_host
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


SSH_WITH = {"ansible_connection": "ssh", "inventory_hostname": "pc"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"sarai_builder_dir": r"C:\SARAi_v2\models"}, "sarai_builder_dir"),
        ({"sarai_builder_dir": "c:/SARAi_v2/models"}, "sarai_builder_dir"),
        ({"sarai_builder_python": r"\\nas\venv\python.exe"}, "sarai_builder_python"),
        ({"sarai_builder_python": r"%LOCALAPPDATA%\venv\python.exe"}, "sarai_builder_python"),
        ({"sarai_builder_dir": r"~\models"}, "sarai_builder_dir"),
        ({"ansible_python_interpreter": r"C:\Python\python.exe"}, "ansible_python_interpreter"),
        ({"sarai_builder_dir": r"C:\m", "ansible_shell_type": "sh"}, "sarai_builder_dir"),
        ({"sarai_builder_dir": r"C:\m", "ansible_shell_type": "powershell"}, ""),
        ({"sarai_builder_dir": r"C:\m", "ansible_connection": "winrm"}, ""),
        ({"sarai_builder_dir": r"C:\m", "ansible_connection": "local"}, ""),
        ({"sarai_builder_dir": "/home/noel/models"}, ""),
        ({"sarai_builder_dir": "~/models", "ansible_python_interpreter": "/usr/bin/python3"}, ""),
        ({}, ""),
    ],
)
def test_a_path_of_windows_tells_what_the_inventory_does_not_say(variables, name):
    host = SSH_WITH | variables
    assert transport.unsaid_windows(host) == name
    assert transport.unsaid_windows({k: v for k, v in host.items() if v != "ssh"}) == name
    found = rows.findings([host])["pc"]
    line = "wanted: ansible_shell_type: powershell"
    assert any(line in told for told in rows.lines({"pc": found}, "problem")) == bool(name)


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
