"""The project's output: a line a phase, changes and failures in full, the report's table last."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
type: stdout
short_description: A line a phase, changes and failures in full
description:
  - Prints a line when a phase of a run has ended. It has a tick, how many hosts took part, on how
    many something changed or failed, and how long it took. Roles are phases, not names of tasks.
    A gate that refuses a release counts as failed.
  - Each change has a line above that, with its diff under C(--diff). A failure and whatever this
    plugin does not know is shown as Ansible's own output shows it, warnings too.
  - On a terminal one more line shows which task is at work.
  - With C(-v) and more it is Ansible's own output, as with E(ANSIBLE_STDOUT_CALLBACK=default).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout_callback in ansible.cfg
options:
  language:
    description: The language of this plugin's own words. Names of tasks are English.
    type: str
    choices: [en, es]
    default: en
    env:
      - name: MODELOPS_LANGUAGE
    ini:
      - section: callback_phases
        key: language
"""

import os
import sys
import time
from pathlib import Path, PurePath
from typing import Any

import ansible.constants as constants
import ansible.context as context
from ansible.playbook.handler import Handler
from ansible.playbook.task import Task
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.display import Display

# The package travels to hosts as ansible.module_utils.modelops; here it is imported as it lies.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from modelops.base import host_text
from modelops.reporting import screen

CLEAR = "\r\x1b[K"  # ECMA-48: to the line's beginning, and erase to its end


class Phases(Default):
    """A line a phase. What has no method here is shown as Ansible's own output shows it."""

    def __init__(self) -> None:
        super().__init__()
        self._say: screen.Words = {}
        self._phase: screen.Phase | None = None
        self._number, self._began = 0, time.monotonic()
        self._last_task_banner: Any = None
        self._diff: Any = None  # a result whose diff is to be shown
        self._progress = False  # whether a progress line stands where the cursor is
        # Who inherits from this (ansible-runner) has marks of its own in the output.
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live = terminal and type(self) is CallbackModule
        if self._live:
            self._display_it, self._display.display = self._display.display, self._display_above

    def set_options(self, *args: Any, **options: Any) -> None:
        super().set_options(*args, **options)
        for name in ("display_ok_hosts", "display_skipped_hosts"):
            self.set_option(name, False)
        self._say = screen.words(self.get_option("language"))

    # ------------------------------------------------------------ what begins

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end()
        self._play = play

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        super()._task_start(task, prefix)
        name = _phase(task)
        if name and (self._phase is None or name != self._phase.name):
            self._end()
            self._phase = screen.Phase(name, time.monotonic())
        if self._live:
            text = host_text.line(task.get_name())[: self._display.columns - 4]
            sys.stdout.write(f"{CLEAR}  … {text}")
            sys.stdout.flush()
            self._progress = True

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing: it does nothing yet."""

    # ------------------------------------------------------------ what came of it

    def v2_runner_on_ok(self, result: Any) -> None:
        changed = bool(result.result.get("changed"))
        # A gate that refuses is no failed task: the run has things to do after it, then it fails.
        refused = result.result.get("verdict", "pass") != "pass" and not _check_mode()
        self._took_part(result, changed=changed, failed=refused)
        if result.task.loop and "results" in result.result:
            self._handle_warnings_and_exception(result)  # each item had its own lines
        else:
            self._show(result)
        self._show_diff()

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._show(result, str(self._get_item_label(result.result)))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._handle_warnings_and_exception(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._handle_warnings_and_exception(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if ignore_errors:
            self._ignored(result)
        else:
            self._took_part(result, failed=True)
            super().v2_runner_on_failed(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if result.task.ignore_unreachable:
            self._ignored(result)
        else:
            self._took_part(result, failed=True)
            super().v2_runner_on_unreachable(result)

    def v2_runner_retry(self, result: Any) -> None:
        """Say nothing: a try that is made again is no failure."""

    def v2_on_file_diff(self, result: Any) -> None:
        self._diff = result  # v2_runner_on_ok comes next, and has the line that goes above

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end()
        told = {host: stats.summarize(host) for host in stats.processed}
        took = time.monotonic() - self._began
        self._display.display(screen.end(told, took, self._say, _check_mode()))

    # ------------------------------------------------------------ how it is shown

    def _took_part(self, result: Any, changed: bool = False, failed: bool = False) -> None:
        """Count a host for the phase at work, by the tasks and handlers of that phase."""
        if self._phase is None or not (_phase(result.task) or isinstance(result.task, Handler)):
            return
        host = result.host.get_name()
        self._phase.ended = time.monotonic()
        self._phase.hosts.add(host)
        if changed:
            self._phase.changed.add(host)
        if failed:
            self._phase.failed.add(host)

    def _show(self, result: Any, item: str = "") -> None:
        """Show what a task says, and that it changed something."""
        self._handle_warnings_and_exception(result)
        if isinstance(result.task, TaskInclude):
            return
        if result.result.get("changed"):
            what = "planned" if _check_mode() else "change"
            self._note(what, result, constants.COLOR_CHANGED, item)
        if result.task.action in constants._ACTION_DEBUG:
            self._clean_results(result.result, result.task.action)
            said = result.result.get("msg")
            text = said if isinstance(said, str) else self._dump_results(result.result)
            self._display.display(screen.told(text))

    def _show_diff(self) -> None:
        """Show the diff of the change whose line was printed last; that line names the task."""
        result, self._diff = self._diff, None
        if result is not None:
            banner, self._last_task_banner = self._last_task_banner, result.task._uuid
            super().v2_on_file_diff(result)
            self._last_task_banner = banner

    def _ignored(self, result: Any) -> None:
        self._handle_warnings(result.result)
        self._note("ignored", result, constants.COLOR_WARN, str(result.result.get("msg", "")))

    def _note(self, what: str, result: Any, color: str, detail: str) -> None:
        host = self.host_label(result)
        # From ansible-core 2.21 on the name begins with the role's, as in `quantize : Write it`.
        role = result.task._role.get_name(False) if result.task._role else ""
        name = result.task_name.removeprefix(f"{role} : ")
        line = screen.note(what, host, name, self._say, detail)
        self._display.display(line, color=color)

    def _end(self) -> None:
        """Print the line of the phase that was at work, if anybody took part in it."""
        phase, self._phase = self._phase, None
        if phase and phase.hosts:
            self._number += 1
            line = phase.line(self._number, self._say, _check_mode())
            color = constants.COLOR_ERROR if phase.failed else constants.COLOR_OK
            self._display.display(line, color=color)

    def _display_above(self, *texts: Any, **options: Any) -> None:
        """Print in place of the progress line. Each message of Ansible comes here."""
        if self._progress:
            self._progress = False
            sys.stdout.write(CLEAR)
            sys.stdout.flush()  # before what goes to standard error
        self._display_it(*texts, **options)


def _phase(task: Any) -> str:
    """Return the phase of a task: what its outermost role is; empty for a handler, or without one.

    A role that another role includes works within that one's phase. A handler works in the phase
    that flushes it.
    """
    outermost, one = None, task
    while one is not None:
        outermost = one if isinstance(one, Task) and one._role else outermost
        one = one._parent
    if outermost is None or isinstance(task, Handler):
        return ""
    path = outermost.get_path().rpartition(":")[0]
    return screen.phase(outermost._role.get_name(False), PurePath(path).stem)


def _check_mode() -> bool:
    return bool(context.CLIARGS.get("check"))


# Who asks for more (-v) gets Ansible's own output.
_Output: Any = Default if Display().verbosity else Phases


class CallbackModule(_Output):
    """The plugin, by the name that Ansible looks for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "phases"
