"""A service that commands start and stop, such as `nohup python3 main.py`. Standard library only.

What is started is in a session of its own, with no pipe to whoever started it: it outlives that.
The session is written down, so that its processes are found again. The owner's own status command
or PID file finds those that he started himself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..base.hidden import masked
from . import processes
from .units import CALL_LIMIT_S, LONGEST_TOLD, Unit, check, run

STOP_LIMIT_S = 30.0
POLL_S = 0.1
LOG_LINES = 25
LONGEST_PID_FILE = 4096  # bytes
LOG_BYTES = 64 << 10  # of the log's end that are looked at
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# A process that began after its PID file was written is another one of the same number; the clocks
# of files and of processes may be this far apart.
CLOCKS_S = 2.0
_SHELL = set("|&;<>()$`*?[]~#\n")

Command = str | Sequence[str]


def words(command: Command) -> list[str]:
    """Return a command as a list of words; a text that only a shell understands goes to sh.

    Raises:
        ModelOpsError: it is empty, or its quotes do not match.
    """
    if not isinstance(command, str):
        found = [str(word) for word in command]
    elif _SHELL & set(command) or re.match(r"\s*\w+=", command):
        found = ["/bin/sh", "-c", command]
    else:
        try:
            found = shlex.split(command)
        except ValueError as error:
            raise _unusable(f"{command!r}: {error}") from None
    if not found or not found[0]:
        raise _unusable("it is empty")
    return found


def _unusable(why: str) -> ModelOpsError:
    return ModelOpsError(
        f"the command cannot be run: {why}",
        where="sarai_service_commands",
        remedy="Give start, and stop and status where there are some: a list of words, or a text.",
    )


class Commands:
    """A service that commands run, as this user.

    Args:
        given: `start`; `stop` and `status`, empty where there are none; `pid_file`, the owner's, or
            empty; `folder`, where they run; `log`, which gets what the service writes; `record`,
            the file that keeps what was started.

    Raises:
        ModelOpsError: nothing can be called so, or there is no start command.
    """

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self.name = check(name)
        self._start = words(given.get("start") or "")
        self._stop = words(given["stop"]) if given.get("stop") else []
        self._status = words(given["status"]) if given.get("status") else []
        self._pid_file = Path(given["pid_file"]) if given.get("pid_file") else None
        self._folder = str(given["folder"])
        self._log, self._record = Path(given["log"]), Path(given["record"])
        self._child: subprocess.Popen[bytes] | None = None

    def look(self) -> Unit:
        """Say how the service is, by its processes."""
        runs, pids = self._found()
        if pids:
            first = min(pids, key=lambda pid: (processes.started(pid), pid))
            ticks = processes.started(first)
            since_us = ticks * 1_000_000 // TICKS
            return Unit(
                "loaded", "active", "running", "success", 0, f"{first}:{ticks}", first, "", since_us
            )
        if runs:  # only the status command says so, and not which process it is
            return Unit("loaded", "active", "running", "success", 0, "", 0, "")
        ended = self._child.poll() if self._child else None
        active = "failed" if ended else "inactive"
        return Unit("loaded", active, "dead", f"exit code {ended}", 0, "", 0, "")

    def restart(self, limit_s: float) -> None:  # noqa: ARG002 - a Manager's
        """Stop what runs, and start it anew.

        Raises:
            ModelOpsError: it does not stop, or cannot be started.
        """
        self._end()
        self._begin()

    def told(self, invocation: str) -> str:  # noqa: ARG002 - a Manager's
        """Return the last lines of the log."""
        try:
            with opener.opened(self._log, follow=True) as handle:
                handle.seek(max(0, os.fstat(handle.fileno()).st_size - LOG_BYTES))
                text = handle.read(LOG_BYTES).decode(errors="replace")
        except (OSError, ModelOpsError) as error:
            return f"Its log cannot be read: {error}"
        lines = "\n".join(text.splitlines()[-LOG_LINES:])
        return f"Its log {self._log} ends with:\n{masked(lines)[-LONGEST_TOLD:]}"

    def processes(self, unit: Unit) -> set[int]:  # noqa: ARG002 - a Manager's
        """Return the service's processes."""
        return self._found()[1]

    def _found(self) -> tuple[bool, set[int]]:
        """Return whether it runs, and its processes as far as they are known."""
        runs, named = self._of_status()
        named |= self._of_session() | self._of_file()
        pids = {pid for pid in processes.with_children(named) if _is_ours(pid)}
        return runs or bool(pids), pids

    def _of_session(self) -> set[int]:
        """What was started here, unless the host was started anew meanwhile."""
        try:
            kept = opener.read_json(self._record)
            same = kept["boot"] == processes.boot()
            return processes.of_session(int(kept["session"])) if same else set()
        except (OSError, ModelOpsError, ValueError, TypeError, KeyError, OverflowError):
            return set()

    def _of_file(self) -> set[int]:
        """What the owner's PID file names, unless that process began after it was written."""
        if self._pid_file is None:
            return set()
        try:
            text = opener.read(self._pid_file, LONGEST_PID_FILE, follow=True).decode()
            written = self._pid_file.stat().st_mtime
        except (OSError, ModelOpsError, ValueError):
            return set()
        found = {int(word) for word in text.split()[:1] if word.isdecimal()}
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return {
            pid for pid in found if booted + processes.started(pid) / TICKS <= written + CLOCKS_S
        }

    def _of_status(self) -> tuple[bool, set[int]]:
        """Whether the status command ends well, and the process ids that it prints, as pgrep."""
        if not self._status:
            return False, set()
        done = run(*self._status, folder=self._folder)
        printed = done.stdout.split()
        if not all(word.isdecimal() for word in printed):
            printed = []  # words for people: a number among them may be anything
        pids = {int(word) for word in printed} - _lineage()
        return done.returncode == 0 and (bool(pids) or not printed), pids

    def _end(self) -> None:
        before = self._found()[1]
        if self._stop:
            run(*self._stop, folder=self._folder, limit_s=CALL_LIMIT_S)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            # With a command to stop it, it has its time before it is told by a signal.
            if not (self._stop and sent == signal.SIGTERM):
                _tell({pid for pid in before | self._found()[1] if _is_ours(pid)}, sent)
            if _until(lambda: not any(map(processes.started, before)) and not self._found()[0]):
                return
        raise ModelOpsError(
            f"it does not stop within {STOP_LIMIT_S:g} s",
            where=self.name,
            remedy="Stop it by hand and look at sarai_service_commands.",
        )

    def _begin(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self._log, "ab", opener=_closed) as log:
                self._child = subprocess.Popen(  # noqa: S603 - the operator's command
                    self._start, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, cwd=self._folder,
                )  # fmt: skip
        except OSError as error:
            raise _unusable(str(error)) from None
        self._record.parent.mkdir(parents=True, exist_ok=True)
        kept = {"session": self._child.pid, "boot": processes.boot()}
        write_atomic(self._record, (json.dumps(kept) + "\n").encode(), 0o600)


def _closed(path: str, flags: int) -> int:
    """Open a log for its owner and his group: a service may write there what is nobody else's."""
    return os.open(path, flags, 0o640)


def _is_ours(pid: int) -> bool:
    """Never touch another user's process, this one, or what runs this one."""
    return processes.owner(pid) == os.getuid() and pid not in _lineage()


def _lineage() -> set[int]:
    """Return this process and those above it: a pattern of pgrep may fit their command lines."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        fields = processes.stat(pid)
        pid = int(fields[1]) if fields else 0
    return found


def _tell(pids: set[int], sent: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            continue


def _until(condition: Callable[[], bool], limit_s: float = STOP_LIMIT_S) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
