"""Root's helper remembers the serial of what is signed, whatever the deploy user puts there."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from modelops.pair import manifest, signed
from signer import Controller, SigningTarget

FILE = Path(__file__).resolve().parents[3] / "roles/setup_target/files/modelops_root.py"


@pytest.fixture
def controller(tmp_path) -> Controller:
    return Controller(tmp_path)


@pytest.fixture
def target(tmp_path, controller) -> SigningTarget:
    return SigningTarget(tmp_path, controller)


@pytest.fixture
def helper(tmp_path, target) -> ModuleType:
    """The helper with this test's folders in place of the system's."""
    spec = importlib.util.spec_from_file_location("modelops_root", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = os.geteuid()
    module.SETTINGS = tmp_path / "targets.d"
    module.SETTINGS.mkdir()
    (module.SETTINGS / "m.json").write_text(json.dumps({"models": str(target.root)}))
    module.SIGNERS, module.REVOKED = target.etc / "allowed_signers", target.etc / "revoked_keys"
    module.SERIALS = target.var
    return module


def staged(target: SigningTarget, controller: Controller, word: str = "A") -> dict:
    listed, signature = controller.sign(target.arrive(word))
    target.know(listed, signature)
    target.stage(listed)
    return listed


def ask(helper: ModuleType, listed: dict, *check: str) -> dict:
    return helper.asked(["m", *check, "accept", listed["release_id"]])


def test_it_remembers_the_highest(helper, target, controller):
    first = staged(target, controller)
    assert ask(helper, first, "check")["changed"] and not target.var.exists()
    assert ask(helper, first)["changed"] and not ask(helper, first)["changed"]
    second = staged(target, controller, "B")
    assert ask(helper, second)["changed"] and not ask(helper, first)["changed"]
    assert target.trust.serial("m") == signed.serial(second)
    assert (target.var / "m.serial").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("lie", ["serial", "none", "link", "model", "stranger", "revoked", "fifo"])
def test_it_remembers_nothing_else(helper, target, controller, lie, tmp_path):
    listed = staged(target, controller)
    kept = target.store.folder(listed["release_id"]) / "manifest.json"
    proof = kept.with_name("manifest.json.sig")
    more = listed | {"signed": listed["signed"] | {"serial": signed.LARGEST_SERIAL - 1}}
    if lie == "serial":
        kept.write_bytes(manifest.dump(more))
    elif lie == "none":
        proof.unlink()
    elif lie in ("link", "fifo"):
        moved = proof.rename(tmp_path / "moved")
        proof.symlink_to(moved) if lie == "link" else os.mkfifo(proof)
    elif lie == "model":
        other = listed | {"signed": listed["signed"] | {"model": "other"}}
        kept.write_bytes(manifest.dump(other))
        proof.write_text(controller.signature(manifest.dump(other)))
    elif lie == "stranger":
        kept.write_bytes(manifest.dump(more))
        proof.write_text(Controller(tmp_path / "other").signature(manifest.dump(more)))
    else:
        told = controller.keys.revoked("", False)
        target.trust.learn(told["signers"], told["revoked"])
    assert helper.main(["m", "accept", listed["release_id"]]) == 1
    assert not (target.var / "m.serial").exists()
