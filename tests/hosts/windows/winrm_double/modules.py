"""The upstream modules that the double plays, as their documentation and .ps1 sources say.

Each is a function of a Call that fills in a result. Options that one does not know it refuses.
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

    @property
    def check_mode(self) -> bool:
        return bool(self.arguments.get("_ansible_check_mode"))

    def options(self, *known: str) -> dict[str, Any]:
        """Return the options given; refuse those that are not played."""
        given = {
            k: v
            for k, v in self.arguments.items()
            if not k.startswith("_ansible") and v is not None
        }
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise UnsupportedError(f"the options {', '.join(unknown)}")
        return given

    def path(self, name: str) -> Path:
        return self.programs.path(name)


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
    shown = {k: v for k, v in call.arguments.items() if not k.startswith("_ansible")}
    if call.check_mode and module in WITHOUT_CHECK_MODE:
        text = "remote module does not support check mode"
        return {"changed": False, "skipped": True, "msg": text}
    try:
        module(call)
    except FailedError as error:
        call.result.update(failed=True, msg=str(error))
    except (UnsupportedError, KilledError):
        raise
    except OSError as error:
        call.result.update(failed=True, msg=f"Unhandled exception while executing module: {error}")
    return {**call.result, "invocation": {"module_args": shown}}


def _truth(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")


def _digest(path: Path, algorithm: str = "sha1") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def win_ping(call: Call) -> None:
    data = call.options("data").get("data", "pong")
    if data == "crash":
        raise FailedError("Unhandled exception while executing module: boom")
    call.result["ping"] = data


def win_stat(call: Call) -> None:
    given = call.options(
        "path", "dest", "name", "get_checksum", "get_size", "checksum_algorithm", "follow"
    )
    name = given.get("path") or given.get("dest") or given["name"]
    path = call.path(name)
    if not os.path.lexists(path):
        call.result["stat"] = {"exists": False}
        return
    found, folder = path.stat(), path.is_dir()
    whole = call.programs.expand(name)
    stat = {
        "exists": True, "attributes": "Directory" if folder else "Archive", "isdir": folder,
        "isarchive": not folder, "isreg": not folder, "ishidden": False, "isreadonly": False,
        "isjunction": False, "islnk": False, "isshared": False, "nlink": 1, "hlnk_targets": [],
        "path": whole, "filename": whole.rstrip("\\").rpartition("\\")[2],
        "creationtime": found.st_ctime, "lastaccesstime": found.st_atime,
        "lastwritetime": found.st_mtime, "owner": "BUILTIN\\Administrators",
    }  # fmt: skip
    if _truth(given.get("get_size", True)):
        files = (p for p in path.rglob("*") if p.is_file()) if folder else (path,)
        stat["size"] = sum(file.stat().st_size for file in files)
    if not folder:
        stat["extension"] = path.suffix
        if _truth(given.get("get_checksum", True)):
            stat["checksum"] = _digest(path, given.get("checksum_algorithm", "sha1"))
    call.result["stat"] = stat


def win_file(call: Call) -> None:
    given = call.options("path", "dest", "name", "state")
    name = given.get("path") or given.get("dest") or given["name"]
    path, state = call.path(name), given.get("state", "file")
    exists = os.path.lexists(path)
    if state == "absent":
        call.result["changed"] = exists
        if exists and not call.check_mode:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif state == "directory":
        if exists and not path.is_dir():
            raise FailedError(f"path {name} is not a directory")
        call.result["changed"] = not exists
        if not exists and not call.check_mode:
            path.mkdir(parents=True)
    elif state == "touch":
        call.result["changed"] = True
        if not call.check_mode:
            path.touch()
    elif not exists:
        raise FailedError(f"path {name} will not be created")
    elif path.is_dir():
        raise FailedError(f"path {name} is a directory")


def win_copy(call: Call) -> None:
    given = call.options(
        "src", "dest", "content", "force", "remote_src", "backup", "local_follow", "decrypt",
        "_copy_mode", "_original_basename", "files", "directories", "symlinks",
    )  # fmt: skip
    if _truth(given.get("backup", False)):
        raise UnsupportedError("the option backup")
    mode, dest = given.get("_copy_mode", "single"), given["dest"]
    if mode == "query":
        _query(call, given, dest)
        return
    if mode not in ("single", "remote"):
        raise UnsupportedError(f"win_copy with _copy_mode {mode}")
    source, path = call.path(given["src"]), call.path(dest)
    if not source.is_file():
        raise FailedError(f"Cannot copy src file: '{given['src']}' as it does not exist")
    if dest.endswith(("\\", "/")) or path.is_dir():
        name = given.get("_original_basename") or source.name
        path = call.path(dest.rstrip("\\/") + "\\" + name)
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.parent.is_dir():
        folder = dest.rpartition("\\")[0]
        raise FailedError(f"Destination directory '{folder}' does not exist")
    if mode == "remote" and path.is_file() and _digest(path) == _digest(source):
        return
    call.result["changed"] = True
    if not call.check_mode:
        shutil.copyfile(source, path)


def _query(call: Call, given: dict[str, Any], dest: str) -> None:
    """Tell the action plugin what it must send."""
    wanted: dict[str, list[Any]] = {"files": [], "directories": [], "symlinks": []}
    for file in given.get("files") or []:
        path = call.path(dest.rstrip("\\") + "\\" + file["dest"] if file["dest"] else dest)
        if path.is_dir():
            path = path / Path(file["src"]).name
        right = path.exists() and _digest(path) == file["checksum"]
        if not right and (not path.exists() or _truth(given.get("force", True))):
            wanted["files"].append(file)
    for folder in given.get("directories") or []:
        if not call.path(dest.rstrip("\\") + "\\" + folder["dest"]).is_dir():
            wanted["directories"].append(folder)
    call.result.update(wanted)


def win_command(call: Call) -> None:
    given = call.options(
        "_raw_params", "cmd", "argv", "chdir", "creates", "removes", "stdin",
        "output_encoding_override",
    )  # fmt: skip
    line = given.get("cmd") or (given.get("_raw_params") or "").strip()
    argv = [str(word) for word in given.get("argv") or split_command_line(line)]
    call.result.update(cmd=line or subprocess.list2cmdline(argv), rc=0)
    for option, there in (("creates", True), ("removes", False)):
        if given.get(option) and os.path.lexists(call.path(given[option])) == there:
            state = "exists" if there else "does not exist"
            call.result.update(skipped=True, msg=f"skipped, since {given[option]} {state}")
            return
    _execute(call, given, argv)


def win_shell(call: Call) -> None:
    given = call.options(
        "_raw_params", "cmd", "executable", "chdir", "creates", "removes", "stdin", "no_profile",
        "output_encoding_override",
    )  # fmt: skip
    line = (given.get("cmd") or given.get("_raw_params") or "").strip()
    in_cmd = str(given.get("executable", "powershell")).lower().startswith("cmd")
    argv = ["cmd.exe", "/d", "/s", "/c", line] if in_cmd else split_powershell(line)
    if not in_cmd and re.fullmatch(r"[A-Za-z]+-[A-Za-z]+", argv[0]):
        raise UnsupportedError(f"the cmdlet {argv[0]}")
    call.result.update(cmd=line, rc=0)
    _execute(call, given, argv)


def _execute(call: Call, given: dict[str, Any], argv: list[str]) -> None:
    begun = datetime.datetime.now()
    stdin = (given.get("stdin") or "").encode()
    if stdin and not stdin.endswith(b"\n"):
        stdin += b"\r\n"  # as PowerShell's process class writes it
    try:
        code, out, err = call.programs.run(argv, stdin, given.get("chdir"), call.env, call.started)
    except FileNotFoundError:
        call.result["rc"] = 2
        raise FailedError(
            f"FailedError to run: '{call.result['cmd']}': Exception calling \"CreateProcess\" with "
            '"10" argument(s): "CreateProcessW() failed (The system cannot find the file '
            'specified, Win32ErrorCode 2)"'
        ) from None
    except KilledError:
        code, out, err = -1, b"", b""
    ended = datetime.datetime.now()
    texts = [data.decode("utf-8", "replace") for data in (out, err)]
    call.result.update(
        changed=True, rc=code, stdout=texts[0], stderr=texts[1], start=str(begun), end=str(ended),
        delta=str(ended - begun),
    )  # fmt: skip
    if code:
        raise FailedError("non-zero return code")


def win_tempfile(call: Call) -> None:
    given = call.options("path", "prefix", "state", "suffix")
    name = f"{given.get('prefix', 'ansible.')}{os.urandom(6).hex()}{given.get('suffix', '')}"
    whole = call.programs.expand(given.get("path", "%TEMP%")).rstrip("\\") + "\\" + name
    call.result.update(changed=True, path=whole, state=given.get("state", "file"))
    if not call.check_mode:
        path = call.path(whole)
        path.mkdir() if call.result["state"] == "directory" else path.touch()


def slurp(call: Call) -> None:
    given = call.options("src", "path")
    name = given.get("src") or given["path"]
    path = call.path(name)
    if not path.is_file():
        raise FailedError(f"Path {name} is not found")
    content = base64.b64encode(path.read_bytes()).decode()
    call.result.update(content=content, encoding="base64", source=name)


def async_status(call: Call) -> None:
    given = call.options("jid", "mode", "_async_dir")
    folder = call.programs.expand(given["_async_dir"])
    path = call.path(f"{folder}\\{given['jid']}")
    if not path.exists():
        call.result.update(ansible_job_id=given["jid"], started=True, finished=True)
        raise FailedError("could not find job")
    if given.get("mode") == "cleanup":
        path.unlink()
        call.result.update(ansible_job_id=given["jid"], erased=str(path))
        return
    call.result.clear()
    call.result.update({"finished": False, **json.loads(path.read_text())})


def setup(call: Call) -> None:
    call.options("gather_subset", "gather_timeout", "filter", "fact_path")
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
