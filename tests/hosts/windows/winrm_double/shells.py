"""What a command line is: Ansible's wrapper, a simple PowerShell statement, or a program."""

from __future__ import annotations

import base64
import re
import shutil
import traceback
from xml.sax.saxutils import escape

from .manifest import run_manifest
from .programs import KilledError, UnsupportedError, split_command_line, split_powershell
from .wsman import Command

CMD_NOT_FOUND = (
    "'{}' is not recognized as an internal or external command,\r\n"
    "operable program or batch file.\r\n"
)
# What a PowerShell whose streams are redirected writes on standard error, whatever it is asked: its
# progress, and what else would stand there.
CLIXML = (
    '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    '<Obj S="progress" RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCustomObject</T>'
    '<T>System.Object</T></TN><MS><I64 N="SourceId">1</I64><PR N="Record"><AV>{}</AV><AI>0</AI>'
    "<Nil /><PI>-1</PI><PC>-1</PC><T>Completed</T><SR>-1</SR><SD> </SD></PR></MS></Obj>{}</Objs>"
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
    said: list[bytes] = []
    plain = command.write

    def write(out: bytes = b"", err: bytes = b"") -> None:
        said.append(err)
        plain(out)

    command.write = write
    try:
        return _powershell(command, words)
    except KilledError:
        raise
    except UnsupportedError as error:
        said.append(f"double: it does not play {error}\r\n".encode())
        return 250
    except Exception:  # a bug of the double must not look like a hang
        said.append(f"double: {traceback.format_exc()}".encode())
        return 251
    finally:
        spanish = bool(command.host.faults.get("spanish", False))
        plain(err=clixml(b"".join(said), PREPARING[spanish]))


def clixml(errors: bytes, progress: str) -> bytes:
    """Return what PowerShell makes of texts on standard error, and of its own progress."""
    lines = [escape(line) for line in errors.decode(errors="replace").splitlines()]
    texts = "".join(f'<S S="Error">{line}_x000D__x000A_</S>' for line in lines)
    return CLIXML.format(progress, texts).encode()


def _powershell(command: Command, words: list[str]) -> int:
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
