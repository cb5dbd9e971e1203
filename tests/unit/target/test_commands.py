"""A service that commands run: it outlives who started it, is found again, and is stopped whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import commands, processes
from modelops.target.commands import Commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the services run on Linux")
# The service of the tests: it maps the file that `model` names, answers, and has a child.
SERVICE = """
import json, mmap, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
model = open(os.environ.get("MODEL") or open("model").read().strip(), "rb")
mapped = mmap.mmap(model.fileno(), 0, prot=mmap.PROT_READ)
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "HEALTHY"}).encode())
    def log_message(self, *_):
        pass
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
HTTPServer.allow_reuse_address = True
print("serving", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
QUOTED = f"'{sys.executable}'"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "my home"
    home.mkdir()
    (home / "main.py").write_text(SERVICE)
    for name in ("a_int8.onnx", "a.onnx"):
        (home / name).write_bytes(b"x" * 5000)
    (home / "model").write_text("a_int8.onnx")
    return home


@pytest.fixture
def call(home: Path, port: int) -> Iterator[Callable[..., dict[str, Any]]]:
    module = without_ansible.load("service_health")
    record = home / "kept/service.json"
    fixed = {"log": str(home / "kept/log"), "record": str(record), "folder": str(home)}
    options = {"url": f"http://127.0.0.1:{port}/", "expect": {"status": "HEALTHY"}, "hold_s": 0.3}
    options |= {"limit_s": 10, "question": {}, "name": "sarai", "manager": "command"}
    options |= {"int8": str(home / "a_int8.onnx"), "fp32": str(home / "a.onnx")}

    def call(start: object, state: str = "restarted", **more: Any) -> dict[str, Any]:
        given = {**fixed, "start": start, **more}
        return module.run({**options, "commands": given, "state": state}, False)

    yield call
    if record.exists():
        for pid in Commands("sarai", {**fixed, "start": "true"}).processes(None):  # type: ignore[arg-type]
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "start",
    [
        "nohup {python} main.py {port}",
        ["{plain}", "main.py", "{port}"],
        "nohup {python} main.py {port} > nohup.out 2>&1 &",
        "MODEL=a_int8.onnx {python} main.py {port}",
    ],
)
def test_started_again_and_the_old_one_gone(call, port: int, start: object) -> None:
    names = {"python": QUOTED, "plain": sys.executable, "port": str(port)}
    command = (
        start.format(**names)
        if isinstance(start, str)
        else [str(word).format(**names) for word in start]  # type: ignore[attr-defined]
    )
    first = call(command)
    assert first["changed"] and first["healthy"]
    assert (first["served"]["model"], first["served"]["proof"]) == ("int8", "mapped")
    old = first["unit"]["pid"]
    assert os.getsid(old) != os.getsid(0)  # no signal to who started it reaches it
    child = processes.with_children({old}) - {old}
    assert child
    second = call(command)
    assert not processes.started(old) and not any(map(processes.started, child))
    looked = call(command, "query")
    assert not looked["changed"] and looked["unit"]["pid"] == second["unit"]["pid"]


def test_it_serves_fp32_all_the_same(call, home: Path, port: int) -> None:
    found = call(f"env MODEL=a.onnx {QUOTED} main.py {port}")
    assert (home / "model").read_text() == "a_int8.onnx"
    assert (found["served"]["model"], found["served"]["proof"]) == ("fp32", "mapped")


@pytest.mark.parametrize("found_by", ["status", "pid_file", "nothing"])
def test_one_that_was_started_by_hand(call, home: Path, port: int, found_by: str) -> None:
    hand = subprocess.Popen(
        [sys.executable, "main.py", str(port)], cwd=home,
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert hand.stdout is not None and hand.stdout.readline()
        wait_for(port)
        (home / "pid").write_text(f"{hand.pid}\n")
        given = {
            "status": {"status": ["pgrep", "-f", f"main[.]py {port}"]},
            "pid_file": {"pid_file": str(home / "pid")},
            "nothing": {},
        }[found_by]
        start = f"{QUOTED} main.py {port}"
        if found_by == "nothing":
            with pytest.raises(ModelOpsError, match="answered by a process that is not known"):
                call(start)
            assert hand.poll() is None
        else:
            done = call(start, **given)
            assert done["unit"]["pid"] != hand.pid
            assert hand.wait(10) == -signal.SIGTERM
    finally:
        for pid in processes.of_session(hand.pid):
            os.kill(pid, signal.SIGKILL)
        hand.communicate(timeout=10)


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the service did not come up")


def test_a_stale_pid_file_names_nobody(home: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (home / "pid").write_text(str(other.pid))
        long_ago = time.time() - 3600
        os.utime(home / "pid", (long_ago, long_ago))
        given = {"start": "true", "folder": home, "log": home / "l", "record": home / "r"}
        assert Commands("s", {**given, "pid_file": home / "pid"}).look().active == "inactive"
        os.utime(home / "pid")
        assert Commands("s", {**given, "pid_file": home / "pid"}).look().active == "active"
    finally:
        other.communicate(b"\n", timeout=10)


def test_it_dies_at_once_and_its_log_says_why(call) -> None:
    with pytest.raises(ModelOpsError, match="exit code 3") as caught:
        call([sys.executable, "-c", "print('no such kernel'); raise SystemExit(3)"])
    assert "no such kernel" in str(caught.value)


@pytest.mark.parametrize("start", ["", [], "a 'b", ["/nonexistent/program"]])
def test_a_command_that_is_none(call, start: object) -> None:
    with pytest.raises(ModelOpsError, match="the command cannot be run"):
        call(start)


def test_words() -> None:
    assert commands.words("nohup python3 'my main.py'") == ["nohup", "python3", "my main.py"]
    assert commands.words("a && b") == ["/bin/sh", "-c", "a && b"]
    assert commands.words(["a", "b && c"]) == ["a", "b && c"]
