"""Windows paths, command lines and programs, in a Wine prefix."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

WINDOWS = r"C:\windows"
POLL_S = 0.1
COMMAND_LINE_MAX = 32767  # of CreateProcess, in characters
# What of cmd is played: one command of its own, or a program with a full path.
CMD_LINE = re.compile(r"(?i)/c \"?(?:(?:echo|type|exit|ver|dir)\b|[a-z]:\\)[^&|<>]*")
# Where an account that is no administrator changes nothing.
GUARDED = re.compile(r"(?i)(c:\\(windows|program files( \(x86\))?|programdata\\ssh)(\\.*)?|c:\\?)")


class UnsupportedError(Exception):
    """Something that the double does not play."""


class KilledError(Exception):
    """A program was ended from outside: by a quota, a signal or the end of its shell."""


class Programs:
    """The programs of one prefix, which is drive C:."""

    def __init__(self, prefix: Path, environment: dict[str, str], user: str) -> None:
        self.root = prefix / "drive_c"
        self._environment = environment
        self.profile = rf"C:\users\{user}"
        temp = rf"{self.profile}\AppData\Local\Temp"
        self.variables = {
            "APPDATA": rf"{self.profile}\AppData\Roaming", "COMPUTERNAME": "WINHOST",
            "LOCALAPPDATA": rf"{self.profile}\AppData\Local", "PROGRAMDATA": r"C:\ProgramData",
            "PROGRAMFILES": r"C:\Program Files", "SYSTEMDRIVE": "C:", "SYSTEMROOT": WINDOWS,
            "TEMP": temp, "TMP": temp, "USERNAME": user, "USERPROFILE": self.profile,
        }  # fmt: skip
        for folder in (temp, self.profile):
            self.path(folder).mkdir(parents=True, exist_ok=True)

    def expand(self, text: str) -> str:
        """Replace `%NAME%` and a leading `~`, as cmd.exe and Ansible's wrapper do."""

        def value(match: re.Match[str]) -> str:
            return self.variables.get(match[1].upper(), match[0])

        text = re.sub(r"%([^%\\]+)%", value, text)
        home = text == "~" or text.startswith(("~\\", "~/"))
        return self.profile + text[1:].replace("/", "\\") if home else text

    def is_guarded(self, name: str) -> bool:
        """Tell whether only an administrator may change what a path names."""
        return bool(GUARDED.fullmatch(self.expand(name).replace("/", "\\").rstrip("\\")))

    def path(self, name: str) -> Path:
        """Return where a Windows path lies, found as NTFS finds it: whatever the case.

        Raises:
            UnsupportedError: it is not an absolute path of drive C:.
            OSError: it holds a character that no name may have.
        """
        whole = self.expand(name).replace("/", "\\")
        match = re.fullmatch(r"(?:\\\\\?\\)?([A-Za-z]):(\\.*)?", whole)
        if match is None or match[1].upper() != "C":
            raise UnsupportedError(f"the path {name!r}, which is not an absolute one of drive C:")
        found = self.root
        for part in filter(None, (match[2] or "").split("\\")):
            if re.search(r'[<>:"|?*]', part):
                raise OSError(123, f"The filename, directory name, or volume label syntax: {name}")
            exact = found / part
            if not os.path.lexists(exact) and found.is_dir():
                alike = (e for e in found.iterdir() if e.name.lower() == part.lower())
                exact = next(alike, exact)
            found = exact
        return found

    def _check(self, argv: list[str]) -> None:
        """Refuse what would only seem to run: many programs of Wine's end with 0 and do nothing."""
        if not argv:
            raise UnsupportedError("an empty command")
        name = argv[0].replace("/", "\\")
        own = re.match(r"[A-Za-z]:\\(?!windows\\)", name, re.IGNORECASE)
        if not own and name.lower().rpartition("\\")[2].removesuffix(".exe") != "cmd":
            raise UnsupportedError(f"the program {argv[0]!r}: only cmd, and what has a full path")
        if name.lower().endswith(".ps1"):
            raise UnsupportedError(f"the script {argv[0]!r}")
        if own and not self.path(name).is_file():
            raise FileNotFoundError(2, "The system cannot find the file specified", argv[0])
        if own and self.path(name).read_bytes()[:2] != b"MZ":
            raise OSError(193, "%1 is not a valid Win32 application", argv[0])
        if not own and not CMD_LINE.fullmatch(" ".join(argv[1:])):
            raise UnsupportedError(f"the command line {argv!r} of cmd")
        if len(subprocess.list2cmdline(argv)) > COMMAND_LINE_MAX:
            raise OSError(206, "The filename or extension is too long", argv[0])

    def run(
        self,
        argv: list[str],
        stdin: bytes = b"",
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        started: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
    ) -> tuple[int, bytes, bytes]:
        """Run a program to its end; return its exit code and output.

        Args:
            started: is given the process, to watch or end it.

        Raises:
            UnsupportedError: it is a program of Windows that Wine only pretends to have.
            FileNotFoundError: there is no such program.
            NotADirectoryError: there is no such folder to run it in.
        """
        self._check(argv)
        folder = self.path(cwd or self.profile)
        if not folder.is_dir():
            raise NotADirectoryError(267, "The directory name is invalid", cwd)
        process = subprocess.Popen(
            ["wine", *argv], cwd=folder, env={**self._environment, **(env or {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        started(process)
        # Not communicate(): a service of Wine's may inherit the pipes and never close them.
        outputs = process.stdout, process.stderr
        parts: list[list[bytes]] = [[], []]
        readers = [
            threading.Thread(target=_drain, args=pair, daemon=True)
            for pair in zip(outputs, parts, strict=True)
        ]
        for reader in readers:
            reader.start()
        try:
            process.stdin.write(stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass
        code = process.wait()
        for reader in readers:
            reader.join(1)
        if code < 0:
            raise KilledError(f"ended by signal {-code}")
        return code, b"".join(parts[0]), b"".join(parts[1])


def _drain(pipe, parts: list[bytes]) -> None:
    while data := os.read(pipe.fileno(), 1 << 16):
        parts.append(data)


def tree(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the ids of a program and all that it started, found by their session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid:
            found.append(int(entry.name))
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started."""
    for pid in tree(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def memory(process: subprocess.Popen[bytes]) -> int:
    """Return the bytes that a program and all that it started have committed, about as Windows."""
    total = 0
    for pid in tree(process):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[5])
    return total * os.sysconf("SC_PAGE_SIZE")


def limit_memory(process: subprocess.Popen[bytes], limit: int) -> None:
    """Let a program have so much memory, with all that it starts.

    As with the limit of a Windows job object, taking more fails in the program. That holds for each
    process here, for all together there: where their sum is too much they are ended.
    """
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))

    def watch() -> None:
        while process.poll() is None:
            if memory(process) > limit:
                kill(process)
                return
            time.sleep(POLL_S)

    threading.Thread(target=watch, daemon=True).start()


def split_command_line(line: str) -> list[str]:
    """Split a command line as CommandLineToArgvW does."""
    words: list[str] = []
    word, quoted, there, at = "", False, False, 0
    while at < len(line):
        char = line[at]
        if char == "\\":
            run = len(line[at:]) - len(line[at:].lstrip("\\"))
            at += run
            if line[at : at + 1] == '"':
                word += "\\" * (run // 2)
                if run % 2:
                    word, at = word + '"', at + 1
            else:
                word += "\\" * run
            continue
        if char == '"':
            if quoted and line[at + 1 : at + 2] == '"':
                word, at = word + '"', at + 1
            else:
                quoted = not quoted
            there = True
        elif char in " \t" and not quoted:
            if word or there:
                words.append(word)
            word, there = "", False
        else:
            word += char
        at += 1
    return [*words, word] if word or there else words


_WORD = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"([^"$`]*)"|([^\s'"`$;|(){}@&<>]+))(?=\s|$)""")


def split_powershell(statement: str) -> list[str]:
    """Split one simple PowerShell statement, `[&] WORD 'quoted' "quoted"`.

    Raises:
        UnsupportedError: it is anything cleverer.
    """
    rest = re.sub(r";?\s*exit \$LASTEXITCODE\s*$", "", statement.strip()).removeprefix("&")
    words = []
    while rest.strip():
        match = _WORD.match(rest)
        if match is None:
            raise UnsupportedError(f"the PowerShell statement {statement[:300]!r}")
        single, double, plain = match.groups()
        words.append(single.replace("''", "'") if single is not None else double or plain or "")
        rest = rest[match.end() :]
    return words
