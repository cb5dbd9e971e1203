"""What a command line is: Ansible's wrapper, a simple PowerShell statement, or a program."""

from __future__ import annotations

import base64
import re
import shutil

from .manifest import run_manifest
from .programs import UnsupportedError, split_command_line, split_powershell
from .wsman import Command

CMD_NOT_FOUND = (
    "'{}' is not recognized as an internal or external command,\r\n"
    "operable program or batch file.\r\n"
)
# What the shell plugin's remove() asks for: that of cmd, or that of powershell with what it adds.
_REMOVE = re.compile(
    r"(?:Set-StrictMode -Version Latest\n)?Remove-Item ('(?:[^']|'')*'|\S+) -Force(?: -Recurse)?;?"
    r"(?:\nIf \(-not \$\?\) .*)?"
)


def run_command(command: Command) -> int:
    """Run a command of a shell to its end and return its exit code."""
    words = split_command_line(command.line)
    program = words[0].lower().removesuffix(".exe").rpartition("\\")[2] if words else ""
    if program not in ("powershell", "pwsh"):
        command.host.note("cmd", command.line)
        return _program(command, words)
    # Wine's own powershell.exe is a stub that ends with 0 and does nothing: it is never started.
    flags = [word.lower() for word in words]
    encoded = [
        i for i, word in enumerate(flags) if len(word) > 1 and "-encodedcommand".startswith(word)
    ]
    encoded += [i for i, word in enumerate(flags) if word == "-ec"]
    if not encoded:
        raise UnsupportedError(f"PowerShell without -EncodedCommand: {command.line[:200]!r}")
    script = base64.b64decode(words[encoded[0] + 1]).decode("utf-16-le")
    if "$codeJson = foreach ($in in" in script and "$code.params.PSObject.Properties" in script:
        return run_manifest(command, command.read())  # ansible-core's bootstrap_wrapper.ps1
    command.host.note("powershell", script)
    removal = _REMOVE.fullmatch(script.strip())
    if removal:
        name = removal[1].strip("'").replace("''", "'").removesuffix("\\.")
        path = command.host.programs.path(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return 0
    return _program(command, split_powershell(script))


def _program(command: Command, words: list[str]) -> int:
    if not words:
        raise UnsupportedError("an empty command")
    if re.fullmatch(r"[a-z]+-[a-z]+", words[0].lower()):
        raise UnsupportedError(f"the cmdlet {words[0]}")
    stdin = b"" if command.console else command.read()
    try:
        code, out, err = command.host.programs.run(
            words, stdin, command.shell.cwd, command.shell.env, command.started
        )
    except FileNotFoundError:
        command.write(err=CMD_NOT_FOUND.format(words[0]).encode())
        return 1
    command.write(out, err)
    return code
