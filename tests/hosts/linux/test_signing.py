"""Signed releases on a real host: root's files, the whole way, and what is refused there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fleet import ADOPT, CONFIG, MODEL, MODELS, ONE, Fleet
from test_release import changed

FILES = "/etc/modelops/allowed_signers /var/lib/modelops/agi_audio_core.serial"


@pytest.fixture
def key(fleet, tmp_path) -> Iterator[dict[str, Any]]:
    """The variables of a controller with a key; the host forgets it afterwards."""
    yield {"sign_key": str(tmp_path / "keys" / "ed25519"), "sign_releases": "required", **ADOPT}
    fleet.bed.ssh("h1", "sudo rm -rf /etc/modelops /var/lib/modelops")


def test_the_whole_way_signed(fleet: Fleet, key):
    made = fleet.run("playbooks/keys.yml", "--limit", "h1,localhost", **key)
    assert made.returncode == 0, made.stdout
    refused = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert refused.returncode != 0 and "the release is not signed" in " ".join(
        refused.stdout.split()
    )
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)

    done = fleet.run("quantize.yml", *ONE, **key)
    assert done.returncode == 0, done.stdout
    assert (fleet.served("h1"), fleet.named("h1")) == ("int8", "int8")
    release = fleet.state("h1")["last_good"]
    kept = f"{MODELS}/.releases/{MODEL}/{release}/manifest.json.sig"
    assert "BEGIN SSH SIGNATURE" in fleet.bed.ssh("h1", f"cat {kept}").stdout
    owners = fleet.bed.ssh("h1", f"stat -c '%U %a' {FILES}").stdout
    assert owners == "root 644\n" * 2
    again = fleet.run("quantize.yml", *ONE, **key)
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}, again.stdout

    # Its key is taken back: the release is no way back any more, FP32 is.
    assert fleet.run("rollback.yml", "--limit", "h1,localhost", **key).returncode == 0
    gone = fleet.run("playbooks/keys.yml", "--limit", "h1,localhost", "--tags", "revoke", **key)
    assert gone.returncode == 0, gone.stdout
    back = fleet.run("rollback.yml", "--limit", "h1,localhost", rollback_to=release, **key)
    assert back.returncode != 0 and "takes back" in " ".join(back.stdout.split()), back.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
