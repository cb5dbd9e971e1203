"""The daily runs without become: root's helper is all that the deploy user may call."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed import Bed
from fleet import (
    CONFIG,
    MODEL,
    MODELS,
    ONE,
    TRACES,
    UNIT,
    UPLOAD,
    Fleet,
    run_until,
    until,
    went_back,
)
from rootfs import USER, run

pytestmark = pytest.mark.sftp

# Whoever asks for become fails, and sudo allows nothing but what the setup gave.
HELPER = {"sarai_privileges": "helper", "ansible_become_exe": "/bin/false"}
SFTP = {"transfer_strategy": "sftp", "transfer_progress_s": 0}
H1 = ("--limit", "h1,control,localhost")
SETUP = "playbooks/setup_target.yml"
CALL = f"sudo -n /usr/local/sbin/modelops-root {MODEL}"
RELEASE = "0123456789abcdef"


def as_root(bed: Bed, command: str) -> str:
    """Do something on h1 as root, whatever sudo allows there: in its files, not in its systemd."""
    process = (bed.state / "h1.pid").read_text().split()[0]
    inside = ["nsenter", "--mount", "--target", process, "chroot", bed.state / "h1.w/root"]
    return run(*inside, "sh", "-c", command).stdout


def set_up(fleet: Fleet, **variables: Any) -> str:
    done = fleet.run(SETUP, "--limit", "h1,localhost", **(SFTP | variables))
    assert done.returncode == 0, done.stdout
    return done.stdout


def files(bed: Bed) -> list[str]:
    """Every file that a setup could touch: its name, mode, owner and size."""
    found = as_root(
        bed,
        "find /etc /usr/local /var/lib -xdev ! -type d -printf '%p %m %U %s\\n'; cat /etc/passwd",
    )
    changing = re.compile(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-? |/var/lib/systemd/")
    return sorted(line for line in found.splitlines() if not changing.match(line))


@pytest.fixture
def bare(fleet) -> Iterator[Fleet]:
    """h1 as nothing of this project ever was root there, and again afterwards."""
    fleet.strip("h1")
    yield fleet
    as_root(fleet.bed, f"test ! -e /root/sudoers || mv /root/sudoers /etc/sudoers.d/{USER}")
    fleet.bed.ssh("h1", f"sudo systemctl stop {UNIT}.timer", check=False)
    fleet.strip("h1")


@pytest.fixture
def least(bare) -> Fleet:
    """h1 set up, its deploy user without any other right."""
    set_up(bare)
    confine(bare.bed)
    return bare


def confine(bed: Bed) -> None:
    as_root(bed, f"mv /etc/sudoers.d/{USER} /root/sudoers")
    for command in ("true", "systemctl restart sarai", "/usr/local/sbin/modelops-root other arm"):
        assert bed.ssh("h1", f"sudo -n {command}", check=False).returncode == 1, command


def test_set_up_twice_and_undone(bare):
    before = files(bare.bed)
    checked = bare.run(SETUP, "--limit", "h1,localhost", "--check", **SFTP)
    assert checked.returncode == 0 and files(bare.bed) == before, checked.stdout
    set_up(bare)
    assert "changed=0" in set_up(bare)
    rated = bare.bed.ssh("h1", f"systemd-analyze security --no-pager {UNIT}.service").stdout
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", rated)[1]) < 2, rated
    for state in ("present", "absent"):
        told = set_up(bare, setup_target_state=state, activate_confirm_s=90)
        timer = as_root(bare.bed, f"cat /etc/systemd/system/{UNIT}.timer 2>&1 || true")
        assert ("OnActiveSec=90" in timer) == (state == "present"), told
    assert files(bare.bed) == before
    assert "changed=0" in set_up(bare, setup_target_state="absent")
    left = [path for path in TRACES if as_root(bare.bed, f"test ! -e {path} || echo there")]
    assert left == []
    held = bare.bed.ssh("h1", "sudo sshd -T -C user=sarai-upload,host=x,addr=127.0.0.1").stdout
    assert "chrootdirectory none" in held


def test_the_whole_way_without_become(least):
    bed = least.bed
    given = {**SFTP, **HELPER}
    bed.ssh("h1", f"rm -rf {MODELS}/.incoming")
    done = least.run("quantize.yml", *H1, **given)
    assert done.returncode == 0, done.stdout
    assert (least.served("h1"), least.named("h1")) == ("int8", "int8")
    assert "(mapped): its processes have the release mapped" in " ".join(done.stdout.split())
    assert as_root(bed, f"cat /etc/modelops/keys/*; find {UPLOAD} -type f") == ""
    assert bed.ssh("h1", f"systemctl is-active {UNIT}.timer", check=False).stdout == "inactive\n"
    again = least.run("quantize.yml", *H1, **given)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    back = least.run("rollback.yml", "--limit", "h1,localhost", **HELPER)
    assert back.returncode == 0, back.stdout
    assert (least.served("h1"), least.config("h1")) == ("fp32", CONFIG)


def test_what_goes_wrong_without_become(least):
    """A service that dies is reverted, its journal told; a run that expects more is refused."""
    least.bed.put("h1", "refuse-int8", "SARAi_v2/fault")
    given = {"transfer_strategy": "adopt", **HELPER}
    died = least.run("quantize.yml", *ONE, **given)
    assert died.returncode != 0 and "MatMulInteger is not supported here" in died.stdout
    assert (least.served("h1"), least.config("h1")) == ("fp32", CONFIG)
    other = given | {"activate_confirm_s": 80}
    refused = least.run("quantize.yml", *H1, "--tags", "preflight", **other)
    assert refused.returncode != 0 and "root's settings: confirm_s" in refused.stdout


def test_it_reverts_by_itself(bare):
    """The hardened unit restores the files and restarts the service, without a controller."""
    set_up(bare, activate_confirm_s=20)
    confine(bare.bed)
    process = run_until(bare, "validation", activate_confirm_s=20, **HELPER)
    process.kill()
    process.communicate()
    # A release that waits for its commit keeps its way back.
    as_root(bare.bed, f"mv /root/sudoers /etc/sudoers.d/{USER}")
    undone = bare.run(SETUP, "--limit", "h1,localhost", setup_target_state="absent", **SFTP)
    assert undone.returncode != 0 and "waits for its commit" in undone.stdout
    went_back(bare)


class Upload:
    """Somebody who has the key of a push."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self.bed, self.key = bed, folder / "own"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        self.public = " ".join(self.key.with_suffix(".pub").read_text().split()[:2])
        self.place = f"sarai-upload@{bed.address('h1')}"
        self.options = [
            "-i", self.key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o",
            "ConnectTimeout=5", "-o", f"UserKnownHostsFile={bed.state}/known_hosts",
        ]  # fmt: skip

    def open(self) -> None:
        told = self.bed.ssh("h1", f"{CALL} upload-open {RELEASE} '{self.public}'").stdout
        assert json.loads(told) == {"changed": True}

    def sftp(self, batch: str) -> subprocess.CompletedProcess[str]:
        command = ["sftp", *self.options, "-b", "-", self.place]
        return self.bed.exec(*command, input=f"{batch}\n", stdin=None, check=False)

    def ssh(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["timeout", "10", "ssh", *self.options, *words]
        return self.bed.exec(*command, check=False)


def test_the_upload_account_can_do_nothing_but_push(least, tmp_path):
    upload = Upload(least.bed, tmp_path)
    assert upload.sftp("pwd").returncode != 0
    upload.open()
    (tmp_path / "file").write_text("content")
    folder = f"/incoming/{RELEASE}"
    put = upload.sftp(f"put {tmp_path}/file {folder}/a")
    assert put.returncode == 0, put.stderr
    assert least.bed.ssh("h1", f"cat {UPLOAD}{folder}/a").stdout == "content"
    refused = [
        f"get {folder}/a {tmp_path}/back", f"ls {folder}", "ls /", "get /etc/passwd", "cd /home",
        f"symlink /etc/passwd {folder}/link", f"mkdir {folder}/more", f"chmod 777 {folder}",
        *(f"put {tmp_path}/file {path}" for path in
          ("/b", "/incoming/b", f"{folder}/../b", "/../b", f"/home/{USER}/b", "/tmp/b")),
    ]  # fmt: skip
    for batch in refused:
        assert upload.sftp(batch).returncode != 0, batch
    assert not (tmp_path / "back").exists() or (tmp_path / "back").read_text() == ""
    shell = upload.ssh(upload.place, "id")
    assert "uid=" not in shell.stdout
    assert "OpenSSH" not in upload.ssh("-W", "127.0.0.1:22", upload.place).stdout
    remote = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22"]
    assert upload.ssh(*remote, upload.place).returncode not in (0, 124)
    least.bed.ssh("h1", f"{CALL} upload-close {RELEASE}")
    assert upload.sftp("pwd").returncode != 0
    assert least.bed.ssh("h1", f"ls {UPLOAD}{folder}").stdout == "a\n"
    least.bed.ssh("h1", f"{CALL} upload-remove {RELEASE}")
    assert least.bed.ssh("h1", f"ls {UPLOAD}/incoming").stdout == ""


def test_a_key_ends_with_its_time_and_is_of_the_builder_alone(bare, tmp_path):
    upload = Upload(bare.bed, tmp_path)
    set_up(bare, transfer_expiry_s=6, setup_target_upload_from=[f"{bare.bed.address('h2')}/31"])
    upload.open()
    assert upload.sftp("pwd").returncode != 0
    net = upload.bed.address("h1").rpartition(".")[0]
    set_up(bare, transfer_expiry_s=6, setup_target_upload_from=[f"{net}.0/24"])
    upload.open()
    # Nobody closes it: the controller died.
    assert upload.sftp("pwd").returncode == 0
    until(lambda: upload.sftp("pwd").returncode != 0, 30, "the key is still let in")
