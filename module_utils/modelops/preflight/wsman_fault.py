"""What a WinRM host answers instead of doing what was asked: told by its number, in any language.

The numbers of WS-Management are those of wsmerror.h and winerror.h. The clients, pywinrm and
pypsrp, put them into the text of their errors, and the HTTP status where there is no fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BUSY, TIMEOUT = 170, 1460


@dataclass(frozen=True)
class Fault:
    """What a number means, what to do, and whether it passes by itself soon."""

    what: str
    remedy: str
    passes: bool = False


_DENIED = Fault(
    "it knows this user and does not let him use WinRM",
    "Run windows/setup.ps1 there again: it gives the account its entry in WinRM's RootSDDL. An"
    " administrator's account is let in only with LocalAccountTokenFilterPolicy.",
)
_LOST = Fault(
    "it ended the connection: the shell is gone there",
    "It was restarted, its WinRM service was stopped, or the shell was idle for too long. See that"
    " it is up, and run again.",
)
_BUSY_HOST = "See what else runs there, and that nobody else's runs use it. Then run again."
FAULTS = {
    5: _DENIED,
    2147942405: _DENIED,  # 0x80070005, E_ACCESSDENIED
    BUSY: Fault("it is still busy with what was asked before", _BUSY_HOST, passes=True),
    TIMEOUT: Fault(
        "it did not get ready in its own time",
        "It may be just waking, or under load. See that it is awake and what runs there. If it is"
        " slow, raise ansible_winrm_operation_timeout_sec and ansible_winrm_read_timeout_sec.",
        passes=True,
    ),
    1816: Fault(
        "its shell may start no more processes, or take no more memory",
        "Restart the WinRM service there, or raise MaxProcessesPerShell and MaxMemoryPerShellMB in"
        r" WSMan:\localhost\Shell.",
    ),
    2150858843: _LOST,  # 0x8033805B
    2150859173: Fault(  # 0x803381A5
        "it lets this user open no more shells",
        "Restart the WinRM service there, or raise MaxShellsPerUser in"
        r" WSMan:\localhost\Shell.",
        passes=True,
    ),
    2150859174: Fault(  # 0x803381A6
        "it lets this user run no more operations at once",
        "Restart the WinRM service there, or raise MaxConcurrentOperationsPerUser in"
        r" WSMan:\localhost\Service.",
    ),
}
# What WS-Management itself calls a fault, where no number comes with it.
SUBCODES = {"AccessDenied": _DENIED, "InvalidSelectors": _LOST}
HTTP = {
    400: Fault(
        "it, or a proxy before it, did not understand the request (HTTP 400)",
        "See that no proxy stands between (no_proxy), that ansible_port is the port of its HTTPS"
        " listener, 5986, and that ansible_winrm_scheme is https. Then run again.",
    ),
    425: Fault("it was asked too early (HTTP 425)", _BUSY_HOST, passes=True),
    429: Fault("it was asked too often (HTTP 429)", _BUSY_HOST, passes=True),
    503: Fault(
        "its WinRM service does not serve just now (HTTP 503)",
        "It starts, stops or is overloaded. See Get-Service WinRM there; Restart-Service WinRM"
        " helps when it stays so.",
        passes=True,
    ),
}
_NUMBER = re.compile(
    r"'(?:wsmanfault|wmierror)_code': '?(-?\d+)|WSManFault message\. \(Code: (-?\d+)"
)
_SUBCODE = re.compile(r"'fault_subcode': '\w+:(\w+)'")
_HTTP = re.compile(r"Bad HTTP response returned from (?:the )?server\. Code:? (\d{3})\b")


def find(said: str) -> Fault | None:
    """Return the fault that an error of pywinrm or pypsrp tells of; None where it is none known."""
    if number := _NUMBER.search(said):
        known = FAULTS.get(int(number[1] or number[2]) & 0xFFFFFFFF)
        if known:
            return known
    if subcode := _SUBCODE.search(said):
        return SUBCODES.get(subcode[1])
    status = _HTTP.search(said)
    return HTTP.get(int(status[1])) if status else None


def passes(said: str) -> bool:
    """Tell whether what a host refused may be asked for again a little later."""
    found = find(said)
    return found is not None and found.passes


def is_refused(said: str) -> bool:
    """Tell whether a host that refused so has begun nothing; what ran out of time may have."""
    return passes(said) and find(said) is not FAULTS[TIMEOUT]


def is_busy(said: str) -> bool:
    """Tell whether the host still works at an earlier piece: it takes this one a little later."""
    return find(said) is FAULTS[BUSY]
