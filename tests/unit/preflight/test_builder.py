"""What preflight looks at on a builder alone, and how the rows become lines and a table."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sys
import threading

import pytest
from modelops.base import nvidia, programs
from modelops.preflight import builder, trial, windows_host

PARAMS = {
    "environment": sys.executable,
    "model": None,
    "folder": "/nowhere",
    "ssh": [],
    "packages": "kept",
    "index_url": None,
    "wheelhouse": None,
    "wheels": 0,
    "gpu_required": False,
    "gpu_memory": 6_500_000_000,
    "call_limit_s": 60,
    "connect_limit_s": 2,
}
SMI = "NVIDIA GeForce RTX 4060, 8188, 551.23\nOdd, name, [N/A], 551.23\n"
WANTED = {"MaxMemoryPerShellMB": 512, "MaxProcessesPerShell": 10, "MaxShellsPerUser": 5}
# As the win_amd64 wheel of onnxruntime-gpu 1.31.1 answered under Wine, and what it logged.
LOG = (
    "Error loading onnxruntime_providers_cuda.dll which depends on cublasLt64_13.dll which is"
    " missing. (Error 126)\n[W:onnxruntime:Default] Failed to create CUDAExecutionProvider. Require"
    " cuDNN 9.* and CUDA 13.*, and the latest MSVC runtime. Please install all dependencies"
)
CUDA = {
    "version": "1.31.1",
    "listed": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    "used": [],
    "why": "",
    "refused": "",
    "blockwise": "",
}


def levels(rows):
    return {row["check"]: row["level"] for row in rows}


def answer(said: dict, before: str = "") -> programs.Answer:
    return programs.Answer(0, f"{before}\n{trial.MARK}{json.dumps(said)}\n")


# ------------------------------------------------------------------ the outside


def test_a_program_is_asked_and_ended_at_its_limit():
    echo = (
        "import sys; print(sys.stdin.read(), flush=True); print('hm', file=sys.stderr); sys.exit(3)"
    )
    assert programs.ask([sys.executable, "-c", echo], 30, "ü") == (3, "ü\nhm")
    log = "import sys; sys.stderr.buffer.write('Failed'.encode('utf-16-le'))"
    assert programs.ask([sys.executable, "-c", log], 30).text == "Failed"
    sleep = "import time; print('x', flush=True); time.sleep(3600)"
    assert programs.ask([sys.executable, "-c", sleep], 0.5) == (None, "no answer within 0.5 s")
    assert "cannot be started" in programs.ask(["/nowhere/program"], 1).text


@pytest.fixture
def server():
    """Serve one connection after the other with what is given; then say nothing."""
    opened = []

    def serve(said: bytes, close: bool = True) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def talk() -> None:
            link, _ = listener.accept()
            opened.append(link)
            link.sendall(said)
            if close:
                link.close()

        threading.Thread(target=talk, daemon=True).start()
        return listener.getsockname()[1]

    yield serve
    for each in opened:
        each.close()


def test_ssh_servers_say_who_they_are(server):
    ports = {
        "good": server(b"Welcome\r\nSSH-2.0-OpenSSH_9.2\r\n"),
        "web": server(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "mute": server(b"", close=False),
        "shut": server(b""),
    }
    with socket.create_server(("127.0.0.1", 0)) as gone:
        ports["refused"] = gone.getsockname()[1]
    targets = [
        {"name": name, "host": "127.0.0.1", "port": port, "needed": name != "web"}
        for name, port in ports.items()
    ]
    targets.append({"name": "odd", "host": "no..name", "port": 22, "needed": True})
    rows = builder.check_ssh(targets, 1)
    found = {row["check"].split()[2].rstrip(","): (row["level"], row["value"]) for row in rows}
    assert found["good"] == ("ok", "SSH-2.0-OpenSSH_9.2")
    assert found["web"] == ("advice", "no SSH server ('HTTP/1.1 400 Bad Request')")
    assert found["mute"] == ("problem", "no answer within 1 s")
    assert found["shut"] == ("problem", "closed without a word")
    assert found["refused"] == ("problem", "Connection refused")
    assert found["odd"][0] == "problem"


# ------------------------------------------------------------------ the GPU


def test_nvidia_smi_is_read():
    assert nvidia.parse_smi(SMI) == [
        ("NVIDIA GeForce RTX 4060", 8188 << 20, "551.23"),
        ("Odd, name", 0, "551.23"),
    ]
    assert nvidia.parse_smi("No devices were found\n") == []


@pytest.mark.parametrize(
    ("program", "level", "value"),
    [
        (f"printf '{SMI}'", "ok", "NVIDIA GeForce RTX 4060, 8,585,740,288 bytes, driver 551.23"),
        ("echo 'Small, 4096, 1'", "advice", "Small, 4,294,967,296 bytes, driver 1"),
        ("echo no driver; exit 9", "advice", "nvidia-smi: no driver"),
        ("exec sleep 60", "advice", "nvidia-smi: no answer within 0.5 s"),
        ("", "ok", "none"),
    ],
)
def test_the_gpu(tmp_path, monkeypatch, program, level, value):
    tool = tmp_path / "nvidia-smi"
    if program:
        tool.write_text(f"#!/bin/sh\n{program}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    gpus, why = nvidia.find_gpus(0.5)
    row = builder.check_gpu(gpus, why, PARAMS["gpu_memory"], False)
    assert row["level"] == level and row["value"].startswith(value)
    required = builder.check_gpu(gpus, why, PARAMS["gpu_memory"], True)
    bad = level != "ok" or not program
    assert required["level"] == ("problem" if bad else "ok")


def test_a_session_is_asked_what_it_uses(monkeypatch):
    (row,) = builder.check_session(PARAMS, False)
    assert row["level"] == "ok" and "uses CPUExecutionProvider" in row["value"], row


@pytest.mark.parametrize(
    ("said", "gpu", "level", "words"),
    [
        (
            CUDA,
            True,
            "advice",
            "alone, though listed: TensorrtExecutionProvider, CUDAExecutionProvider",
        ),
        (CUDA | {"used": ["CUDAExecutionProvider"]}, True, "ok", "uses CUDAExecutionProvider, CPU"),
        (CUDA | {"listed": ["CPUExecutionProvider"]}, True, "advice", "uses CPUExecutionProvider"),
        (CUDA | {"listed": ["CPUExecutionProvider"]}, False, "ok", "uses CPUExecutionProvider"),
        ({"version": None}, True, "advice", "not installed"),
    ],
)
def test_listed_is_not_usable(said, gpu, level, words):
    (row,) = trial.judge(answer(said, LOG), None, gpu, False)
    assert row["level"] == level and words in row["value"], row
    if said == CUDA:
        assert "Require cuDNN 9.* and CUDA 13.*" in row["value"]
        assert trial.judge(answer(said, LOG), None, gpu, True)[0]["level"] == "problem"


def test_an_onnxruntime_that_does_not_run(tmp_path, monkeypatch):
    crash = programs.Answer(1, "ImportError: DLL load failed while importing")
    assert trial.judge(crash, None, False, False)[0]["level"] == "problem"
    (absent,) = trial.check_session(tmp_path / "python", None, False, False, 1)
    assert absent["level"] == "advice" and "there is no" in absent["value"]


# ------------------------------------------------------------------ packages


def test_the_wheelhouse(tmp_path):
    params = PARAMS | {"packages": "lacking", "wheelhouse": str(tmp_path / "wheels")}
    assert builder.check_packages_source(params)["level"] == "problem"
    assert builder.check_packages_source(params | {"packages": "whole"})["level"] == "advice"
    assert builder.check_packages_source(params | {"wheels": 1})["level"] == "ok"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").touch()
    assert builder.check_packages_source(params)["level"] == "ok"


@pytest.mark.parametrize("page", ['<a href="onnx-9.0-py3-none-any.whl">onnx</a>', ""])
def test_the_index(monkeypatch, page):
    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if page and "/onnx/" in self.path else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        params = PARAMS | {"packages": "lacking"}
        params |= {"index_url": f"http://127.0.0.1:{index.server_port}/simple"}
        row = builder.check_packages_source(params)
        index.shutdown()
    assert row["level"] == ("ok" if page else "problem"), row
    assert page or "No matching distribution" in row["value"]


def test_nobody_installs_packages_where_none_is_asked():
    assert "package index" not in levels(builder.check_builder(PARAMS))


# ------------------------------------------------------------------ Windows


def test_winrm_is_read_and_judged(monkeypatch):
    """In the registry alone: VBScript leaves Windows. A policy is stronger than what was set."""
    known = {
        (windows_host.WINRS, "MaxProcessesPerShell"): 25,
        (windows_host.WINRS, "MaxMemoryPerShellMB"): 2147483647,
        (windows_host.WINRS_POLICY, "MaxMemoryPerShellMB"): 150,
        (windows_host.WINRS, "MaxShellsPerUser"): 0,
    }
    monkeypatch.setattr(windows_host, "value", lambda key, name: known.get((key, name)))
    found = windows_host.quotas(WANTED)
    assert found == {"MaxProcessesPerShell": 25, "MaxMemoryPerShellMB": 150, "MaxShellsPerUser": 0}
    rows = windows_host.check_quotas(found, WANTED)
    assert levels(rows) == {
        "WinRM MaxMemoryPerShellMB": "problem",
        "WinRM MaxProcessesPerShell": "ok",
        "WinRM MaxShellsPerUser": "ok",
    }
    assert r"Set-Item WSMan:\localhost\Shell\MaxMemoryPerShellMB 512" in rows[0]["remedy"]


@pytest.mark.parametrize(
    ("state", "level"), [(0, "ok"), (1, "advice"), (2, "advice"), (None, None), ("odd", None)]
)
def test_smart_app_control_is_told_before_it_blocks(state, level):
    rows = windows_host.check_app_control(state)
    assert [row["level"] for row in rows] == ([level] if level else [])
    if state == 1:
        assert rows[0]["value"] == "on" and "Windows Security" in rows[0]["remedy"]


@pytest.mark.parametrize(
    ("said", "level"),
    [("FullLanguage\r\n", "ok"), ("ConstrainedLanguage\n", "problem"), ("", None), ("?", None)],
)
def test_the_language_mode(said, level):
    """Wine's powershell.exe says nothing: then there is no row."""
    rows = windows_host.check_language_mode(said)
    assert [row["level"] for row in rows] == ([level] if level else [])


def test_a_package_that_windows_blocks_is_named():
    file = r"C:\venv\Lib\onnx_cpp2py_export.pyd (WinError 4551)"
    (row,) = trial.judge(answer({"blocked": file}), None, gpu=False, required=False)
    assert (row["id"], row["level"]) == ("blocked", "problem")
    assert file in row["value"] and "Smart App Control" in row["remedy"]


def test_what_may_not_be_read_is_unknown_and_no_problem():
    (row,) = windows_host.check_quotas({}, WANTED)
    assert (row["level"], row["value"]) == ("advice", "unknown")
    assert windows_host.check_version(17763)["level"] == "advice", "no registry here"
    rows = windows_host.check_memory(1, 1)
    assert {row["value"] for row in rows} == {"unknown"}
    assert windows_host.check_long_paths(None)["level"] == "advice"
    assert windows_host.check_long_paths(1)["level"] == "ok"


@pytest.mark.parametrize(("build", "level"), [("26100", "ok"), ("10240", "problem")])
def test_the_build_of_windows(monkeypatch, build, level):
    monkeypatch.setattr(windows_host, "value", lambda key, name: build)
    row = windows_host.check_version(17763)
    assert row["level"] == level
    assert row["value"].startswith("Windows 11" if build == "26100" else "Windows 10")


@pytest.mark.parametrize(
    ("known", "value"),
    [
        (None, "unknown"),
        ([], r"not excluded: C:\SARAi\models, C:\SARAi\venv"),
        ([r"c:\sarai\MODELS"], r"not excluded: C:\SARAi\venv"),
        (["C:\\SARAi\\"], "Microsoft Defender leaves the folders alone"),
        ([r"C:\SAR"], r"not excluded: C:\SARAi\models, C:\SARAi\venv"),
    ],
)
def test_the_antivirus_is_never_a_problem(known, value):
    row = windows_host.check_antivirus([r"C:\SARAi\models", r"C:\SARAi\venv"], known)
    assert row["value"] == value
    assert row["level"] == ("ok" if "leaves" in value else "advice")


# ------------------------------------------------------------------ rows
