"""Over what Ansible reaches a Windows host, told by its variables."""

from __future__ import annotations

WINRM, SSH = "winrm", "ssh"
# The shell plugins of ansible-core whose `_IS_WINDOWS` is true.
SHELLS = ("cmd", "powershell")


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
