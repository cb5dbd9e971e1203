"""`python -m modelops` in a Windows Python: the way out when the modules' way over WinRM fails."""

from __future__ import annotations

import json
import shutil
import subprocess

import models
import pytest
from plays import run
from rootfs import ROOT

FOLDER = r"C:\by hand"
SOURCE, PAIR = rf"{FOLDER}\m.onnx", rf"{FOLDER}\int8\m_int8.onnx"


@pytest.fixture
def folder(windows):
    """A copy of the code on the PC, and a model."""
    folder = windows.path(FOLDER)
    for part in ("library", "doc_fragments", "module_utils"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=leave)
    (folder / "int8").mkdir()
    models.matmul(folder / "m.onnx", 512, 512)
    yield folder
    shutil.rmtree(folder)


def typed(windows, *arguments: str) -> dict:
    """A task that types a command there, with what its console would be."""
    return {
        "ansible.windows.win_command": {"argv": [windows.python, "-m", "modelops", *arguments]},
        "environment": {"PYTHONPATH": rf"{FOLDER}\module_utils"},
        "failed_when": False,
    }


def test_quantize_compare_verify_and_exit_codes(windows, folder):
    damage = f"open(r'{PAIR}.data', 'wb').write(b'other')"
    commands = (
        ("quantize", SOURCE, PAIR),
        ("quantize", SOURCE, PAIR, "--json"),
        ("compare", SOURCE, PAIR, "--gate", "cosine_min>0.999999"),
        ("manifest", rf"{FOLDER}\int8"),
        ("quantise",),
    )
    done = run(windows, *(typed(windows, *command) for command in commands))
    assert done.rc == 0, done.output
    made, again, judged, whole, unknown = done.results
    assert made["rc"] == 0, made
    assert "written" in made["stdout"] and "1 dynamic_int8" in made["stdout"]
    names = {"m_int8.onnx", "m_int8.onnx.data", "m.manifest.json", "m.SHA256SUMS"}
    assert {path.name for path in (folder / "int8").iterdir()} == names
    sums = subprocess.run(["sha256sum", "-c", "m.SHA256SUMS"], cwd=folder / "int8", check=False)
    assert sums.returncode == 0
    assert again["rc"] == 0 and not json.loads(again["stdout"])["changed"], again
    assert judged["rc"] == 3 and whole["rc"] == 0 and unknown["rc"] == 2, done.results
    break_it = {"ansible.windows.win_command": {"argv": [windows.python, "-c", damage]}}
    broken = run(windows, break_it, typed(windows, "manifest", rf"{FOLDER}\int8")).result
    assert broken["rc"] == 1 and "bytes instead of" in broken["stderr"], broken
