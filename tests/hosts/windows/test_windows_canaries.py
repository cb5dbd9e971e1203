"""Secrets on the way to a Windows builder: its password, and what a vault gives beside it."""

from __future__ import annotations

from canaries import CANARY, Watch
from plays import names, program, quantize, run


def test_no_secret_is_shown_or_left_on_windows(windows, voice):
    """At -vvv --diff, by a module that is called, one that is a job, and one that fails."""
    password = windows.inventory_vars()["ansible_password"]
    given = {"vault_builder_password": CANARY, "ansible_become_password": CANARY}
    pair, model = {"path": voice.name, "state": "verified"}, f"{voice.name}\\m.onnx"
    with Watch() as watch, Watch(password) as other:
        done = run(
            windows,
            quantize(voice),
            {"host_check": {"folder": voice.name, "model": model, "spared_by": model}},
            {"artifact_manifest": pair, "ignore_errors": True},
            program(windows, "print(1)"),
            arguments="-vvv --diff",
            **given,
        )
    assert done.rc == 0, done.output
    assert [line for line in done.output.splitlines() if CANARY in line or password in line] == []
    assert watch.looks > 20 and watch.seen == other.seen == set()
    # Temp files, async files and the bridge's jobs: all that is on the host's disk.
    users = windows.path(r"C:\users")
    files = [path for path in users.rglob("*") if path.is_file() and not path.is_symlink()]
    files += [path for path in voice.folder.rglob("*") if path.is_file()]
    assert len(files) > 3 and "m8.onnx" in names(voice.folder)
    words = CANARY.encode(), password.encode(), password.encode("utf-16-le")
    assert [path for path in files if any(word in path.read_bytes() for word in words)] == []
