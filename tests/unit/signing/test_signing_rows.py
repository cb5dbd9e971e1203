"""Preflight: what cannot be signed, or would not be let in, is known before anything moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelops.signing import look, signers, ssh_keygen
from signer import Controller, SigningTarget


@pytest.fixture
def controller(tmp_path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def target(tmp_path, controller) -> SigningTarget:
    return SigningTarget(tmp_path, controller)


def public(controller: Controller) -> str:
    return ssh_keygen.public_key(controller.key)[1]


def asked(target: SigningTarget, key: str, **more: Any) -> dict[str, Any]:
    folders = {"trust_dir": str(target.etc), "serials_dir": str(target.var)}
    return {"model": "m", "required": False, "brings": True, "key": key, **folders, **more}


def only(rows: list[dict[str, str]], level: str, *said: str) -> None:
    """There is one row, of that level, which says this in what is and what to do."""
    assert [row["level"] for row in rows] == [level], rows
    text = f"{rows[0]['value']} {rows[0]['threshold']} {rows[0]['remedy']}"
    assert all(part in text for part in said), text
    assert rows[0]["id"] == "signing" and bool(rows[0]["remedy"]) == (level != "ok")


def test_a_key_that_signs_and_a_target_that_lets_it_in(target, controller):
    found = look.of_controller("m", str(controller.key), True)
    only(found["findings"], "ok")
    assert found["brings"] and found["key"] == public(controller)
    assert not controller.signing.ledger.exists(), "nothing was signed"
    only(look.of_target(asked(target, found["key"], required=True)), "ok")


def test_nothing_is_signed_and_nobody_asks(target):
    (target.etc / "allowed_signers").unlink()
    assert look.of_controller("m", "", False) == {"findings": [], "brings": True, "key": ""}
    assert look.of_target(asked(target, "")) == []


def test_a_signature_is_required_and_no_key_is_named():
    found = look.of_controller("m", "", True)
    only(found["findings"], "problem", "sign_releases is required", "playbooks/keys.yml")
    assert not found["brings"]


@pytest.mark.parametrize(
    ("ruin", "said"),
    [
        (lambda key: key.with_name("ed25519.pub").unlink(), "playbooks/keys.yml makes"),
        (lambda key: key.unlink(), "ssh-add"),
        (lambda key: key.write_text("no key\n"), "ssh-add"),
        (lambda key: key.with_name("ed25519.pub").write_text("ssh-rsa AAAA\n"), "ed25519"),
        (
            lambda key: key.with_name("revoked_keys").write_bytes(
                key.with_name("ed25519.pub").read_bytes()
            ),
            "--tags rotate",
        ),
        (lambda key: _write(key.with_name("ledger") / "m.json", "{}"), "the ledger"),
        (lambda key: _folder(key.with_name("ed25519.pub")), "ed25519.pub"),
    ],
)
def test_a_key_that_cannot_sign(controller, ruin, said):
    ruin(controller.key)
    found = look.of_controller("m", str(controller.key), False)
    only(found["findings"], "problem", said)
    assert not found["brings"] and found["key"] == ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_a_target_that_names_no_key(target, controller):
    (target.etc / "allowed_signers").unlink()
    key = public(controller)
    # It asks for nothing: what is signed comes in as before.
    said = str(target.etc / "allowed_signers"), "playbooks/keys.yml"
    only(look.of_target(asked(target, key)), "advice", *said)
    only(look.of_target(asked(target, key, required=True)), "problem", *said)


def test_a_target_without_ssh_keygen(target, controller, monkeypatch):
    key = public(controller)
    monkeypatch.setattr(ssh_keygen, "PROGRAM", "no-ssh-keygen-here")
    only(look.of_target(asked(target, key)), "problem", "no-ssh-keygen-here", "openssh-client")


def test_a_target_that_takes_signed_releases_alone(target):
    only(look.of_target(asked(target, "")), "problem", "sign_key is not set", "keys.yml")
    # What a person brings may be signed: it is looked at when it is there.
    only(look.of_target(asked(target, "", brings=False)), "ok")


def test_a_key_that_the_target_does_not_know(target, tmp_path):
    stranger = Controller(tmp_path / "stranger")
    said = stranger.told["fingerprint"], "allowed_signers", "playbooks/keys.yml lets it in"
    only(look.of_target(asked(target, public(stranger))), "problem", *said)


def test_a_key_of_another_model(target, tmp_path):
    other = Controller(tmp_path / "other", "other")
    target.learn(other)
    only(look.of_target(asked(target, public(other))), "problem", "may not sign for")


def test_a_key_that_was_taken_back(target, controller):
    key = public(controller)
    told = controller.keys.revoked("", False)
    target.trust.learn(told["signers"], told["revoked"])
    only(look.of_target(asked(target, key)), "problem", "revoked_keys", "--tags rotate")
    only(look.of_target(asked(target, public(controller))), "ok")


def test_a_key_whose_time_is_over(target, controller):
    over = signers.day(datetime.now(UTC) - timedelta(hours=1))
    kind, key = ssh_keygen.public_key(controller.key)
    target.trust.learn(signers.own("m", kind, key, over).line + "\n", "")
    only(look.of_target(asked(target, key)), "problem", over, "--tags rotate")


def test_all_problems_at_once(target, tmp_path):
    stranger = Controller(tmp_path / "stranger")
    target.var.mkdir(exist_ok=True)
    (target.var / "m.serial").write_text("many\n")
    (target.etc / "allowed_signers").chmod(0o666)
    rows = look.of_target(asked(target, public(stranger)))
    assert [row["level"] for row in rows] == ["problem"] * 3
    text = " ".join(row["value"] for row in rows)
    assert "m.serial" in text and "others may" in text and "may not sign" in text


def test_files_that_cannot_be_read_are_a_row(target, controller):
    (target.etc / "allowed_signers").unlink()
    (target.etc / "allowed_signers").mkdir()
    rows = look.of_target(asked(target, public(controller)))
    assert [row["level"] for row in rows] == ["problem"], rows
