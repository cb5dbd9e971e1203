"""A job of a Windows host, seen through the bridge: begun, watched, and found again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from .background import PATIENCE_S, Seen, display
from .reply import decode, failed

# background makes it importable
from modelops.base import progress  # isort: skip
from modelops.execution.options import PROGRESS  # isort: skip

if TYPE_CHECKING:
    from .bridge import Bridge

# Limits of a job, each a variable of this name.
JOB_LIMIT_S = PROGRESS["limit_s"]["default"]  # bridge_job_limit_s: of a job without limit_s
START_LIMIT_S = 60  # bridge_start_limit_s: until a job that was started has begun
# A look at a job stays on the host for so long at most, below the read timeout of WinRM.
LOOK_S = 10


class LostError(AnsibleConnectionFailure):
    """A connection that stood was lost: what was asked for may have happened."""


class WindowsJob:
    """A job of a Windows host, seen through the bridge.

    Args:
        job: its id there.
        seen: it is known to have begun.
    """

    def __init__(
        self,
        action: Bridge,
        params: Mapping[str, Any],
        task_vars: dict[str, Any],
        job: str,
        seen: bool = True,
    ) -> None:
        action.python(task_vars)  # one that is not set is not a lost connection
        self.id = job
        self.raw: dict[str, Any] = {}  # what Ansible said of its start
        self._action, self._params, self._vars = action, params, task_vars
        self._call: dict[str, Any] = {}  # that started it
        self._started = time.monotonic()
        self._seen = seen
        self._result: dict[str, Any] = {}
        self.public_key = ""
        self._patience_s = action.limit("background_patience_s", PATIENCE_S, task_vars)
        self._start_s = action.limit("bridge_start_limit_s", START_LIMIT_S, task_vars)
        self.limit_s = params.get("limit_s") or action.limit(
            "bridge_job_limit_s", JOB_LIMIT_S, task_vars
        )

    @classmethod
    def begin(
        cls, action: Bridge, params: dict[str, Any], task_vars: dict[str, Any]
    ) -> WindowsJob | dict[str, Any]:
        """Start the job; the host has it go on with one that does the very same already."""
        work = action._work(params)
        what = {**params, "progress_s": None, "limit_s": None}
        same = hashlib.sha256(
            json.dumps({**work, "params": what}, sort_keys=True).encode()
        ).hexdigest()
        job_id = f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(4)}"
        job = cls(action, params, task_vars, job_id, seen=False)
        name = "limit_s" if params.get("limit_s") else "bridge_job_limit_s"
        limit = {"limit_s": job.limit_s, "limit_is": name}
        job._start({"do": "job", "job": job.id, "same": same, **limit, **work})
        return job.raw if job.raw.get("failed") else job

    def _start(self, call: dict[str, Any]) -> None:
        self._call = call
        # Without an answer it may have begun all the same: looking for it tells.
        with contextlib.suppress(LostError):
            # The job ends itself at its limit; Ansible's own watchdog only if that fails.
            self.raw = self._action.start(call, self.limit_s + self._start_s, self._vars)

    @property
    def label(self) -> str:
        """Return what stands before its progress."""
        name = self._params.get("dest") or self._params.get("path") or ""
        parts = [f"[{self._vars.get('inventory_hostname', '')}]", re.split(r"[\\/]", name)[-1]]
        return " ".join(part for part in parts if part)

    def finish(self) -> dict[str, Any]:
        """Show its progress until it has ended, and return its result."""
        if self._result:  # await_key has seen the end
            return self._result
        every_s = float(self._params.get("progress_s", PROGRESS["progress_s"]["default"]))
        problem = self._action.watch(self.label, self.look, every_s, self.limit_s, self._patience_s)
        return self._result or failed(problem)

    def await_key(self, limit_s: float) -> str | None:
        """Return the public key that the job makes; nothing when it ended before."""
        deadline = time.monotonic() + limit_s
        unanswered = ""
        while time.monotonic() < deadline:
            try:
                seen, unanswered = self.look(LOOK_S, key=True), ""
            except AnsibleConnectionFailure as error:
                unanswered = str(error)
                time.sleep(1)
                continue
            if self.public_key or seen.ended or seen.gone:
                self._result = self._result or failed(seen.gone)
                return self.public_key or None
        if unanswered:
            self._result = failed(self._unheard(limit_s, unanswered))
        return None if unanswered else ""

    def look(self, wait_s: float, key: bool = False) -> Seen:
        """Ask the host how it is; the host answers at the end of `wait_s`, or when it has ended.

        Raises:
            AnsibleConnectionFailure: the host does not answer.
        """
        wait_s = min(max(wait_s, 0.2), LOOK_S)
        call = {
            "do": "watch",
            "job": self.id,
            "wait_s": wait_s,
            "key": key,
            "results_file": self.raw.get("results_file"),
        }
        try:
            seen = self._action.ask(call, self._vars)
        except AnsibleError as error:
            if not self._seen and time.monotonic() - self._started > self._patience_s:
                return Seen(gone=self._unheard(self._patience_s, str(error)))
            raise AnsibleConnectionFailure(str(error)) from error
        if not _is_sight(seen):
            text = str(seen.get("msg", seen))
            if self._seen:
                raise AnsibleConnectionFailure(text)
            self._result = seen  # what its start would say as well, if it were waited for
            return Seen(gone=text)
        said = decode(seen["said"], self._action.python(self._vars)) if seen.get("said") else {}
        lacked = seen.get("brought") or said.get("need") == "code"
        if lacked and not self._seen and time.monotonic() - self._started < self._start_s:
            # It ended for want of the code, which is there now. If not, it is not begun twice.
            self._start(self._call)
            return Seen(gone=str(self.raw["msg"]) if self.raw.get("failed") else "")
        if "begun" in said:
            self.raw = {}  # of the start that came too late
            return Seen()
        self._seen = self._seen or seen["state"] != "waiting"
        self.public_key = seen["public_key"]
        self._result = seen["result"]
        if seen["same"]:
            self.id, self.raw = seen["same"]["job"], {}
            display.display(
                f"  {self.label}: goes on with the job that has been at work there for"
                f" {seen['same']['since_s']:.0f} s"
            )
            return Seen()
        gone = str(said.get("msg", said)) if said else self._gone(seen)
        return Seen(seen["state"] == "ended", gone, progress.checked(seen["figures"]))

    def _unheard(self, seconds: float, said: str) -> str:
        return (
            f"the host has not answered for {seconds:g} s, since the job was to start ({said})."
            " The job may be at work there. When the host is back, run again: a job that is at"
            " work is found, and what is finished is kept."
        )

    def _gone(self, seen: Mapping[str, Any]) -> str:
        if seen["state"] == "gone" or (seen["state"] == "waiting" and self._seen):
            process = f" (process {seen['pid']})" if seen.get("pid") else ""
            return (
                f"the run on the host is gone{process}: Windows was restarted, or"
                " ended the process, perhaps for want of memory. Run again: what it left behind"
                " is cleared up. If it happens again, see the event log, and how much memory"
                " WinRM, if used, allows a shell (MaxMemoryPerShellMB in WSMan:\\localhost\\Shell)."
            )
        if seen["state"] == "waiting" and time.monotonic() - self._started > self._start_s:
            return (
                f"the job did not begin within {self._start_s:g} s"
                f" ({self.raw.get('msg') or 'its start was not answered'}). Raise"
                " bridge_start_limit_s if the host is slow, and run again."
            )
        return ""


def _is_sight(seen: Mapping[str, Any]) -> bool:
    """Tell whether a host answered how a job is (windows_jobs.look)."""
    same = seen.get("same")
    fits = isinstance(same, dict) and (
        not same
        or (isinstance(same.get("job"), str) and isinstance(same.get("since_s"), int | float))
    )
    return (
        fits
        and seen.get("state") in ("waiting", "running", "ended", "gone", "same")
        and isinstance(seen.get("public_key"), str)
        and all(isinstance(seen.get(name), dict) for name in ("result", "figures"))
        and isinstance(seen.get("said", {}), dict)
    )
