"""Plays of a few tasks on the Windows host of the test bed, and a link to it that can break."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner

ROOT = Path(__file__).resolve().parents[3]
PLACE = r"C:\work\double ü"  # of the tests of the double
ENVIRONMENT = {
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "LC_ALL": "C.UTF-8",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


@dataclass
class Outcome:
    """What a play said and did."""

    rc: int
    output: str
    results: list[dict[str, Any]] = field(repr=False)
    seconds: list[float] = field(repr=False)

    @property
    def result(self) -> dict[str, Any]:
        """The result of the last task."""
        return self.results[-1]


def _play(folder: Path, tasks: list[dict[str, Any]]) -> Path:
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "win", "gather_facts": False, "tasks": tasks}]))
    return book


def _inventory(windows: Any, variables: dict[str, Any]) -> dict[str, Any]:
    return {"all": {"hosts": {"win": windows.inventory_vars() | variables}}}


def run(windows: Any, *tasks: dict[str, Any], arguments: str = "", **variables: Any) -> Outcome:
    """Run tasks on the host and wait for their end; a failed one ends the play."""
    with tempfile.TemporaryDirectory(prefix="play-") as name:
        folder = Path(name)
        runner = ansible_runner.run(
            private_data_dir=name,
            project_dir=str(ROOT),
            playbook=str(_play(folder, list(tasks))),
            inventory=_inventory(windows, variables),
            cmdline=arguments,
            envvars=ENVIRONMENT,
            quiet=True,
            timeout=300,
        )
        ended = [f"runner_on_{how}" for how in ("ok", "failed", "unreachable", "skipped")]
        events = [event for event in runner.events if event["event"] in ended]
        results = [  # of what was skipped no result is told
            {"failed": event["event"] == ended[1], **event["event_data"].get("res", {})}
            for event in events
        ]
        seconds = [event["event_data"]["duration"] for event in events]
        return Outcome(runner.rc, runner.stdout.read(), results, seconds)


def tried(windows, *tasks: dict, **variables: object) -> list[dict[str, Any]]:
    """The result of each task, whether it failed, was skipped or not."""
    names = [f"r{i}" for i in range(len(tasks))]
    known = {name: f"{{{{ {name} }}}}" for name in names}
    noted = (
        {"register": name, **task, "ignore_errors": True}
        for name, task in zip(names, tasks, strict=True)
    )
    done = run(windows, *noted, {"ansible.builtin.set_fact": {"told": known}}, **variables)
    assert len(done.results) == len(tasks) + 1, done.output
    return list(done.result["ansible_facts"]["told"].values())


def quantize(work: Any, **options: Any) -> dict[str, Any]:
    """The task that quantizes m.onnx of a folder on the host."""
    options = {"verify": False, "progress_s": 1, **options}
    names = {"src": f"{work.name}/m.onnx", "dest": f"{work.name}/m8.onnx"}
    return {"onnx_quantize": names | options}


def program(windows: Any, text: str, *arguments: str, **keywords: Any) -> dict[str, Any]:
    """A task that runs a line of Python there, past the bridge."""
    argv = [windows.python, "-I", "-c", text, *arguments]
    return {"ansible.windows.win_command": {"argv": argv}, **keywords}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def start(windows: Any, folder: Path, *tasks: dict[str, Any], **variables: Any) -> subprocess.Popen:
    """Start a play of tasks and leave it to the caller, who may end it."""
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps(_inventory(windows, variables)))
    return subprocess.Popen(
        ["ansible-playbook", "-i", str(inventory), str(_play(folder, list(tasks)))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )


class Link:
    """A TCP port that leads to the host, until it is cut."""

    def __init__(self, address: str, port: int) -> None:
        self._target = address, port
        self._open: list[socket.socket] = []
        self._whole = threading.Event()
        self._whole.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Break every connection, and take no new one for so long."""
        self._whole.clear()
        self._end()
        time.sleep(seconds)
        self._whole.set()

    def close(self) -> None:
        """Break it for good."""
        self._whole.clear()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end()

    def _end(self) -> None:
        for end in self._open:
            with_linger = b"\1\0\0\0\0\0\0\0"  # a reset, as from a host that restarts
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_linger)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
