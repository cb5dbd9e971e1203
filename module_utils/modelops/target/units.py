"""A unit of systemd, the system's or a user's own: what it is, what it wrote, its processes.

Standard library only. The user's own systemd is asked without any right of root.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..base.hidden import masked
from . import processes

JOURNAL_LINES = 25
LONGEST_TOLD = 16 << 10  # characters of them
CALL_LIMIT_S = 30.0
# Beyond a start's own limit: systemd's DefaultTimeoutStopSec is 90 s.
STOP_LIMIT_S = 90.0
# What a command line and a file name can be made of. A leading hyphen would be an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9@._-]{0,199}")
_PATH = re.compile(r"/[^\s%$;\"'\\]*")
_MEMORY = re.compile(r"[0-9]+(\.[0-9]+)?[KMGTPE%]?|infinity")
_FIELDS = {
    "LoadState": "load", "ActiveState": "active", "SubState": "sub", "Result": "result",
    "NRestarts": "restarts", "InvocationID": "invocation", "MainPID": "pid",
    "ActiveEnterTimestamp": "since", "ActiveEnterTimestampMonotonic": "since_us",
    "ControlGroup": "group",
}  # fmt: skip


class Unit(NamedTuple):
    """How a service is; `invocation` changes with every start."""

    load: str
    active: str
    sub: str
    result: str
    restarts: int
    invocation: str
    pid: int
    since: str
    since_us: int = 0  # on the clock of time.monotonic(); 0 before the first start
    group: str = ""


def check(name: str) -> str:
    """Return a unit's name when command lines and file names can be made of it.

    Raises:
        ModelOpsError: they cannot.
    """
    if not _NAME.fullmatch(name):
        raise ModelOpsError(
            f"{name!r} cannot be the name of a unit",
            where="sarai_service_name",
            remedy="Give 1 to 200 letters, digits and @ . _ - that begin with a letter or a digit.",
        )
    return name


def path(text: str, where: str = "") -> str:
    """Return a path when a unit's lines can be made of it, as one word that means itself.

    systemd cuts lines at spaces, and replaces what begins with % and $ (systemd.service(5),
    "Command lines", and systemd.unit(5), "Specifiers").

    Raises:
        ModelOpsError: it is not absolute, or holds what a unit would take for something else.
    """
    if not _PATH.fullmatch(text) or not text.isprintable():
        raise ModelOpsError(
            f"{text!r} cannot be a path in a unit",
            where=where,
            remedy="Give an absolute path without spaces, line ends, quotes, backslashes and % $ ;",
        )
    return text


def memory(text: str) -> str:
    """Return a limit of memory as systemd reads it (systemd.resource-control(5), MemoryMax=).

    Raises:
        ModelOpsError: it is none.
    """
    if not _MEMORY.fullmatch(text):
        raise ModelOpsError(
            f"{text!r} cannot be the memory of a unit",
            where="sarai_service_memory_max",
            remedy="Give bytes, such as 8G, or a part, such as 50%, or infinity.",
        )
    return text


def findings(values: Mapping[str, str]) -> list[Finding]:
    """Return the rows of preflight on what units are made of; see `check`, `path`, `memory`.

    Args:
        values: `name`, `owner`, `memory`, `folder` of the models and `configuration`; all but name
            and folder may be empty.
    """
    looks: list[tuple[str, Callable[[str], str]]] = [
        ("name", check), ("owner", check), ("memory", memory), ("folder", path),
        ("configuration", path),
    ]  # fmt: skip
    rows = []
    for field, look in looks:
        if values.get(field) or field in ("name", "folder"):
            try:
                look(values[field])
            except ModelOpsError as error:
                wanted = "a unit can be made of it"
                rows.append(finding(f"the unit's {field}", False, error.what, wanted, error.remedy))
    return rows or [finding("the unit's values", True, values["name"], "a unit can be made", "")]


class Systemd:
    """A unit, as systemd knows it.

    Args:
        root: does what only root may, `restart` and `journal` (see root_helper.call); without it
            this process does so itself.

    Raises:
        ModelOpsError: nothing can be called so.
    """

    def __init__(
        self, name: str, user: bool = False, root: Callable[..., dict[str, Any]] | None = None
    ) -> None:
        self.name = check(name)
        self._scope = ["--user"] if user else []
        self._root = root

    def look(self) -> Unit:
        """Ask systemd for the state of the unit.

        Raises:
            ModelOpsError: there is no systemd to ask.
        """
        done = self._systemctl("show", self.name, "--property", ",".join(_FIELDS))
        if done.returncode:
            raise ModelOpsError(
                f"systemd does not answer ({done.stderr.strip()})",
                where=self.name,
                remedy="Set sarai_service_manager to what runs the service on this host."
                + (" A user's own needs: loginctl enable-linger." if self._scope else ""),
            )
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        values: dict[str, Any] = {field: found.get(key, "") for key, field in _FIELDS.items()}
        for number in ("restarts", "pid", "since_us"):
            values[number] = int(values[number] or 0)
        return Unit(**values)

    def restart(self, limit_s: float) -> None:
        """Restart the unit. That it does not start is told by its state, not here.

        Its failures until now are forgotten: they are none of this start's, and systemd does not
        start again what failed too often.
        """
        if self._root:
            self._root("restart", limit_s=limit_s + STOP_LIMIT_S + CALL_LIMIT_S)
            return
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", self.name)
        self._systemctl("restart", self.name, limit_s=limit_s + STOP_LIMIT_S)

    def told(self, invocation: str) -> str:
        """Return the last lines that the unit wrote, of this start where they can be told apart."""
        text = str(self._root("journal")["journal"]) if self._root else self._journal(invocation)
        if text:
            return f"Its journal says:\n{masked(text)[-LONGEST_TOLD:]}"
        return "Its journal holds nothing that this user may read."

    def _journal(self, invocation: str) -> str:
        prefix = "--user-unit" if self._scope else "--unit"
        for chosen in ([f"_SYSTEMD_INVOCATION_ID={invocation}"], [prefix, self.name]):
            lines = ["--quiet", "--no-pager", "--output", "short", "--lines", str(JOURNAL_LINES)]
            text = run("journalctl", *lines, *chosen).stdout.strip()
            if text:
                return text
        return ""

    def processes(self, unit: Unit) -> set[int]:
        """Return the unit's processes."""
        return processes.of_cgroup(unit.group) or processes.with_children({unit.pid} - {0})

    def _systemctl(
        self, *arguments: str, limit_s: float = CALL_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        return run("systemctl", *self._scope, *arguments, limit_s=limit_s)


def run(
    *command: str, limit_s: float = CALL_LIMIT_S, folder: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without a shell; one that cannot be run has failed."""
    # A login that no session manager made has no address of the user's own systemd.
    folder_of_user = f"/run/user/{os.getuid()}" if hasattr(os, "getuid") else ""
    environment = {"XDG_RUNTIME_DIR": folder_of_user, **os.environ}
    try:
        return subprocess.run(  # noqa: S603 - the operator's programs, no shell
            command, capture_output=True, text=True, errors="replace", timeout=limit_s,
            check=False, env=environment, cwd=folder, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
