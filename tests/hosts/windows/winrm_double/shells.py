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
# What a PowerShell whose streams are redirected writes on standard error, whatever it is asked.
CLIXML = (
    '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    '<Obj S="progress" RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCustomObject</T>'
    '<T>System.Object</T></TN><MS><I64 N="SourceId">1</I64><PR N="Record"><AV>{}</AV><AI>0</AI>'
    "<Nil /><PI>-1</PI><PC>-1</PC><T>Completed</T><SR>-1</SR><SD> </SD></PR></MS></Obj></Objs>"
)
PREPARING = "Preparing modules for first use.", "Preparando módulos para el primer uso."
_REMOVE = re.compile(r"Remove-Item ('(?:[^']|'')*'|\S+) -Force( -Recurse)?;?")
_KEEP_CODE = re.compile(
    r"\s*If \(-not \$\?\) \{ If \(Get-Variable LASTEXITCODE -ErrorAction SilentlyContinue\)"
    r" \{ exit \$LASTEXITCODE \} Else \{ exit 1 \} \}\s*$"
)


def run_command(command: Command) -> int:
    """Run a command of a shell to its end and return its exit code."""
    words = split_command_line(command.line)
    program = words[0].lower().removesuffix(".exe").rpartition("\\")[2] if words else ""
    if program not in ("powershell", "pwsh"):
        command.host.note("cmd", command.line)
        return _program(command, words)
    # Wine's own powershell.exe is a stub that ends with 0 and does nothing: it is never started.
    said = PREPARING[bool(command.host.faults.get("spanish", False))]
    command.write(err=CLIXML.format(said).encode())
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
    script, kept = _frame(script)
    removal = _REMOVE.fullmatch(script)  # what the shell plugin's remove() asks for
    if removal:
        return _remove(command, removal[1].strip("'").replace("''", "'"))
    code = _program(command, split_powershell(script))
    # PowerShell itself says 1 for whatever code a program ended with.
    return code if kept else min(abs(code), 1)


def _frame(script: str) -> tuple[str, bool]:
    """Take off what Ansible's shell plugin puts around a script; tell if the exit code is kept."""
    script = re.sub(r"^Set-StrictMode -Version Latest\r?\n", "", script.strip())
    bare = _KEEP_CODE.sub("", script).strip()
    return bare, bare != script or bool(re.search(r"(?i)\bexit \$LASTEXITCODE\s*$", script))


def _remove(command: Command, name: str) -> int:
    path = command.host.programs.path(name.removesuffix("\\."))
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    else:
        text = f"Remove-Item : Cannot find path '{name}' because it does not exist.\r\n"
        command.write(err=text.encode())
        return 1
    return 0


def _program(command: Command, words: list[str]) -> int:
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
