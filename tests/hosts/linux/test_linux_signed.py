"""Signed releases on real hosts: root's files, the whole way, and what is refused there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed import HOSTS
from fleet import ADOPT, CONFIG, MODEL, MODELS, ONE, Fleet
from modelops.pair import manifest, signed
from modelops.signing import ssh_keygen
from modelops.signing.ledger import Signing
from test_release import changed

KEYS = "playbooks/keys.yml"
H1 = "--limit", "h1,control,localhost"
TARGET = "--limit", "h1,localhost"
ALL = "--limit", "targets,localhost"
ROOTS = "/etc/modelops/allowed_signers", f"/var/lib/modelops/{MODEL}.serial"


@pytest.fixture
def given(fleet, tmp_path) -> Iterator[dict[str, Any]]:
    """The variables of a controller with a key, whose hosts know none before and after."""
    for host in HOSTS:
        fleet.strip(host)
    yield {"sign_key": str(tmp_path / "keys" / "ed25519"), "sign_releases": "required"}
    for host in HOSTS:
        fleet.strip(host)


def good(fleet: Fleet, *arguments: str, **variables: Any) -> str:
    done = fleet.run(*arguments, **variables)
    assert done.returncode == 0, done.stdout
    return done.stdout


def refused(fleet: Fleet, *arguments: str, **variables: Any) -> str:
    """What a run says that fails: in one line, without quotes, which YAML doubles."""
    done = fleet.run(*arguments, **variables)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.replace("'", "").split())


@pytest.mark.sftp
def test_the_whole_way_signed(fleet, given):
    good(fleet, KEYS, *TARGET, **given)
    # Without the key nothing comes in, and that is known before anything moves.
    text = refused(fleet, "quantize.yml", *H1, "--tags", "preflight", **ADOPT)
    assert "this target takes signed releases alone" in text
    assert "the release is not signed" in refused(fleet, "quantize.yml", *ONE, **ADOPT)
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)

    sftp = given | {"transfer_strategy": "sftp", "transfer_progress_s": 0}
    fleet.bed.ssh("h1", f"rm -rf {MODELS}/.incoming")
    good(fleet, "quantize.yml", *H1, **sftp)
    assert (fleet.served("h1"), fleet.named("h1")) == ("int8", "int8")
    release = fleet.state("h1")["last_good"]
    kept = f"{MODELS}/.releases/{MODEL}/{release}/manifest.json.sig"
    assert "BEGIN SSH SIGNATURE" in fleet.bed.ssh("h1", f"cat {kept}").stdout
    owners = fleet.bed.ssh("h1", f"stat -c '%U %a' {' '.join(ROOTS)}").stdout
    assert owners == "root 644\n" * 2
    again = good(fleet, "quantize.yml", *H1, **sftp)
    assert set(changed(again).values()) == {0}, again

    # Its key is taken back: the release is no way back any more, FP32 is.
    good(fleet, KEYS, *TARGET, "--tags", "revoke", **given)
    good(fleet, "rollback.yml", *TARGET, **given)
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    text = refused(fleet, "rollback.yml", *TARGET, rollback_to=release, **given)
    assert "revoked_keys takes back" in text and "playbooks/keys.yml --tags rotate" in text
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)


class Forger:
    """Somebody who brings releases of his own to the incoming folders."""

    def __init__(self, fleet: Fleet, key: str, folder: Path) -> None:
        self.fleet, self.key, self.folder = fleet, Path(key), folder
        file = manifest.find(fleet.builder, MODEL)
        self.listed = signed.without(manifest.load(file))

    def signed(self, key: Path | None = None) -> tuple[dict[str, Any], str]:
        """The release as a controller signs it, with a key of his or ours."""
        key = key or self.key
        ledger = self.folder / f"ledger-of-{key.parent.name}"
        made = Signing(MODEL, key, ledger).sign(self.listed, "pass", False)
        return made["manifest"], made["signature"]

    def stranger(self) -> Path:
        key = self.folder / "stranger" / "ed25519"
        key.parent.mkdir()
        ssh_keygen.make_key(key, "stranger")
        return key

    def bring(self, host: str, listed: dict[str, Any], signature: str = "") -> None:
        incoming = f"{MODELS}/.incoming/{MODEL}.manifest.json"
        self.fleet.bed.put(host, manifest.dump(listed), incoming)
        if signature:
            self.fleet.bed.put(host, signature, f"{incoming}.sig")


def verdicts(text: str) -> dict[str, str]:
    """What each host's own failure says."""
    parts = [part.partition(" TASK [")[0] for part in text.split("fatal: [")[1:]]
    return {host: "".join(p for p in parts if p.startswith(f"{host}]")) for host in HOSTS}


def test_what_is_no_signed_release_is_refused(fleet, given, tmp_path):
    """Three kinds at once, one a host. Nothing of them is kept, and FP32 serves."""
    good(fleet, KEYS, *ALL, **given)
    forger = Forger(fleet, given["sign_key"], tmp_path)
    ours, signature = forger.signed()
    old = ours["signed"]["serial"]
    elsewhere = ssh_keygen.sign(manifest.dump(ours), forger.key, "modelops-release@other")
    rounds = [
        {
            "h1": (forger.listed, "", "the release is not signed", "modelops sign FOLDER"),
            "h2": (
                ours | {"recipe": {**ours["recipe"], "granularity": "per_tensor"}}, signature,
                "the manifest is not the one that was signed", "Look who changed it",
            ),
            "h3": (
                *forger.signed(forger.stranger()), "may not sign for", "lets it in",
            ),
        },
        {
            "h1": (ours, signature, "an old one that was brought again", "activate_replay="),
            "h2": (ours, elsewhere, "signed for modelops-release@other", f"release of {MODEL}"),
            "h3": (ours, signature, "revoked_keys takes back", "--tags rotate"),
        },
    ]  # fmt: skip
    release = {**given, **ADOPT, "release_serial": ["100%"]}
    for number, brought in enumerate(rounds):
        if number == 1:
            # h1 took a newer one before; h3's root takes the key back.
            fleet.bed.ssh("h1", f"sudo mkdir -p {Path(ROOTS[1]).parent}")
            fleet.bed.ssh("h1", f"echo {old + 1} | sudo tee {ROOTS[1]}")
            line = " ".join(ssh_keygen.public_key(forger.key))
            fleet.bed.ssh("h3", f"echo {line} | sudo tee -a /etc/modelops/revoked_keys")
        for host, (listed, proof, *_) in brought.items():
            forger.bring(host, listed, proof)
        told = verdicts(refused(fleet, "quantize.yml", *ALL, "--tags", "release", **release))
        for host, (listed, _, *said) in brought.items():
            file = f"{MODELS}/.releases/{MODEL}/{listed['release_id']}/manifest.json"
            for words in (*said, file, "FP32 needs no signature: rollback.yml"):
                assert words in told[host], (host, words, told[host])
            assert (fleet.served(host), fleet.config(host)) == ("fp32", CONFIG)
            assert fleet.bed.ssh(host, f"test -e {file}", check=False).returncode == 1, host
    good(fleet, "rollback.yml", *ALL, **given)
    assert {fleet.served(host) for host in HOSTS} == {"fp32"}
