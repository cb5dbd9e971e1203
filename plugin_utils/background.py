"""What every action plugin shares that runs a module in a host's background and watches it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops.base import hidden, host_text, opener, progress
from modelops.base.errors import ModelOpsError
from modelops.pair import received

display = Display()

POLL_S = 0.3
# A link that breaks comes back or not, a host that restarts too: so long it is waited for, unless
# the variable `background_patience_s` says otherwise.
PATIENCE_S = 120
# What Ansible keeps as objects of its own, which hold the host's words, too.
SUMMARIES = ("exception", "warnings", "deprecations")
# What async_status adds to the module's own result.
ASYNC_KEYS = ("ansible_job_id", "results_file", "started", "finished", "stdout", "stderr")


@dataclass(frozen=True)
class Seen:
    """What one look at a job told: it has ended; it is gone, and why; or how far it is."""

    ended: bool = False
    gone: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


# Looks at a job, and may take as many seconds for it as are given.
Look = Callable[[float], Seen]


def _answer(res: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """Return what a host gave, with a module's answer that tells a problem in place of its own."""
    return {**res, "stdout": json.dumps({"failed": True, "msg": problem}), "stderr": ""}


class Background(NormalAction):
    """An action that can start its module in the background, and show its progress.

    A playbook that is stopped does not stop the module: it ends by itself, and the next run finds
    what it made.
    """

    def _parse_returned_data(self, res: dict[str, Any], *rest: Any) -> Any:
        """Read a module's answer; Ansible itself tells the terminal of what stands beside it.

        Returns:
            What Ansible makes of it: a dictionary, from ansible-core 2.21 on an object of its own.
        """
        # JSON spells every control character, so a plain one is none of the answer.
        said = {key: host_text.plain(str(res.get(key, ""))) for key in ("stdout", "stderr")}
        size = max(map(len, said.values()))
        if size > opener.LARGEST_JSON:
            what = f"the host answered {size:,} characters, and a module answers no more than"
            return super()._parse_returned_data(
                _answer(res, f"{what} {opener.LARGEST_JSON:,}."), *rest
            )
        try:
            data = super()._parse_returned_data({**res, **said}, *rest)
        except RecursionError:
            what = "the host's answer has values within values, too deep."
            return super()._parse_returned_data(_answer(res, what), *rest)
        if isinstance(data, dict):  # the object has no such fields
            return {k: value for k, value in data.items() if k not in ("add_host", "add_group")}
        return data

    def checked(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return a module's result as a role may see it; one that no module sends is a failure."""
        own = {key: _plain(result[key]) for key in SUMMARIES if key in result}
        sent = {key: value for key, value in result.items() if key not in SUMMARIES}
        name = str(self._task.action).rpartition(".")[2]
        try:
            fine = received.checked(name, self._task.args, sent)
        except ModelOpsError as error:
            return {"failed": True, "msg": str(error)}
        # What Python the host has is Ansible's to find out, and to know at the next task.
        if found := getattr(self, "_discovered_interpreter_key", None):
            fine["ansible_facts"] = {found: self._discovered_interpreter}
        return {**fine, **own}

    def limit(self, name: str, default: float, task_vars: Mapping[str, Any] | None) -> float:
        """Return a limit in seconds: the variable of that name, or the default."""
        return float(self._templar.template((task_vars or {}).get(name, default)))

    def start_job(
        self, limit_s: float, task_vars: dict[str, Any] | None, **module: Any
    ) -> dict[str, Any]:
        """Start a module in the host's background."""
        # Only for this call: with async on, the executor would poll the result of run() itself.
        self._task.async_val = int(limit_s)
        try:
            job: dict[str, Any] = self._execute_module(
                task_vars=task_vars, wrap_async=True, **module
            )
        finally:
            self._task.async_val = 0
        return job

    def watch(
        self, label: str, look: Look, every_s: float, limit_s: float, patience_s: float
    ) -> str:
        """Show the progress until the job has ended; return what went wrong with watching it."""
        started = heard = shown = time.monotonic()
        while time.monotonic() - started < limit_s + patience_s:
            try:
                seen = look(max(0.0, shown + every_s - time.monotonic()) if every_s else PATIENCE_S)
            except AnsibleConnectionFailure as error:
                if time.monotonic() - heard > patience_s:
                    return (
                        f"the host has not answered for {patience_s:g} s while it is at work"
                        f" ({error}). The run goes on there; when the host is back, run again:"
                        " what is finished is found and kept."
                    )
                time.sleep(1)
                continue
            heard = time.monotonic()
            if seen.ended or seen.gone:
                return seen.gone
            if seen.figures and every_s and heard - shown >= every_s:
                display.display(f"  {label}: {host_text.line(progress.line(seen.figures))}")
                shown = heard
        return (
            f"the work did not end within limit_s, {limit_s:g} s, and its watchdog did not end it."
            " Look for the process on the host, end it, and run again."
        )


class PosixJob:
    """A job of a Linux host, seen through its shell."""

    def __init__(
        self, action: Background, job: Mapping[str, Any], progress_file: str, patience_s: float
    ) -> None:
        self._action, self._patience_s = action, patience_s
        self.job, self._results, self._progress = job, job["results_file"], progress_file
        self._pid = 0  # of the module's process, once it is known
        self._alive = time.monotonic()

    def look(self, wait_s: float) -> Seen:
        """Read how far it is."""
        time.sleep(min(POLL_S, max(wait_s, POLL_S / 10)))
        job, figures, life = self._read(
            f"cat {shlex.quote(self._results)}",
            f"cat {shlex.quote(self._progress)} 2>/dev/null",
            f"kill -0 {self._pid} 2>/dev/null && echo alive",
        )
        known = _figures(figures)
        if life or not self._pid:
            self._alive = time.monotonic()
        gone = ""
        if time.monotonic() - self._alive > self._patience_s / 4:
            gone = (
                f"the run on the host is gone (process {self._pid}): the host was restarted or"
                " the process killed, perhaps for want of memory (dmesg). Run again: what it"
                " left behind is cleared up."
            )
        self._pid = int(known.get("pid", self._pid))
        ended = has_ended(job)
        return Seen(ended, "" if ended else gone, known)

    def result(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return the module's own result, and remove the job's file."""
        result: dict[str, Any] = self._action._execute_module(
            module_name="ansible.legacy.async_status",
            module_args={
                "jid": self.job["ansible_job_id"],
                "_async_dir": self._results.rpartition("/")[0],
            },
            task_vars=task_vars,
        )
        self._shell(f"rm -f {shlex.quote(self._results)}")
        if "child_pid" in result:  # async_wrapper names the process that it has ended, no other
            result["msg"] = "it took longer than limit_s and was ended. Raise limit_s."
        return {key: value for key, value in result.items() if key not in ASYNC_KEYS}

    def await_key(self, key_file: str, limit_s: float) -> str | None:
        """Return the first line of a file that the job writes; nothing when it ended before."""
        look = f"cat {shlex.quote(self._results)}", f"cat {shlex.quote(key_file)} 2>/dev/null"
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            ended, key = self._read(*look)
            if key or has_ended(ended):
                return key or None
            time.sleep(POLL_S)
        return ""

    def _read(self, *commands: str) -> list[str]:
        """Return the first line of each command's output."""
        text = self._shell("; echo; ".join(commands)) + "\n" * len(commands)
        return text.split("\n")[: len(commands)]

    def _shell(self, command: str) -> str:
        return str(self._action._low_level_execute_command(command)["stdout"])


def _plain(value: Any) -> Any:
    """Return what Ansible made of a module's words, an object, with plain texts and no secret."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **own)
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return hidden.masked(host_text.plain(value)) if isinstance(value, str) else value


def has_ended(text: str) -> bool:
    """Tell whether a job's file holds the module's own result already."""
    try:
        job = opener.parsed(text)
    except ValueError:
        return bool(text.strip())  # not JSON: async_status says what it is
    return not isinstance(job, dict) or "started" not in job or bool(job.get("finished"))


def _figures(text: str) -> dict[str, Any]:
    try:
        return progress.checked(opener.parsed(text))
    except ValueError:
        return {}
