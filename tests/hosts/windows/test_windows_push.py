"""The way of a pair from a Windows host to a target."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import pytest
from plays import program, quantize, run, start

pytestmark = pytest.mark.sftp


class Target(asyncssh.SSHServer):
    """An SFTP server of this machine that lets in the key that a file holds."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self._keys.read_text() if self._keys.exists() else ""
        return key.export_public_key().decode().split()[1] in known


@pytest.fixture
def target(tmp_path):
    """An SFTP server with an incoming folder: host_key, port, keys, incoming."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    keys = tmp_path / "authorized_keys"
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncssh.create_server(
            lambda: Target(keys), "127.0.0.1", 0, server_host_keys=[host_key], sftp_factory=True
        )
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    public = " ".join(host_key.export_public_key().decode().split()[:2])
    yield SimpleNamespace(host_key=public, port=server.get_port(), keys=keys, incoming=incoming)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def push(work: SimpleNamespace, target: SimpleNamespace, **options: object) -> list[dict]:
    """The tasks of a push: its key, its permission, its end."""
    options = {
        "state": "started",
        "src": work.name,
        "manifest": "{{ made.manifest }}",
        "host": "127.0.0.1",
        "port": target.port,
        "user": "upload",
        "host_key": target.host_key,
        "folder": str(target.incoming),
        **options,
    }
    return [
        quantize(work) | {"register": "made"},
        {"artifact_push": options, "register": "begun"},
        {
            "ansible.builtin.copy": {
                "content": "{{ begun.public_key }}",
                "dest": str(target.keys),
            },
            "delegate_to": "localhost",
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        },
        {
            "artifact_push": {
                "state": "finished",
                "job": "{{ begun.job }}",
                "progress_s": 0.5,
            }
        },
    ]


def test_the_pair_is_pushed_from_windows(windows, large, target):
    outcome = run(windows, *push(large, target, rate=3e6))
    assert outcome.rc == 0, outcome.output
    assert outcome.results[1]["public_key"].startswith("ssh-ed25519 ")
    assert re.search(r"sending to 127.0.0.1: [\d.]+ MB of 30.\d+ MB", outcome.output)
    for name in outcome.result["sent"]:
        assert (target.incoming / name).read_bytes() == (large.folder / name).read_bytes()
    again = run(windows, *push(large, target))
    assert again.rc == 0 and again.result["sent"] == [], again.output


def test_a_push_that_is_not_let_in(windows, voice, target):
    tasks = push(voice, target, authorize_s=2)
    del tasks[2]
    outcome = run(windows, *tasks)
    assert outcome.rc == 2
    assert "did not let the key of this transfer in within 2 s" in outcome.result["msg"]


def test_a_key_that_somebody_reads_when_it_goes(windows, voice, target, jobs):
    """As the bridge does, or an antivirus: Windows refuses to remove what is open."""
    shutil.rmtree(jobs, ignore_errors=True)  # with the key of a job before this one
    reader = (
        "import glob,os,time\n"
        "jobs = os.path.join(os.environ['LOCALAPPDATA'], 'modelops', 'jobs')\n"
        "while not (found := glob.glob(jobs + '/*/public_key')): time.sleep(.02)\n"
        "with open(found[0]): time.sleep(4)"
    )
    holder = start(windows, voice.local, program(windows, reader))
    tasks = push(voice, target, authorize_s=2)
    del tasks[2]
    outcome = run(windows, *tasks)
    assert holder.wait(timeout=60) == 0
    assert "did not let the key of this transfer in within 2 s" in outcome.result["msg"]
