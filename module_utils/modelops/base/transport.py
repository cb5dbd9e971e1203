"""Over what Ansible reaches a Windows host, told by its variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WINRM, SSH = "winrm", "ssh"
# The shell plugins of ansible-core whose `_IS_WINDOWS` is true.
SHELLS = ("cmd", "powershell")
# The variables of a host that are paths there.
PATHS = (
    "sarai_builder_dir", "sarai_builder_base_python", "sarai_builder_python",
    "ansible_python_interpreter",
)  # fmt: skip
# It begins with a drive, a share, %NAME% or the profile, as no path of another system does.
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\|%\w+%|~\\")


def windows_over(connection: str, shell: str) -> str:
    """Return over what a Windows host is reached, `winrm` or `ssh`; nothing for another system.

    Over SSH the shell alone tells: the connection is that of Linux hosts, too.

    Args:
        connection: ansible_connection, also with the name of a collection before it.
        shell: ansible_shell_type.
    """
    if str(connection).rpartition(".")[2] in (WINRM, "psrp"):  # psrp is WinRM, too
        return WINRM
    return SSH if str(shell).rpartition(".")[2] in SHELLS else ""


def unsaid_windows(host: Mapping[str, Any]) -> str:
    """Return the variable whose value is a path of Windows on a host that is not said to run it.

    Args:
        host: the variables of the inventory.
    """
    connection = str(host.get("ansible_connection", "ssh"))
    if connection == "local" or windows_over(connection, str(host.get("ansible_shell_type", ""))):
        return ""
    return next((name for name in PATHS if _WINDOWS_PATH.match(str(host.get(name, "")))), "")
