"""Runs every module of the project on Linux as Ansible does, and on Windows over the bridge.

The bridge hands the module's own source to the host's Python through ansible.windows.win_command:
a call as JSON on standard input, its answer as JSON after a mark on standard output. See "Windows"
in docs/architecture.md.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import json
import re
import signal
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.validation import check_type_str
from ansible.module_utils.errors import UnsupportedError

from . import boot
from .actions import HOW, How
from .background import PATIENCE_S, Background, Look, PosixJob, Seen
from .reply import decode, failed
from .windows_job import LostError, WindowsJob

# background makes them importable
from modelops.base import hidden, host_text  # isort: skip
from modelops.execution import options, without_ansible  # isort: skip
from modelops.preflight import unreachable  # isort: skip
from . import wire  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
# Runs boot.py, which comes on standard input: a command line has a length and quotes to mind.
START = (
    "import json,sys;"
    "call=json.loads(sys.stdin.buffer.read().decode('utf-8-sig'));"
    "space={'__name__':'boot'};"
    "exec(call.pop('boot'),space);"
    "space['main'](call)"
)
# The limits of the bridge, each a variable of this name.
CALL_LIMIT_S = 600  # bridge_call_limit_s: of a module that is not a job
ANSWER_LIMIT_S = 120  # bridge_answer_limit_s: beyond what a call may take there, to be answered
# How often the lock of the run is renewed on a host where a job is at work.
HOLD_S = 60
# What is told to people of a module's result.
SPOKEN = ("msg", "problem", "problems", "notes", "journal", "module_stdout", "module_stderr")
# The connection plugin passes on what these libraries raise.
WIRE = ("requests", "urllib3", "winrm", "spnego", "pypsrp", "ssl", "http")


class LateError(Exception):
    """A call was not answered within its limit."""


class Bridge(Background):
    """The action of a module of the project; see actions.HOW for what each one differs in."""

    def run(
        self,
        tmp: str | None = None,  # noqa: ARG002 - Ansible's own
        task_vars: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run the module; see its documentation. What comes back is checked (received.checked)."""
        self._run_vars = task_vars or {}
        began, clock = time.time(), time.monotonic()
        result = self.checked(self._run(task_vars))
        # For the time line of the report, by the controller's own clock.
        took = {"began": round(began, 3), "seconds": round(time.monotonic() - clock, 3)}
        return {**self._shown(result), "took": took}

    def _shown(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return a result in which no secret of an option or of what a service said is seen."""
        shown = {name: _masked(said) if name in SPOKEN else said for name, said in result.items()}
        given = {
            name: hidden.MARK if value and name in self.how.hidden else _masked(value)
            for name, value in self._task.args.items()
        }
        return shown | {"invocation": {"module_args": given}}  # what -vvv shows

    def _run(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if not getattr(self._connection._shell, "_IS_WINDOWS", False):
            return self.run_posix(task_vars)
        asynchronous, self._task.async_val = self._task.async_val, 0
        if asynchronous:
            return failed(
                "`async` is not for this module on a Windows host: what is long goes to the"
                " background by itself, and shows how far it is. Remove `async` and `poll`; the"
                " limit is limit_s where the module has it, and the variable bridge_job_limit_s."
            )
        if getattr(self._connection, "transport", "") == "psrp":
            return failed(
                "`ansible_connection: psrp` is refused: its shells end a job with themselves,"
                " unless WMI starts it, which only an administrator may. Take winrm or ssh"
                " (docs/windows-setup.md)."
            )
        if self.how.posix_only:
            return failed(f"{self.module} cannot run on a Windows host: {self.how.posix_only}")
        try:
            params = validate(self.module, self._task.args)
        except ValueError as error:
            return failed(str(error))
        try:
            result = self.run_windows(params, task_vars or {})
        except AnsibleConnectionFailure as error:
            said = host_text.plain(unreachable.explain(str(error)))
            raise AnsibleConnectionFailure(said) from error
        return result

    def run_posix(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module on Linux: as Ansible does, or as a job whose progress is shown."""
        args = dict(self._task.args)
        try:
            every_s, limit_s = shown_s(args, options.PROGRESS)
        except (TypeError, ValueError):
            every_s = limit_s = 0  # the module says what is wrong with it
        if (
            self._task.check_mode
            or self._task.async_val
            or every_s <= 0
            or not args.get(self.how.shown)
        ):
            result: dict[str, Any] = super().run(None, task_vars)
            return result
        return self._run_shown(args, every_s, limit_s, task_vars)

    def _run_shown(
        self, args: dict[str, Any], every_s: float, limit_s: int, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Run the module in the host's background, and show how far it is."""
        if not args.get("progress_file"):
            folder, _, name = self._remote_expand_user(str(args[self.how.shown])).rpartition("/")
            args["progress_file"] = f"{folder or '.'}/.{name}.progress"
        started = self.start_job(limit_s, task_vars, module_args=args)
        if "ansible_job_id" not in started:
            return started
        patience_s = self.limit("background_patience_s", PATIENCE_S, task_vars)
        job = PosixJob(self, started, args["progress_file"], patience_s)
        name = Path(str(args[self.how.shown])).name
        label = f"[{(task_vars or {}).get('inventory_hostname', '')}] {name}"
        problem = self.watch(label, job.look, every_s, limit_s, patience_s)
        return failed(problem) if problem else job.result(task_vars)

    def run_windows(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module on a Windows host."""
        if not self.how.background:
            limit_s = self.limit("bridge_call_limit_s", CALL_LIMIT_S, task_vars)
            limit = {"limit_s": limit_s, "limit_is": "bridge_call_limit_s"}
            call = {"do": "call", **limit, **self._work(params)}
            return self.ask(call, task_vars, "result")
        job = WindowsJob.begin(self, params, task_vars)
        return job.finish() if isinstance(job, WindowsJob) else job

    def watch(
        self, label: str, look: Look, every_s: float, limit_s: float, patience_s: float
    ) -> str:
        """Show a job's progress until it has ended, and hold the run's lock on its host."""
        held = time.monotonic()

        def look_and_hold(wait_s: float) -> Seen:
            nonlocal held
            seen = look(wait_s)
            if time.monotonic() - held >= HOLD_S:
                self._hold_lock()
                held = time.monotonic()
            return seen

        return super().watch(label, look_and_hold, every_s, limit_s, patience_s)

    def _hold_lock(self) -> None:
        """Renew the lock that the run took on this host (roles/run_lock)."""
        known = self._run_vars
        if self._task.delegate_to:
            known = known["hostvars"][self._task.delegate_to]
        if held := known.get("__run_lock", {}).get("held"):
            self._call_beside("host_lock", {**held, "state": "held"})

    def _call_beside(self, module: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call another module of the project on the host while a job of this one is at work."""
        if not getattr(self._connection._shell, "_IS_WINDOWS", False):
            made: dict[str, Any] = self._execute_module(
                module_name=module, module_args=args, task_vars=self._run_vars
            )
            return made
        work = {"module": module, "params": validate(module, args), "check": False}
        return self.ask({"do": "call", "limit_s": CALL_LIMIT_S, **work}, self._run_vars, "result")

    @property
    def how(self) -> How:
        """Return how its module is run."""
        return HOW[self.module]

    @property
    def module(self) -> str:
        """Return the module's name, without that of a collection."""
        return str(self._task.action).rpartition(".")[2]

    def _work(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"module": self.module, "params": params, "check": self._task.check_mode}

    def ask(
        self, call: Mapping[str, Any], task_vars: dict[str, Any], part: str = ""
    ) -> dict[str, Any]:
        """Make a call; bring the code when the host lacks it.

        Returns:
            The reply, or its `part`; a failed result when there is none. `brought` tells that the
            host lacked the code.
        """
        reply = self._exchange(call, task_vars)
        if reply.get("need") == "code":
            reply = self._exchange({**call, "package": packed()[1]}, task_vars) | {"brought": True}
        if part and part in reply:
            return dict(reply[part]) | {k: v for k, v in reply.items() if k.startswith("module_")}
        return reply

    def _exchange(self, call: Mapping[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        wire.be_patient(self._connection)
        command = self.command(call, task_vars)
        own_s = {"call": call.get("limit_s"), "watch": call.get("wait_s")}.get(call["do"])
        answer_s = self.limit("bridge_answer_limit_s", ANSWER_LIMIT_S, task_vars)
        with self._for_real(), self._answered((own_s or 0) + answer_s):
            raw = self._execute_module(**command, task_vars=task_vars)
        return decode(raw, command["module_args"]["argv"][0])

    def start(
        self, call: Mapping[str, Any], limit_s: float, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Make a call in the background; return the failed result, or Ansible's own of the job."""
        wire.be_patient(self._connection)
        command = self.command(call, task_vars)
        answer_s = self.limit("bridge_answer_limit_s", ANSWER_LIMIT_S, task_vars)
        with self._for_real(), self._answered(answer_s):
            raw = self.start_job(limit_s, task_vars, **command)
        return raw if "ansible_job_id" in raw else decode(raw, command["module_args"]["argv"][0])

    @contextlib.contextmanager
    def _for_real(self) -> Iterator[None]:
        """Execute a module though the task is in check mode, and name a lost connection so."""
        # win_command has no check mode: it would skip the call. The module's own code has.
        check, self._task.check_mode = self._task.check_mode, False
        try:
            yield
        except Exception as error:
            kind = LostError if self._may_have_arrived() else AnsibleConnectionFailure
            if isinstance(error, LateError) or type(error).__module__.partition(".")[0] in WIRE:
                with contextlib.suppress(Exception):
                    self._connection.reset()
                raise kind(f"{type(error).__name__}: {error}") from error
            if isinstance(error, AnsibleConnectionFailure):
                raise kind(str(error)) from error
            raise
        finally:
            self._task.check_mode = check

    def _may_have_arrived(self) -> bool:
        """Tell whether a call whose connection failed may have reached the host."""
        # Over SSH each call is a program of its own, whose plugin never says that it was connected.
        return bool(self._connection.connected or self._connection.transport == "ssh")

    @contextlib.contextmanager
    def _answered(self, limit_s: float) -> Iterator[None]:
        """Wait so long at most: WinRM's own waiting begins anew whenever it has timed out."""
        if self._task.timeout:  # Ansible has set the limit of the task already
            yield
            return

        def pass_limit(*_: object) -> None:
            raise LateError(f"no answer within {limit_s:g} s (see bridge_answer_limit_s)")

        before = signal.signal(signal.SIGALRM, pass_limit)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def command(self, call: Mapping[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what _execute_module needs to make a call."""
        argv = [self.python(task_vars), "-I", "-X", "utf8", "-c", START]
        text = json.dumps(
            {"boot": Path(boot.__file__).read_text(encoding="utf-8"), **packed()[0], **call}
        )
        return {
            "module_name": "ansible.windows.win_command",
            "module_args": {"argv": argv, "stdin": text},
        }

    def python(self, task_vars: dict[str, Any]) -> str:
        """Return the host's Python."""
        known = task_vars
        if self._task.delegate_to:
            known = task_vars["ansible_delegated_vars"][self._task.delegate_to]
        python = str(self._templar.template(known.get("ansible_python_interpreter", "")))
        return require_python(python)


def _masked(said: Any) -> Any:
    """Hide what looks like a secret in a text, or in a list of texts."""
    if isinstance(said, list):
        return [_masked(each) for each in said]
    return hidden.masked(said) if isinstance(said, str) else said


def shown_s(args: Mapping[str, Any], defaults: options.Options) -> tuple[float, int]:
    """Return `progress_s` and `limit_s` of a task.

    Raises:
        TypeError: one is no number.
        ValueError: the same.
    """
    every_s, limit_s = (
        args.get(name, defaults[name]["default"]) for name in ("progress_s", "limit_s")
    )
    return float(every_s), int(limit_s)


def validate(module: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's options as its own description (MODULE) makes them of a task's.

    Raises:
        ValueError: they are wrong, in the words of AnsibleModule.
    """
    described = without_ansible.load(module).MODULE
    spec = {
        name: {**option, "type": path} if option.get("type") == "path" else option
        for name, option in described["argument_spec"].items()
    }
    others = ("argument_spec", "supports_check_mode")
    rules = {name: rule for name, rule in described.items() if name not in others}
    validator = ArgumentSpecValidator(spec, **rules)
    checked = validator.validate(args)
    if checked.error_messages:
        text = checked.errors.msg
        if isinstance(checked.errors[0], UnsupportedError):
            text = f"Unsupported parameters for ({module}) module: {text}"
        raise ValueError(text)
    return dict(checked.validated_parameters)


def path(value: Any) -> str:
    """Take a path as it is: what ~ and variables in it mean, the host knows."""
    return str(check_type_str(value))


def require_python(python: str) -> str:
    """Return the host's Python as a full path.

    Raises:
        AnsibleError: it is not one, or one of the starters `py` and those of the Store.
    """
    if not re.match(r"[A-Za-z]:[\\/]|\\\\", python):
        raise AnsibleError(
            f"ansible_python_interpreter is {python or 'not set'!r} for this Windows host. Set it"
            r" to the full path of a Python there, for example C:\SARAi_v2\venv\Scripts\python.exe"
        )
    if re.search(r"(?i)[\\/](pyw?(\.exe)?$|WindowsApps[\\/])", python):
        raise AnsibleError(
            f"ansible_python_interpreter is {python!r}, which is no Python: it starts one of the"
            " user who asks, or the Store. Name the python.exe itself, of a Python that is"
            " installed for all users: py --list-paths shows them there."
        )
    return python.replace("/", "\\")


@functools.cache
def packed() -> tuple[dict[str, Any], str]:
    """Return SHA-256 (`code`) and `size` of the project's code, and the code as it travels."""
    content, size = io.BytesIO(), 0
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(
            [*ROOT.glob("library/*.py"), *ROOT.glob("module_utils/modelops/**/*.py")]
        ):
            # The same bytes give the same archive, whenever and wherever it is made.
            entry = zipfile.ZipInfo(file.relative_to(ROOT).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.create_system = 0
            source = file.read_bytes()
            archive.writestr(entry, source)
            size += len(source)
    code = content.getvalue()
    known = {"code": hashlib.sha256(code).hexdigest(), "size": size}
    return known, base64.b64encode(zlib.compress(code)).decode()
