"""The ways back of a target that asks for signatures: FP32 always, a release where it is right."""

from __future__ import annotations

import subprocess
import sys

import pytest
from modelops.base.errors import ModelOpsError
from modelops.signing import trust
from modelops.target import change, operations, self_revert
from signer import Controller, SigningTarget


@pytest.fixture
def controller(tmp_path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def two(tmp_path, controller) -> tuple[SigningTarget, str, str]:
    """A target that took A and then B, and has B in service."""
    target = SigningTarget(tmp_path, controller)
    ids = []
    for word in ("A", "B"):
        listed, signature = controller.sign(target.arrive(word))
        target.bring(listed, signature)
        ids.append(listed["release_id"])
    return target, *ids


def revoke(target: SigningTarget, controller: Controller) -> None:
    told = controller.keys.revoked("", False)
    target.trust.learn(told["signers"], told["revoked"])


def test_an_older_release_by_a_rollback_is_no_replay(two):
    target, a, _ = two
    target.roll_back(a)
    assert target.in_service() == a


@pytest.mark.parametrize("ruined", ["revoked", "unsigned", "forged"])
def test_a_rollback_to_a_release_that_is_not_trusted_is_refused_and_fp32_is_not(
    two, controller, ruined
):
    target, a, b = two
    proof = target.store.folder(a) / "manifest.json.sig"
    if ruined == "revoked":
        revoke(target, controller)
    elif ruined == "unsigned":
        proof.unlink()
    else:
        proof.write_text((target.store.folder(b) / "manifest.json.sig").read_text())
    with pytest.raises(ModelOpsError) as refusal:
        target.roll_back(a)
    assert refusal.value.facts["reason"] == ruined
    assert str(target.store.folder(a)) in refusal.value.where
    assert target.in_service() == b
    target.roll_back()
    assert target.in_service() == "fp32"


def test_fp32_asks_for_nothing_even_where_all_is_ruined(two):
    target, _, _ = two
    (target.etc / "allowed_signers").write_text("nonsense\n")
    (target.var / "m.serial").write_text("nonsense")
    (target.var / "m.serial").chmod(0o666)
    target.know(required=True)
    target.roll_back()
    assert target.in_service() == "fp32"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_revert_goes_to_the_release_before_where_it_is_trusted(two, controller, trusted):
    target, a, _ = two
    target.roll_back(a)
    listed, signature = controller.sign(target.arrive("C"))
    target.know(listed, signature)
    target.stage(listed)
    target.activate(listed["release_id"])
    if not trusted:
        revoke(target, controller)
    target.revert()
    assert target.in_service() == (a if trusted else "fp32")


@pytest.mark.parametrize("trusted", [True, False])
def test_the_timers_own_way_back_asks_too(two, controller, trusted, tmp_path):
    target, _, b = two
    listed, signature = controller.sign(target.arrive("C"))
    target.know(listed, signature)
    target.stage(listed)
    target.activate(listed["release_id"])
    if not trusted:
        revoke(target, controller)
    # The unit's program knows the system's own folder alone; this one has the test's.
    archive = tmp_path / "revert.pyz"
    self_revert.write(archive)
    boot = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]);"
        "from modelops.signing import trust; from modelops.target import self_revert;"
        "trust.Trust.__init__.__defaults__ = ("
        "pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), False, '');"
        "sys.exit(self_revert.main(['revert', sys.argv[4], 'm']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", boot, archive, target.etc, target.var, target.root],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert target.in_service() == (b if trusted else "fp32")


def test_the_timer_asks_the_systems_own_folder():
    assert str(trust.Trust().folder) == "/etc/modelops"
    assert str(trust.Trust().serials) == "/var/lib/modelops"


def test_what_was_interrupted_does_not_come_back_where_it_is_not_trusted_any_more(
    two, controller, monkeypatch
):
    target, *_ = two
    listed, signature = controller.sign(target.arrive("C"))
    target.know(listed, signature)
    target.stage(listed)
    moved = change.rename_durable

    def killed(source, dest):
        moved(source, dest)
        raise KeyboardInterrupt

    monkeypatch.setattr(change, "rename_durable", killed)
    with pytest.raises(KeyboardInterrupt):
        target.activate(listed["release_id"])
    monkeypatch.setattr(change, "rename_durable", moved)
    revoke(target, controller)
    change.recover(target.store)
    assert target.in_service() == "fp32"


def test_a_release_in_service_whose_key_was_revoked_is_told(two, controller):
    target, _, b = two
    assert operations.query(target.store, True)["problems"] == []
    revoke(target, controller)
    found = operations.query(target.store, True)
    assert "takes back" in "".join(found["problems"]) and target.in_service() == b
