"""What ansible-core's PowerShell wrapper does on the host with the manifest that comes by stdin."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import modules, programs
from .programs import UnsupportedError, split_powershell

if TYPE_CHECKING:
    from .wsman import Command

SEPARATOR = b"\n\0\0\0\0\n"
PLAYED = {
    "module_wrapper.ps1", "async_wrapper.ps1", "async_watchdog.ps1", "winrm_put_file.ps1",
    "winrm_fetch_file.ps1", "powershell_mkdtemp.ps1", "powershell_expand_user.ps1",
}  # fmt: skip


def run_manifest(command: Command, data: bytes) -> int:
    """Do what a manifest says and return the exit code."""
    parts = data.split(SEPARATOR, 2)
    manifest = json.loads(parts[1])
    try:
        return _run(command, manifest, parts)
    except UnsupportedError as error:
        if not any(action["params"].get("ForModule") for action in manifest["actions"]):
            raise
        refused = {"failed": True, "changed": False, "msg": f"double: it does not play {error}"}
        command.write(json.dumps(refused).encode() + b"\r\n")
        return 1


def _run(command: Command, manifest: dict[str, Any], parts: list[bytes]) -> int:
    rest = parts[2] if len(parts) > 2 else b""
    actions = {a["name"]: {**a["params"], **a["secure_params"]} for a in manifest["actions"]}
    unknown = sorted(set(actions) - PLAYED)
    if unknown:  # become_wrapper.ps1 among them: there is no other user here
        raise UnsupportedError(f"the actions {', '.join(unknown)}")
    name, params = list(actions.items())[-1]
    command.host.note("manifest", [sorted(actions), params.get("Script") or name])
    own = command.host.programs
    if name == "winrm_put_file.ps1":
        return _put(command, own.path(params["Path"]), rest)
    if name == "winrm_fetch_file.ps1":
        return _fetch(command, params)
    if name == "powershell_mkdtemp.ps1":
        folder = own.expand(params["Directory"]).rstrip("\\") + "\\" + params["Name"]
        own.path(folder).mkdir(parents=True)
        return _said(command, folder)
    if name == "powershell_expand_user.ps1":
        return _said(command, own.expand(params["Path"]))
    env = {key: str(value) for key, value in (params.get("Environment") or {}).items()}
    if not params.get("ForModule"):  # the action `script`
        script = base64.b64decode(manifest["scripts"][params["Script"]]["script"]).decode()
        words = split_powershell(script)
        code, out, err = own.run(words, b"", None, env, command.started)
        command.write(out, err)
        return code
    given = [v["Value"] for v in params.get("Variables") or [] if v["Name"] == "complex_args"]
    arguments = given[0] if given else {}
    module = modules.find(params["Script"])
    command.host.note("module", [params["Script"], arguments])
    if "async_wrapper.ps1" in actions:
        limit_s = int(actions["async_watchdog.ps1"]["Timeout"])
        return _start(command, actions["async_wrapper.ps1"], limit_s, module, arguments, env)
    call = modules.Call(own, arguments, env, command.started)
    result = modules.run(module, call)
    command.write(json.dumps(result).encode() + b"\r\n")
    return 1 if result.get("failed") else 0


def _said(command: Command, text: str) -> int:
    command.write(text.encode() + b"\r\n")
    return 0


def _put(command: Command, path: Path, data: bytes) -> int:
    digest = hashlib.sha1()
    with path.open("wb") as file:
        for line in data.split(b"\r\n"):
            block = base64.b64decode(line)
            digest.update(block)
            file.write(block)
    command.write(json.dumps({"sha1": digest.hexdigest()}).encode())
    return 0


def _fetch(command: Command, params: dict[str, Any]) -> int:
    path = command.host.programs.path(params["Path"])
    if path.is_dir():
        return _said(command, "[DIR]")
    if not path.exists():
        command.write(err=f"{params['Path']} does not exist\r\n".encode())
        return 1
    with path.open("rb") as file:
        file.seek(params["Offset"])
        block = file.read(params["BufferSize"])
    return _said(command, base64.b64encode(block).decode()) if block else 0


def _start(
    command: Command,
    wrapper: dict[str, Any],
    limit_s: int,
    module: modules.Module,
    arguments: dict[str, Any],
    env: dict[str, str],
) -> int:
    """Start a module in the background: its result goes to a file, its job is not the shell's."""
    own = command.host.programs
    job = f"{wrapper['AsyncJid']}.{os.getpid()}"
    folder = own.expand(wrapper["AsyncDir"])
    own.path(folder).mkdir(parents=True, exist_ok=True)
    results = f"{folder}\\{job}"
    begun = {
        "started": True, "finished": False, "results_file": results, "ansible_job_id": job,
        "_ansible_suppress_tmpdir_delete": True, "ansible_async_watchdog_pid": os.getpid(),
    }  # fmt: skip

    def keep(result: dict[str, Any]) -> None:
        path = own.path(results)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(result))
        part.replace(path)

    running: list[Any] = []
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found.update(modules.run(module, modules.Call(own, arguments, env, running.append)))
        except programs.KilledError:
            found["gone"] = True  # as a watchdog that was ended with the host: nobody writes
        except UnsupportedError as error:
            found.update(failed=True, msg=f"double: it does not play {error}")
        except Exception:  # a bug of the double must not look like a success
            found.update(failed=True, msg=f"double: {traceback.format_exc()}")

    def watch() -> None:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(limit_s)
        if worker.is_alive():
            for process in running:
                programs.kill(process)
            found.clear()
            text = "failure during async watchdog: timed out waiting for module completion"
            found.update(failed=True, msg=text)
        # A host that restarts ends the watchdog too.
        if not (found.get("gone") or command.host.faults.get("off", False)):
            keep({**begun, "finished": True, **found})

    keep(begun)
    threading.Thread(target=watch, daemon=True).start()
    return _said(command, json.dumps(begun))
