"""What comes back over the bridge: an answer, or why there is none."""

from __future__ import annotations

import json

import pytest

from plugin_utils import boot
from plugin_utils.reply import decode


def test_noise_around_the_answer_is_kept_apart():
    raw = {
        "rc": 0,
        "stdout": f"a .pth prints {{}}\r\n\r\n{boot.MARK}{json.dumps({'result': 1})}\r\nbye",
        "stderr": "a warning\r\n",
    }
    assert decode(raw, "py") == {
        "result": 1,
        "module_stdout": "a .pth prints {}",
        "module_stderr": "a warning",
    }


FAILED = "Failed to run: 'x': Exception calling \"CreateProcess\": "


def test_an_answer_may_tell_of_the_mark_itself():
    """As one that holds what was called: boot.py is a part of that."""
    reply = {"said": {"stdout": f"\n{boot.MARK}{{}}\n", "call": f'MARK = "{boot.MARK}"'}}
    assert decode({"stdout": f"\n{boot.MARK}{json.dumps(reply)}\n"}, "py") == reply


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"rc": 2, "msg": FAILED + "The system cannot find the file"}, "there is no Python at py"),
        ({"rc": 216, "msg": FAILED + "not compatible"}, "cannot be started"),
        ({"rc": 4551, "msg": FAILED + "Una directiva bloqueó"}, "application control blocks py"),
        ({"rc": 106, "stderr": "failed to locate pyvenv.cfg"}, "environment of py is broken"),
        ({"rc": 103, "stderr": r"No Python at 'C:\P\python.exe'"}, "environment of py is broken"),
        ({"rc": 1, "stderr": "...\nMemoryError\n"}, "MaxMemoryPerShellMB"),
        ({"rc": 3221225495, "stderr": ""}, "MaxMemoryPerShellMB"),
        ({"rc": 1, "stdout": boot.MARK + "{ cut", "stderr": "ouch"}, "gave no answer"),
        ({"rc": 0, "stdout": boot.MARK}, "gave no answer"),
        ({"failed": True, "msg": "MODULE FAILURE"}, "gave no answer (exit code None, MODULE"),
    ],
)
def test_no_answer_is_explained(raw, words):
    result = decode(raw, "py")
    assert result["failed"] and words in result["msg"]
