"""Signed releases, as a run makes them and as targets refuse what is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Outcome, Site
from modelops.pair import manifest
from modelops.signing import ssh_keygen

FP32 = "models/onnx/agi_audio_core.onnx"
INT8 = "models/onnx/agi_audio_core_int8.onnx"


class Signed:
    """A site whose controller has a key, with the folders that are root's on a real target."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.key = site.folder / "keys" / "ed25519"
        self.serial = site.folder / "var" / "agi_audio_core.serial"

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        given = {
            "sign_key": str(self.key),
            "ansible_become": False,  # these folders are no root's
            "__sarai_trust_dir": str(self.site.folder / "etc"),
            "__sarai_serials_dir": str(self.serial.parent),
        }
        return self.site.run(playbook, *arguments, **(given | variables))

    def good(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        outcome = self.run(playbook, *arguments, **variables)
        assert outcome.rc == 0, outcome.output
        return outcome

    def refused(self, *said: str, playbook: str = "quantize.yml", **variables: Any) -> None:
        named = self.site.named_model()
        outcome = self.run(playbook, **variables)
        text = " ".join(outcome.output.split())
        assert outcome.rc != 0 and all(part in text for part in said), outcome.output
        assert self.site.named_model() == named

    def kept(self, name: str) -> Path:
        return self.site.store() / self.site.state()["last_good"] / name


@pytest.fixture(scope="module")
def in_service(tmp_path_factory, sampled) -> Path:
    """A site whose first release is signed, to copy from; what its target said on the way."""
    folder = tmp_path_factory.mktemp("signed") / "site"
    shutil.copytree(sampled, folder)
    signed = Signed(Site(folder))
    assert signed.good("playbooks/keys.yml", "--check").changed == {"target1": 2}
    assert not signed.key.exists()
    signed.refused("there is no public key", "playbooks/keys.yml makes a key pair")
    told = signed.good("playbooks/keys.yml")
    said = " ".join(told.output.split())
    assert "SHA256:" in said and "ssh-keygen -p" in said
    assert signed.good("playbooks/keys.yml").changed == {}
    # A target that was told takes signed releases alone, and FP32 serves meanwhile.
    signed.refused("signed releases alone", "Name a key in the inventory", sign_key="")
    skipped = signed.run("quantize.yml", "--skip-tags preflight", sign_key="")
    said = " ".join(skipped.output.split())
    assert skipped.rc != 0 and "not signed" in said and "rollback.yml" in said, skipped.output
    signed.refused("sign_releases is required", sign_key="", sign_releases="required")
    assert signed.site.named_model() == FP32
    signed.good("quantize.yml", "--check")
    assert signed.site.named_model() == FP32 and not signed.serial.exists()
    signed.good("quantize.yml", sign_releases="required")
    assert signed.site.named_model() == INT8
    return folder


@pytest.fixture
def signed(site, in_service) -> Signed:
    shutil.copytree(in_service, site.folder, dirs_exist_ok=True)
    return Signed(site)


def test_a_release_is_signed_once_and_kept_as_it_was_signed(signed):
    listed = json.loads(signed.kept("manifest.json").read_text())
    assert signed.kept("manifest.json").read_bytes() == manifest.dump(listed)
    assert listed["signed"]["verdict"] == "pass" and listed["signed"]["model"] == "agi_audio_core"
    assert int(signed.serial.read_text()) == listed["signed"]["serial"]
    again = signed.good("quantize.yml", sign_releases="required")
    assert again.changed == {} and "unsigned" not in again.output, again.changed_tasks()


def test_an_older_release_comes_back_only_where_it_is_named(signed):
    release, serial = signed.site.state()["last_good"], int(signed.serial.read_text())
    signed.serial.write_text(f"{serial + 1}\n")
    signed.refused("brought again", str(signed.serial), f"activate_replay={release}")
    signed.good("quantize.yml", activate_replay=release)
    signed.good("rollback.yml")
    signed.good("rollback.yml", rollback_to="last_good")
    assert signed.site.named_model() == INT8
    assert int(signed.serial.read_text()) == serial + 1


def test_a_revoked_key_signs_nothing_that_a_target_takes(signed):
    old = signed.key.read_text()
    signed.good("rollback.yml")
    signed.good("playbooks/keys.yml", "--tags revoke")
    assert signed.key.read_text() != old
    signed.refused("takes back", "FP32", playbook="rollback.yml", rollback_to="last_good")
    signed.good("quantize.yml")
    assert signed.site.named_model() == INT8
    signed.good("rollback.yml")
    signed.good("rollback.yml", rollback_to="last_good")
    assert signed.site.named_model() == INT8


def test_a_forged_release_is_no_way_back(signed):
    signed.good("rollback.yml")
    kept = signed.kept("manifest.json")
    kept.write_bytes(manifest.dump(json.loads(kept.read_text()) | {"recipe": {}}))
    signed.refused(
        "not the one that was signed", str(kept), playbook="rollback.yml", rollback_to="last_good"
    )
    assert signed.site.named_model() == FP32


def test_preflight_knows_that_a_key_may_not_sign_here(signed, tmp_path):
    other = Signed(Site(tmp_path / "other"))
    other.key.parent.mkdir(parents=True)
    ssh_keygen.make_key(other.key, "somebody else's")
    outcome = signed.run(
        "playbooks/preflight.yml", sign_key=str(other.key), preflight_json=str(tmp_path / "told")
    )
    rows = json.loads((tmp_path / "told").read_text())["hosts"]
    level = {
        host: [row["level"] for row in told if row["id"] == "signing"]
        for host, told in rows.items()
    }
    assert level == {"builder": ["ok"], "target1": ["problem"]} and outcome.rc != 0
    assert "may not sign for modelops-release@agi_audio_core" in " ".join(outcome.output.split())


def test_what_a_person_brings_needs_its_signature(signed):
    signed.good("rollback.yml")
    incoming = signed.site.models() / ".incoming"
    shutil.rmtree(signed.site.store())
    shutil.copytree(signed.site.builder, incoming, dirs_exist_ok=True)
    adopt = {"transfer_strategy": "adopt"}
    alone = ("quantize.yml", "--limit", "target1,localhost")
    before = signed.run(*alone, **adopt)
    text = " ".join(before.output.split())
    assert before.rc != 0 and "python -m modelops sign FOLDER" in text, before.output
    assert signed.site.named_model() == FP32
    sign = [sys.executable, "-m", "modelops", "sign", incoming, "--key", signed.key]
    done = subprocess.run(
        [*sign, "--verdict", "pass"], cwd=ROOT / "module_utils", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (incoming / "agi_audio_core.manifest.json.sig").is_file()
    signed.good(*alone, **adopt)
    assert signed.site.named_model() == INT8


def test_fp32_that_is_not_the_pinned_one_is_not_released(signed):
    folder, names = signed.site.builder, ("agi_audio_core.onnx", "agi_audio_core.onnx.data")
    pins = {name: manifest.describe(folder / name)["sha256"] for name in names}
    signed.good("quantize.yml", sarai_fp32_sha256=pins)
    wrong = pins | {names[1]: "0" * 64}
    signed.refused("sarai_fp32_sha256 pins", names[1], sarai_fp32_sha256=wrong)
