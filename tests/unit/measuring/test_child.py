"""The child process: every way it can end, and what it is made of."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.measuring.child import Child, child_modules

ROOT = Path(__file__).parents[3]
PRELUDE = "import json, os, sys, time\n"


@pytest.mark.parametrize(
    ("program", "limit_s", "words"),
    [
        ("os._exit(7)", 30, ["exit code 7", "'start'"]),
        ("sys.stderr.write('last words'); sys.stderr.flush(); os._exit(1)", 30, ["last words"]),
        ("os.kill(os.getpid(), 9)", 30, ["signal 9 SIGKILL", "want of memory"]),
        ("os.kill(os.getpid(), 11)", 30, ["signal 11 SIGSEGV"]),
        ("print('hello', flush=True); time.sleep(60)", 30, ["something else", "'hello"]),
        ("print('[1]', flush=True); time.sleep(60)", 30, ["something else"]),
        ("time.sleep(60)", 0.5, ["no answer to 'start' within 0.5 s"]),
        ("os.close(1); time.sleep(60)", 2, ["closed its output"]),
    ],
)
def test_every_bad_end_is_an_error_that_says_which(tmp_path, program, limit_s, words):
    started = Child("m.onnx", tmp_path, limit_s, PRELUDE + program)
    with pytest.raises(ModelOpsError) as caught, started:
        started.ask("start")
    for word in ("m.onnx", *words):
        assert word in str(caught.value)
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux's")
def test_it_is_the_first_that_the_kernel_kills_before_it_takes_memory(tmp_path):
    score = "open('/proc/self/oom_score_adj').read().strip()"
    program = f"print(json.dumps({{'score': {score}}}), flush=True)"
    with Child("m", tmp_path, 60, PRELUDE + program) as started:
        # Whatever the program is: the score was set before its first line.
        assert started.ask("start")["score"] == "1000"


def test_what_libraries_print_does_not_disturb_the_replies(tmp_path):
    marker = 'return {\n            "versions"'
    program = child_modules()["__main__"].replace(marker, f"os.write(1, b'noise'); {marker}")
    with Child("m", tmp_path, 60, program) as started:
        assert "versions" in started.ask("start")
    assert [left.read_text() for left in tmp_path.iterdir()] == ["noise"]


def test_the_program_is_found_inside_a_zip(tmp_path):
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w") as payload:
        for path in (ROOT / "module_utils" / "modelops").rglob("*.py"):
            payload.write(path, path.relative_to(ROOT / "module_utils"))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from modelops.measuring.child import child_modules\n"
        "from modelops.measuring.compare import versions, Setup\n"
        "assert '.zip' in sys.modules['modelops.measuring.child'].__file__\n"
        "assert not {'numpy', 'onnxruntime'} & set(sys.modules)\n"
        "print(len(child_modules()), versions(Setup()))"
    )
    command = [sys.executable, "-I", "-c", program, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{len(child_modules())} ")
