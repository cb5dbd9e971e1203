"""A Windows builder over SSH: a real sshd, keys, PowerShell as its shell, and no WinRM.

Of Windows' own OpenSSH nothing runs here: docs/windows-fidelity.md.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from plays import ROOT, names, program, quantize, run, tried
from test_windows_faults import reach
from test_windows_preflight import closed, found, index, look, models_dir, ssh  # noqa: F401


def example() -> dict[str, Any]:
    """What the inventory proposes for SSH, behind comment marks."""
    text = (ROOT / "inventory/production/group_vars/builder/main.yml").read_text()
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ansible_")]
    return dict(yaml.safe_load("\n".join(lines)))


@pytest.fixture
def over_ssh(windows) -> Any:
    """The host, reached as the inventory proposes, but for where it is and whom it knows."""
    windows.mend()
    own = windows.ssh_vars()
    assert set(example()) <= set(own)
    known = example() | own | {"ansible_shell_type": example()["ansible_shell_type"]}

    class OverSsh:
        inventory_vars = staticmethod(lambda: known)

        def __getattr__(self, name: str) -> Any:
            return getattr(windows, name)

    return OverSsh()


def test_it_is_reached_and_told_windows_by_its_shell(over_ssh, tmp_path):
    code, said = reach(over_ssh, tmp_path)
    assert code == 0 and "Reach the Windows host" in said, said
    code, said = reach(over_ssh, tmp_path, ansible_port=1)
    assert code == 2 and "nothing listens at that port" in said and "sshd" in said, said
    code, said = reach(over_ssh, tmp_path, ansible_user="nobody")
    assert code == 2 and "it does not let this user in" in said, said


@pytest.mark.sftp
def test_modules_jobs_and_files(over_ssh, voice: SimpleNamespace):
    """A job outlives the session that starts it; a file goes by SFTP."""
    local = voice.local / "ünï 1.txt"
    local.write_text("x")
    made = quantize(voice)
    done = run(over_ssh, made, made, {"ansible.windows.win_copy": {
        "src": str(local), "dest": f"{voice.name}\\",
    }})  # fmt: skip
    assert done.rc == 0, done.output
    assert [result["changed"] for result in done.results] == [True, False, True]
    assert names(voice.folder) == {
        "m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data", "ünï 1.txt",
    }  # fmt: skip


def test_a_failure_and_a_missing_python(over_ssh, voice: SimpleNamespace):
    failed, lost = tried(
        over_ssh,
        quantize(voice, granularity="none"),
        quantize(voice) | {"vars": {"ansible_python_interpreter": r"C:\none\python.exe"}},
    )
    assert "value of granularity must be one of" in failed["msg"]
    assert r"there is no Python at C:\none\python.exe" in lost["msg"]


def test_what_a_program_says_comes_back_whole(over_ssh):
    done = run(over_ssh, program(over_ssh, "import sys; print('a' * 100_000); sys.exit('b')"))
    said = done.result
    assert (done.rc, said["rc"], len(said["stdout"].strip())) == (2, 1, 100_000)
    assert said["stderr"].strip() == "b"


def test_preflight_asks_for_no_quota_of_winrm(over_ssh, models_dir, tmp_path, ssh, index):  # noqa: F811
    rc, output, rows = look(
        over_ssh, tmp_path, ssh,
        sarai_builder_base_python=over_ssh.python,
        preflight_index_url=index,
        preflight_builder_memory_installed=1,
    )  # fmt: skip
    assert rc == 0, output
    assert found(rows, "problem") == []
    assert not [row["check"] for row in rows if "WinRM" in row["check"]]
    assert "Windows" in [row["check"] for row in rows]
