"""Long work on a Windows host: its progress, its limits, and what becomes of it without a link."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from modelops.sample.sample import make_sample
from plays import Link, names, program, quantize, run, start

# A job that lasts long enough to do something to it.
SLOW = {"threads": 1, "verify": True, "samples": 1, "progress_s": 0.5, "quality": {"cosine": 0.9}}


def process_of_newest(jobs: Path) -> int:
    newest = max(jobs.glob("*/started.json"), key=lambda path: path.stat().st_mtime)
    return int(json.loads(newest.read_text())["pid"])


def await_line(process, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the play ended without {text!r}")


def test_progress_is_shown_as_on_linux(windows, work, jobs):
    make_sample(work.folder / "m.onnx", 1000)
    number = r"[\d.]+ [kMG]?B"
    line = (
        rf"\[win\] m8.onnx: quantizing: {number} of 25\d.\d+ MB \(\d+ %\), {number}/s,"
        rf" [\d.]+ m?s left, peak memory {number}"
    )
    for _ in range(5):  # it may end before anybody looks
        options = {"progress_s": 0.1, "threads": 1, "force": True, "exclude_nodes": ["hed_*"]}
        outcome = run(windows, quantize(work, **options))
        assert outcome.rc == 0, outcome.output
        assert "No node is called 'hed_*' (exclude_nodes)." in " ".join(outcome.output.split())
        if re.search(line, outcome.output):
            break
    else:
        raise AssertionError(outcome.output)
    assert names(work.folder) == {"m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data"}
    told = {path.parent for path in jobs.glob("*/told")}
    assert len(told) == 1, "the next job removes one that was seen to its end"


def test_a_job_may_be_the_first_call_of_all(windows, voice, jobs):
    """The host has none of the project's code yet."""
    for folder in ("code", "jobs"):
        shutil.rmtree(jobs.with_name(folder), ignore_errors=True)
    made, again = (run(windows, quantize(voice)) for _ in range(2))
    assert made.rc == 0 and made.result["changed"], made.output
    assert again.rc == 0 and not again.result["changed"], again.output
    assert len(list(jobs.iterdir())) == 1


def test_a_job_ends_at_its_limit_and_leaves_no_half_pair(windows, large):
    outcome = run(windows, quantize(large, **SLOW, limit_s=2))
    assert outcome.rc == 2 and "longer than limit_s, 2 s" in outcome.result["msg"]
    assert not {"m8.onnx", "m8.onnx.data"} & names(large.folder)
    again = run(windows, quantize(large))
    assert again.rc == 0 and again.result["changed"], again.output


def test_a_link_that_breaks_and_comes_back(windows, large):
    variables = windows.inventory_vars()
    link = Link(variables["ansible_host"], variables["ansible_port"])
    process = start(windows, large.local, quantize(large, **SLOW), ansible_port=link.port)
    await_line(process, "m8.onnx: ")
    link.cut(3)
    output, _ = process.communicate(timeout=120)
    link.close()
    assert process.returncode == 0 and "changed=1" in output, output


def test_a_link_that_stays_broken(windows, large):
    variables = windows.inventory_vars()
    link = Link(variables["ansible_host"], variables["ansible_port"])
    slow = quantize(large, **SLOW)
    process = start(windows, large.local, slow, ansible_port=link.port, background_patience_s=3)
    await_line(process, "m8.onnx: ")
    link.close()
    output = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 2
    assert "has not answered for 3 s while it is at work" in output
    again = run(windows, slow)
    assert again.rc == 0 and (large.folder / "m8.onnx").exists(), again.output


def test_a_lost_controller_finds_its_job_again(windows, large):
    slow = quantize(large, **SLOW)
    process = start(windows, large.local, slow)
    await_line(process, "m8.onnx: ")
    process.kill()
    process.communicate()
    again = run(windows, slow)
    assert again.rc == 0 and again.result["changed"], again.output
    assert "goes on with the job that has been at work there" in again.output


def test_a_job_that_is_gone(windows, large, jobs):
    """As after a restart of Windows: nothing holds the job any more."""
    process = start(windows, large.local, quantize(large, **SLOW))
    await_line(process, "m8.onnx: ")
    pid = process_of_newest(jobs)
    kill = "import os,sys; os.kill(int(sys.argv[1]), 9)"
    assert run(windows, program(windows, kill, str(pid))).rc == 0
    output = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 2
    assert f"the run on the host is gone (process {pid}): Windows was restarted" in output
    assert "MaxMemoryPerShellMB" in output
    again = run(windows, quantize(large))
    assert again.rc == 0 and again.result["changed"], again.output
    assert names(large.folder) == {"m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data"}
