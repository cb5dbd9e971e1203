"""Patience with a WinRM host that says not now.

ansible-core's own patience is dead: it looks for `'wsmanfault_code': '170'`, and pywinrm writes 170
without quotes. It also has none with a host that answers before it serves (HTTP 503, 425, 429).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from ansible.utils.display import Display
from modelops.preflight import wsman_fault

display = Display()

PAUSES_S = (1, 3, 5)


# What a host that refuses has not begun: the methods of ansible-core's connection winrm. A piece of
# standard input may have arrived in part, unless the host says that it is still busy.
_PATIENT: dict[str, Callable[[str], bool]] = {
    "_winrm_connect": wsman_fault.passes,
    "_winrm_run_command": wsman_fault.is_refused,
    "_winrm_send_input": wsman_fault.is_busy,
}


def be_patient(connection: Any) -> None:
    """Let a connection ask again for what its host did not begin; once for each connection."""
    for name, passes in _PATIENT.items():
        method = getattr(connection, name, None)
        if method is not None and not hasattr(method, "__wrapped__"):
            setattr(connection, name, _again(method, passes))


def _again(method: Callable[..., Any], passes: Callable[[str], bool]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asked(*args: Any, **kwargs: Any) -> Any:
        for pause_s in PAUSES_S:
            try:
                return method(*args, **kwargs)
            except Exception as error:
                if not passes(str(error)):
                    raise
                display.vvv(f"WinRM says not now ({error}); asked again in {pause_s} s")
            time.sleep(pause_s)
        return method(*args, **kwargs)

    return asked
