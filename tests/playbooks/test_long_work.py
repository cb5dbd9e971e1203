"""What a long quantization shows on the terminal, and what becomes of it without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import models
import pytest
from conftest import ROOT
from modelops.sample.sample import make_sample

TASK = {
    "onnx_quantize": {"src": "{{ src }}", "dest": "{{ dest }}", "progress_s": 0.05},
    "vars": {"ansible_python_interpreter": sys.executable},
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "m.onnx"
    make_sample(path, 300)
    return path


def start(src: Path, dest: Path, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start a play of the one task."""
    return play(src, dest, TASK | {"onnx_quantize": TASK["onnx_quantize"] | options}, *arguments)


def play(src: Path, dest: Path, task: dict, *arguments: str) -> subprocess.Popen[str]:
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    book = dest.with_name("play.yml")
    book.write_text(json.dumps([play]))
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(book),
            *arguments,
            *("-e", json.dumps({"src": str(src), "dest": str(dest)})),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_ASYNC_DIR": str(dest.parent / "jobs")},
    )


def test_shows_how_far_it_is_and_leaves_nothing_behind(sample, tmp_path):
    run = start(sample, tmp_path / "m8.onnx", exclude_nodes=["hed_*"])
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert "No node is called 'hed_*' (exclude_nodes)." in " ".join(output.split())
    assert "DEPRECATION" not in output, output
    number = r"[\d.]+ [kMG]?B"
    # How fast and how long is told once there is something to tell it by.
    pace = rf"({number}/s, [\d.]+ m?s left, )?"
    figures = rf"{number} of 75.\d+ MB \(\d+ %\), {pace}peak memory {number}"
    assert re.search(rf"\[localhost\] m8.onnx: quantizing: {figures}\n", output), output
    assert "changed=1" in output
    left = {path.name for path in tmp_path.iterdir()} - {"jobs", "play.yml"}
    assert left == {"m8.onnx", "m8.onnx.data"}
    again, _ = start(sample, tmp_path / "m8.onnx").communicate(timeout=120)
    assert "changed=0" in again and "failed=0" in again
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, [], "no such model file"),
        ({"progress_s": 0}, [], "no such model file"),
        ({}, ["--check"], "no such model file"),
        ({"progress_s": "often"}, [], "progress_s"),
    ],
)
def test_a_failure_reads_the_same_in_the_background(tmp_path, options, arguments, message):
    run = start(tmp_path / "absent.onnx", tmp_path / "m8.onnx", *arguments, **options)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 2
    assert message in " ".join(output.split()) and "failed=1" in output
    assert "Traceback" not in output


def test_a_job_outlives_the_playbook(sample, tmp_path):
    """A killed controller leaves a job behind that ends by itself; the next run finds its pair."""
    dest = tmp_path / "m8.onnx"
    run = start(sample, dest)
    for text in run.stdout:
        if "m8.onnx: " in text:
            run.kill()
            break
    run.communicate(timeout=60)
    assert run.returncode != 0
    deadline = time.monotonic() + 60
    while (tmp_path / ".m8.onnx.progress").exists() or not dest.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    output, _ = start(sample, dest).communicate(timeout=120)
    assert "changed=0" in output and "failed=0" in output, output


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        (
            "onnx_compare",
            {"reference": "{{ dest }}", "candidate": "{{ dest }}", "runs": 200},
            "timing run",
        ),
        (
            "onnx_golden",
            {
                "model": "{{ src }}",
                "dest": "{{ dest }}.npz",
                "source": [{"name": "m.onnx", "size": 1, "sha256": "0" * 64}],
            },
            "loading m.onnx",
        ),
    ],
)
def test_a_measurement_shows_how_far_it_is(sample, tmp_path, module, options, words):
    dest = tmp_path / "m8.onnx"
    models.matmul(dest, 512, 512)
    options = options | {"progress_s": 0.05}
    task = {module: options, "vars": {"ansible_python_interpreter": sys.executable}}
    run = play(sample, dest, task)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert re.search(rf"\[localhost\] m8.onnx\S*: .*{words}", output), output
    assert not list(tmp_path.glob("*.progress*"))
