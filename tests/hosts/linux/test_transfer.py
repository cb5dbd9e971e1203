"""The push over SFTP to the real sshd of a host: resumed, verified, with rights to one folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bed import HOSTS, Bed
from rootfs import ROOT

pytestmark = pytest.mark.sftp

USER, HOME = "upload-test", "/var/lib/upload-test"
FOLDER = f"{HOME}/incoming/one"
KEYS = f"{HOME}/.ssh/authorized_keys"
SIZE = 24 << 20
PUSH = """
import json, sys
from pathlib import Path
from modelops.base.errors import ModelOpsError
from modelops.pair.sftp import Where, push
given = json.loads(sys.argv[1])
try:
    print(json.dumps(push(Path(given["source"]), given["files"], Where(**given["where"]),
                          Path(given["key"]))))
except ModelOpsError as error:
    sys.exit(f"refused: {error}")
"""


class Sender:
    """A builder's folder with a pair, and pushes of it to h1."""

    def __init__(self, bed: Bed, folder: Path, size: int = SIZE) -> None:
        self.bed, self.folder = bed, folder
        self.key = folder / "push.pub"
        rng = random.Random(1)
        data = b"".join(rng.randbytes(1 << 20) for _ in range(size >> 20))
        contents = {"m.onnx.data": data, "m.onnx": rng.randbytes(3000)}
        self.files = []
        for name, content in contents.items():
            (folder / name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            self.files.append({"name": name, "size": len(content), "sha256": sha256})
        public = (bed.state / "h1.d/ssh_host_ed25519_key.pub").read_text()
        self.where = {
            "host": bed.address("h1"), "port": 22, "user": USER, "folder": FOLDER,
            "host_key": " ".join(public.split()[:2]), "authorize_s": 10, "stall_s": 5, "rate": 0,
        }  # fmt: skip

    def start(self, authorize: bool = True, **where) -> subprocess.Popen[str]:
        self.key.unlink(missing_ok=True)
        given = {"source": str(self.folder), "files": self.files, "key": str(self.key)}
        given["where"] = self.where | where
        process = subprocess.Popen(
            self.bed.command(sys.executable, "-c", PUSH, json.dumps(given)),
            env={**os.environ, "PYTHONPATH": str(ROOT / "module_utils")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while not self.key.exists():
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.05)
        if authorize:
            line = f'restrict,command="internal-sftp" {self.key.read_text().strip()}'
            self.bed.ssh("h1", f"echo '{line}' | sudo tee {KEYS}")
        return process

    def push(self, **options) -> dict:
        process = self.start(**options)
        output, error = process.communicate(timeout=120)
        return json.loads(output) if process.returncode == 0 else {"error": error}

    def there(self) -> bool:
        """Whether the target holds exactly the pair."""
        listed = "".join(f"{f['sha256']}  {FOLDER}/{f['name']}\n" for f in self.files)
        command = f"sha256sum --check --quiet && ls {FOLDER} | wc -l | grep -qx 2"
        done = self.bed.ssh("h1", command, input=listed, stdin=None, check=False)
        return done.returncode == 0

    def arrived(self) -> int:
        done = self.bed.ssh("h1", f"stat -c %s {FOLDER}/m.onnx.data.part", check=False)
        return int(done.stdout or 0)


def make_account(bed: Bed) -> None:
    bed.ssh(
        "h1",
        f"""
        sudo useradd --system --home-dir {HOME} --shell /usr/sbin/nologin {USER} 2>/dev/null
        sudo rm -rf {HOME} && sudo mkdir -p {HOME}/.ssh {FOLDER} && sudo chown {USER} {FOLDER}
    """,
    )


@pytest.fixture
def sender(hosts, tmp_path) -> Sender:
    hosts.heal("h1")
    if not hosts.alive("h1"):
        hosts.boot("h1")
    make_account(hosts)
    return Sender(hosts, tmp_path)


def test_it_arrives_and_is_not_sent_again(sender):
    sent = sender.push()
    assert sent["sent"] == ["m.onnx.data", "m.onnx"] and sent["sent_bytes"] == SIZE + 3000
    assert sender.there()
    assert sender.push()["sent"] == []
    # Neither its folder's name nor a private key ever stood beside the pair.
    assert {path.name for path in sender.folder.iterdir()} == {"m.onnx", "m.onnx.data", "push.pub"}
    assert sender.key.read_text().startswith("ssh-ed25519 ")


@pytest.mark.parametrize("how", ["killed", "power", "link"])
def test_it_goes_on_where_it_was_cut(sender, how):
    process = sender.start(rate=8e6)
    while sender.arrived() < SIZE // 3:
        assert process.poll() is None
        time.sleep(0.1)
    if how == "killed":
        process.kill()
    elif how == "power":
        sender.bed.crash("h1")
    else:
        sender.bed.cut("h1")
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    if how != "killed":
        assert "Run again when the link is back" in error
    if how == "power":
        sender.bed.boot("h1")
    sender.bed.heal("h1")
    sender.bed.wait("h1")
    sent = sender.push()
    assert sender.there()
    assert sent["sent_bytes"] < SIZE


@pytest.mark.parametrize("size", [0, 1, 4095, 131072, 8 << 20, SIZE - 1, SIZE, SIZE + 5])
def test_it_goes_on_at_any_byte(sender, size):
    content = (sender.folder / "m.onnx.data").read_bytes()[:size].ljust(size, b"x")
    part = f"sudo -u {USER} tee {FOLDER}/m.onnx.data.part > /dev/null"
    sender.bed.ssh("h1", part, input=content, text=False, stdin=None)
    assert "error" not in sender.push()
    assert sender.there()


def test_the_target_must_be_the_one_that_is_known(sender):
    other = (sender.bed.state / "h2.d/ssh_host_ed25519_key.pub").read_text()
    failed = sender.push(host_key=" ".join(other.split()[:2]))
    assert "host key is not the one that Ansible knows" in failed["error"]


def test_a_key_that_is_not_let_in(sender):
    failed = sender.push(authorize=False, authorize_s=2)
    assert "did not let the key of this transfer in within 2 s" in failed["error"]


def test_a_source_that_changed_is_refused(sender):
    (sender.folder / "m.onnx").write_bytes(bytes(3000))
    assert "SHA-256" in sender.push()["error"]
    assert not sender.there()


def test_no_room(sender):
    sender.bed.ssh(
        "h1", f"sudo mount -t tmpfs -o size=4m none {FOLDER}; sudo chown {USER} {FOLDER}"
    )
    try:
        assert "not enough room for the artifacts" in sender.push()["error"]
    finally:
        sender.bed.ssh("h1", f"sudo umount {FOLDER}")


def test_a_rate_is_kept(sender):
    took = sender.push(rate=8e6)["elapsed_s"]
    assert took > 0.8 * SIZE / 8e6


def test_the_account_may_write_nothing_else(sender):
    key = sender.folder / "own"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    line = f'restrict,command="internal-sftp" {key.with_suffix(".pub").read_text().strip()}'
    sender.bed.ssh("h1", f"echo '{line}' | sudo tee {KEYS}")
    options = [
        "-i", key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5",
        "-o", f"UserKnownHostsFile={sender.bed.state}/known_hosts",
    ]  # fmt: skip
    place = f"{USER}@{sender.bed.address('h1')}"
    for target in (".ssh/authorized_keys", "new", "/home/noel/SARAi_v2/config/sarai.yaml"):
        batch = f"put {sender.folder}/m.onnx {target}\n"
        done = sender.bed.exec(
            "sftp", *options, "-b", "-", place, input=batch, stdin=None, check=False
        )
        assert done.returncode != 0, target
    shell = sender.bed.exec("timeout", "10", "ssh", *options, place, "id", check=False)
    assert "uid=" not in shell.stdout
    forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22"]
    done = sender.bed.exec("timeout", "10", "ssh", *options, *forward, place, check=False)
    assert done.returncode not in (0, 124)


def test_the_whole_way_from_the_builder(fleet):
    """To three hosts; damaged on one of them on the way, and nobody is let in afterwards."""
    for host in HOSTS:
        fleet.bed.ssh(host, "rm -rf SARAi_v2/models/onnx/.incoming")
    release = json.loads((fleet.builder / "agi_audio_core.manifest.json").read_text())["release_id"]
    data = fleet.builder / "agi_audio_core_int8.onnx.data"
    folder = f"/var/lib/sarai-upload/incoming/{release}"
    size = data.stat().st_size
    # Of the right size, so it is not sent again before its hash says what it is.
    plant = f"sudo mkdir -p {folder} && sudo truncate -s {size} {folder}/{data.name}"
    fleet.bed.ssh("h2", plant)
    done = fleet.run("quantize.yml", transfer_strategy="sftp", transfer_progress_s=0.1)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Throw away what arrived damaged") == 1
    assert {fleet.served(host) for host in HOSTS} == {"int8"}
    for host in HOSTS:
        assert f"[{host}] " in done.stdout and "sending to" in done.stdout
    for host in HOSTS:
        left = fleet.bed.ssh(host, "sudo find /var/lib/sarai-upload -type f -size +0").stdout
        assert left == ""
    names = {path.name for path in fleet.builder.iterdir()}
    assert not [name for name in names if "push" in name]
