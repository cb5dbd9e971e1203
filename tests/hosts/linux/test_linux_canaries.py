"""Secrets of an inventory, of sarai.yaml, of a question, of a journal and a key, on a real host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from canaries import CANARY, Watch
from fleet import CONFIG, FAST, MODEL, MODELS, ONE, Fleet
from rootfs import HOME

SHOWN = "-vvv", "--diff"
TARGET = "--limit", "h1,localhost"
BOTH = "--limit", "h1,control,localhost"
# Of the unit, before the service: its journal holds what a service tells of itself.
TELLS = f"INFO api_token={CANARY}\nAuthorization: Bearer {CANARY}\nhttps://noel:{CANARY}@db/x\n"
DROP_IN = "/etc/systemd/system/sarai.service.d/canary.conf"
STORE = f"{MODELS}/.releases/{MODEL}"
SAMPLER = f"modelops-acceptance@{MODEL}"
ASKED = f"/etc/modelops/acceptance.d/{MODEL}.json"
# What is meant to hold it: the owner's files, the texts that lead back, what the sampler asks.
MEANT = (
    f"{HOME}/config/", f"{HOME}/tells", f"{STORE}/config/", f"{STORE}/answers.json", ASKED,
)  # fmt: skip
# Temp files, async files, units, programs and settings of the host, whoever wrote them.
PLACES = f"/tmp /var /root /home {MODELS} /etc /usr/local /run"


@pytest.fixture
def secretive(fleet, tmp_path) -> Iterator[tuple[Fleet, str]]:
    """h1 with canaries, and the file of the variables that a vault would give."""
    bed = fleet.bed
    fleet.strip("h1")
    bed.put("h1", f"{CONFIG}\napi:\n  token: {CANARY}\n", f"{HOME}/config/sarai.yaml")
    bed.put("h1", TELLS, f"{HOME}/tells")
    bed.ssh("h1", f"chmod 600 {HOME}/config/sarai.yaml {HOME}/tells")
    unit = f"[Service]\\nExecStartPre=/bin/cat {HOME}/tells\\n"
    bed.ssh("h1", f"sudo mkdir -p $(dirname {DROP_IN}); printf '{unit}' | sudo tee {DROP_IN}")
    bed.ssh("h1", "sudo systemctl daemon-reload; sudo systemctl restart sarai")
    question = FAST["sarai_service_question"]
    given = tmp_path / "vault.json"
    given.write_text(json.dumps({
        "ansible_become_password": CANARY, "vault_target_become_password": CANARY,
        "sarai_service_question": question | {"body": {"seed": 1, "api_key": CANARY}},
    }))  # fmt: skip
    yield fleet, f"@{given}"
    bed.ssh("h1", f"sudo systemctl disable --quiet --now {SAMPLER}.timer", check=False)
    left = (
        f"{DROP_IN} {HOME}/tells /etc/systemd/system/{SAMPLER}.* /usr/local/sbin/modelops-sampler"
    )
    bed.ssh("h1", f"sudo rm -rf {left} /var/lib/modelops-acceptance", check=False)
    fleet.strip("h1")


def holders(fleet: Fleet, word: str) -> list[str]:
    """The files of h1 with a word, which grep reads: no log of sudo and no process shows it."""
    command = f"sudo grep -rlsF --exclude-dir=journal -f - {PLACES}"
    return fleet.bed.ssh("h1", command, check=False, input=word, stdin=None).stdout.splitlines()


def private(key: Path) -> str:
    """A line of a private key that no other key has."""
    return key.read_text().splitlines()[-2]


@pytest.mark.sftp
def test_no_secret_leaves_a_host(secretive, tmp_path):
    fleet, given = secretive
    signed = {
        "sign_key": str(tmp_path / "keys" / "ed25519"), "transfer_strategy": "sftp",
        "diagnose_bundle": str(tmp_path / "support.tar.gz"),
    }  # fmt: skip
    playbooks = (
        ("playbooks/keys.yml", *TARGET), ("quantize.yml", *BOTH),
        ("playbooks/support_bundle.yml", *BOTH), ("rollback.yml", *TARGET),
        ("playbooks/setup_target.yml", *TARGET), ("playbooks/setup_acceptance.yml", *TARGET),
    )  # fmt: skip
    with Watch() as watch:
        fleet.bed.put("h1", "refuse-int8\n", "SARAi_v2/fault")
        refused = fleet.run("quantize.yml", *ONE, "-e", given, *SHOWN, transfer_strategy="adopt")
        fleet.bed.ssh("h1", f"rm -rf {HOME}/fault {MODELS}/.releases {MODELS}/.incoming")
        done = [fleet.run(*playbook, "-e", given, *SHOWN, **signed) for playbook in playbooks]
    assert refused.returncode != 0 and "cannot start on an INT8 model" in refused.stdout
    assert "[hidden]" in refused.stdout
    for one in done:
        assert one.returncode == 0, one.stdout
    key = private(tmp_path / "keys" / "ed25519")
    for one in (refused, *done):
        assert [line for line in one.stdout.splitlines() if CANARY in line or key in line] == []
    assert watch.looks > 50 and watch.seen == set()
    reports = [path for path in (fleet.bed.state / "reports").rglob("*") if path.is_file()]
    assert reports and not [path for path in reports if CANARY in path.read_text()]
    there = holders(fleet, CANARY)
    assert f"{HOME}/config/sarai.yaml" in there
    for path, mode in ((ASKED, "root 600"), (f"{STORE}/answers.json", "noel 600")):
        assert fleet.bed.ssh("h1", f"sudo stat -c '%U %a' {path}").stdout == f"{mode}\n"
    assert [path for path in there if not path.startswith(MEANT)] == []
    assert holders(fleet, key) == []
    journal = fleet.bed.ssh("h1", "sudo journalctl --no-pager").stdout.splitlines()
    told = [line for line in journal if CANARY in line or key in line]
    assert told and [line for line in told if " cat[" not in line] == []
