"""What action plugins share that run a module in a host's background and watch it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops import progress

display = Display()

POLL_S = 0.3
# A link that breaks comes back or not: so long it is waited for.
PATIENCE_S = 120
# What async_status adds to the module's own result.
ASYNC_KEYS = ("ansible_job_id", "results_file", "started", "finished", "stdout", "stderr")


class Background(ActionBase):
    """An action that starts its module in the background, shows its progress, gets its result.

    A playbook that is stopped does not stop the module: it ends by itself, and the next run finds
    what it made.
    """

    _supports_check_mode = True
    _pid = 0  # of the module's process on the host, once it is known

    def _start(
        self, args: dict[str, Any], limit_s: int, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        # Only for this call: with async on, the executor would poll the result of run() itself.
        self._task.async_val = limit_s
        try:
            job: dict[str, Any] = self._execute_module(
                module_args=args, task_vars=task_vars, wrap_async=True
            )
        finally:
            self._task.async_val = 0
        return job

    def _watch(
        self, label: str, results: str, progress_file: str, every_s: float, limit_s: int
    ) -> str:
        """Show the progress until the job has ended; return what went wrong with watching it."""
        files = f"cat {shlex.quote(results)}; echo; cat {shlex.quote(progress_file)} 2>/dev/null"
        started = heard = alive = shown = time.monotonic()
        while time.monotonic() - started < limit_s + PATIENCE_S:
            time.sleep(min(POLL_S, every_s) or POLL_S)
            look = f"{files}; echo; kill -0 {self._pid} 2>/dev/null && echo alive"
            try:
                job, figures, life = (self._shell(look) + "\n\n").split("\n")[:3]
            except AnsibleConnectionFailure as error:
                if time.monotonic() - heard > PATIENCE_S:
                    return (
                        f"the host has not answered for {PATIENCE_S} s while it is at work"
                        f" ({error}). The run goes on there; when the host is back, run again:"
                        " what is finished is found and kept."
                    )
                continue
            heard = time.monotonic()
            if has_ended(job):
                return ""
            if life or not self._pid:
                alive = heard
            elif heard - alive > PATIENCE_S / 4:
                return (
                    f"the run on the host is gone (process {self._pid}): the host was restarted or"
                    " the process killed, perhaps for want of memory (dmesg). Run again: what it"
                    " left behind is cleared up."
                )
            known = _figures(figures)
            self._pid = int(known.get("pid", self._pid))
            if known and every_s and heard - shown >= every_s:
                display.display(f"  {label}: {progress.line(known)}")
                shown = heard
        return (
            f"the work did not end within limit_s, {limit_s} s, and its watchdog did not end it."
            " Look for the process on the host, end it, and run again."
        )

    def _fetch(self, job: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return the module's own result, and remove the job's file."""
        result: dict[str, Any] = self._execute_module(
            module_name="ansible.legacy.async_status",
            module_args={
                "jid": job["ansible_job_id"],
                "_async_dir": job["results_file"].rpartition("/")[0],
            },
            task_vars=task_vars,
        )
        self._shell(f"rm -f {shlex.quote(job['results_file'])}")
        if "Timeout exceeded" in str(result.get("msg")):
            result["msg"] = "it took longer than limit_s and was ended. Raise limit_s."
        return {key: value for key, value in result.items() if key not in ASYNC_KEYS}

    def _shell(self, command: str) -> str:
        return str(self._low_level_execute_command(command)["stdout"])


def has_ended(text: str) -> bool:
    """Tell whether a job's file holds the module's own result already."""
    try:
        job = json.loads(text)
    except ValueError:
        return bool(text.strip())  # not JSON: async_status says what it is
    return "started" not in job or bool(job.get("finished"))


def _figures(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}
