"""WS-Management: shells, commands, their streams, and the limits of a stock Windows 11."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import traceback
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from . import programs, refusals
from .programs import KilledError, Programs, UnsupportedError

NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
}
SHELL, TRANSFER = NAMES["rsp"], NAMES["x"]
CMD = f"{SHELL}/cmd"
# The defaults of Microsoft's documents ("Quotas", and "Installation and configuration for Windows
# Remote Management"), and what cmd.exe takes as a line. A Windows of today may say 2147483647 for
# those of a shell, which is none: the host is played with the stricter ones.
QUOTAS = {
    "MaxEnvelopeSizekb": 500, "MaxMemoryPerShellMB": 1024, "MaxShellsPerUser": 30,
    "MaxProcessesPerShell": 25, "MaxConcurrentOperationsPerUser": 1500, "IdleTimeout": 7200000,
    "CommandLine": 8191,
}  # fmt: skip
# What fits a client that takes 150 KiB, in base64 and with both streams.
CHUNK = 48 << 10
# A host puts what a program wrote in several pieces into a response of several Stream elements.
PIECE = 16 << 10
TIMED_OUT = 2150858793


WMI = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError"
QUOTA_MAX_SHELLS, QUOTA_MAX_OPERATIONS = 0x803381A5, 0x803381A6
NOT_ENOUGH_QUOTA = 1816  # ERROR_NOT_ENOUGH_QUOTA, of a job object's limits


class FaultError(Exception):
    """A SOAP fault with a WSMan code, or with one of WMI."""

    def __init__(
        self,
        code: int,
        reason: str,
        kind: str = "w:InternalError",
        wmi: bool = False,
        beside: tuple[str, str] | None = None,
    ) -> None:
        self.code, self.reason, self.kind, self.wmi = code, reason, kind, wmi
        self.beside = beside or ("", reason)  # a detail, and WinRM's own message
        self.sender = "s:Sender" if beside or kind == "w:AccessDenied" else "s:Receiver"

    @classmethod
    def named(cls, code: int, spanish: bool = False, shell: str = "") -> FaultError:
        """Return a fault that real hosts were seen to give."""
        text = refusals.TEXTS[code]
        beside = refusals.lost_shell(shell) if code == refusals.NO_SHELL else None
        return cls(code, text.spanish if spanish else text.english, text.kind, beside=beside)

    def detail(self) -> str:
        reason = escape(self.reason)
        detail, message = self.beside
        if self.wmi:
            return (
                f'<p:MSFT_WmiError xmlns:p="{WMI}"><p:error_Code>{self.code}</p:error_Code>'
                "<p:error_Type>HRESULT</p:error_Type><p:error_WindowsErrorMessage>"
                f"{reason}</p:error_WindowsErrorMessage></p:MSFT_WmiError>"
            )
        return (
            f"{detail}"
            '<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" '
            f'Code="{self.code}" Machine="WINHOST"><f:Message>{escape(message)}</f:Message>'
            "</f:WSManFault>"
        )


class HttpError(Exception):
    """An HTTP status without a fault: nobody of WS-Management has seen the request."""

    def __init__(self, status: int) -> None:
        self.status = status


class Faults:
    """What is wrong with the host just now, from a file that a test writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str, default: Any) -> Any:
        try:
            return json.loads(self._path.read_text()).get(name, default)
        except (OSError, ValueError):
            return default

    def dropping(self) -> bool:
        return time.time() < self.get("drop_until", 0)


@dataclass
class Shell:
    """A shell of the resource cmd."""

    id: str
    env: dict[str, str]
    cwd: str | None
    commands: dict[str, Command] = field(default_factory=dict)
    operations: int = 0  # never less: WinRS counts what has ended too, as long as the shell is open
    used: float = field(default_factory=time.monotonic)

    def processes(self) -> int:
        """Return how many processes it has, with the cmd.exe and the PowerShell of each command."""
        programs_of = [c.process for c in list(self.commands.values()) if c.process is not None]
        running = [c for c in list(self.commands.values()) if c.code is None]
        return sum(len(programs.tree(process)) for process in programs_of) + 2 * len(running)


class Host:
    """What all connections share."""

    def __init__(self, own: Programs, faults: Faults, log: Path, user: str, password: str) -> None:
        self.programs, self.faults, self._log = own, faults, log
        self.user, self.password = user, password
        self.shells: dict[str, Shell] = {}
        self.plan = refusals.Plan()

    def quota(self, name: str) -> int:
        return int(self.faults.get("quotas", {}).get(name, QUOTAS[name]))

    def note(self, kind: str, what: Any) -> None:
        """Log what a client asked for, for tests to look at."""
        with self._log.open("a") as log:
            log.write(json.dumps([kind, what]) + "\n")

    def close(self, shell: Shell) -> None:
        """End a shell with its commands."""
        self.shells.pop(shell.id, None)
        for command in list(shell.commands.values()):
            command.end()

    def drop_idle(self) -> None:
        """Close the shells that nobody has asked for anything for too long."""
        for shell in list(self.shells.values()):
            if time.monotonic() - shell.used > self.quota("IdleTimeout") / 1000:
                self.close(shell)

    def forget(self) -> None:
        """Lose every shell, as a service that is stopped or a host that restarts."""
        for shell in list(self.shells.values()):
            self.close(shell)


class Command:
    """A command of a shell; it runs in a thread and its output waits to be fetched."""

    def __init__(self, host: Host, shell: Shell, line: str, console: bool) -> None:
        self.host, self.shell, self.line, self.console = host, shell, line, console
        self.id = str(uuid.uuid4()).upper()
        self.changed = threading.Condition()
        self.stdin, self.out, self.err = b"", b"", b""
        self.eof = self.ended = False
        self.code: int | None = None
        self.queued = bool(host.faults.get("pending", False))  # it says so once, and runs
        self.process: Any = None
        threading.Thread(target=self._run, daemon=True).start()

    def work(self) -> int:
        """Do what its line says."""
        from .shells import run_command

        return run_command(self)

    def _run(self) -> None:
        try:
            code = self.work()
        except UnsupportedError as error:
            self.write(err=f"double: it does not play {error}\r\n".encode())
            code = 250
        except KilledError:
            code = 0xC000013A - (1 << 32)
        except Exception:  # a bug of the double must not look like a hang
            self.write(err=f"double: {traceback.format_exc()}".encode())
            code = 251
        with self.changed:
            self.code = code
            self.changed.notify_all()

    def write(self, out: bytes = b"", err: bytes = b"") -> None:
        with self.changed:
            self.out, self.err = self.out + out, self.err + err
            self.changed.notify_all()

    def read(self) -> bytes:
        """Wait for the whole of standard input."""
        with self.changed:
            while not (self.eof or self.ended):
                self.changed.wait(1)
        return self.stdin

    def started(self, process: Any) -> None:
        """Watch a program by the quota of the shell."""
        self.process = process
        if self.ended:
            programs.kill(process)
        programs.limit_memory(process, self.host.quota("MaxMemoryPerShellMB") << 20)

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        if self.process is not None and self.process.poll() is None:
            programs.kill(self.process)


def answer(host: Host, request: bytes) -> tuple[int, bytes]:
    """Answer one request: an HTTP status and a SOAP envelope.

    Raises:
        HttpError: the request is larger than the quota, or a test has planned it.
    """
    if len(request) > host.quota("MaxEnvelopeSizekb") << 10:
        raise HttpError(413)
    try:
        root = ET.fromstring(request)
        header, body = root.find("s:Header", NAMES), root.find("s:Body", NAMES)
        action = header.findtext("a:Action", "", NAMES)
        relates = header.findtext("a:MessageID", "", NAMES)
        name, content = _dispatch(host, action, header, body)
        return 200, _envelope(name, relates, content)
    except FaultError as fault:
        detail = (
            f"<s:Fault><s:Code><s:Value>{fault.sender}</s:Value><s:Subcode><s:Value>{fault.kind}"
            "</s:Value></s:Subcode></s:Code><s:Reason>"
            f'<s:Text xml:lang="en-US">{escape(fault.reason)}</s:Text></s:Reason>'
            f"<s:Detail>{fault.detail()}</s:Detail></s:Fault>"
        )
        return 500, _envelope(f"{NAMES['a']}/fault", relates, detail)


def _envelope(action: str, relates: str, content: str) -> bytes:
    names = " ".join(f'xmlns:{short}="{name}"' for short, name in NAMES.items())
    anonymous = f"{NAMES['a']}/role/anonymous"
    return (
        f'<s:Envelope xml:lang="en-US" {names}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{anonymous}</a:To>"
        f"<a:RelatesTo>{relates}</a:RelatesTo></s:Header><s:Body>{content}</s:Body></s:Envelope>"
    ).encode()


def _dispatch(host: Host, action: str, header: Any, body: Any) -> tuple[str, str]:
    resource = header.findtext("w:ResourceURI", "", NAMES)
    if resource != CMD:
        raise FaultError(2150858752, f"double: only {CMD} is played", "w:DestinationUnreachable")
    refusal = host.plan.next(host.faults.get("refusals", []), action.rpartition("/")[2])
    if refusal and "http" in refusal:
        raise HttpError(refusal["http"])
    selected = header.findtext("w:SelectorSet/w:Selector[@Name='ShellId']", "", NAMES)
    if refusal:
        raise FaultError.named(refusal["code"], refusal.get("spanish", False), selected)
    if action == f"{TRANSFER}/Create":
        return f"{TRANSFER}/CreateResponse", _create(host, header, body)
    host.drop_idle()
    shell = host.shells.get(selected)
    if shell is None:
        raise FaultError.named(refusals.NO_SHELL, host.faults.get("spanish", False), selected)
    shell.used = time.monotonic()
    if action == f"{TRANSFER}/Delete":
        host.close(shell)
        return f"{TRANSFER}/DeleteResponse", ""
    if action == f"{SHELL}/Command":
        return f"{SHELL}/CommandResponse", _command(host, shell, header, body)
    return _of_command(shell, action, header, body)


def _of_command(shell: Shell, action: str, header: Any, body: Any) -> tuple[str, str]:
    """Answer what is asked of a command that runs in a shell."""
    element = body[0] if action == f"{SHELL}/Signal" else body[0][0]
    command = shell.commands.get(element.get("CommandId", ""))
    if command is None:
        raise FaultError(2150858738, "The command was not found.", "w:InvalidSelectors")
    if action == f"{SHELL}/Send":
        with command.changed:
            command.stdin += base64.b64decode(element.text or "")
            command.eof = command.eof or element.get("End", "").lower() == "true"
            command.changed.notify_all()
        return f"{SHELL}/SendResponse", "<rsp:SendResponse/>"
    if action == f"{SHELL}/Signal":
        command.end()
        shell.commands.pop(command.id, None)
        return f"{SHELL}/SignalResponse", "<rsp:SignalResponse/>"
    if action == f"{SHELL}/Receive":
        wait = re.fullmatch(r"PT([\d.]+)S", header.findtext("w:OperationTimeout", "PT60S", NAMES))
        return f"{SHELL}/ReceiveResponse", _receive(command, float(wait[1]) if wait else 60.0)
    raise FaultError(2150858817, f"double: no action {action}", "a:ActionNotSupported")


def _options(header: Any) -> dict[str, str]:
    found = header.findall("w:OptionSet/w:Option", NAMES)
    return {option.get("Name"): option.text or "" for option in found}


def _create(host: Host, header: Any, body: Any) -> str:
    host.drop_idle()
    most = host.quota("MaxShellsPerUser")
    if len(host.shells) >= most:
        raise FaultError(
            QUOTA_MAX_SHELLS,
            "The WS-Management service cannot process the request. This user is allowed a maximum"
            f" number of {most} concurrent shells, which has been exceeded. Close existing shells"
            " or raise the quota for this user.",
            "w:QuotaLimit",
        )
    variables = body.findall("rsp:Shell/rsp:Environment/rsp:Variable", NAMES)
    env = {variable.get("Name"): variable.text or "" for variable in variables}
    folder = body.findtext("rsp:Shell/rsp:WorkingDirectory", None, NAMES)
    shell = Shell(str(uuid.uuid4()).upper(), env, folder)
    host.shells[shell.id] = shell
    return (
        f"<x:ResourceCreated><a:Address>http://127.0.0.1/wsman</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name='ShellId'>{shell.id}"
        "</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>"
        f"<rsp:Shell><rsp:ShellId>{shell.id}</rsp:ShellId></rsp:Shell>"
    )


def _command(host: Host, shell: Shell, header: Any, body: Any) -> str:
    if shell.processes() >= host.quota("MaxProcessesPerShell"):
        text = "Not enough quota is available to process this command."
        raise FaultError(NOT_ENOUGH_QUOTA, text)
    operations = sum(other.operations for other in host.shells.values())
    if operations >= host.quota("MaxConcurrentOperationsPerUser"):
        raise FaultError(
            QUOTA_MAX_OPERATIONS,
            "The WS-Management service cannot process the request. The maximum number of concurrent"
            " operations for this user has been exceeded. Close existing operations for this user,"
            " or raise the quota for this user.",
            wmi=True,
        )
    shell.operations += 1
    element = body.find("rsp:CommandLine", NAMES)
    words = [element.findtext("rsp:Command", "", NAMES)]
    words += [argument.text or "" for argument in element.findall("rsp:Arguments", NAMES)]
    line = " ".join(words).strip()
    if len(line) > host.quota("CommandLine"):
        raise FaultError(2147942606, "The command line is too long.")
    console = _options(header).get("WINRS_CONSOLEMODE_STDIN", "").upper() == "TRUE"
    command = Command(host, shell, line, console)
    shell.commands[command.id] = command
    return f"<rsp:CommandResponse><rsp:CommandId>{command.id}</rsp:CommandId></rsp:CommandResponse>"


def _receive(command: Command, limit_s: float) -> str:
    """Wait for output or the end, as long as the client is willing to."""
    until = time.monotonic() + limit_s
    if command.queued:
        command.queued = False
        return _received(command, "", "Pending")
    with command.changed:
        while not (command.out or command.err or command.code is not None):
            left = until - time.monotonic()
            if left <= 0:
                text = "The operation did not complete within the time of OperationTimeout."
                raise FaultError(TIMED_OUT, text, "w:TimedOut")
            command.changed.wait(left)
        out, command.out = command.out[:CHUNK], command.out[CHUNK:]
        err, command.err = command.err[:CHUNK], command.err[CHUNK:]
        code = None if command.out or command.err else command.code
    streams = "".join(
        f'<rsp:Stream Name="{name}" CommandId="{command.id}">'
        f"{base64.b64encode(data[at : at + PIECE]).decode()}</rsp:Stream>"
        for name, data in (("stdout", out), ("stderr", err))
        for at in range(0, len(data), PIECE)
    )
    end = "" if code is None else f"<rsp:ExitCode>{code & 0xFFFFFFFF}</rsp:ExitCode>"
    if code is not None:
        streams += "".join(
            f'<rsp:Stream Name="{name}" CommandId="{command.id}" End="true"/>'
            for name in ("stdout", "stderr")
        )
    return _received(command, streams, "Running" if code is None else "Done", end)


def _received(command: Command, streams: str, state: str, end: str = "") -> str:
    return (
        f"<rsp:ReceiveResponse>{streams}<rsp:CommandState CommandId='{command.id}'"
        f" State='{SHELL}/CommandState/{state}'>{end}</rsp:CommandState></rsp:ReceiveResponse>"
    )
