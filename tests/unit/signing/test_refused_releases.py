"""What a target refuses: with the file, the remedy, and what was in service still in service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, signed
from modelops.signing import signers, ssh_keygen
from modelops.target import operations
from signer import Controller, SigningTarget


@pytest.fixture
def controller(tmp_path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def target(tmp_path, controller) -> SigningTarget:
    return SigningTarget(tmp_path, controller)


def refused(target: SigningTarget, listed: dict, signature: str, reason: str, **options) -> str:
    """Neither staged nor active; the text of the refusal."""
    release, before = listed["release_id"], target.in_service()
    target.know(listed, signature, **options)
    with pytest.raises(ModelOpsError) as staging:
        target.stage(listed)
    with pytest.raises(ModelOpsError) as activating:
        target.activate(release)
    for error in (staging.value, activating.value):
        assert error.facts["reason"] == reason, error
        assert error.where == str(target.store.folder(release) / "manifest.json")
        assert error.remedy.endswith("FP32 needs no signature: rollback.yml.")
    assert target.in_service() == before
    return str(staging.value)


def test_what_is_signed_comes_in(target, controller):
    listed, signature = controller.sign(target.arrive("A"))
    target.bring(listed, signature)
    release = listed["release_id"]
    assert target.in_service() == release and target.trust.serial("m") == signed.serial(listed)
    kept = target.store.folder(release)
    assert (kept / "manifest.json").read_bytes() == manifest.dump(listed)
    assert (kept / "manifest.json.sig").read_text() == signature
    found = operations.query(target.store, True)
    assert found["problems"] == [] and found["serial"] == signed.serial(listed)


def test_unsigned(target):
    text = refused(target, target.arrive("A"), "", "unsigned")
    assert "python -m modelops sign FOLDER" in text


def test_unsigned_where_only_the_controller_requires_a_signature(target):
    (target.etc / "allowed_signers").unlink()
    listed = target.arrive("A")
    refused(target, listed, "", "unsigned", required=True)
    target.know(listed)
    assert target.stage(listed)["changed"], "nobody asks for a signature"


def test_signed_where_the_target_knows_no_key(target, controller):
    (target.etc / "allowed_signers").unlink()
    listed, signature = controller.sign(target.arrive("A"))
    text = refused(target, listed, signature, "untrusting", required=True)
    assert "playbooks/keys.yml" in text


@pytest.mark.parametrize("lied", ["source", "golden", "serial", "recipe"])
def test_forged(target, controller, lied):
    listed, signature = controller.sign(target.arrive("A"))
    lies = {
        "source": [listed["source"][0] | {"size": 1}, *listed["source"][1:]],
        "golden": {"name": "m.golden.npz", "size": 1, "sha256": "0" * 64},
        "recipe": {"granularity": "per_tensor"},
    }
    said = listed["signed"]
    more = {"signed": said | {"serial": said["serial"] + 1}} if lied == "serial" else None
    refused(target, listed | (more or {lied: lies[lied]}), signature, "forged")


def test_forged_in_its_signature(target, controller):
    listed, signature = controller.sign(target.arrive("A"))
    lines = signature.splitlines()
    lines[-2] = lines[-2][:2] + ("A" if lines[-2][2] != "A" else "B") + lines[-2][3:]
    refused(target, listed, "\n".join(lines) + "\n", "forged")
    for nonsense in (
        "signed",
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
    ):
        refused(target, listed, nonsense, "forged")


def test_signed_by_somebody_else(target, tmp_path):
    stranger = Controller(tmp_path / "stranger")
    text = refused(target, *stranger.sign(target.arrive("A")), "unknown")
    assert stranger.told["fingerprint"] in text and "allowed_signers" in text


def test_replayed(target, controller):
    old = controller.sign(target.arrive("A"))
    target.bring(*controller.sign(target.arrive("B")))
    target.arrive("A")
    text = refused(target, *old, "replayed")
    release = old[0]["release_id"]
    assert f"rollback.yml -e rollback_to={release}" in text
    assert f"-e activate_replay={release}" in text and "m.serial" in text
    target.bring(*old, replay=release)
    assert target.in_service() == release
    assert target.trust.serial("m") > signed.serial(old[0]), "the highest one stays"


def test_a_release_that_comes_back_on_purpose_has_a_new_serial(target, controller):
    first = controller.sign(target.arrive("A"))
    target.bring(*first)
    target.bring(*controller.sign(target.arrive("B")))
    again = controller.sign(target.arrive("A"))
    assert signed.serial(again[0]) > signed.serial(first[0])
    target.bring(*again)
    assert target.in_service() == first[0]["release_id"]


def test_revoked(target, controller):
    listed, signature = controller.sign(target.arrive("A"))
    told = controller.keys.revoked("", False)
    target.trust.learn(told["signers"], told["revoked"])
    text = refused(target, listed, signature, "revoked")
    assert "revoked_keys" in text and "--tags rotate" in text
    target.bring(*controller.sign(listed))
    assert target.in_service() == listed["release_id"], "the new key signs it anew"


def test_an_old_list_of_a_controller_brings_no_revoked_key_back(target, controller):
    before = controller.keys.present(False)
    listed, signature = controller.sign(target.arrive("A"))
    told = controller.keys.revoked("", False)
    target.trust.learn(told["signers"], told["revoked"])
    target.trust.learn(before["signers"], before["revoked"])
    refused(target, listed, signature, "revoked")


def test_a_foreign_namespace(target, controller):
    listed, _ = controller.sign(target.arrive("A"))
    for namespace in ("file", "modelops-release@other"):
        signature = controller.signature(manifest.dump(listed), namespace)
        assert namespace in refused(target, listed, signature, "foreign")


def test_a_foreign_model(target, controller):
    """The namespace is this model's, and what was signed says another one's."""
    listed, _ = controller.sign(target.arrive("A"))
    listed = listed | {"signed": listed["signed"] | {"model": "other"}}
    text = refused(target, listed, controller.signature(manifest.dump(listed)), "foreign")
    assert "'other'" in text


def test_a_key_of_another_model(target, tmp_path):
    other = Controller(tmp_path / "other", "other")
    target.learn(other)
    listed = signed.stamped(target.arrive("A"), "m", 9, "2026-01-01T00:00:00+00:00", "pass")
    signature = ssh_keygen.sign(manifest.dump(listed), other.key, "modelops-release@m")
    refused(target, listed, signature, "unknown")


def test_an_expired_key(target, controller):
    listed, signature = controller.sign(target.arrive("A"))
    over = signers.day(datetime.now(UTC) - timedelta(hours=1))
    kind, key = ssh_keygen.public_key(controller.key)
    target.trust.learn(signers.own("m", kind, key, over).line + "\n", "")
    text = refused(target, listed, signature, "expired")
    assert over in text and "--tags rotate" in text


@pytest.mark.parametrize("said", [None, "fail", "inconclusive"])
def test_what_did_not_pass(target, controller, said):
    listed, _ = controller.sign(target.arrive("A"))
    if said is None:
        listed, reason = signed.without(listed), "unsigned"
    else:
        listed, reason = listed | {"signed": listed["signed"] | {"verdict": said}}, "failed"
    refused(target, listed, controller.signature(manifest.dump(listed)), reason)


def test_without_ssh_keygen(target, controller, monkeypatch):
    listed, signature = controller.sign(target.arrive("A"))
    monkeypatch.setattr(ssh_keygen, "PROGRAM", "no-ssh-keygen-here")
    assert "openssh-client" in refused(target, listed, signature, "unverified")


@pytest.mark.parametrize("name", ["allowed_signers", "revoked_keys"])
def test_a_list_that_others_may_write_is_no_proof(target, controller, name):
    listed, signature = controller.sign(target.arrive("A"))
    target.know(listed, signature)
    (target.etc / name).touch()
    (target.etc / name).chmod(0o666)
    with pytest.raises(ModelOpsError, match="others may let their own keys sign") as refusal:
        target.stage(listed)
    assert refusal.value.where == str(target.etc / name)
    (target.etc / name).chmod(0o644)
    target.etc.chmod(0o777)
    with pytest.raises(ModelOpsError, match="others may let their own keys sign"):
        target.stage(listed)


@pytest.mark.parametrize("text", ["", "x", "-3", "1.5", "9" * 40])
def test_a_ruined_serial_is_told(target, controller, text):
    listed, signature = controller.sign(target.arrive("A"))
    target.know(listed, signature)
    target.var.mkdir()
    (target.var / "m.serial").write_text(text)
    with pytest.raises(ModelOpsError) as refusal:
        target.stage(listed)
    assert refusal.value.where == str(target.var / "m.serial") and refusal.value.remedy


def test_other_bytes_that_say_the_same_are_not_what_was_signed(target, controller):
    listed, signature = controller.sign(target.arrive("A"))
    target.bring(listed, signature)
    kept = target.store.folder(listed["release_id"]) / "manifest.json"
    kept.write_text(json.dumps(listed))
    target.roll_back()
    with pytest.raises(ModelOpsError) as refusal:
        target.roll_back("last_good")
    assert refusal.value.facts["reason"] == "forged"
    assert target.in_service() == "fp32"
