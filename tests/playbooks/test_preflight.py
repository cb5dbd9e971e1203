"""What playbooks/preflight.yml shows and writes, and what quantize.yml makes of it."""

from __future__ import annotations

import json
import socket
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import MODEL, Site

NODE = "layer0.up.y/MatMul"  # a MatMul of the look-alike


@pytest.fixture
def closed():
    """A port of this machine that nobody listens on, and nobody else is given meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def look(site: Site, *arguments: str, **variables: Any):
    file = site.folder.parent / "told" / "rows.json"
    outcome = site.run("playbooks/preflight.yml", *arguments, preflight_json=str(file), **variables)
    return outcome, json.loads(file.read_text())


def found(told: dict[str, Any], host: str, level: str) -> list[str]:
    return [row["check"] for row in told["hosts"][host] if row["level"] == level]


def test_hosts_without_a_problem(fresh):
    before = fresh.tree()
    outcome, told = look(fresh)
    assert outcome.rc == 0 and outcome.changed == {}, outcome.output
    assert fresh.tree() == before
    assert (told["problems"], told["advice"]) == (0, 0)
    assert {"Python", "GPU", "onnxruntime in a session", "clock"} <= set(
        found(told, "builder", "ok")
    )
    assert {"Python", "configuration", "memory available"} <= set(found(told, "target1", "ok"))
    assert "ok     configuration" in outcome.output
    keys = {"id", "check", "level", "value", "threshold", "remedy"}
    assert all(set(row) == keys for rows in told["hosts"].values() for row in rows)


@pytest.mark.sftp
def test_every_problem_of_every_host(fresh, closed, monkeypatch):
    """One host lacks things, the next cannot be edited, the third is down, one has no Python."""
    (fresh.builder / f"{MODEL}.data").unlink()
    fresh.config().write_text("audio:\n  x: 1\n")
    fresh.targets = 3
    inventory = fresh.inventory()
    hosts = inventory["all"]["children"]["targets"]["hosts"]
    down = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": closed}
    hosts["target2"] |= down | {"transfer_strategy": "sftp"}
    hidden = fresh.home(3) / ".venv" / "bin" / "python"
    hidden.parent.mkdir(parents=True)
    hidden.symlink_to(sys.executable)
    python = fresh.home(3) / "venv" / "bin" / "python"
    hosts["target3"] |= {"sarai_python": str(python)}
    monkeypatch.setattr(fresh, "inventory", lambda: inventory, raising=False)
    outcome, told = look(
        fresh,
        sarai_builder_base_python="{{ ansible_playbook_python }}",
        sarai_builder_python="/nowhere/venv/bin/python3",
        preflight_packages_from="wheelhouse",
        preflight_wheelhouse="/nowhere/wheels",
        preflight_disk_factor=1e15,
    )
    assert outcome.rc == 2
    assert found(told, "builder", "problem") == [
        f"FP32 model {fresh.builder / MODEL}",
        f"disk of {fresh.builder}",
        f"SSH of target2, 127.0.0.1 port {closed}",
        "wheelhouse /nowhere/venv-wheelhouse",
    ]
    assert found(told, "builder", "advice") == [
        "environment of /nowhere/venv/bin/python3",
        "onnxruntime in a session",
    ]
    assert found(told, "target1", "problem") == [f"disk of {fresh.models()}", "configuration"]
    assert found(told, "target2", "problem") == ["connection"]
    assert found(told, "target3", "problem")[0] == f"environment of {python}"
    assert found(told, "target3", "advice") == ["configuration"]
    assert told["problems"] >= 8 and told["advice"] == 3
    text = " ".join(outcome.output.split())
    for words in (
        f"{hidden} is there",
        "audio_omni",
        "Connection refused",
        "The phase runtime makes it",
    ):
        assert words in text, words


def test_a_model_that_the_target_cannot_run(fresh):
    """Its graph is of a later ONNX than the target's onnxruntime, and gives other outputs."""
    graph = fresh.models() / MODEL
    model = onnx.load(graph, load_external_data=False)
    model.ir_version = 99
    graph.write_bytes(model.SerializeToString())
    expected = {"mel_features": [1, 2, 3]}
    outcome, told = look(fresh, "--limit target1", sarai_expected_outputs=expected)
    assert outcome.rc == 2 and list(told["hosts"]) == ["target1"]
    session = "onnxruntime in a session"
    assert found(told, "target1", "problem") == ["output mel_features", session]
    assert "Unsupported model IR version: 99" in outcome.output


OLD = """
import onnxruntime
real = onnxruntime.InferenceSession
def session(model, *rest, **options):
    content = model if isinstance(model, bytes) else open(model, "rb").read()
    if b"MatMulNBits" in content:
        raise RuntimeError("Only 4b quantization is supported for MatMulNBits op")
    return real(model, *rest, **options)
onnxruntime.InferenceSession = session
"""


def test_a_release_that_the_target_cannot_run_is_not_brought_there(fresh):
    """The target's onnxruntime is a stand-in for one before 1.22: it refuses blocks of 8 bits."""
    environment = fresh.folder.parent / "old"
    venv.create(environment, symlinks=True)
    packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "real.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (packages / "sitecustomize.py").write_text(OLD)
    before = fresh.config().read_bytes()
    outcome = fresh.work(
        sarai_python=str(environment / "bin" / "python"),
        quantize_forms={NODE: "blockwise_int8"},
    )
    assert outcome.rc == 2
    text = " ".join(outcome.output.split())
    assert "target1: not released: block-wise nodes of 8 bits" in text
    assert "Install onnxruntime 1.22 or newer there" in text
    assert fresh.config().read_bytes() == before
    assert not list(fresh.models().rglob("*_int8*"))


def test_advice_does_not_stop_a_run(fresh, closed):
    outcome = fresh.run(
        "quantize.yml",
        "--tags preflight",
        transfer_strategy="adopt",
        transfer_host="127.0.0.1",
        transfer_port=closed,
    )
    assert outcome.rc == 0 and outcome.changed == {}, outcome.output
    text = " ".join(outcome.output.split())
    assert f"SSH of target1, 127.0.0.1 port {closed}: Connection refused" in text


def test_an_empty_inventory_is_no_silent_success(site, monkeypatch):
    monkeypatch.setattr(site, "inventory", lambda: {"all": {}}, raising=False)
    outcome = site.run("playbooks/preflight.yml")
    assert outcome.rc == 2 and "inventory/production" in outcome.output
    assert not list(Path(site.folder).rglob("*.json"))
