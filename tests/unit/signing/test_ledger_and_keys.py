"""The controller: a release is signed once, by a key that may sign; keys come, change and go."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, signed
from modelops.signing import ledger, signers, ssh_keygen, sshsig
from signer import Controller
from target import Target


@pytest.fixture
def controller(tmp_path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def listed(tmp_path) -> dict:
    return Target(tmp_path / "target").arrive("A")


def test_the_same_release_and_verdict_have_one_signature(controller, listed):
    before = int(time.time())
    first = controller.signing.sign(listed, "pass", False)
    assert first["changed"] and first["serial"] >= before
    assert signed.without(first["manifest"]) == listed
    again = controller.signing.sign(listed, "pass", False)
    assert again == first | {"changed": False}
    # Its own manifest, signed before, is the same release.
    assert controller.signing.sign(first["manifest"], "pass", False) == again
    parsed = sshsig.parsed(first["signature"])
    assert parsed.namespace == "modelops-release@m"
    assert sshsig.fingerprint(parsed.key) == controller.told["fingerprint"]


def test_serials_rise_though_the_clock_goes_back(controller, listed, monkeypatch):
    serials = []
    for second in (2_000_000_000, 1_000_000_000, 1_000_000_000):
        monkeypatch.setattr(ledger.time, "time", lambda second=second: second)
        changed = listed | {"recipe": {"run": len(serials)}}
        serials.append(controller.signing.sign(changed, "pass", False)["serial"])
    assert serials == [2_000_000_000, 2_000_000_001, 2_000_000_002]


def test_check_mode_signs_nothing_that_could_be_used(controller, listed):
    told = controller.signing.sign(listed, "pass", True)
    assert told["changed"] and told["signature"] == "" and signed.serial(told["manifest"])
    assert not controller.signing.ledger.exists()
    real = controller.signing.sign(listed, "pass", False)
    assert controller.signing.sign(listed, "pass", True) == real | {"changed": False}


@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "", "PASS"])
def test_only_what_passed_is_signed(controller, listed, verdict):
    with pytest.raises(ModelOpsError, match="only what passed"):
        controller.sign(listed, verdict)
    assert not controller.signing.ledger.exists()


@pytest.mark.parametrize(
    "lies",
    [{"release_id": "0" * 16}, {"signed": {"serial": True}}, {"artifacts": []}],
)
def test_a_manifest_of_the_builder_is_looked_at_before_it_is_signed(controller, listed, lies):
    with pytest.raises(ModelOpsError, match="not a usable manifest"):
        controller.sign(listed | lies)


def test_a_manifest_of_another_model_is_not_signed(controller, tmp_path):
    other = Target(tmp_path / "o", "other", files={"other.onnx": b"x"}).arrive("A")
    with pytest.raises(ModelOpsError, match="no file of m"):
        controller.sign(other)


def test_a_ledger_that_was_ruined_is_told_and_one_that_lies_is_not_believed(controller, listed):
    first, signature = controller.sign(listed)
    file = controller.signing.ledger / "m.json"
    kept = json.loads(file.read_text())
    kept["entries"][-1]["signed"]["serial"] += 1
    file.write_text(json.dumps(kept))
    again, other = controller.sign(listed)
    assert signed.serial(again) > signed.serial(first) and other != signature
    for text in ("{", "[]", '{"entries": [1]}', '{"entries": [{}]}'):
        file.write_text(text)
        with pytest.raises(ModelOpsError) as refusal:
            controller.sign(listed)
        assert refusal.value.where == str(file) and refusal.value.remedy


def test_a_key_with_a_passphrase_and_no_agent_says_so(controller, listed, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "hello", "-f", controller.key]
    subprocess.run(change, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(ModelOpsError, match="ssh-add") as refusal:
        controller.sign(listed)
    assert refusal.value.where == str(controller.key)


def test_an_agent_signs_with_a_key_that_has_a_passphrase(controller, listed, tmp_path, monkeypatch):
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            time.sleep(0.02)
        subprocess.run(["ssh-add", "-q", controller.key], check=True)
        change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "hello", "-f", controller.key]
        subprocess.run(change, check=True, stdin=subprocess.DEVNULL)
        assert controller.sign(listed)[1]
    finally:
        agent.terminate()
        agent.wait()


def test_a_public_key_that_is_not_the_private_ones(controller, listed, tmp_path):
    other = Controller(tmp_path / "other")
    public = controller.key.with_name("ed25519.pub")
    public.write_text(other.key.with_name("ed25519.pub").read_text())
    with pytest.raises(ModelOpsError):
        controller.sign(listed)


def test_no_key_and_a_key_of_another_kind(controller, listed, tmp_path):
    with pytest.raises(ModelOpsError, match=r"keys\.yml makes a key pair"):
        ledger.Signing("m", tmp_path / "none", tmp_path / "ledger").sign(listed, "pass", False)
    weak = tmp_path / "rsa"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", weak], check=True
    )
    with pytest.raises(ModelOpsError, match="no key that signs releases"):
        ledger.Signing("m", weak, tmp_path / "ledger").sign(listed, "pass", False)


def test_a_key_is_made_once_and_is_its_owners_alone(controller):
    assert controller.told["made"] and "ssh-keygen -p" in controller.told["notes"][0]
    again = controller.keys.present(False)
    assert not again["changed"] and not again["made"] and again["notes"] == []
    assert controller.key.stat().st_mode & 0o777 == 0o600
    assert controller.key.parent.stat().st_mode & 0o777 == 0o700
    (line,) = again["signers"].splitlines()
    assert line.startswith('modelops-release@m namespaces="modelops-release@m" ssh-ed25519 AAAA')


def test_check_mode_makes_no_key(tmp_path):
    from modelops.signing.keys import Keys

    told = Keys("m", tmp_path / "k" / "ed25519").present(True)
    assert told["changed"] and told["made"] and not (tmp_path / "k").exists()


def test_a_rotated_key_is_good_for_a_while_and_the_new_one_signs(controller, listed):
    first, _ = controller.sign(listed)
    told = controller.keys.rotated(30, False)
    old, new = signers.of(told["signers"], "m")
    assert old.valid_before and not new.valid_before and old.key != new.key
    assert told["fingerprint"] == sshsig.fingerprint(new.key)
    again, signature = controller.sign(listed)
    assert signed.serial(again) > signed.serial(first), "another key signs anew"
    assert sshsig.parsed(signature).key == new.key
    third = signers.of(controller.keys.rotated(90, False)["signers"], "m")
    assert third[0] == old, "a longer overlap gives no key more time"


def test_the_key_of_two_models_is_rotated_for_both(controller, tmp_path):
    from modelops.signing.keys import Keys

    Keys("n", controller.key).present(False)
    told = controller.keys.rotated(30, False)
    for model in ("m", "n"):
        old, new = signers.of(told["signers"], model)
        assert old.valid_before and not new.valid_before


def test_a_revoked_key_signs_no_more_and_one_that_was_rotated_can_be_revoked(controller, listed):
    first = controller.told["fingerprint"]
    controller.keys.rotated(30, False)
    told = controller.keys.revoked(first, False)
    assert told["changed"] and not told["made"]
    assert [sshsig.fingerprint(key) for key in signers.revoked(told["revoked"])] == [first]
    assert [sshsig.fingerprint(s.key) for s in signers.of(told["signers"], "m")] == [
        told["fingerprint"]
    ]
    assert not controller.keys.revoked(first, False)["changed"]
    with pytest.raises(ModelOpsError, match="no key with the fingerprint"):
        controller.keys.revoked("SHA256:x", False)
    # The current one, where the new one could not be made: it is refused before it signs.
    public = controller.key.with_name("ed25519.pub").read_text()
    controller.key.with_name("revoked_keys").write_text(public)
    with pytest.raises(ModelOpsError, match="is revoked"):
        controller.sign(listed)
    with pytest.raises(ModelOpsError, match="is revoked"):
        controller.keys.present(False)


def test_lines_of_others_stay_and_nothing_foreign_is_taken_over(tmp_path, controller):
    kind, key = ssh_keygen.public_key(controller.key)
    theirs = f'# root\'s own\nme@x namespaces="file" {kind} {key} # a comment\n'
    text = signers.replaced(theirs, "m", [signers.own("m", kind, key)])
    assert text.startswith(theirs) and len(signers.of(text, "m")) == 1
    assert signers.by_model(controller.told["signers"]) == {"m": signers.of(text, "m")}
    for line in (theirs, f"* {kind} {key}", f"modelops-release@../x {kind} {key}",
                 f'modelops-release@m namespaces="*" {kind} {key}', "nonsense"):  # fmt: skip
        with pytest.raises(ModelOpsError):
            signers.by_model(line)
    with pytest.raises(ModelOpsError):
        signers.checked_revoked("not a key\n")


@pytest.mark.parametrize(
    "said",
    [{}, [], "x", {"model": "m"},
     {"model": "m", "serial": 0, "signed_at": "2026-01-01T00:00:00+00:00", "verdict": "pass"},
     {"model": "m", "serial": 1.5, "signed_at": "2026-01-01T00:00:00+00:00", "verdict": "pass"},
     {"model": "m", "serial": 1, "signed_at": "yesterday", "verdict": "pass"},
     {"model": 3, "serial": 1, "signed_at": "2026-01-01T00:00:00+00:00", "verdict": "pass"}],
)  # fmt: skip
def test_a_section_that_is_none_makes_no_manifest(listed, said):
    with pytest.raises(ModelOpsError, match="signed"):
        manifest.check(listed | {"signed": said})
