"""What preflight finds on a Windows builder, over WinRM: the rows of playbooks/preflight.yml.

Wine is no Windows 11: it has no quotas of WinRM, no nvidia-smi, no Defender and no long paths, so
their rows say that here. What is read where they are is tested in
tests/unit/preflight/test_builder.py.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import models
import pytest
from plays import ENVIRONMENT, ROOT, program, run

pytestmark = pytest.mark.sftp

MODEL = "agi_audio_core.onnx"
HOME = r"C:\work\preflight ünï"
UNKNOWN = [
    "WinRM MaxMemoryPerShellMB, MaxProcessesPerShell, MaxShellsPerUser",
    "long paths",
    "antivirus",
]


@pytest.fixture
def models_dir(windows) -> Path:
    """The builder's folder, with a model in it."""
    folder = windows.path(HOME)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models.voice(folder / MODEL)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ssh():
    """A port that answers as an SSH server does, to one caller after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.sendall(b"SSH-2.0-test\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def closed():
    """A port that nobody listens on, and nobody else is given meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def index():
    """A package index that has onnx and nothing else; its address."""

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("/onnx/") else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b'<a href="onnx-9.0-py3-none-any.whl">onnx</a>')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def look(windows, tmp_path: Path, port: int, **variables: Any):
    """Run playbooks/preflight.yml; return its exit code, its output and the builder's rows.

    The target is a folder of this machine, and `port` is where the builder looks for its sshd.
    """
    home = tmp_path / "target"
    (home / "models" / "onnx").mkdir(parents=True, exist_ok=True)
    models.voice(home / "models" / "onnx" / MODEL)
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "sarai.yaml").write_text(
        "audio_omni:\n  model_path: models/onnx/agi_audio_core.onnx\n  max_memory_mb: 4400\n"
    )
    builder = windows.inventory_vars() | {
        "sarai_builder_dir": HOME,
        "sarai_builder_python": windows.python,
    }
    target = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "sarai_python": sys.executable,
        "sarai_home": str(home),
        "sarai_service_manager": "none",
        "transfer_strategy": "sftp",
        "transfer_host": "127.0.0.1",
        "transfer_port": port,
    }
    inventory = {
        "all": {
            "children": {
                "builder": {"hosts": {"win": builder | variables}},
                "targets": {"hosts": {"box": target}},
            }
        }
    }
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    given = {"preflight_json": str(tmp_path / "rows.json")}
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.json"), "playbooks/preflight.yml"]
    done = subprocess.run(
        [*command, "-e", json.dumps(given)],
        cwd=ROOT, env={**os.environ, **ENVIRONMENT}, text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    rows = json.loads((tmp_path / "rows.json").read_text())["hosts"]
    assert {row["level"] for row in rows["box"]} == {"ok"}, rows["box"]
    return done.returncode, done.stdout, rows["win"]


def found(rows: list[dict[str, str]], level: str) -> list[str]:
    return [row["check"] for row in rows if row["level"] == level]


def test_a_host_without_a_problem(windows, models_dir, tmp_path, ssh, index):
    """The modules run with the base Python; packages and model are looked at with the other."""
    rc, output, rows = look(
        windows, tmp_path, ssh,
        sarai_builder_base_python=windows.python,
        preflight_index_url=index,
        preflight_builder_memory_installed=1,
    )  # fmt: skip
    assert rc == 0, output
    assert found(rows, "problem") == [] and found(rows, "advice") == UNKNOWN
    values = {row["check"]: row["value"] for row in rows}
    assert values["Python"].startswith("3.12") and "win-amd64" in values["Python"]
    assert f"{MODEL}.data" in values[rf"FP32 model {HOME}\{MODEL}"]
    assert values["package asyncssh"] and values["memory for quantizing"]
    assert values["Windows"] == "Windows 10, build 18362", "what Wine says it is"
    assert values["onnxruntime in a session"].endswith("uses CPUExecutionProvider")
    assert values[f"SSH of box, 127.0.0.1 port {ssh}"] == "SSH-2.0-test"
    assert values["package index"] == "it answers"
    assert values["GPU"] == "none"
    assert "Add-MpPreference -ExclusionPath" in output


def test_five_things_wrong_are_five_rows(windows, models_dir, tmp_path, closed):
    (models_dir / f"{MODEL}.data").unlink()
    rc, output, rows = look(
        windows, tmp_path, closed,
        sarai_builder_base_python=windows.python,
        sarai_builder_python=r"C:\work\none\Scripts\python.exe",
        preflight_index_url=f"http://127.0.0.1:{closed}/simple",
        preflight_windows_build=22000,
        preflight_builder_memory=1 << 60,
    )  # fmt: skip
    assert rc == 2
    assert found(rows, "problem") == [
        rf"FP32 model {HOME}\{MODEL}",
        "Windows",
        "memory for quantizing",
        f"SSH of box, 127.0.0.1 port {closed}",
        "package index",
    ]
    assert r"environment of C:\work\none\Scripts\python.exe" in found(rows, "advice")
    assert "onnxruntime in a session" in found(rows, "advice")
    assert all(row["remedy"] for row in rows if row["level"] != "ok")
    lines = output.partition("Problems\n")[2].partition("TASK")[0]
    assert lines.count("- win: ") == 5


def test_what_is_advice_alone(windows, models_dir, tmp_path, ssh, index):
    """A proxy that only Windows' own services know of, and a clock that is held to nothing."""
    key = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Internet Settings\Connections"
    write = (
        "import sys, winreg; key = winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, sys.argv[1]);"
        "value = bytes.fromhex(sys.argv[2]);"
        "winreg.SetValueEx(key, 'WinHttpSettings', 0, winreg.REG_BINARY, value)"
    )
    proxy = b"proxy.lan:3128"
    value = b"\x28\0\0\0\0\0\0\0\3\0\0\0" + len(proxy).to_bytes(4, "little") + proxy
    assert run(windows, program(windows, write, key, value.hex())).rc == 0
    try:
        rc, output, rows = look(
            windows, tmp_path, ssh,
            sarai_builder_base_python=windows.python,
            preflight_index_url=index,
            preflight_builder_memory_installed=1,
            preflight_clock_skew_s=0,
            preflight_clock_delay_s=0,
        )  # fmt: skip
    finally:
        assert run(windows, program(windows, write, key, bytes(16).hex())).rc == 0
    assert rc == 0, output
    assert found(rows, "advice") == ["clock", *UNKNOWN, "proxy"]
    remedies = {row["check"]: row["remedy"] for row in rows}
    assert "proxy.lan:3128" in remedies["proxy"]
    assert "memory available" in found(rows, "ok")


def test_the_launcher_is_no_python(windows, models_dir, tmp_path, ssh):
    rc, output, _ = look(windows, tmp_path, ssh, sarai_builder_base_python=r"C:\Windows\py.exe")
    assert rc == 2 and "py --list-paths" in " ".join(output.split())
