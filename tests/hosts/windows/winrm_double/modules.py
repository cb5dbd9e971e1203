"""The upstream modules that the double plays, as their documentation and .ps1 sources say.

Each is a function of a Call that fills in a result; `options` has checked what it was given.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .options import validate
from .programs import KilledError, Programs, UnsupportedError, split_command_line, split_powershell

Module = Callable[["Call"], None]
COLLECTIONS = ("ansible.windows.", "ansible.builtin.", "ansible.legacy.")


class FailedError(Exception):
    """A module's own failure."""


@dataclass
class Call:
    """One call of a module: its arguments, and the result that it fills in."""

    programs: Programs
    arguments: dict[str, Any]
    env: dict[str, str]
    started: Callable[[Any], None]
    result: dict[str, Any] = field(default_factory=lambda: {"changed": False})
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def check_mode(self) -> bool:
        return bool(self.arguments.get("_ansible_check_mode"))

    def path(self, name: str) -> Path:
        return self.programs.path(name)

    def may_change(self, name: str) -> bool:
        """Tell whether it is to change what a path names, which not every account may."""
        if self.check_mode:
            return False
        if self.programs.is_guarded(name):
            raise FailedError(f"Access to the path '{self.programs.expand(name)}' is denied.")
        return True


def find(script: str) -> Module:
    """Return the module of a script's name.

    Raises:
        UnsupportedError: it is not played.
    """
    name = script.removesuffix(".ps1").removeprefix("ansible_collections.")
    name = name.replace(".plugins.modules.", ".")
    short = name.rpartition(".")[2]
    if name != short and not name.startswith(COLLECTIONS):
        raise UnsupportedError(f"the module {name}")
    if short not in PLAYED:
        raise UnsupportedError(f"the module {name}")
    return PLAYED[short]


def run(module: Module, call: Call) -> dict[str, Any]:
    """Run a module and return its result."""
    if call.check_mode and module in WITHOUT_CHECK_MODE:
        text = "remote module does not support check mode"
        return {"changed": False, "skipped": True, "msg": text}
    try:
        call.given = validate(module.__name__, call.arguments)
        module(call)
    except (FailedError, ValueError) as error:
        call.result.update(failed=True, msg=str(error))
    except (UnsupportedError, KilledError):
        raise
    except OSError as error:
        call.result.update(failed=True, msg=f"Unhandled exception while executing module: {error}")
    shown = {k: v for k, v in call.arguments.items() if not k.startswith("_ansible")}
    return {**call.result, "invocation": {"module_args": shown}}


def _digest(path: Path, algorithm: str = "sha1") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def win_ping(call: Call) -> None:
    if call.given["data"] == "crash":
        raise FailedError("Unhandled exception while executing module: boom")
    call.result["ping"] = call.given["data"]


def win_stat(call: Call) -> None:
    given = call.given
    path = call.path(given["path"])
    if not os.path.lexists(path):
        call.result["stat"] = {"exists": False}
        return
    if path.is_symlink():
        raise UnsupportedError("links")
    found, folder = path.stat(), path.is_dir()
    whole = call.programs.expand(given["path"]).replace("/", "\\")
    whole = whole if whole.endswith(":\\") else whole.rstrip("\\")
    stat = {
        "exists": True, "attributes": "Directory" if folder else "Archive", "isdir": folder,
        "isarchive": not folder, "isreg": not folder, "ishidden": False, "isreadonly": False,
        "isjunction": False, "islnk": False, "isshared": False, "nlink": 1, "hlnk_targets": [],
        "path": whole, "filename": whole.rstrip("\\").rpartition("\\")[2],
        "creationtime": found.st_ctime, "lastaccesstime": found.st_atime,
        "lastwritetime": found.st_mtime, "owner": "BUILTIN\\Administrators",
    }  # fmt: skip
    if given["get_size"]:
        files = (p for p in path.rglob("*") if p.is_file()) if folder else (path,)
        stat["size"] = sum(file.stat().st_size for file in files)
    if not folder:
        stat["extension"] = path.suffix
        if given["get_checksum"]:
            stat["checksum"] = _digest(path, given["checksum_algorithm"])
    call.result["stat"] = stat


def win_file(call: Call) -> None:
    name, state = call.given["path"], call.given.get("state")
    path = call.path(name)
    exists = os.path.lexists(path)
    if state == "absent":
        call.result["changed"] = exists
        if exists and call.may_change(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif state == "directory":
        if exists and not path.is_dir():
            raise FailedError(f"path {name} is not a directory")
        call.result["changed"] = not exists
        if not exists and call.may_change(name):
            path.mkdir(parents=True)
    elif state == "touch":
        call.result["changed"] = True
        if call.may_change(name):
            path.touch()
    elif not exists:
        raise FailedError(f"path {name} will not be created")
    elif state == "file" and path.is_dir():
        raise FailedError(f"path {name} is not a file")


def win_copy(call: Call) -> None:
    given, mode, dest = call.given, call.given["_copy_mode"], call.given["dest"]
    if given["backup"]:
        raise UnsupportedError("the option backup of win_copy")
    if mode == "query":
        _query(call, given, dest)
        return
    name = given.get("src") or ""
    source, path = call.path(name), call.path(dest)
    if not source.exists():
        raise FailedError(f"Cannot copy src file: '{name}' as it does not exist")
    if not source.is_file():
        raise UnsupportedError("win_copy of a folder")
    whole = dest
    if dest.endswith(("\\", "/")) or path.is_dir():
        last = source.name if mode == "remote" else given.get("_original_basename")
        whole = dest.rstrip("\\/") + "\\" + last
        path = call.path(whole)
    _need_folder(path, whole, make=whole != dest)
    if mode == "single":
        call.result["changed"] = call.may_change(whole)
        shutil.copyfile(source, path)
        return
    checksum = _digest(source) if given["force"] else None
    right = path.is_file() and (not given["force"] or _digest(path) == checksum)
    call.result["changed"] = not right
    if not right and call.may_change(whole):
        shutil.copyfile(source, path)
    call.result.update(
        src=name, dest=whole, operation="file_copy", original_basename=source.name,
        checksum=checksum, size=path.stat().st_size if path.is_file() else None,
    )  # fmt: skip


def _need_folder(path: Path, whole: str, make: bool) -> None:
    """Refuse a destination whose folder is missing, or make it."""
    parent = whole.replace("/", "\\").rpartition("\\")[0]
    if path.parent.is_file():
        raise FailedError(f"object at destination parent dir '{parent}' is currently a file")
    if not path.parent.is_dir():
        if not make:
            raise FailedError(f"Destination directory '{parent}' does not exist")
        path.parent.mkdir(parents=True)


def _query(call: Call, given: dict[str, Any], dest: str) -> None:
    """Tell the action plugin what it must send."""
    wanted: dict[str, list[Any]] = {"files": [], "directories": [], "symlinks": []}
    for file in given.get("files") or []:
        path = call.path(dest.rstrip("\\") + "\\" + file["dest"] if file["dest"] else dest)
        if path.is_dir():
            path = path / Path(file["src"]).name
        if path.is_dir():
            text = f"cannot copy file to dest '{dest}': object at path is already a directory"
            raise FailedError(text)
        if not path.exists() or (given["force"] and _digest(path) != file["checksum"]):
            wanted["files"].append(file)
    for folder in given.get("directories") or []:
        if not call.path(dest.rstrip("\\") + "\\" + folder["dest"]).is_dir():
            wanted["directories"].append(folder)
    call.result.update(wanted)


def win_command(call: Call) -> None:
    given = call.given
    line = given.get("cmd") or (given.get("_raw_params") or "").strip()
    argv = [str(word) for word in given.get("argv") or split_command_line(line)]
    call.result.update(cmd=line or subprocess.list2cmdline(argv), rc=0)
    if _is_spared(call):
        return
    try:
        _execute(call, argv, (given.get("stdin") or "").encode())
    except OSError as error:
        call.result["rc"] = 2 if isinstance(error, NotADirectoryError) else error.errno
        said = f"CreateProcessW() failed ({error.strerror}, Win32ErrorCode {error.errno})"
        said = f'Exception calling "CreateProcess" with "7" argument(s): "{said}"'
        if isinstance(error, NotADirectoryError):
            said = f"Could not find specified -WorkingDirectory '{given['chdir']}'"
        raise FailedError(f"Failed to run: '{call.result['cmd']}': {said}") from None


def win_shell(call: Call) -> None:
    given = call.given
    line = given["_raw_params"].strip()
    shell = str(given.get("executable") or "powershell").lower().removesuffix(".exe")
    if shell not in ("cmd", "powershell"):
        raise UnsupportedError(f"the executable {given['executable']} of win_shell")
    call.result.update(cmd=line, rc=0)
    if _is_spared(call):
        return
    call.result["changed"] = True  # from its start, even where it fails
    stdin = (given.get("stdin") or "").encode()
    if stdin and not stdin.endswith(b"\r\n"):
        stdin += b"\r\n"  # as Ansible.Process writes a text
    own_code = shell == "powershell" and not re.search(r"(?i)\bexit \$LASTEXITCODE\s*$", line)
    argv = split_powershell(line) if shell == "powershell" else ["cmd.exe", "/c", line]
    try:
        _execute(call, argv, stdin, own_code)
    except NotADirectoryError:
        call.result.update(changed=False, rc=2)
        raise FailedError(f"invalid working directory path '{given['chdir']}'") from None
    except FileNotFoundError:
        text = f"{argv[0]} : The term '{argv[0]}' is not recognized as the name of a cmdlet"
        call.result.update(rc=1, stdout="", stderr=text)
        raise FailedError("non-zero return code") from None


def _is_spared(call: Call) -> bool:
    """Tell whether `creates` or `removes` makes a command needless."""
    for option, there in (("creates", True), ("removes", False)):
        name = call.given.get(option)
        if name and os.path.lexists(call.path(name)) == there:
            state = "exists" if there else "does not exist"
            call.result.update(skipped=True, msg=f"skipped, since {name} {state}")
            return True
    return False


def _execute(call: Call, argv: list[str], stdin: bytes, own_code: bool = False) -> None:
    """Run a program; PowerShell itself says 1 for whatever code a program ended with."""
    begun = datetime.datetime.now(datetime.UTC)
    try:
        found = call.programs.run(argv, stdin, call.given.get("chdir"), call.env, call.started)
    except KilledError:
        found = (-1, b"", b"")
    code, out, err = found
    code = min(abs(code), 1) if own_code else code
    ended = datetime.datetime.now(datetime.UTC)
    encoding = call.given.get("output_encoding_override") or "utf-8"
    call.result.update(
        changed=True, rc=code, stdout=out.decode(encoding, "replace"),
        stderr=err.decode(encoding, "replace"), start=f"{begun:%Y-%m-%d %H:%M:%S.%f}",
        end=f"{ended:%Y-%m-%d %H:%M:%S.%f}", delta=str(ended - begun),
    )  # fmt: skip
    if code:
        raise FailedError("non-zero return code")


def win_tempfile(call: Call) -> None:
    given = call.given
    name = f"{given['prefix']}{os.urandom(6).hex()}{given.get('suffix') or ''}"
    whole = call.programs.expand(given["path"]).rstrip("\\") + "\\" + call.programs.expand(name)
    call.result.update(changed=True, path=whole, state=given["state"])
    if not call.check_mode:
        path = call.path(whole)
        path.mkdir() if given["state"] == "directory" else path.touch()


def slurp(call: Call) -> None:
    name = call.given["src"]
    path = call.path(name)
    if not path.is_file():
        raise FailedError(f"Path {name} is {'a directory' if path.is_dir() else 'not found'}")
    content = base64.b64encode(path.read_bytes()).decode()
    call.result.update(content=content, encoding="base64")


def async_status(call: Call) -> None:
    given = call.given
    folder = call.programs.expand(given["_async_dir"])
    name = f"{folder}\\{given['jid']}"
    path = call.path(name)
    if not path.exists():
        call.result.update(ansible_job_id=given["jid"], started=1, finished=1)
        raise FailedError(f"could not find job at '{folder}'")
    if given["mode"] == "cleanup":
        path.unlink()
        call.result.update(ansible_job_id=given["jid"], erased=name)
        return
    call.result.clear()
    call.result.update({"finished": False, **json.loads(path.read_text())})


def setup(call: Call) -> None:
    if call.given["gather_subset"] not in (["all"], []):
        raise UnsupportedError(f"gather_subset {call.given['gather_subset']}")
    call.result["ansible_facts"] = {
        "ansible_os_family": "Windows", "ansible_system": "Win32NT",
        "ansible_distribution": "Microsoft Windows 11 Pro",
        "ansible_distribution_version": "10.0.26100.0", "ansible_architecture": "64-bit",
        "ansible_hostname": "WINHOST", "ansible_env": dict(call.programs.variables),
        "ansible_powershell_version": 5,
        "ansible_user_id": call.programs.variables["USERNAME"],
    }  # fmt: skip


PLAYED: dict[str, Module] = {
    module.__name__: module
    for module in (
        win_ping, win_stat, win_file, win_copy, win_command, win_shell, win_tempfile, slurp,
        async_status, setup,
    )
}  # fmt: skip
WITHOUT_CHECK_MODE = {win_command, win_shell}
