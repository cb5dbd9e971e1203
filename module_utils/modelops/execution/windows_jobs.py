"""The host's side of the bridge: runs a module where there is no Ansible, at once or as a job.

A job is a folder `jobs/ID` with `job.json` (what it is), `started.json` (its process), `lock` (held
by that while it lives), `progress.json`, `public_key`, `ansible.json` (where Ansible keeps its own
file of it), in the end `result.json`, and `told` once somebody was told of that: the next job
removes it. It belongs to nobody's connection: whoever asks later, also after a lost controller,
finds it there. A job that finds the very same at work only names that one, in `same.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..base import app_control, file_lock, opener, windows
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from . import without_ansible
from .module_result import OUT_OF_MEMORY, named, run_guarded

Json = dict[str, Any]
Say = Callable[[Json], None]

# What a job leaves of which nobody was told is kept so long, for whoever still asks.
KEPT_S = 24 * 3600
LOOK_EVERY_S = 0.1
LONGEST_KEY = 4096  # bytes of a public key
# A job is not the shell's: its memory has no limit of WinRM's.
OUT_OF_SHELL = " Or let WinRM give a shell more: MaxMemoryPerShellMB in WSMan:\\localhost\\Shell."
# Windows' limit is 260; names made beside a path are longer than the path.
LONG = 200


def serve(call: Mapping[str, Any], base: str, say: Say) -> Json:
    """Answer a call of the bridge.

    Args:
        call: what to `do`, and its arguments.
        base: the folder of the project's own on this host.
        say: gives an answer in place of the returned one, should a limit pass.
    """
    jobs = Path(base, "jobs")
    does: dict[str, Callable[[], Json]] = {
        "call": lambda: {"result": _run(call, lambda result: say({"result": result}))},
        "job": lambda: _job(call, jobs / call["job"], Path(base, "code")),
        "watch": lambda: _watch(call, jobs / call["job"]),
    }
    return does[call["do"]]()


def _run(call: Mapping[str, Any], conclude: Say, given: Mapping[str, str] | None = None) -> Json:
    """Run a module and return its result.

    Args:
        conclude: takes the result when the limit has passed, just before this process ends.
        given: paths for options of these names that are not set.
    """
    windows.own_children()
    with _limit(call["limit_s"], call["limit_is"], conclude):
        try:
            module = without_ansible.load(call["module"])
            spec = module.MODULE["argument_spec"]
            params = {name: local(value, spec.get(name)) for name, value in call["params"].items()}
            for name, path in (given or {}).items():
                if name in spec and not params[name]:
                    params[name] = path
            result = run_guarded(module.run, params, call["check"])
            if given is None and result.get("reason") == OUT_OF_MEMORY:
                result["msg"] += OUT_OF_SHELL
            return result
        except ImportError as error:
            text = (
                f"this Python lacks a package ({error}). Install it for {sys.executable}, as"
                " pinned in requirements/project.txt, or point ansible_python_interpreter at a"
                " Python that has it."
            )
            if app_control.is_native(error):
                text = (
                    f"a package of {sys.executable} does not load ({error}). Install Microsoft's"
                    " Visual C++ Redistributable (x64) and the package anew; if memory is short,"
                    " close other programs, or let WinRM give a shell more (MaxMemoryPerShellMB)."
                )
            return failure(error, text)
        except Exception as error:
            return failure(error, f"{type(error).__name__}: {error}")


def failure(error: Exception, text: str) -> Json:
    """Return the failed result of an error that nobody foresaw."""
    result: Json = {"failed": True, "msg": text, "exception": traceback.format_exc()}
    return result | named(error)


@contextlib.contextmanager
def _limit(limit_s: float, name: str, conclude: Say) -> Iterator[None]:
    """End this process, and its children with it, when something takes too long."""

    def end() -> None:
        text = f"it took longer than {name}, {limit_s:g} s, and was ended. Raise {name}."
        try:
            conclude({"failed": True, "msg": text})
        finally:
            os._exit(1)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def local(value: Any, option: Mapping[str, Any] | None) -> Any:
    """Return an option's value as this host understands it.

    A path's %NAME% are this host's environment, as in the modules of ansible.windows, and a long
    one gets the prefix with which Windows takes it.
    """
    if not option or option.get("type") != "path" or not value or sys.platform != "win32":
        return value
    return windows_path(value, os.environ)


def windows_path(path: str, environment: Mapping[str, str]) -> str:
    """Return a path with %NAME% and ~ replaced, and with the prefix of long paths if it is long."""
    import ntpath

    known = {name.upper(): value for name, value in environment.items()}
    if re.match(r"~(?=[\\/]|$)", path):
        path = "%USERPROFILE%" + path[1:]
    path = re.sub("%([^%]+)%", lambda m: known.get(m[1].upper(), m[0]), path)
    if len(path) > LONG and ntpath.isabs(path) and not path.startswith("\\\\"):
        path = "\\\\?\\" + ntpath.normpath(path)
    return path


def _job(call: Mapping[str, Any], folder: Path, codes: Path) -> Json:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return {"begun": "by an earlier start"}
    created = time.time()
    record = {name: call[name] for name in ("module", "same", "code")}
    _write(folder / "job.json", {**record, "created": created})
    with file_lock.exclusive(folder / "lock", call["module"]):
        _write(folder / "started.json", {"pid": os.getpid()})

        def conclude(result: Json) -> None:
            _write(folder / "result.json", result)

        working = _clear_up(folder, codes, call["code"])
        what = record["same"], record["code"]
        for name, other in working.items():
            # Of two that begin at once, the older goes on.
            if (other.get("same"), other.get("code")) == what and other["created"] < created:
                same = {"job": name, "since_s": created - other["created"]}
                _write(folder / "same.json", same)
                return {}
        given = {
            "progress_file": str(folder / "progress.json"),
            "public_key_file": str(folder / "public_key"),
        }
        conclude(_run(call, conclude, given))
    return {}


def _clear_up(own: Path, codes: Path, code: str) -> dict[str, Json]:
    """Remove jobs and code that nobody needs; return what other jobs are at work, by name."""
    working: dict[str, Json] = {}
    for folder in own.parent.iterdir():
        if folder == own:
            continue
        record = _read(folder / "job.json")
        if _is_alive(folder):
            working[folder.name] = record
        elif (folder / "told").exists() or _age(folder) > KEPT_S:
            _remove(folder)
    needed = {code, *(record.get("code") for record in working.values())}
    for folder in codes.iterdir():
        # Not one that another call is putting there, or has just put there and begins to use.
        if folder.name not in needed and _age(folder) > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
    return working


def _age(folder: Path) -> float:
    """Return for how many seconds nothing was added to a folder, or removed."""
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # somebody else clears up too
        return 0


def _watch(call: Mapping[str, Any], folder: Path) -> Json:
    """Tell how a job is, as soon as there is something to tell, at the latest after `wait_s`."""
    if call.get("results_file") and folder.is_dir():
        _write(folder / "ansible.json", {"results_file": call["results_file"]})
    deadline = time.monotonic() + call["wait_s"]
    while True:
        seen = look(folder)
        if seen["state"] == "waiting" and call.get("results_file"):
            file = _read(Path(call["results_file"]))
            if file.get("finished"):  # its Python ended before it came to the job
                said = {name: file.get(name) for name in ("rc", "stdout", "stderr", "msg")}
                seen |= {"state": "gone", "said": said}
        if seen["state"] in ("ended", "same"):
            # Not removed yet: should this answer be lost, the question comes again.
            (folder / "told").touch()
        goes_on = seen["state"] in ("waiting", "running")
        if not goes_on or (call.get("key") and seen["public_key"]) or time.monotonic() >= deadline:
            return seen
        time.sleep(LOOK_EVERY_S)


def look(folder: Path) -> Json:
    """Tell how a job is.

    Returns:
        `state`: waiting (not begun, or removed since), running, ended, gone, or same: another job
        is at work on the very same, which `same` names; `figures`, `public_key`, `pid`, `result`.
    """
    # In this order: a job that ends between two looks has left its result before its lock.
    started = _read(folder / "started.json")
    held = _is_alive(folder)
    result, same = _read(folder / "result.json"), _read(folder / "same.json")
    if result:
        state = "ended"
    elif same:
        state = "same"
    elif held:
        state = "running"
    else:
        state = "gone" if started else "waiting"
    key = ""
    with contextlib.suppress(OSError, ModelOpsError, ValueError):
        key = opener.read(folder / "public_key", LONGEST_KEY).decode().strip()
    return {
        "state": state,
        "same": same,
        "figures": _read(folder / "progress.json"),
        "public_key": key,
        "pid": started.get("pid"),
        "result": result,
    }


def _is_alive(folder: Path) -> bool:
    # Trying the lock before its process has taken it could keep it from doing so.
    return (folder / "started.json").exists() and file_lock.is_held(folder / "lock")


def _remove(folder: Path) -> None:
    """Remove a job's folder, and Ansible's own file of it, which holds its arguments."""
    file = _read(folder / "ansible.json").get("results_file")
    if file:
        with contextlib.suppress(OSError):
            Path(file).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> Json:
    """Return a file's JSON object; an empty one when it is not there or not whole."""
    try:
        return dict(opener.read_json(path))
    except (OSError, ModelOpsError, ValueError, TypeError):
        return {}


def _write(path: Path, content: Json) -> None:
    write_atomic(path, json.dumps(content).encode())
