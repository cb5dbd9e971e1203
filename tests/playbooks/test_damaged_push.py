"""What arrived damaged is pushed once more; any other failure is not, and stays the failure.

The tasks of roles/transfer/tasks/sftp.yml, with a push that puts files there instead of SFTP. The
failures are those of the real module artifact_copy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from modelops.pair import manifest

pytestmark = pytest.mark.sftp

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = [{"ansible.builtin.file": {"path": "{{ __transfer_uploaded }}", "state": "directory"}}]
BRING = "echo push >> {{ log }}; cp {{ log }}.$(wc -l < {{ log }})/* {{ __transfer_uploaded }}"
TAKE = {"src": "{{ __transfer_uploaded }}", "dest": "{{ dest }}", "manifest": "{{ made }}"}
PUSH = [{"ansible.builtin.shell": BRING}, {"artifact_copy": TAKE}]


@pytest.fixture
def push(tmp_path):
    """Return a function that runs the tasks, with what each push brings."""
    tasks = yaml.safe_load((ROOT / "roles/transfer/tasks/sftp.yml").read_text(encoding="utf-8"))
    (tmp_path / "sftp/become").mkdir(parents=True)
    for name, content in (("become/account", ACCOUNT), ("push", PUSH)):
        (tmp_path / f"sftp/{name}.yml").write_text(json.dumps(content), encoding="utf-8")
    for name in ("close", "remove"):
        text = (ROOT / f"roles/transfer/tasks/sftp/become/{name}.yml").read_text(encoding="utf-8")
        own = json.dumps(_as_this_user(yaml.safe_load(text)))
        (tmp_path / f"sftp/become/{name}.yml").write_text(own, encoding="utf-8")
    (tmp_path / "tasks.yml").write_text(json.dumps(_as_this_user(tasks)), encoding="utf-8")
    (tmp_path / "upload/.ssh").mkdir(parents=True)
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{"include_tasks": "tasks.yml"}]}
    (tmp_path / "play.yml").write_text(json.dumps([play]), encoding="utf-8")

    def run(*pushes: bytes) -> tuple[subprocess.CompletedProcess[str], int]:
        good = tmp_path / "good/a.onnx"
        good.parent.mkdir()
        good.write_bytes(b"right")
        entry = manifest.describe(good)
        made = manifest.build([entry], [entry], {}, [], {})
        for number, content in enumerate(pushes, 1):
            folder = tmp_path / f"log.{number}"
            folder.mkdir()
            (folder / "a.onnx").write_bytes(content)
        variables = {
            "__transfer_uploaded": str(tmp_path / "upload/incoming"),
            "transfer_upload_dir": str(tmp_path / "upload"),
            "__transfer_marker": "# {mark} test",
            "sarai_privileges": "become",
            "dest": str(tmp_path / "dest"),
            "log": str(tmp_path / "log"),
            "made": made,
            "ansible_python_interpreter": sys.executable,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", "localhost,", "-c", "local", "-e", json.dumps(variables)]
        command.append(str(tmp_path / "play.yml"))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done, (tmp_path / "log").read_text().count("push")

    return run


def _as_this_user(tasks):
    """Return tasks without what only root may do."""
    if isinstance(tasks, list):
        return [_as_this_user(task) for task in tasks]
    if isinstance(tasks, dict):
        left = ("become", "owner", "group")
        return {key: _as_this_user(value) for key, value in tasks.items() if key not in left}
    return tasks


def test_damage_is_pushed_once_more(push, tmp_path):
    done, pushes = push(b"wrong", b"right")
    assert done.returncode == 0, done.stdout
    assert pushes == 2 and (tmp_path / "dest/a.onnx").read_bytes() == b"right"


def test_another_failure_is_not(push, tmp_path):
    (tmp_path / "dest").write_text("a file where the folder should be")
    done, pushes = push(b"right", b"right")
    assert done.returncode == 2 and pushes == 1
    assert str(tmp_path / "dest") in done.stdout.rpartition("Stop when it was not damage")[2]
