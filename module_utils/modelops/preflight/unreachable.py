"""Why a host is not reached, and what to do, from what the connections of Ansible say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..base import host_text
from . import wsman_fault

# What is said, what that means, and the remedy. The first that fits counts. A connection gives one
# text and no code, so this is the one place that reads it, and for the advice alone: a text that
# fits nothing gets the general one. Numbers are those of errno.h and getaddrinfo (Linux, where the
# controller is), which hold in every language; WinRM's own are wsman_fault's. The words are those
# of Python's TLS, requests, pywinrm, pypsrp and OpenSSH, which speak English alone.
_REASONS = (
    (
        "credentials were rejected|InvalidCredentials",
        "the user or the password is refused",
        "See that ansible_user is an account of that PC that may use WinRM, and that"
        " ansible_password (vault_builder_password) is its password. Windows may lock an account"
        " for some minutes after wrong ones.",
    ),
    (
        "certificate has expired",
        "its certificate has expired",
        "Make a new one there for its WinRM listener. Do not turn the check of certificates off.",
    ),
    (
        "certificate is not yet valid",
        "its certificate is not valid yet",
        "See that the clocks of that host and of this controller are right.",
    ),
    (
        "(Hostname|IP address) mismatch|doesn't match|not valid for",
        "its certificate is for another name",
        "Let ansible_host be a name or an address that the certificate holds.",
    ),
    (
        "invalid path|could not find a suitable TLS CA",
        "the file of ansible_winrm_ca_trust_path is not on this controller",
        "Put the CA there that signed the certificate of its WinRM listener.",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "its certificate is not of the CA in ansible_winrm_ca_trust_path",
        "Put the CA there that signed the certificate of its WinRM listener. If that file has not"
        " changed, another machine may be answering: do not turn the check of certificates off.",
    ),
    (
        "WRONG_VERSION_NUMBER|record layer failure|UNEXPECTED_EOF|unknown protocol",
        "what answers at that port does not speak TLS",
        "Let ansible_port be the port of its HTTPS listener, 5986.",
    ),
    (
        r"\[Errno 111\]|Connection refused|HostUnreachable",
        "nothing listens at that port",
        "See that the service runs there (on Windows: Get-Service WinRM, sshd), and that"
        " ansible_port is its port.",
    ),
    (
        r"\[Errno -[235]\]|Name or service not known"
        "|NameResolution|[Ff]ailed to resolve|name resolution",
        "its name is not known here",
        "Let ansible_host be a name that this controller can resolve, or an address.",
    ),
    (
        "Permission denied",
        "it does not let this user in",
        "See that ansible_user may log in there with this controller's key.",
    ),
    (
        "Host key verification failed|IDENTIFICATION HAS CHANGED",
        "its host key is not the known one",
        "If that host was installed again, put its new key into known_hosts; otherwise another"
        " machine may be answering.",
    ),
    (
        r"\[Errno (101|110|113)\]|[Tt]imed out|[Tt]imeout|No route to host|Network is unreachable"
        "|no answer within",
        "it does not answer",
        "See that it is on, awake and in this network, and that its firewall lets this controller"
        " in.",
    ),
    (
        r"\[Errno (32|104)\]|RemoteDisconnected|Connection aborted|[Cc]onnection reset",
        "it ended the connection",
        "It restarts, or its service was stopped. See that it is up, and run again.",
    ),
)


def explain(said: str, where: str = "") -> str:
    """Say why a host is not reached and what to do.

    Args:
        said: what the connection said.
        where: the host, as the reader knows it.
    """
    text = " ".join(said.split())
    fault = wsman_fault.find(text)
    fitting = ((what, how) for pattern, what, how in _REASONS if re.search(pattern, text))
    unknown = ("not reached", "See that it is up and that this user may log in.")
    what, remedy = (fault.what, fault.remedy) if fault else next(fitting, unknown)
    place = f"{where}: " if where else ""
    return f"{place}{what}. {remedy} It was said: {text[:300] or 'nothing'}"


def told(hosts: Iterable[Mapping[str, Any]]) -> str:
    """Say of each host that playbooks/reach.yml did not reach why not, and what to do.

    Args:
        hosts: the variables of each.
    """
    lines = []
    for host in hosts:
        tries = (host.get(f"__reach_{system}", {}) for system in ("windows", "linux"))
        said = next((a["msg"] for a in tries if a.get("unreachable")), "")
        place = str(host.get("ansible_host", host["inventory_hostname"]))
        place += f":{host['ansible_port']}" if "ansible_port" in host else ""
        place += f" as {host['ansible_user']}" if "ansible_user" in host else ""
        said = host_text.plain(str(said))
        lines.append(explain(said, f"{host['inventory_hostname']} ({place})"))
    return "\n".join([*lines, "Nothing was changed there. Run again when that is done."])
